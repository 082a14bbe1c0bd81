"""What was done alone, read from the journal, and the claim that comes before the next act.

A claim is a journal entry written in the same transaction that counts the earlier ones. Such
transactions run one at a time over all replicas, so simultaneous incidents cannot pass the limits
together. What a policy approved for an agent counts as well.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind, stamp
from mcp_devops.journal.journal import Journal
from mcp_devops.model.target import Workload
from mcp_devops.responder.switches import breaker_in, set_breaker_in
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

SPAN = timedelta(hours=24)
"""How far back the limits look, unless the breaker waits for a person."""

NEWEST = 2_000
"""Entries that are read at most; far more than any limits let happen."""

CLAIM_LASTS = timedelta(minutes=15)
"""How long a claim lets its incident act; a run that wakes up later takes another."""

CLAIMED, RELEASED = "claimed", "released"


async def past_acts(db: Database, now: datetime) -> tuple[PastAct, ...]:
    """Automatic rollbacks that the limits count, oldest first.

    Those of the last 24 hours, and all since a person last closed the breaker.
    """
    return await db.read(lambda c: _acts(c, _since(now, breaker_in(c))))


async def claim_act(
    db: Database,
    journal: Journal,
    *,
    now: datetime,
    target: Workload,
    incident_id: str,
    limits: Limits,
) -> Allowed | Stopped:
    """Take one of the automatic rollbacks that the limits allow, before anything is sent.

    Repeating it for the same incident within `CLAIM_LASTS` takes no second one, so a resumed run
    may. If that opens the breaker, its switch is set, for people to see.

    Returns:
        Allowed: it is taken and written down, until `release_act`. Stopped: nothing was taken.
    """

    def claim(connection: Connection) -> Allowed | Stopped:
        breaker = breaker_in(connection)
        since = _since(now, breaker)
        mine = [act for owner, act in _claims(connection, since) if owner == incident_id]
        if mine and mine[-1].at > now - CLAIM_LASTS:
            return Allowed(left_this_hour=0)
        acts = _acts(connection, since)
        found = may_act(now, target, acts, limits, breaker)
        if isinstance(found, Allowed):
            _note(connection, journal, CLAIMED, target, incident_id, now, "may act alone")
            acts = (*acts, PastAct(at=now, target=target))
        if not breaker.is_open and is_open(acts, limits, breaker):
            reason = f"{limits.rollbacks_per_hour} automatic rollbacks within an hour"
            set_breaker_in(connection, journal, is_open=True, now=now, who=ACTOR, reason=reason)
        return found

    return await db.run(claim)


async def release_act(
    db: Database, journal: Journal, *, now: datetime, target: Workload, incident_id: str, why: str
) -> None:
    """Give a claim back: nothing was sent under it. Without a claim nothing happens."""

    def release(connection: Connection) -> None:
        if any(owner == incident_id for owner, _ in _claims(connection, now - SPAN)):
            what = f"did not act: {why}"
            _note(connection, journal, RELEASED, target, incident_id, now, what)

    await db.run(release)


def _note(
    connection: Connection,
    journal: Journal,
    act: str,
    target: Workload,
    incident_id: str,
    now: datetime,
    what: str,
) -> None:
    journal.append_in(
        connection,
        EntryKind.DECISION,
        actor=ACTOR,
        subject=str(target),
        incident_id=incident_id,
        body={
            "what": what,
            "act": act,
            "at": now.isoformat(),
            "target": target.model_dump(mode="json"),
        },
    )


def _since(now: datetime, breaker: Breaker) -> datetime | None:
    return None if breaker.at is None else min(now - SPAN, breaker.at)


def _acts(connection: Connection, since: datetime | None) -> tuple[PastAct, ...]:
    claims = _claims(connection, since)
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


def _claims(connection: Connection, since: datetime | None) -> list[tuple[str, PastAct]]:
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
