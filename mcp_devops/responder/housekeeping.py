"""Deletes what ended long ago, a little at a time: without it the tables would grow for ever.

Never the journal, incidents, approvals, actions, outcomes or switches, and never what is under way:
a message that is owed, a run that has no end, a bookmark of a workload that is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from mcp_devops.errors import DevOpsError
from mcp_devops.incidents.outcomes import NEWEST
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.run_times import delete_runs_in
from mcp_devops.responder.bookmarks import bookmark_in, set_bookmark_in
from mcp_devops.responder.settings import HousekeepingSettings
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.retrying import Pause

log = logging.getLogger(__name__)

LOOK_S = 300.0
"""Seconds between two looks for runs that were lost, and whether it is time to sweep."""
EVERY = timedelta(hours=1)
"""Between two sweeps, by whichever replica comes first."""
BATCH = 500
"""Rows that one transaction deletes: others write in between."""
REST_S = 0.1
"""Seconds between two such transactions."""
FRESH = timedelta(days=1)
"""Age from which the bookmarks of a workload that is there are marked as still needed; and after
which a template that we were to bring back is not coming any more, as nobody's yes lasts that long.
"""
FORGOTTEN = timedelta(days=365)
"""Silence after which the runs of a workload are not kept as its past: it is another one, or gone.
"""
SWEPT = "housekeeping:swept"
OF_WORKLOADS = ("template", "rollouts", "generation")
"""Bookmarks that a workload has for as long as it is there."""

_DELIVERIES = (
    "DELETE FROM deliveries WHERE (source, key) IN"
    " (SELECT source, key FROM deliveries WHERE at < ? ORDER BY at LIMIT ?)"
)
# An incident that goes on must not say a thing twice, and must know whether it woke somebody.
_MESSAGES = (
    "DELETE FROM outbox WHERE key IN (SELECT o.key FROM outbox o WHERE o.made_at < ?"
    " AND o.status <> 'owed' AND NOT EXISTS"
    " (SELECT 1 FROM incidents i WHERE i.id = o.incident_id AND i.updated_at >= ?)"
    " ORDER BY o.made_at LIMIT ?)"
)
_IN_SLACK = (
    "DELETE FROM bookmarks WHERE name IN (SELECT b.name FROM bookmarks b WHERE b.at < ?"
    " AND b.name LIKE ? AND NOT EXISTS"
    " (SELECT 1 FROM incidents i WHERE 'slack:' || i.id = b.name AND i.updated_at >= ?) LIMIT ?)"
)
_IN_PAGERDUTY = (
    "DELETE FROM bookmarks WHERE name IN (SELECT b.name FROM bookmarks b WHERE b.at < ?"
    " AND b.name LIKE ? AND NOT EXISTS"
    " (SELECT 1 FROM incidents i WHERE i.id = b.value AND i.updated_at >= ?) LIMIT ?)"
)
_BOOKMARKS = (
    "DELETE FROM bookmarks WHERE name IN"
    " (SELECT name FROM bookmarks WHERE at < ? AND name LIKE ? LIMIT ?)"
)


class Durable(Protocol):
    """What is to be swept beside our own tables."""

    async def forget(self, before: datetime, most: int) -> int:
        """Delete the steps of so many runs that ended before. Returns of how many it did."""
        ...

    async def tell_lost(self) -> int:
        """Tell people of runs that ended without telling anybody. Returns how many."""
        ...


class Watched(Protocol):
    """Knows which workloads are there."""

    @property
    def uids(self) -> Collection[str]:
        """Uids of those that are watched here."""
        ...


@dataclass(frozen=True)
class Housekeeping:
    """Sweeps, for as long as it runs.

    Attributes:
        database: The state.
        clock: Tells ages.
        settings: How long what is kept.
        durable: The durable runs.
        watched: The workloads that are there.
        pause: Waits between two transactions.
    """

    database: Database
    clock: Clock
    settings: HousekeepingSettings
    durable: Durable
    watched: Watched
    pause: Pause = asyncio.sleep

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look for lost runs, and sweep when it is time, for as long as the block runs."""
        task = asyncio.create_task(self._keep_sweeping())
        task.add_done_callback(_ended)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep_sweeping(self) -> None:
        while True:
            try:
                await self.durable.tell_lost()
                if await self.database.run(partial(_claim, now=self.clock.now())):
                    await self.sweep()
            except DevOpsError as problem:
                log.warning("what ended long ago is not deleted now, but later: %s", problem)
            await self.pause(LOOK_S)

    async def sweep(self) -> dict[str, int]:
        """Delete what is older than the settings say, and log what it was.

        Returns:
            How many rows of each kind, and of how many runs the steps.

        Raises:
            DevOpsError: The state cannot be used; what is left waits for the next sweep.
        """
        now = self.clock.now()
        before = now - timedelta(days=self.settings.keep_days)
        steps_before = now - timedelta(days=self.settings.keep_steps_days)
        await self._mark(now)
        old = before.isoformat()
        gone = {
            "webhook deliveries": await self._all(_DELIVERIES, old),
            "messages to people": await self._all(_MESSAGES, old, old),
            "runs": await self._runs(now, before),
            "bookmarks": await self._bookmarks(now, before),
            "runs' steps": await self._steps(steps_before),
        }
        says = ", ".join(f"{count} {what}" for what, count in gone.items() if count)
        log.info(
            "deleted of what ended before %s (steps: %s): %s",
            *(f"{t:%Y-%m-%dT%H:%MZ}" for t in (before, steps_before)),
            says or "nothing",
        )
        return gone

    async def _all(self, sql: str, *values: str) -> int:
        """Run a deletion, whose last value is its limit, until it finds no more."""
        total, count = 0, BATCH
        while count >= BATCH:
            count = await self.database.run(
                lambda c: int(c.execute(sql, (*values, BATCH)).rowcount)
            )
            total += count
            await self.pause(REST_S)
        return total

    async def _runs(self, now: datetime, before: datetime) -> int:
        """Runs that are neither young nor among the past that a workload is judged by."""
        total = 0
        for target in await self.database.read(partial(_targets, before=before.isoformat())):
            limit = await self.database.read(partial(_past_of, target=target, now=now))
            count = 0 if limit is None else BATCH
            while limit is not None and count >= BATCH:
                count = await self.database.run(
                    partial(
                        delete_runs_in,
                        target=target,
                        before=before.isoformat(),
                        past=limit,
                        most=BATCH,
                        now=now,
                    )
                )
                total += count
                await self.pause(REST_S)
        return total

    async def _bookmarks(self, now: datetime, before: datetime) -> int:
        # Later than the runs they number: a number that begins anew must not meet an old run.
        long_ago = (before - FRESH).isoformat()
        total = 0
        for name in OF_WORKLOADS:
            total += await self._all(_BOOKMARKS, long_ago, f"{name}:%")
        total += await self._all(_BOOKMARKS, (now - FRESH).isoformat(), "restored:%")
        old = before.isoformat()
        total += await self._all(_IN_SLACK, old, "slack:%", old)
        return total + await self._all(_IN_PAGERDUTY, old, "pagerduty:%", old)

    async def _mark(self, now: datetime) -> None:
        """Say that what we watch is still there: who watches other places cannot know."""
        uids = sorted(self.watched.uids)
        for start in range(0, len(uids), BATCH):
            some = uids[start : start + BATCH]
            await self.database.run(partial(_still_there, uids=some, now=now))
            await self.pause(REST_S)

    async def _steps(self, before: datetime) -> int:
        total = 0
        # A run has some hundred steps.
        while count := await self.durable.forget(before, BATCH // 20):
            total += count
            await self.pause(REST_S)
        return total


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (problem := task.exception()) is not None:
        log.error("nothing that ended is deleted any more", exc_info=problem)


def _claim(connection: Connection, now: datetime) -> bool:
    """Whether it is time to sweep, and nobody else has begun to."""
    last = bookmark_in(connection, SWEPT)
    if last is not None and now - datetime.fromisoformat(last) < EVERY:
        return False
    set_bookmark_in(connection, SWEPT, now.isoformat(), now)
    return True


def _targets(connection: Connection, before: str) -> list[str]:
    rows: Sequence[Any] = connection.execute(
        "SELECT DISTINCT target FROM runs WHERE updated_at < ? AND body <> '{}'", (before,)
    ).fetchall()
    return [str(row["target"]) for row in rows]


def _past_of(connection: Connection, target: str, now: datetime) -> str | None:
    """The moment before which a workload's runs are not its past any more; None: all are."""
    query = "SELECT started_at FROM runs WHERE target = ? ORDER BY started_at DESC LIMIT 1 OFFSET ?"
    newest = connection.execute(query, (target, 0)).fetchone()
    if newest is not None and str(newest["started_at"]) < (now - FORGOTTEN).isoformat():
        return now.isoformat()
    oldest = connection.execute(query, (target, NEWEST - 1)).fetchone()
    return None if oldest is None else str(oldest["started_at"])


def _still_there(connection: Connection, uids: Sequence[str], now: datetime) -> None:
    limit = (now - FRESH).isoformat()
    for uid in uids:
        names = tuple(f"{name}:{uid}" for name in OF_WORKLOADS)
        connection.execute(
            "UPDATE bookmarks SET at = ? WHERE name IN (?, ?, ?) AND at < ?",
            (now.isoformat(), *names, limit),
        )
