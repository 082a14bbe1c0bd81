"""Numbers made from what is written down, when they are asked for.

They survive a restart, and all processes that share a state tell the same. What only grows is read
from where the last look ended; the rest is counted by the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mcp_devops.errors import DevOpsError
from mcp_devops.gateway.freezes import freezes_in
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.server.families import counter, gauge, histogram
from mcp_devops.server.folding import OTHER, JournalFold, RunFold, label, run_status, yes
from mcp_devops.toolkit.clock import Clock

log = logging.getLogger(__name__)

CACHE_S = 5.0
"""Seconds for which a look is told again: several scrapers cost no more than one."""
MOST_REPLICAS = 50
"""Replicas that are told of, the newest heartbeats first."""
LEFT = "1970"
"""Begin of the heartbeat of a replica that left in order."""
CHANNELS = frozenset({"policy", "terminal", "elicitation", "slack", "web"})
SHARED = "From the state: the same on every replica, also after a restart."


class StateMetrics(Collector):
    """What the tables tell, as Prometheus' families.

    Args:
        database: The open state.
        clock: Tells ages, and when to look again.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._looked = float("-inf")
        self._journal = JournalFold()
        self._runs = RunFold()
        self._counted: list[Metric] = []
        self._up = False

    async def refresh(self) -> None:
        """Look at the state, unless that was done a moment ago. One caller at a time."""
        now = self._clock.monotonic()
        if now - self._looked < CACHE_S:
            return
        at = self._clock.now()
        try:
            self._counted = await self._database.read(lambda c: _counted(c, at))
            await self._runs.read(self._database)
            await self._journal.read(self._database)
            self._up = True
        except DevOpsError as problem:
            log.warning("the state cannot be read for /metrics: %s", problem)
            self._up = False
        self._looked = now

    def describe(self) -> Iterable[Metric]:
        """No names before the first look."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The families of the last look; only `mcp_devops_state_up` if it failed."""
        yield gauge(
            "mcp_devops_state_up",
            "1: the state could be read; 0: its numbers are left out. This process only.",
            {(): float(self._up)},
        )
        if not self._up:
            return
        yield gauge(
            "mcp_devops_journal_unread",
            "1: the journal is still read from its begin after a start, so decisions, confidence"
            " and missing evidence are left out. This process only.",
            {(): float(not self._journal.complete)},
        )
        yield from self._counted
        yield from self._timed()
        if self._journal.complete:
            yield from self._judged()

    def _timed(self) -> Iterable[Metric]:
        for name, says in (
            ("detect", "Seconds from the begin of a run to the first look with something wrong."),
            ("decide", "Seconds from the begin of a run to the look whose verdict was acted on."),
            ("page", "Seconds from the begin of a run to the last page."),
            ("recover", "Seconds from the begin of a run to its verified rollback."),
        ):
            yield histogram(
                f"mcp_devops_{name}_seconds", f"{says} {SHARED}", {(): self._runs.times[name]}
            )

    def _judged(self) -> Iterable[Metric]:
        journal = self._journal
        yield counter(
            "mcp_devops_decisions",
            f"Verdicts by action and cause; a rollout is judged at each look. {SHARED}",
            journal.decisions,
            ("action", "cause"),
        )
        yield histogram(
            "mcp_devops_decision_confidence",
            f"Probability, by verdict, that the deployment did it. {SHARED}",
            journal.confidence,
            ("action",),
        )
        yield counter(
            "mcp_devops_missing_evidence",
            "Facts that an investigation asked a source for and did not get. needed=yes: without"
            f" it nothing is done alone. {SHARED}",
            journal.missing,
            ("source", "needed"),
        )


