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
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

from mcp_devops.errors import DevOpsError, NotConfigured, UpstreamUnavailable
from mcp_devops.journal.database import Database
from mcp_devops.model.record import Record
from mcp_devops.responder.runs.course import Course, Observing
from mcp_devops.responder.runs.heartbeat import PACE, Heartbeat, Pace, end_soon, taken
from mcp_devops.responder.runs.steps import Steps
from mcp_devops.responder.watching.rollouts import Rollout
from mcp_devops.toolkit.clock import Clock

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Record)

WORKFLOWS_VERSION = "1"
"""Raised when a run begun by an older program could not go on in this one."""
ATTEMPTS = 8
"""Times a step is tried, over two minutes: what it meets is mostly told as a result, so this is for
our own store, which may be started anew meanwhile."""

LOST = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
"""How DBOS calls a run that is over without its end."""


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
        *,
        pace: Pace = PACE,
        attempts: int = ATTEMPTS,
        on_fenced: Callable[[], None] = end_soon,
        attending: Callable[[Rollout], AbstractContextManager[None]] = lambda _: nullcontext(),
        owner: str = "",
        settle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Remember what the runs work with.

        Args:
            steps: What a run does.
            database: The state; holds the heartbeats.
            clock: For the heartbeats.
            url: Where DBOS keeps its tables: sqlite:///PATH or postgresql://.
            replica: Name of this process; the same after a restart only where no two can run.
            lock: File that a process of this name holds; None: the heartbeat tells who lives.
            attempts: How often a step is tried.
            pace: How often we beat, and when who is dead.
            on_fenced: Called when others count us as dead; sees to it that the process ends.
            attending: Entered for as long as a run goes on here.
            owner: Who starts changes in this process, as the ledger calls it.
            settle: Awaited when the runs are stopped, before others may go on with them: no
                change is under way here any more when it returns.
        """
        self.steps = steps
        self._database = database
        self._heartbeat = Heartbeat(
            database, clock, replica, alone=lock is not None, pace=pace, owner=owner
        )
        self._settle = settle
        self._attempts = attempts
        self._on_fenced = on_fenced
        self._attending = attending
        self._fenced: BaseException | None = None
        self.is_stopped = False
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
            PreconditionFailed: Another process of this name is alive; or, out of the block, which
                is cancelled: others took us for dead.
            UpstreamUnavailable: Out of the block, likewise: others soon will, for the state cannot
                be written.
        """
        try:
            from dbos import DBOS
        except ImportError as missing:
            raise NotConfigured(
                "Watching needs the extra `response` (DBOS), which is not installed.",
                fix="pip install 'mcp-devops[response]'",
            ) from missing
        if self._lock is not None and not await asyncio.to_thread(self._locked, self._lock):
            raise taken(self.replica)
        await self._heartbeat.claim()
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
        body = asyncio.current_task()
        assert body is not None  # noqa: S101 - a coroutine that runs has one
        beating = asyncio.create_task(self._heartbeat.keep(partial(self._recover, DBOS)))
        beating.add_done_callback(partial(self._fence, DBOS, body))
        try:
            yield
        except asyncio.CancelledError:
            if self._fenced is None:
                raise
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            self._stop(DBOS)
            await asyncio.gather(*self._under_way, return_exceptions=True)
            # DBOS had put its own thread pool under the loop, and has shut it down.
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
            if self._fenced is None:
                if self._settle is not None:
                    await self._settle()
                await self._heartbeat.leave()
            if self._held is not None:
                self._held.close()
        if self._fenced is not None:
            body.uncancel()
            raise self._fenced

    async def start(self, rollout: Rollout) -> None:
        """Start the run of a rollout, unless it was started before, here or elsewhere.

        Raises:
            UpstreamUnavailable: It could not be written down.
        """
        from dbos import DBOS, SetWorkflowID, error
        from sqlalchemy.exc import SQLAlchemyError

        if await self._is_over(rollout.run_id):
            # DBOS may have forgotten it; a webhook that names it again is late.
            return
        try:
            with SetWorkflowID(rollout.run_id):
                await DBOS.start_workflow_async(self._respond, rollout.model_dump(mode="json"))
        except (error.DBOSException, SQLAlchemyError) as problem:
            raise _unavailable("started", problem) from problem

    async def forget(self, before: datetime, most: int) -> int:
        """Delete the steps of so many runs that ended before a moment. Returns of how many.

        A run's own row stays, so that it is not begun again.

        Raises:
            UpstreamUnavailable: They could not be deleted.
        """
        from dbos import DBOS, error
        from sqlalchemy.exc import SQLAlchemyError

        try:
            ended = await DBOS.list_workflows_async(
                status=["SUCCESS", *LOST],
                workflow_id_prefix="run-",
                completed_before=before.isoformat(),
                limit=most,
                load_input=False,
                load_output=False,
            )
            if ended:
                await DBOS.delete_workflows_async([one.workflow_id for one in ended])
        except (error.DBOSException, SQLAlchemyError) as problem:
            raise _unavailable("forgotten", problem) from problem
        return len(ended)

    async def tell_lost(self) -> int:
        """Page about runs that DBOS gave up, where that was not told. Returns how many.

        Either it began one again too often, or our own store was away when the run broke.

        Raises:
            DevOpsError: They could not be told; they are found again.
        """
        from dbos import DBOS, error
        from sqlalchemy.exc import SQLAlchemyError

        try:
            given_up = await DBOS.list_workflows_async(
                status=list(LOST), workflow_id_prefix="run-", load_output=False
            )
        except (error.DBOSException, SQLAlchemyError) as problem:
            raise _unavailable("looked at", problem) from problem
        told = 0
        for one in given_up:
            if one.input is not None and not await self._is_over(one.workflow_id):
                rollout = Rollout.model_validate(one.input["args"][0])
                await self.steps.broken(rollout, one.status)
                told += 1
        return told

    async def _is_over(self, run_id: str) -> bool:
        row = await self._database.read(
            lambda c: c.execute("SELECT body FROM runs WHERE id = ?", (run_id,)).fetchone()
        )
        return row is not None and row["body"] != "{}"

    def _workflow(self, dbos: Any, observing: Observing) -> Any:
        """The workflow as DBOS knows it; its steps are kept by their order."""

        async def step(name: str, kind: type[T], work: Callable[[], Awaitable[T]]) -> T:
            async def done() -> dict[str, Any]:
                return (await work()).model_dump(mode="json")

            options = {"name": name, "retries_allowed": True, "max_attempts": self._attempts}
            return kind.model_validate(await dbos.run_step_async(options, done))

        course = Course(self.steps, step, observing, self.replica)

        async def respond(rollout: dict[str, Any]) -> str:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - a coroutine that runs has one
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            told = Rollout.model_validate(rollout)
            async with _Broken(self, told):
                with self._attending(told):
                    return await course.respond(told)

        return dbos.workflow(name="respond")(respond)

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

    def _fence(self, dbos: Any, body: asyncio.Task[Any], beating: asyncio.Task[None]) -> None:
        """We count as dead: stop the runs first, and then whoever waits in the block."""
        if beating.cancelled():
            return
        self._fenced = beating.exception()
        log.error("the runs are stopped: %s", self._fenced)
        self._on_fenced()
        self._stop(dbos)
        body.cancel()

    async def _recover(self, dbos: Any, name: str) -> None:
        """Put a dead process's runs back in the queue, from which one living process takes each.

        Raises:
            UpstreamUnavailable: Not all of them are there.
        """
        from dbos import error
        from sqlalchemy.exc import SQLAlchemyError

        try:
            await asyncio.to_thread(dbos._recover_pending_workflows, [name])
            # What fails with one run is only logged there.
            left = await dbos.list_workflows_async(status="PENDING", executor_id=name, limit=1)
        except (error.DBOSException, SQLAlchemyError) as problem:
            raise _unavailable("recovered", problem) from problem
        if left:
            raise _unavailable("recovered")

    def _stop(self, dbos: Any) -> None:
        """Stop all runs where they are."""
        if not self.is_stopped:
            self.is_stopped = True
            # First destroyed, then cancelled: what DBOS sees cancelled it would take for ended.
            dbos.destroy(destroy_registry=True)
            for task in self._under_way:
                task.cancel()


