"""A run that fails by itself is not forgotten: a person is woken to watch in its place."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from mcp_devops.decision.policy import Policy
from mcp_devops.errors import DevOpsError, UpstreamUnavailable
from mcp_devops.journal.database import open_database
from mcp_devops.model.target import Workload
from mcp_devops.responder.runs.durable import Runs, runs_url
from mcp_devops.responder.runs.steps import Steps
from mcp_devops.responder.watching.rollouts import Rollout
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.response_policy.policy import Observe
from mcp_devops.toolkit.clock import SystemClock
from tests.rooms.responder.test_service import ASKING, night
from tests.support.waiting import until

ORDERS = Rollout(
    target=Workload(cluster="here", namespace="shop", name="orders"),
    uid="uid-9",
    template_hash="9" * 64,
)


class Breaking:
    """Steps of which the first cannot be done."""

    def __init__(self, *fails: DevOpsError) -> None:
        self.told: list[tuple[Rollout, str]] = []
        self.news = asyncio.Event()
        self.fails = list(fails)

    async def begin(self, rollout: Rollout, replica: str) -> float:
        raise ValueError(rollout.uid)

    async def broken(self, rollout: Rollout, failure: str) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.told.append((rollout, failure))
        self.news.set()


async def test_a_run_that_ends_by_its_own_failure_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Breaking()
    async with open_database(tmp_path / "state.db") as database:
        runs = Runs(
            cast(Any, steps), database, SystemClock(), runs_url(tmp_path), "local", attempts=1
        )
        async with asyncio.timeout(60), runs.running(lambda _: Observe()):
            await runs.start(ORDERS)
            await steps.news.wait()
    assert steps.told == [(ORDERS, "ValueError")]
    assert "its run broke" in caplog.text and "uid-9" in caplog.text


async def test_a_run_whose_failure_nobody_could_be_told_of_is_told_later(tmp_path: Path) -> None:
    steps = Breaking(UpstreamUnavailable("The state is away.", fix="Wait."))
    async with open_database(tmp_path / "state.db") as database:
        runs = Runs(
            cast(Any, steps), database, SystemClock(), runs_url(tmp_path), "local", attempts=1
        )
        async with asyncio.timeout(60), runs.running(lambda _: Observe()):
            await runs.start(ORDERS)
            await until(runs.tell_lost)
    assert steps.told == [(ORDERS, "ERROR")]


class Endless(Breaking):
    """Steps of which the first never ends."""

    async def begin(self, rollout: Rollout, replica: str) -> float:
        self.news.set()
        await asyncio.Event().wait()
        return 0.0


async def test_a_run_that_was_begun_again_too_often_is_told(tmp_path: Path) -> None:
    steps = Endless()
    async with open_database(tmp_path / "state.db") as database:
        runs = Runs(cast(Any, steps), database, SystemClock(), runs_url(tmp_path), "local")
        async with asyncio.timeout(60), runs.running(lambda _: Observe()):
            await runs.start(ORDERS)
            await steps.news.wait()
            later = datetime.now(UTC) + timedelta(hours=1)
            assert await runs.forget(later, 5) == await runs.tell_lost() == 0, "it is under way"
            with closing(sqlite3.connect(tmp_path / "runs.db", timeout=10)) as connection:
                connection.execute(
                    "UPDATE workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'"
                )
                connection.commit()
            assert await runs.tell_lost() == 1
    assert steps.told == [(ORDERS, "MAX_RECOVERY_ATTEMPTS_EXCEEDED")]


async def test_a_person_is_paged_once_to_watch_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch, ASKING, approval_ttl_s=2) as it:
        await it.ended("cart")
        policy = PolicyFile(tmp_path / "policy.yaml", it.gateway.clock, Policy())
        steps = Steps(it.gateway, policy, it.responder.people, it.responder.watch)
        for _ in range(2):
            await steps.broken(ORDERS, "ValueError")
        run = await it.ended("orders")
        lost = await it.responder.runs.tell_lost()
    about = [e for e in it.pages.events if e.get("payload", {}).get("component") == "orders"]
    assert len({e["dedup_key"] for e in about}) == 1
    assert "nobody watches its rollout now" in str(about[0])
    assert run["status"] == "broken", "also where it broke before it had a row"
    assert lost == 0
