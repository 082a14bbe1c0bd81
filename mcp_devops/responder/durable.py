"""Durable runs: a run goes on where it was after a crash, here or on another replica.

DBOS keeps the result of each step in its own tables; a step that had no result is done again, and
each of ours may be. Only DBOS's MIT core is used: workflows, steps, its recovery call.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

from mcp_devops import __version__
from mcp_devops.errors import NotConfigured, PreconditionFailed
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.model.record import Record
from mcp_devops.responder.rollouts import Rollout
from mcp_devops.responder.run import Steps
from mcp_devops.responder.workflow import Course, Observing
from mcp_devops.toolkit.clock import Clock

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Record)

WORKFLOWS_VERSION = "1"
"""Raised when a run begun by an older program could not go on in this one."""
HEARTBEAT_S = 5.0
DEAD_AFTER_S = 30.0
"""Seconds without a heartbeat after which a replica's runs are taken over: six beats."""
CLAIMS = 3
"""Times a name is asked for, a heartbeat apart."""
ATTEMPTS = 5
"""Times a step is tried: what it meets is mostly told as a result, so this is for our own store."""


class Runs:
    """Starts runs, each once, and goes on with those that a dead process left."""

    def __init__(
        self,
        steps: Steps,
        database: Database,
        clock: Clock,
        url: str,
        replica: str,
        lock: Path | None = None,
    ) -> None:
        """Remember what the runs work with.

        Args:
            steps: What a run does.
            database: The state; holds the heartbeats.
            clock: For the heartbeats.
            url: Where DBOS keeps its tables: sqlite:///PATH or postgresql://.
            replica: Name of this process; the same after a restart only where no two can run.
            lock: File that a process of this name holds; None: the heartbeat tells who lives.
        """
        self._steps = steps
        self._database = database
        self._clock = clock
        self._url = url
        self.replica = replica
        self._respond: Any = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self._lock = lock
        self._held: TextIO | None = None

    @asynccontextmanager
    async def running(self, observing: Observing) -> AsyncIterator[None]:
        """Launch DBOS, go on with what was left, and beat until the block ends.

        Args:
            observing: How long and how often a rollout is looked at.

        Raises:
            NotConfigured: DBOS is not installed.
            PreconditionFailed: Another process of this name is alive.
        """
        try:
            from dbos import DBOS
        except ImportError as missing:
            raise NotConfigured(
                "Watching needs the extra `response` (DBOS), which is not installed.",
                fix="pip install 'mcp-devops[response]'",
            ) from missing
        await self._claim_name()
        DBOS(
            config={
                "name": "mcp-devops",
                "system_database_url": self._url,
                "application_version": WORKFLOWS_VERSION,
                "executor_id": self.replica,
                "log_level": "ERROR",
            }
        )
        self._respond = self._workflow(DBOS, observing)
        DBOS.launch()
        beating = asyncio.create_task(self._beat(DBOS))
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            # First destroyed, then cancelled: what DBOS sees cancelled it would take for ended.
            DBOS.destroy(destroy_registry=True)
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
            # DBOS had put its own thread pool under the loop, and has shut it down.
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
            await self._database.run(lambda c: _forget(c, self.replica))
            if self._held is not None:
                self._held.close()

    async def start(self, rollout: Rollout) -> None:
        """Start the run of a rollout, unless it was started before, here or elsewhere."""
        from dbos import DBOS, SetWorkflowID

        with SetWorkflowID(rollout.run_id):
            await DBOS.start_workflow_async(self._respond, rollout.model_dump(mode="json"))

    def _workflow(self, dbos: Any, observing: Observing) -> Any:
        """The workflow as DBOS knows it; its steps are kept by their order."""

        async def step(name: str, kind: type[T], work: Callable[[], Awaitable[T]]) -> T:
            async def done() -> dict[str, Any]:
                return (await work()).model_dump(mode="json")

            options = {"name": name, "retries_allowed": True, "max_attempts": ATTEMPTS}
            return kind.model_validate(await dbos.run_step_async(options, done))

        course = Course(self._steps, step, observing, self.replica)

        async def respond(rollout: dict[str, Any]) -> str:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - a coroutine that runs has one
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            return await course.respond(Rollout.model_validate(rollout))

        return dbos.workflow(name="respond")(respond)

    async def _claim_name(self) -> None:
        """Refuse to run beside a living process of the same name: both would do its runs.

        On one machine a lock tells, which a killed process gives up at once; else the heartbeat.
        """
        if self._lock is not None:
            if not await asyncio.to_thread(self._locked, self._lock):
                raise _taken(self.replica)
            return
        for _ in range(CLAIMS):
            now = self._clock.now()
            if await self._database.run(partial(_claim, replica=self.replica, now=now)):
                return
            # A process that was killed a moment ago left a fresh heartbeat.
            await asyncio.sleep(HEARTBEAT_S)
        raise _taken(self.replica)

    def _locked(self, path: Path) -> bool:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._held.close()
            self._held = None
            return False
        return True

    async def _beat(self, dbos: Any) -> None:
        while True:
            dead = await self._database.run(lambda c: _beat(c, self.replica, self._clock.now()))
            for name in dead:
                log.warning("replica %s is dead, its runs are taken over", name)
                await asyncio.to_thread(dbos._recover_pending_workflows, [name])
            await asyncio.sleep(HEARTBEAT_S)


