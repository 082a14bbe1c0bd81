"""The claim that an unattended run takes before it acts alone, and gives back if it does not.

A claim is a journal entry written in the same transaction that counts the earlier acts; what is
counted is in `gateway.acts`, as a policy's yes to an agent is one more.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from mcp_devops.gateway.acts import (
    ACTOR,
    CLAIMED,
    RELEASED,
    SPAN,
    acts_in,
    breaker_in,
    claims_in,
    one_more_in,
    since,
)
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.target import Workload
from mcp_devops.response_policy.limits import Allowed, Limits, PastAct, Stopped

CLAIM_LASTS = timedelta(minutes=15)
"""How long a claim lets its incident act; a run that wakes up later takes another."""


async def past_acts(db: Database, now: datetime) -> tuple[PastAct, ...]:
    """Automatic rollbacks that the limits count, oldest first.

    Those of the last 24 hours, and all since a person last closed the breaker.
    """
    return await db.read(lambda c: acts_in(c, since(now, breaker_in(c))))


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
        begin = since(now, breaker_in(connection))
        mine = [act for owner, act in claims_in(connection, begin) if owner == incident_id]
        if mine and abs(now - mine[-1].at) < CLAIM_LASTS:
            return Allowed(left_this_hour=0)
        found = one_more_in(connection, journal, now, target, limits)
        if isinstance(found, Allowed):
            _note(connection, journal, CLAIMED, target, incident_id, now, "may act alone")
        return found

    return await db.run(claim)


async def release_act(
    db: Database, journal: Journal, *, now: datetime, target: Workload, incident_id: str, why: str
) -> None:
    """Give a claim back: nothing was sent under it. Without a claim nothing happens."""

    def release(connection: Connection) -> None:
        if any(owner == incident_id for owner, _ in claims_in(connection, now - SPAN)):
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
