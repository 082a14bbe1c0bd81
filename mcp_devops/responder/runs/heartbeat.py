"""Who of several processes lives: a row each, beaten every few seconds, and a lease on the dead.

A row belongs to one life of a process, told by its `started_at`. Whoever takes a dead one's runs
over writes its own moment there, so that a process that only slept finds out at its next beat. The
row goes once the runs are in hand; if the taker dies before that, its lease runs out like a life.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from mcp_devops import __version__
from mcp_devops.errors import DevOpsError, PreconditionFailed, UpstreamUnavailable
from mcp_devops.gateway.ledger import gone_in
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.responder.bookmarks import bookmark_in, set_bookmark_in
from mcp_devops.toolkit.clock import Clock

log = logging.getLogger(__name__)

CLAIMS = 3
"""Times a name is asked for, a heartbeat apart."""
LAST_RESORT_S = 8.0
"""Seconds after which a process that was given up ends, whatever still hangs in it: before others
may begin with its runs."""
LEFT = "1970-01-01T00:00:00+00:00"
"""When a process that left in order was seen: dead at once, not after the silence."""


@dataclass(frozen=True)
class Pace:
    """How often a process says that it lives, and who counts as dead.

    Attributes:
        beat_s: Seconds between two beats.
        fence_s: Seconds without a beat of ours after which we stop our runs ourselves.
        dead_s: Seconds without a beat after which others take the runs over; clearly more.
    """

    beat_s: float = 5.0
    fence_s: float = 20.0
    dead_s: float = 30.0


PACE = Pace()


@dataclass(frozen=True)
class Lease:
    """A dead process's name that is ours until its runs are."""

    name: str
    stamp: str
    """When it was taken; what its row must still hold when it is let go."""


