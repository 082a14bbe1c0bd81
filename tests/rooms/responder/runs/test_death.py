"""A watch that is killed at any moment goes on where it was, and does nothing twice."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from mcp_devops.gateway.approvals import ApprovalDesk, ApprovalStatus
from mcp_devops.journal.database import open_database
from mcp_devops.journal.journal import Journal
from mcp_devops.scenarios.listening import listening
from mcp_devops.scenarios.recorded import load
from mcp_devops.scenarios.serving import connect, replayed
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import SystemClock
from tests.rooms.responder.test_service import ALONE, ASKING
from tests.support.pagerduty import KEY, FakePagerDuty


class Watches:
    """Processes of `mcp-devops watch`, one after the other, on one state."""

    def __init__(self, folder: Path, environment: dict[str, str], pages: FakePagerDuty) -> None:
        self.folder = folder
        self.environment = environment
        self.pages = pages
        self.state = folder / "state"

    @asynccontextmanager
    async def one(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A watch; it is killed at the end of the block."""
        async with self.started(self.environment, "watch", self.state) as process:
            yield process

    @asynccontextmanager
    async def started(
        self, environment: dict[str, str], name: str, state: Path
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """A watch that says what it does in NAME.log; it is killed at the end of the block."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mcp_devops", "watch", "-n", "shop"),
                *("--policy", str(self.folder / "policy.yaml"), "--state-dir", str(state)),
                env=environment,
                stdout=log,
                stderr=log,
            )
            try:
                yield process
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        file = self.state / "state.db"
        if not file.exists():
            return []
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10) as connection:
            try:
                return connection.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []

    def begun(self, uid: str) -> int:
        """How many runs of a workload DBOS knows."""
        return self._durable("SELECT count(*) FROM workflow_status WHERE true", uid)

    def recorded(self, uid: str) -> int:
        """How many steps of a workload's runs DBOS has kept."""
        return self._durable("SELECT count(*) FROM operation_outputs WHERE true", uid)

    def ended(self, uid: str) -> bool:
        """Whether DBOS has kept the end of a workload's run."""
        return (
            self._durable("SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'", uid) > 0
        )

    def _durable(self, query: str, uid: str) -> int:
        file = self.state / "runs.db"
        if not file.exists():
            return 0
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as connection:
            try:
                mine = f"{query} AND workflow_uuid LIKE ?"
                return int(connection.execute(mine, (f"run-{uid}-%",)).fetchone()[0])
            except sqlite3.OperationalError:
                return 0

    async def until(self, holds: Callable[[], object], seconds: float = 120) -> None:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.1)

    def said(self) -> str:
        return (self.folder / "watch.log").read_text(encoding="utf-8", errors="replace")


@asynccontextmanager
async def watches(
    folder: Path, policy: str, scenario: str = "crash-loop"
) -> AsyncIterator[Watches]:
    (folder / "policy.yaml").write_text(policy, encoding="utf-8")
    pages = FakePagerDuty()
    routes = [
        Route("/v2/enqueue", pages.enqueue, methods=["POST"]),
        Route("/v2/change/enqueue", pages.change, methods=["POST"]),
    ]
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        world, cluster, token, metrics = await enter(replayed(scenario))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MCP_DEVOPS_")}
        connect(environment, folder, world.scenario, cluster, token, metrics)
        environment["MCP_DEVOPS_PAGERDUTY__URL"] = await enter(listening(Starlette(routes=routes)))
        environment["MCP_DEVOPS_PAGERDUTY__ROUTING_KEY"] = KEY
        # The shortest verification: it is waited for in real time.
        environment["MCP_DEVOPS_INCIDENT__VERIFY_WINDOW_S"] = "10"
        environment["MCP_DEVOPS_INCIDENT__STEADY_S"] = "3"
        yield Watches(folder, environment, pages)


CART = "SELECT status FROM runs WHERE target LIKE '%/cart %' AND body <> '{}'"


async def test_killed_while_a_person_is_asked_the_answer_still_counts_and_once(
    tmp_path: Path,
) -> None:
    pending = "SELECT id FROM approvals WHERE status = 'pending'"
    async with watches(tmp_path, ASKING) as it:
        async with it.one():
            await it.until(lambda: it.rows(pending) and it.pages.pages)
        (approval,) = it.rows(pending)
        await say_yes(it, str(approval[0]))
        async with it.one():
            await it.until(lambda: it.rows(CART))
        async with open_database(it.state / "state.db") as database:
            chain = await Journal(database, Redactor(), SystemClock().now).verify()
    assert it.rows(CART) == [("recovered",)]
    assert it.rows("SELECT status FROM actions") == [("done",)]
    assert len(it.rows("SELECT id FROM approvals")) == 1, "no approval is invented"
    assert it.pages.pages == 1, "nobody is woken twice"
    assert chain.ok


