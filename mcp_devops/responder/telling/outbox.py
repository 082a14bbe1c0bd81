"""What people are still to be told, kept in the state until a channel has taken it.

A row is written before anything is sent, and sent again until it is taken: after a channel's
failure with growing pauses, after a crash by whoever runs next. Rows of one incident and channel
go out in their order. What a channel takes twice must be one there: the same dedup_key, the same
Message-ID, the same Slack message.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from mcp_devops.errors import DevOpsError, OutcomeUnknown, UpstreamTimeout
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import stamp
from mcp_devops.model.record import Moment, Record
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.retrying import Jitter, wait_s

log = logging.getLogger(__name__)

ATTEMPT_S = 90.0
"""Seconds one attempt may take with the channel's own repetitions."""
LEASE = timedelta(seconds=100)
"""Time after which an attempt is over or its process is dead, and another one may try."""
FIRST_PAUSE_S = 10.0
"""Seconds before the second attempt; doubled each time."""
LONGEST_PAUSE_S = 300.0
GIVE_UP = timedelta(hours=24)
"""Age at which a message is not worth sending any more: whoever comes by then has seen it."""
LOOK_S = 2.0
"""Seconds between two looks for what has fallen due."""
AT_ONCE = 20
"""Rows that are taken in one look."""
AHEAD = timedelta(milliseconds=1)
"""Rows that were put at one moment are some microseconds apart; none of them waits for that."""


class Result(StrEnum):
    """What became of an attempt that did not fail."""

    TOLD = "told"
    DROPPED = "dropped"
    """It is overtaken: nobody needs to hear it any more."""


class Owed(Record):
    """One message to people through one channel."""

    key: str
    """The same for the same message, however often it is asked for."""
    incident_id: str
    """Whose."""
    channel: str
    """PagerDuty, e-mail or Slack."""
    body: dict[str, Any]
    """What it is to say: facts, as the text is made when it is sent."""
    attempts: int = 0
    """How often it was tried, this time included."""
    made_at: Moment | None = None
    """When it was first wanted."""


Deliver = Callable[[Owed], Awaitable[Result]]
Report = Callable[[Owed, str, bool], Awaitable[None]]
"""Hears how a message stands: the problem (empty: it was told after all), and whether it is
final."""


class Outbox:
    """Sends what is owed, for as long as it runs."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        deliver: Deliver,
        report: Report,
        jitter: Jitter = random.random,  # noqa: S311 - spreads retries
    ) -> None:
        self._database = database
        self._clock = clock
        self._deliver = deliver
        self._report = report
        self._jitter = jitter
        self._news = asyncio.Event()
        self._settled = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send for as long as the block runs; what is not sent by then is kept."""
        if not self._database.many_hosts:
            # Nobody else can be at it: what a killed process had begun is tried again at once.
            await self._database.run(partial(_release, now=self._clock.now()))
        sending: set[asyncio.Task[None]] = set()
        looking = asyncio.create_task(self._keep_sending(sending))
        try:
            yield
        finally:
            looking.cancel()
            for task in sending:
                task.cancel()
            await asyncio.gather(looking, *sending, return_exceptions=True)

    async def put(self, *owed: Owed) -> None:
        """Keep messages, in this order; one that was asked for before stays as it is."""
        now = self._clock.now()
        await self._database.run(lambda c: _keep(c, owed, now))
        self._news.set()

    async def told(self, keys: Collection[str], seconds: float) -> dict[str, str]:
        """Wait until nobody of these is owed any more or was tried, at most so many seconds.

        Returns:
            The problem of each that was not told, by key.
        """
        try:
            async with asyncio.timeout(seconds), self._settled:
                while await self._untried(keys):
                    # Another replica may send it, which nobody tells this one.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await self._settled.wait()
        except TimeoutError:
            log.warning("channels to people take longer than %g s; they are tried on", seconds)
        rows = await self._rows(keys)
        return {
            str(r["key"]): str(r["problem"] or "no answer yet")
            for r in rows
            if r["status"] in ("owed", "failed")
        }

    async def drop(self, incident_id: str, channel: str) -> bool:
        """Forget what is still owed of an incident in a channel.

        Returns:
            Whether anything of it was told there, or may have been.
        """

        def forget(connection: Connection) -> bool:
            where = (incident_id, channel)
            connection.execute(
                "UPDATE outbox SET status = 'dropped' WHERE incident_id = ? AND channel = ?"
                " AND status = 'owed' AND attempts = 0",
                where,
            )
            row = connection.execute(
                "SELECT 1 FROM outbox WHERE incident_id = ? AND channel = ?"
                " AND status IN ('told', 'owed')",
                where,
            ).fetchone()
            return row is not None

        return await self._database.run(forget)

    async def first(self, owed: Owed) -> bool:
        """Whether no earlier message of the incident went into the channel."""
        query = (
            "SELECT 1 FROM outbox WHERE incident_id = ? AND channel = ? AND made_at < ?"
            " AND status <> 'dropped'"
        )
        made = owed.made_at or self._clock.now()
        values = (owed.incident_id, owed.channel, stamp(made))
        row = await self._database.read(lambda c: c.execute(query, values).fetchone())
        return row is None

    async def _rows(self, keys: Collection[str]) -> list[Any]:
        marks = ", ".join("?" * len(keys))
        query = f"SELECT key, status, problem FROM outbox WHERE key IN ({marks})"  # noqa: S608 - marks only
        return await self._database.read(lambda c: c.execute(query, tuple(keys)).fetchall())

    async def _untried(self, keys: Collection[str]) -> bool:
        """Whether one of these may still be told at once: not behind one that failed."""
        marks = ", ".join("?" * len(keys))
        query = (
            f"SELECT 1 FROM outbox o WHERE key IN ({marks}) AND status = 'owed'"  # noqa: S608 - marks only
            " AND problem IS NULL AND NOT EXISTS (SELECT 1 FROM outbox e WHERE"
            " e.incident_id = o.incident_id AND e.channel = o.channel AND e.status = 'owed'"
            " AND e.problem IS NOT NULL AND e.made_at < o.made_at) LIMIT 1"
        )
        row = await self._database.read(lambda c: c.execute(query, tuple(keys)).fetchone())
        return row is not None

    async def _keep_sending(self, sending: set[asyncio.Task[None]]) -> None:
        while True:
            self._news.clear()
            try:
                now = self._clock.now()
                taken = await self._database.run(partial(_take, now=now))
            except DevOpsError as problem:
                log.warning("what people are to be told cannot be read: %s", problem)
                taken = []
            for owed in taken:
                task = asyncio.create_task(self._send(owed))
                sending.add(task)
                task.add_done_callback(sending.discard)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _send(self, owed: Owed) -> None:
        status, problem, pause = "owed", "", 0.0
        try:
            async with asyncio.timeout(ATTEMPT_S):
                status = (await self._deliver(owed)).value
        except TimeoutError:
            late = UpstreamTimeout("It took too long.", fix="It is tried again.")
            problem, pause = _says(owed, late), self._pause(owed, None)
        except DevOpsError as failed:
            problem = _says(owed, failed)
            pause = self._pause(owed, failed.details.get("retry_after_s"))
            if not (failed.retryable or isinstance(failed, OutcomeUnknown)):
                status = "failed"
        except Exception:  # the boundary: one message that cannot be made must not stop the others
            log.exception("%s could not be made", owed.key)
            status, problem = "failed", f"{owed.channel}: INTERNAL: it could not be made"
        try:
            await self._ended(owed, status, problem, pause)
        except DevOpsError as lost:
            # The lease ends by itself: it is sent again, and is one at the other side.
            log.warning("%s: what became of it cannot be written: %s", owed.key, lost)

    async def _ended(self, owed: Owed, status: str, problem: str, pause: float) -> None:
        now = self._clock.now()
        if status == "owed" and owed.made_at is not None and now - owed.made_at >= GIVE_UP:
            status = "failed"
        if problem:
            log.warning("%s (attempt %d of %s)", problem, owed.attempts, owed.key)
        # Before it counts as tried: whoever waits for that reads the timeline next.
        if (problem and (owed.attempts == 1 or status == "failed")) or (
            status == Result.TOLD and owed.attempts > 1
        ):
            await self._report(owed, problem, status == "failed")
        due = stamp(now + timedelta(seconds=pause))
        await self._database.run(
            lambda c: (
                c.execute(
                    "UPDATE outbox SET status = ?, next_at = ?, problem = ?"
                    " WHERE key = ? AND status = 'owed'",
                    (status, due, problem or None, owed.key),
                ).rowcount
            )
        )
        async with self._settled:
            self._settled.notify_all()
        self._news.set()

    def _pause(self, owed: Owed, asked: object) -> float:
        return wait_s(owed.attempts, FIRST_PAUSE_S, LONGEST_PAUSE_S, self._jitter, asked)