def _counted(connection: Connection, now: datetime) -> list[Metric]:
    """Everything that the database counts, on one snapshot."""
    return [
        gauge(
            "mcp_devops_runs",
            f"Runs by what they are at, or how they ended. {SHARED}",
            _grouped(
                connection,
                "SELECT status, COUNT(*) FROM runs GROUP BY status",
                lambda row: (run_status(row[0]),),
            ),
            ("status",),
        ),
        gauge(
            "mcp_devops_incidents",
            f"Incidents by where they stand. {SHARED}",
            _grouped(
                connection,
                "SELECT status, COUNT(*) FROM incidents GROUP BY status",
                lambda row: (label(row[0]),),
            ),
            ("status",),
        ),
        gauge(
            "mcp_devops_approvals",
            f"Approvals by where they stand, and who answered. {SHARED}",
            _grouped(
                connection,
                "SELECT status, channel, COUNT(*) FROM approvals GROUP BY status, channel",
                lambda row: (label(row[0]), _channel(row[1])),
            ),
            ("status", "channel"),
        ),
        gauge(
            "mcp_devops_approvals_waiting",
            f"Approvals that wait for a person. {SHARED}",
            {(): _waiting(connection, now)},
        ),
        gauge(
            "mcp_devops_actions",
            "Changes that were begun, by tool and what is known of their outcome. unknown: sent,"
            f" effect not seen. {SHARED}",
            _grouped(
                connection,
                "SELECT tool, status, COUNT(*) FROM actions GROUP BY tool, status",
                lambda row: (label(row[0]), label(row[1])),
            ),
            ("tool", "status"),
        ),
        gauge(
            "mcp_devops_judged_outcomes",
            f"Rollbacks and refusals that a person judged afterwards. {SHARED}",
            _grouped(
                connection,
                "SELECT automatic, was_right, COUNT(*) FROM outcomes GROUP BY automatic, was_right",
                lambda row: (yes(row[0]), yes(row[1])),
            ),
            ("automatic", "was_right"),
        ),
        gauge(
            "mcp_devops_journal_head",
            "Number of the journal's newest entry. It never goes down, unless the end of the"
            f" journal is cut off. {SHARED}",
            {(): _head(connection)},
        ),
        *_switches(connection, now),
        gauge(
            "mcp_devops_replica_heartbeat_age_seconds",
            "Seconds since a replica of `watch` wrote its heartbeat; it beats each 5 s, and its"
            f" runs are taken over after 30. {SHARED}",
            _heartbeats(connection, now),
            ("replica",),
        ),
    ]


def _head(connection: Connection) -> float:
    return float(connection.execute("SELECT COALESCE(MAX(seq), 0) FROM entries").fetchone()[0])


def _switches(connection: Connection, now: datetime) -> list[Metric]:
    freezes = freezes_in(connection, now)
    everywhere = sum(freeze.pattern is None for freeze in freezes)
    breaker = connection.execute("SELECT is_on FROM switches WHERE name = 'breaker'").fetchone()
    return [
        gauge(
            "mcp_devops_freezes",
            f"Freezes in force, for all namespaces or for those of a pattern. {SHARED}",
            {("all",): float(everywhere), ("pattern",): float(len(freezes) - everywhere)},
            ("namespaces",),
        ),
        gauge(
            "mcp_devops_breaker_open",
            f"1: the breaker is open, nothing is done alone until a person closes it. {SHARED}",
            {(): float(bool(breaker and breaker["is_on"]))},
        ),
    ]


def _grouped(
    connection: Connection, query: str, labels: Callable[[tuple[Any, ...]], tuple[str, ...]]
) -> dict[tuple[str, ...], float]:
    """Counts by labels: rows that get the same labels are added up."""
    found: dict[tuple[str, ...], float] = {}
    for row in connection.execute(query).fetchall():
        values = tuple(row)
        key = labels(values)
        found[key] = found.get(key, 0.0) + float(values[-1])
    return found


def _channel(given: str | None) -> str:
    if given is None:
        return "none"
    return given if given in CHANNELS else OTHER


def _waiting(connection: Connection, now: datetime) -> float:
    """Those past their end count no more, though nobody has written that down yet."""
    rows = connection.execute("SELECT expires_at FROM approvals WHERE status = 'pending'")
    return float(sum(datetime.fromisoformat(row["expires_at"]) > now for row in rows.fetchall()))


def _heartbeats(connection: Connection, now: datetime) -> dict[tuple[str, ...], float]:
    rows = connection.execute(
        "SELECT id, seen_at FROM replicas ORDER BY seen_at DESC LIMIT ?", (MOST_REPLICAS,)
    ).fetchall()
    return {
        (str(row["id"])[:100],): (now - datetime.fromisoformat(row["seen_at"])).total_seconds()
        for row in rows
        if not str(row["seen_at"]).startswith(LEFT)
    }