SENT = "SELECT 1 FROM entries WHERE kind = 'incident_changed' AND body LIKE '%whole pod template%'"


@pytest.mark.parametrize("moment", ["SELECT 1 FROM actions", SENT], ids=["intent", "sent"])
@pytest.mark.parametrize("policy", [ALONE, ASKING], ids=["alone", "asking"])
async def test_killed_in_the_middle_of_its_action_it_is_finished_and_not_repeated(
    tmp_path: Path, moment: str, policy: str
) -> None:
    pending = "SELECT id FROM approvals WHERE status = 'pending'"
    async with watches(tmp_path, policy) as it:
        async with it.one():
            if policy == ASKING:
                await it.until(lambda: it.rows(pending) and it.pages.pages)
                await say_yes(it, str(it.rows(pending)[0][0]))
            await it.until(lambda: it.rows(moment))
        async with it.one():
            await it.until(lambda: it.rows(CART))
    assert it.rows(CART) == [("recovered",)], it.said()[-3000:]
    assert len(it.rows(SENT)) == 1, "the rollback is sent once"
    assert it.rows("SELECT status FROM actions") == [("done",)]
    assert len(it.rows("SELECT id FROM approvals")) == 1, "whoever said yes is not asked again"


@pytest.mark.parametrize("policy", [ALONE, ASKING], ids=["alone", "asking"])
async def test_killed_after_every_single_step_it_does_each_thing_once(
    tmp_path: Path, policy: str
) -> None:
    cart = next(
        thing["metadata"]["uid"]
        for thing in load("crash-loop").cluster["lists"]["deployments"]
        if thing["metadata"]["name"] == "cart"
    )
    pending = "SELECT id FROM approvals WHERE status = 'pending'"
    asking = policy == ASKING
    kept = [0]
    async with watches(tmp_path, policy) as it:
        while not it.ended(cart):
            async with it.one() as process:
                async with asyncio.timeout(60):
                    while it.recorded(cart) == kept[-1] and not it.ended(cart):
                        assert process.returncode is None, it.said()[-3000:]
                        if asking and it.pages.pages and (found := it.rows(pending)):
                            await say_yes(it, str(found[0][0]))
                        await asyncio.sleep(0.005)
                process.kill()
            kept.append(it.recorded(cart))
        async with open_database(it.state / "state.db") as database:
            chain = await Journal(database, Redactor(), SystemClock().now).verify()
    assert len(kept) > 4, "it was killed again and again"
    assert it.rows(CART) == [("recovered",)], it.said()[-3000:]
    assert len(it.rows(SENT)) == 1, "the rollback is sent once"
    assert it.rows("SELECT status FROM actions") == [("done",)]
    channels = it.rows("SELECT status, channel FROM approvals")
    assert channels == [("used", "terminal" if asking else "policy")], "none is invented or lost"
    assert it.pages.pages == int(asking), "nobody is woken twice"
    assert chain.ok


async def say_yes(it: Watches, approval_id: str) -> None:
    async with open_database(it.state / "state.db") as database:
        journal = Journal(database, Redactor(), SystemClock().now)
        desk = ApprovalDesk(database, journal, SystemClock(), 600)
        await desk.answer(approval_id, ApprovalStatus.APPROVED, who="ann", channel="terminal")


async def test_a_signal_ends_it_in_order_and_a_second_start_goes_on(tmp_path: Path) -> None:
    async with watches(tmp_path, ASKING) as it:
        async with it.one() as process:
            await it.until(lambda: it.pages.pages)
            process.terminate()
            assert await process.wait() == 0
        assert "go on when it is started again" in it.said()
        async with it.one():
            await it.until(lambda: "watching shop as local" in it.said().split("stopping")[-1])
        assert it.pages.pages == 1


async def test_two_watches_on_one_state_are_refused_at_once(tmp_path: Path) -> None:
    async with watches(tmp_path, ASKING) as it:
        async with it.one():
            await it.until(lambda: "watching shop as local" in it.said())
            async with it.one() as second:
                assert await second.wait() == 1
        assert "Another `watch` named 'local' is running" in it.said()