def _claim(connection: Connection, replica: str, now: datetime) -> bool:
    """Take a name that no living process beats for."""
    row = connection.execute("SELECT seen_at FROM replicas WHERE id = ?", (replica,)).fetchone()
    alive = timedelta(seconds=2 * HEARTBEAT_S)
    if row is not None and now - datetime.fromisoformat(row["seen_at"]) < alive:
        return False
    connection.execute(
        "INSERT INTO replicas (id, version, started_at, seen_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET version = excluded.version,"
        " started_at = excluded.started_at, seen_at = excluded.seen_at",
        (replica, __version__, now.isoformat(), now.isoformat()),
    )
    return True


def _taken(replica: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"Another `watch` named {replica!r} is running on this state.",
        fix="Stop it, or give this one a name of its own: MCP_DEVOPS_RESPONSE__REPLICA.",
    )


def _beat(connection: Connection, replica: str, now: datetime) -> list[str]:
    """Write our heartbeat; take the names of the dead, each once over all replicas."""
    stamp = now.isoformat()
    connection.execute(
        "INSERT INTO replicas (id, version, started_at, seen_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        (replica, __version__, stamp, stamp),
    )
    limit = (now - timedelta(seconds=DEAD_AFTER_S)).isoformat()
    dead = [
        str(row["id"])
        for row in connection.execute(
            "SELECT id FROM replicas WHERE seen_at < ? AND id <> ?", (limit, replica)
        ).fetchall()
    ]
    # Whoever deletes the row takes the runs over; nobody else finds it again.
    return [
        name
        for name in dead
        if connection.execute(
            "DELETE FROM replicas WHERE id = ? AND seen_at < ?", (name, limit)
        ).rowcount
    ]


def _forget(connection: Connection, replica: str) -> int:
    """Leave in order: what we left pending is taken over at once, not after the silence."""
    return connection.execute(
        "UPDATE replicas SET seen_at = '1970-01-01T00:00:00+00:00' WHERE id = ?", (replica,)
    ).rowcount


def replica_name(given: str | None, shared: bool) -> str:
    """Name of this process: the given one, or the host's where many share a database."""
    if given:
        return given
    return f"{socket.gethostname()}-{os.getpid()}" if shared else "local"


def runs_url(state_dir: Path) -> str:
    """DBOS's own SQLite file beside the state."""
    return f"sqlite:///{state_dir / 'runs.db'}"