class Heartbeat:
    """One life of one process."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        replica: str,
        *,
        alone: bool,
        pace: Pace,
        owner: str = "",
    ) -> None:
        """Remember whose life it is.

        Args:
            database: Holds the rows.
            clock: Stamps them.
            replica: The process's name.
            alone: No other process can have the runs (a lock of the machine sees to it): the name
                is ours at once, and a silence is no reason to stop.
            pace: How often.
            owner: Who starts changes in this life; once it is over, they go on elsewhere.
        """
        self._owner = owner
        self._database = database
        self._clock = clock
        self._replica = replica
        self._alone = alone
        self._pace = pace
        self._stamp = ""
        self._taking: dict[str, asyncio.Task[None]] = {}

    async def claim(self) -> None:
        """Make the name ours, unless a living process has it.

        Raises:
            PreconditionFailed: One has.
            DevOpsError: The state cannot be used.
        """
        for _ in range(1 if self._alone else CLAIMS):
            now = self._clock.now()
            since = now if self._alone else now - timedelta(seconds=2 * self._pace.beat_s)
            if await self._database.run(
                partial(claim, replica=self._replica, now=now, old=since, owner=self._owner)
            ):
                self._stamp = now.isoformat()
                return
            # A process that was killed a moment ago left a fresh heartbeat.
            await asyncio.sleep(self._pace.beat_s)
        raise taken(self._replica)

    async def keep(self, recover: Callable[[str], Awaitable[None]]) -> None:
        """Beat until cancelled, and hand over the names of the dead.

        Args:
            recover: Takes the runs of a dead process; called again, here or by another process,
                if it raises one of our errors.

        Raises:
            PreconditionFailed: Our name was taken: others go on with our runs.
            UpstreamUnavailable: No beat succeeded for `fence_s`: others soon will.
        """
        loop = asyncio.get_running_loop()
        last = loop.time()
        try:
            while True:
                begun = loop.time()
                left = self._pace.beat_s if self._alone else last + self._pace.fence_s - begun
                try:
                    # Its own deadline: a server that says nothing must not outlast the fence.
                    async with asyncio.timeout(max(left, self._pace.beat_s / 10)):
                        dead = await self._beat()
                    last = begun
                    for lease in dead:
                        self._take(lease, recover)
                except PreconditionFailed:
                    raise
                except (TimeoutError, DevOpsError) as problem:
                    silent = loop.time() - last
                    log.warning(
                        "no heartbeat for %.0f s: %s", silent, problem or "the state is silent"
                    )
                    if not self._alone and silent >= self._pace.fence_s:
                        raise self._silenced(silent) from problem
                await asyncio.sleep(self._pace.beat_s)
        finally:
            for task in self._taking.values():
                task.cancel()
            await asyncio.gather(*self._taking.values(), return_exceptions=True)

    async def leave(self) -> None:
        """Say that nobody lives under this name any more, if it is still ours."""
        try:
            await self._database.run(partial(leave, replica=self._replica, stamp=self._stamp))
        except DevOpsError as problem:
            log.warning("the heartbeat stays, its silence will tell: %s", problem)

    async def _beat(self) -> list[Lease]:
        now = self._clock.now()
        limit = now - timedelta(seconds=self._pace.dead_s)
        ours, dead = await self._database.run(
            partial(beat, replica=self._replica, stamp=self._stamp, now=now, limit=limit)
        )
        if not ours:
            raise PreconditionFailed(
                f"This process was taken for dead, and others go on with the runs of"
                f" {self._replica!r}: it stops, so that nothing is done twice.",
                fix="Start it again. If it happens again, look why it stood still.",
            )
        return dead

    def _silenced(self, silent: float) -> UpstreamUnavailable:
        return UpstreamUnavailable(
            f"The state could not be written for {silent:.0f} s, so others will take the runs of"
            f" {self._replica!r} over: it stops, so that nothing is done twice.",
            fix="Check the database, then start it again.",
            source="journal",
        )

    def _take(self, lease: Lease, recover: Callable[[str], Awaitable[None]]) -> None:
        # Beside the beats: a recovery that waits for the database must not silence us.
        if lease.name not in self._taking:
            task = asyncio.create_task(self._taken(lease, recover))
            self._taking[lease.name] = task
            task.add_done_callback(lambda _: self._taking.pop(lease.name, None))

    async def _taken(self, lease: Lease, recover: Callable[[str], Awaitable[None]]) -> None:
        log.warning("replica %s is dead, its runs are taken over", lease.name)
        try:
            await recover(lease.name)
            await self._database.run(partial(let_go, lease=lease))
        except DevOpsError as problem:
            log.warning("runs of %s are not taken over, tried again later: %s", lease.name, problem)


def claim(
    connection: Connection, replica: str, now: datetime, old: datetime, owner: str = ""
) -> bool:
    """Take a name that no process has beaten for since `old`."""
    row = connection.execute("SELECT seen_at FROM replicas WHERE id = ?", (replica,)).fetchone()
    if row is not None and datetime.fromisoformat(row["seen_at"]) > old:
        return False
    connection.execute(
        "INSERT INTO replicas (id, version, started_at, seen_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET version = excluded.version,"
        " started_at = excluded.started_at, seen_at = excluded.seen_at",
        (replica, __version__, now.isoformat(), now.isoformat()),
    )
    _bury(connection, replica)
    if owner:
        set_bookmark_in(connection, f"owner:{replica}", owner, now)
    return True


def _bury(connection: Connection, replica: str) -> None:
    """What the last life of this name had begun is carried out by nobody now."""
    owner = bookmark_in(connection, f"owner:{replica}")
    if owner is not None:
        gone_in(connection, owner)


def beat(
    connection: Connection, replica: str, stamp: str, now: datetime, limit: datetime
) -> tuple[bool, list[Lease]]:
    """Write our heartbeat, and lease the names that were silent since `limit`.

    Returns:
        Whether the name is still ours, and the leases; each is given to one process.
    """
    ours = connection.execute(
        "UPDATE replicas SET seen_at = ? WHERE id = ? AND started_at = ?",
        (now.isoformat(), replica, stamp),
    ).rowcount
    if not ours:
        return False, []
    dead = [
        str(row["id"])
        for row in connection.execute(
            "SELECT id FROM replicas WHERE seen_at < ? AND id <> ?", (limit.isoformat(), replica)
        ).fetchall()
    ]
    mine = now.isoformat()
    leases = [
        Lease(name, mine)
        for name in dead
        if connection.execute(
            "UPDATE replicas SET seen_at = ?, started_at = ? WHERE id = ? AND seen_at < ?",
            (mine, mine, name, limit.isoformat()),
        ).rowcount
    ]
    for lease in leases:
        _bury(connection, lease.name)
    return True, leases


def let_go(connection: Connection, lease: Lease) -> int:
    """Delete a dead process's row, unless the lease ran out and another has it."""
    gone = connection.execute(
        "DELETE FROM replicas WHERE id = ? AND started_at = ?", (lease.name, lease.stamp)
    ).rowcount
    if gone:
        connection.execute("DELETE FROM bookmarks WHERE name = ?", (f"owner:{lease.name}",))
    return gone


def leave(connection: Connection, replica: str, stamp: str) -> int:
    """Leave in order: what we left pending is taken over at once."""
    return connection.execute(
        "UPDATE replicas SET seen_at = ? WHERE id = ? AND started_at = ?", (LEFT, replica, stamp)
    ).rowcount


def taken(replica: str) -> PreconditionFailed:
    """The refusal of a name that a living process has."""
    return PreconditionFailed(
        f"Another `watch` named {replica!r} is running on this state.",
        fix="Stop it, or give this one a name of its own: MCP_DEVOPS_RESPONSE__REPLICA.",
    )


def end_soon() -> None:
    """End this process in a few seconds, whatever hangs: a thread may wait for the database."""
    timer = threading.Timer(LAST_RESORT_S, os._exit, (1,))
    timer.daemon = True
    timer.start()
