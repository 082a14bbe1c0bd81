"""What was done alone, read from the state, and the breaker's switch: for every door to acting.

An act is a claim of the unattended server, written before anything is sent, or a policy's yes to
an agent. All of it is read inside the transaction that is about to add one: such transactions run
one at a time over all replicas, so that simultaneous incidents cannot pass the limits together.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from mcp_devops.journal.connection import Connection
from mcp_devops.journal.entry import EntryKind, stamp
from mcp_devops.journal.journal import Journal
from mcp_devops.model.target import Workload
from mcp_devops.response_policy.limits import (
    Allowed,
    Breaker,
    Limits,
    PastAct,
    Stopped,
    is_open,
    may_act,
)

ACTOR = "responder"
"""Who claims, in the journal."""

BREAKER = "breaker"
"""Name of the breaker's switch: on is open, off is closed by a person."""

SPAN = timedelta(hours=24)
"""How far back the limits look, unless the breaker waits for a person."""

NEWEST = 2_000
"""Entries that are read at most; far more than any limits let happen."""

SKEW = timedelta(minutes=5)
"""How far the clocks of two machines may differ."""

REASON_CHARS = 500
"""Characters of a reason that are kept."""

CLAIMED, RELEASED = "claimed", "released"


def one_more_in(
    connection: Connection, journal: Journal, now: datetime, target: Workload, limits: Limits
) -> Allowed | Stopped:
    """Say whether one more may be done alone; whoever is allowed writes it down in here.

    If that one, or those before it, open the breaker, its switch is set, for people to see.
    """
    breaker = breaker_in(connection)
    if breaker.closed_at is not None and breaker.closed_at > now + SKEW:
        # It was closed by a clock that ran ahead: until then no act would count against it.
        breaker = Breaker()
    acts = acts_in(connection, since(now, breaker))
    found = may_act(now, target, acts, limits, breaker)
    if isinstance(found, Allowed):
        acts = (*acts, PastAct(at=now, target=target))
    if not breaker.is_open and is_open(now, acts, limits, breaker):
        reason = f"{limits.rollbacks_per_hour} automatic rollbacks within an hour"
        set_breaker_in(connection, journal, is_open=True, now=now, who=ACTOR, reason=reason)
    return found


def since(now: datetime, breaker: Breaker) -> datetime | None:
    """From when on acts count; None: from the first."""
    return None if breaker.at is None else min(now - SPAN, breaker.at)


def acts_in(connection: Connection, since: datetime | None) -> tuple[PastAct, ...]:
    """What counts for the limits, oldest first."""
    claims = claims_in(connection, since)
    claimed = {owner for owner, _ in claims}
    rows = connection.execute(
        "SELECT answered_at, plan, incident_id FROM approvals"
        " WHERE channel = 'policy' AND status IN ('approved', 'used') AND answered_at >= ?"
        " ORDER BY answered_at DESC LIMIT ?",
        (_text(since), NEWEST),
    ).fetchall()
    others = [
        PastAct(at=row["answered_at"], target=_target(json.loads(row["plan"])))
        for row in rows
        if row["incident_id"] not in claimed
    ]
    return tuple(sorted([*(act for _, act in claims), *others], key=lambda act: act.at))


def claims_in(connection: Connection, since: datetime | None) -> list[tuple[str, PastAct]]:
    """Claims that were not given back, with their incidents, oldest first."""
    rows = connection.execute(
        "SELECT incident_id, body FROM entries WHERE kind = ? AND actor = ? AND at >= ?"
        " ORDER BY seq DESC LIMIT ?",
        (EntryKind.DECISION.value, ACTOR, _text(since), NEWEST),
    ).fetchall()
    found: list[tuple[str, PastAct]] = []
    for row in reversed(rows):
        owner, body = str(row["incident_id"]), json.loads(row["body"])
        if body.get("act") == CLAIMED:
            found.append((owner, PastAct(at=body["at"], target=_target(body))))
        elif body.get("act") == RELEASED:
            newest = max((n for n, claim in enumerate(found) if claim[0] == owner), default=None)
            if newest is not None:
                del found[newest]
    return found


def _text(since: datetime | None) -> str:
    # A second earlier: the tables write the same moment in two forms, which sort differently.
    return "" if since is None else stamp(since - timedelta(seconds=1))


def _target(body: dict[str, Any]) -> Workload:
    """The target of an act; what cannot be read still counts, for no workload in particular."""
    try:
        return Workload.model_validate(body.get("target"))
    except ValidationError:
        return Workload(namespace="", name="")


def breaker_in(connection: Connection) -> Breaker:
    """The breaker's switch, inside a transaction."""
    row = connection.execute(
        "SELECT is_on, reason, at FROM switches WHERE name = ?", (BREAKER,)
    ).fetchone()
    if row is None:
        return Breaker()
    return Breaker(is_open=bool(row["is_on"]), at=row["at"], reason=row["reason"])


def set_breaker_in(
    connection: Connection, journal: Journal, *, is_open: bool, now: datetime, who: str, reason: str
) -> None:
    """Set the breaker's switch inside a write transaction, with its journal entry."""
    reason = " ".join(reason.split())[:REASON_CHARS]
    connection.execute(
        "INSERT INTO switches (name, is_on, by_whom, reason, at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET is_on = excluded.is_on, by_whom = excluded.by_whom,"
        " reason = excluded.reason, at = excluded.at",
        (BREAKER, int(is_open), who, reason, now.isoformat()),
    )
    state = "opened" if is_open else "closed"
    journal.append_in(
        connection,
        EntryKind.NOTE,
        actor=who,
        subject=BREAKER,
        body={"what": f"breaker {state}: {reason}", "is_open": is_open},
    )
