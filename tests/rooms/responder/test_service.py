"""The unattended server over recorded incidents: real watches, real runs in DBOS, real channels."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from mcp_devops.gateway.approvals import ApprovalDesk, ApprovalStatus
from mcp_devops.gateway.door import CallRecord, Gateway
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.incidents.store import Stored
from mcp_devops.journal.database import Database
from mcp_devops.journal.journal import Journal
from mcp_devops.model.target import WorkloadKind
from mcp_devops.responder import service as module
from mcp_devops.responder.response import Kind
from mcp_devops.responder.runs.steps import Steps
from mcp_devops.responder.service import Responder, watching
from mcp_devops.responder.switches import freeze
from mcp_devops.responder.watching.rollouts import Rollout
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.scenarios.listening import listening
from mcp_devops.scenarios.serving import connect, replayed
from mcp_devops.settings import ServerSettings
from tests.support.channels import response
from tests.support.pagerduty import KEY, FakePagerDuty

ALONE = """\
version: 1
defaults:
  automatic: verdict
  without_data: record_only
  observe: {for_s: 60, step_s: 5}
  resolve: {pagerduty: resolve}
"""
UNSURE_SOON = ALONE.replace("step_s: 5", "step_s: 5, unsure_s: 10")
ASKING = ALONE.replace("automatic: verdict", "automatic: ask")


class Night:
    """One recorded incident at night, with nobody at a keyboard."""

    def __init__(self, gateway: Gateway, responder: Responder, pages: FakePagerDuty) -> None:
        self.gateway = gateway
        self.responder = responder
        self.pages = pages

    async def rows(self, query: str) -> list[dict[str, Any]]:
        database = await self.gateway.services.get(Database)
        return await database.read(lambda c: [dict(r) for r in c.execute(query).fetchall()])

    async def ended(self, workload: str) -> dict[str, Any]:
        """The run of a workload, once it is closed."""
        query = f"SELECT * FROM runs WHERE target LIKE '%/{workload} %'"  # noqa: S608 - ours
        async with asyncio.timeout(90):
            while True:
                for row in await self.rows(query):
                    if "ended_at" in json.loads(row["body"]):
                        return row
                await asyncio.sleep(0.2)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.05)


@asynccontextmanager
async def night(
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: str = ALONE,
    before: Callable[[Gateway], Awaitable[None]] | None = None,
    pages_refused: bool = False,
    **settings: Any,
) -> AsyncIterator[Night]:
    for variable in [v for v in os.environ if v.startswith("MCP_DEVOPS_")]:
        monkeypatch.delenv(variable)
    pages = FakePagerDuty(faults=["400"] * 50 if pages_refused else [])
    routes = [
        Route("/v2/enqueue", pages.enqueue, methods=["POST"]),
        Route("/v2/change/enqueue", pages.change, methods=["POST"]),
    ]
    file = folder / "policy.yaml"
    file.write_text(policy, encoding="utf-8")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        world, cluster, token, metrics = await enter(replayed(name))
        environment: dict[str, str] = {}
        connect(environment, folder, world.scenario, cluster, token, metrics)
        environment |= {
            "MCP_DEVOPS_RESPONSE__POLICY_FILE": str(file),
            "MCP_DEVOPS_PAGERDUTY__URL": await enter(listening(Starlette(routes=routes))),
            "MCP_DEVOPS_PAGERDUTY__ROUTING_KEY": KEY,
        }
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        given = {"state_dir": folder / "state", "allow_writes": ("shop",), **settings}
        gateway = await enter(
            open_gateway(ServerSettings(**given), channel="test", clock=world.clock)
        )
        if before is not None:
            await before(gateway)
        responder = await enter(watching(gateway, ("shop",), (WorkloadKind.DEPLOYMENT,)))
        yield Night(gateway, responder, pages)


async def test_a_crash_loop_is_rolled_back_without_a_person_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch) as it:
        run = await it.ended("cart")
        actions = await it.rows("SELECT status FROM actions")
        approvals = await it.rows("SELECT answered_by, channel FROM approvals")
        journal = await it.gateway.services.get(Journal)
        chain = await journal.verify()
    assert run["status"] == "recovered"
    assert [a["status"] for a in actions] == ["done"]
    assert approvals[0]["channel"] == "policy" and approvals[0]["answered_by"].startswith("policy ")
    assert it.pages.pages == 0, "nobody is woken for what is repaired"
    assert any("cart" in json.dumps(c) for c in it.pages.changes)
    assert chain.ok


async def test_what_the_policy_wants_asked_waits_for_a_person_who_says_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch, ASKING) as it:
        await it.until(lambda: it.pages.pages == 1)
        desk = await it.gateway.services.get(ApprovalDesk)
        (approval,) = await desk.waiting()
        before = await it.rows("SELECT * FROM actions")
        await desk.answer(approval.id, ApprovalStatus.APPROVED, who="ann", channel="terminal")
        run = await it.ended("cart")
        actions = await it.rows("SELECT status FROM actions")
    assert before == [] and [a["status"] for a in actions] == ["done"]
    assert run["status"] == "recovered"
    assert set(it.pages.alerts.values()) == {"resolved"}, "the policy resolves what is repaired"
    assert (approval.plan.reason or "").endswith(
        " A person decides: the verdict by itself is roll back."
    )
    page = it.pages.events[0]
    assert "cart" in page["payload"]["summary"]
    assert f"mcp-devops approve {approval.id}" in json.dumps(page)


async def test_a_person_who_says_no_is_obeyed_and_the_page_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch, ASKING) as it:
        await it.until(lambda: it.pages.pages == 1)
        desk = await it.gateway.services.get(ApprovalDesk)
        (approval,) = await desk.waiting()
        await desk.answer(approval.id, ApprovalStatus.DENIED, who="ann", channel="terminal")
        run = await it.ended("cart")
        actions = await it.rows("SELECT * FROM actions")
    assert run["status"] == "not approved (denied)" and actions == []
    assert set(it.pages.alerts.values()) == {"acknowledged"}, "open, and somebody handles it"


async def test_no_answer_is_a_no_and_the_page_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch, ASKING, approval_ttl_s=2) as it:
        run = await it.ended("cart")
        actions = await it.rows("SELECT * FROM actions")
    assert run["status"].startswith("not approved") and actions == []
    assert set(it.pages.alerts.values()) == {"triggered"} and it.pages.pages == 1


async def test_while_frozen_a_person_is_asked_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def frozen(gateway: Gateway) -> None:
        database = await gateway.services.get(Database)
        journal = await gateway.services.get(Journal)
        now = gateway.clock.now()
        await freeze(database, journal, now=now, who="ann", reason="sale")

    async with night("crash-loop", tmp_path, monkeypatch, approval_ttl_s=2, before=frozen) as it:
        run = await it.ended("cart")
        actions = await it.rows("SELECT * FROM actions")
    assert run["status"].startswith("not approved") and actions == [] and it.pages.pages == 1


async def test_an_upstream_outage_wakes_a_person_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("upstream-outage", tmp_path, monkeypatch, UNSURE_SOON, approval_ttl_s=2) as it:
        run = await it.ended("orders")
        actions = await it.rows("SELECT * FROM actions")
    assert run["status"].startswith("not approved") and actions == []
    assert it.pages.pages == 1 and "orders" in it.pages.events[0]["payload"]["summary"]


async def test_the_page_tells_when_slack_and_mail_are_not_there_and_pagerduty_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night(
        "crash-loop", tmp_path, monkeypatch, ASKING, approval_ttl_s=2, pages_refused=True
    ) as it:
        await it.ended("cart")
        incidents = await it.rows("SELECT body FROM incidents")
    assert any("could not tell everybody: PagerDuty" in i["body"] for i in incidents)


async def test_a_run_that_goes_on_under_a_changed_policy_does_not_act_by_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch, ASKING) as it:
        await it.until(lambda: it.pages.pages == 1)
        (run,) = await it.rows("SELECT * FROM runs WHERE target LIKE '%/cart %'")
        (found,) = await it.rows("SELECT * FROM incidents WHERE name = 'cart'")
        incident = Stored.model_validate_json(found["body"]).incident
        rollout = Rollout(target=incident.target, uid="", template_hash=run["template_hash"])
        steps = Steps(
            it.gateway,
            await it.gateway.services.get(PolicyFile),
            it.responder.people,
            it.responder.watch,
        )
        # What the run was told by the policy before it died.
        acted = await steps.act(rollout, incident.id, response(kind=Kind.ACT))
        actions = await it.rows("SELECT * FROM actions")
    assert (acted.status, actions) == ("stopped", [])
    assert "automatic: ask" in acted.says
    assert acted.response is not None and acted.response.kind is Kind.ASK


async def test_listening_to_people_that_trips_once_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "POLL_AGAIN_S", 0)
    began: list[int] = []
    heard = asyncio.Event()

    async def listen() -> None:
        began.append(len(began))
        if len(began) == 1:
            raise ValueError("an answer of a new kind")
        heard.set()
        await asyncio.Event().wait()

    listening_on = asyncio.create_task(module._kept(listen))
    async with asyncio.timeout(10):
        await heard.wait()
    listening_on.cancel()
    await asyncio.gather(listening_on, return_exceptions=True)
    assert began == [0, 1]


async def test_a_person_who_says_no_a_moment_before_the_policy_says_yes_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quick(gateway: Gateway) -> None:
        """Somebody denies each question in the instant in which it is stored."""
        state = tmp_path / "state" / "state.db"

        def deny(call: CallRecord) -> None:
            if call.tool == "incident_roll_back" and call.outcome == "APPROVAL_REQUIRED":
                with closing(sqlite3.connect(state)) as connection, connection:
                    connection.execute(
                        "UPDATE approvals SET status = 'denied', answered_by = 'ann',"
                        " channel = 'terminal' WHERE status = 'pending'"
                    )

        gateway.observers.append(deny)

    async with night("crash-loop", tmp_path, monkeypatch, before=quick) as it:
        run = await it.ended("cart")
        actions = await it.rows("SELECT * FROM actions")
        answered = await it.rows("SELECT status, answered_by FROM approvals")
    assert (run["status"], actions) == ("refused", [])
    assert answered == [{"status": "denied", "answered_by": "ann"}]
    assert it.pages.pages == 1 and "ann" in json.dumps(it.pages.events[0])


async def test_a_policy_that_breaks_while_it_watches_is_told_to_people_and_the_old_one_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch, ASKING, approval_ttl_s=60) as it:
        await it.until(lambda: it.pages.pages == 1)
        (tmp_path / "policy.yaml").write_text("version: 1\nlimts: {}\n", encoding="utf-8")
        await it.until(lambda: it.pages.pages == 2)
        refused = it.pages.events[-1]["payload"]
        policy = await it.gateway.services.get(PolicyFile)
        holds = policy.current.document.defaults.automatic
        (tmp_path / "policy.yaml").write_text(ASKING, encoding="utf-8")
        await it.until(lambda: "resolved" in it.pages.alerts.values())
    assert refused["severity"] == "warning" and "policy.yaml:2:1" in json.dumps(refused)
    assert "Did you mean 'limits'?" in json.dumps(refused) and holds.value == "ask"
