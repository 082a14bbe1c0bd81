"""What stands in the state and needs a hand: freezes, an open breaker, messages nobody got."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mcp_devops.gateway.acts import breaker_in
from mcp_devops.gateway.freezes import Freeze, freezes_in
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.entry import stamp
from mcp_devops.response_policy.limits import Breaker

LATELY = timedelta(hours=24)
"""How far back a message that was given up is told of."""


@dataclass(frozen=True)
class Unheard:
    """Messages of one channel to people that did not arrive.

    Attributes:
        channel: PagerDuty, e-mail or Slack.
        count: How many.
        problem: The newest one's.
    """

    channel: str
    count: int
    problem: str


@dataclass(frozen=True)
class Standing:
    """What stands."""

    freezes: tuple[Freeze, ...]
    breaker: Breaker
    unheard: tuple[Unheard, ...]


def standing_in(connection: Connection, now: datetime) -> Standing:
    """Read it."""
    rows = connection.execute(
        "SELECT channel, problem FROM outbox WHERE problem IS NOT NULL AND made_at >= ?"
        " AND status IN ('owed', 'failed') ORDER BY made_at",
        (stamp(now - LATELY),),
    ).fetchall()
    problems: dict[str, list[str]] = {}
    for row in rows:
        problems.setdefault(str(row["channel"]), []).append(str(row["problem"]))
    return Standing(
        freezes=tuple(freezes_in(connection, now)),
        breaker=breaker_in(connection),
        unheard=tuple(Unheard(name, len(said), said[-1]) for name, said in problems.items()),
    )