def _says(owed: Owed, problem: DevOpsError) -> str:
    return f"{owed.channel}: {problem.code}: {problem.what}"


def _keep(connection: Connection, owed: Sequence[Owed], now: datetime) -> None:
    newest = connection.execute("SELECT max(made_at) FROM outbox").fetchone()[0]
    start = now
    if newest is not None:
        # Later than all before it, also where the clock stands still: the order counts.
        start = max(now, datetime.fromisoformat(newest) + timedelta(microseconds=1))
    for place, one in enumerate(owed):
        made = stamp(start + timedelta(microseconds=place))
        connection.execute(
            "INSERT INTO outbox (key, incident_id, channel, body, status, attempts, made_at,"
            " next_at) VALUES (?, ?, ?, ?, 'owed', 0, ?, ?) ON CONFLICT (key) DO NOTHING",
            (one.key, one.incident_id, one.channel, json.dumps(one.body), made, made),
        )


def _take(connection: Connection, now: datetime) -> list[Owed]:
    """Lease what is due and has nothing owed before it."""
    rows = connection.execute(
        "SELECT * FROM outbox o WHERE status = 'owed' AND next_at <= ? AND NOT EXISTS ("
        "SELECT 1 FROM outbox e WHERE e.incident_id = o.incident_id AND e.channel = o.channel"
        " AND e.status = 'owed' AND e.made_at < o.made_at) ORDER BY made_at LIMIT ?",
        (stamp(now + AHEAD), AT_ONCE),
    ).fetchall()
    lease = stamp(now + LEASE)
    for row in rows:
        connection.execute(
            "UPDATE outbox SET next_at = ?, attempts = attempts + 1 WHERE key = ?",
            (lease, row["key"]),
        )
    return [
        Owed(
            key=row["key"],
            incident_id=row["incident_id"],
            channel=row["channel"],
            body=json.loads(row["body"]),
            attempts=row["attempts"] + 1,
            made_at=datetime.fromisoformat(row["made_at"]),
        )
        for row in rows
    ]


def _release(connection: Connection, now: datetime) -> int:
    return connection.execute(
        "UPDATE outbox SET next_at = ? WHERE status = 'owed' AND next_at > ?",
        (stamp(now), stamp(now)),
    ).rowcount