@dataclass(frozen=True)
class _Broken:
    """Tells people of a run that its own failure ends: nobody watches that rollout any more."""

    runs: Runs
    rollout: Rollout

    async def __aenter__(self) -> None:
        """Nothing has failed yet."""

    async def __aexit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        # What is stopped goes on elsewhere; whatever DBOS says of it then is no failure.
        if isinstance(failure, Exception) and not self.runs.is_stopped:
            # DBOS keeps what a step met at each attempt.
            met = [*getattr(failure, "errors", ()), failure][0]
            log.error("%s: its run broke", self.rollout.target, exc_info=met)
            try:
                await self.runs.steps.broken(self.rollout, type(met).__name__)
            except DevOpsError as problem:
                log.exception("%s: nobody could be told: %s", self.rollout.target, problem)


def _unavailable(done: str, problem: Exception | None = None) -> UpstreamUnavailable:
    return UpstreamUnavailable(
        f"Not every run could be {done}; those that were not wait in the state.",
        fix="Check the database.",
        source="journal",
        upstream=type(problem).__name__ if problem is not None else "",
    )


def replica_name(given: str | None, shared: bool) -> str:
    """Name of this process: the given one, or the host's where many share a database."""
    if given:
        return given
    return f"{socket.gethostname()}-{os.getpid()}" if shared else "local"


def runs_url(state_dir: Path) -> str:
    """DBOS's own SQLite file beside the state."""
    return f"sqlite:///{state_dir / 'runs.db'}"
