"""Around a question while a person thinks: others look; thresholds are a team's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcp_devops.decision.policy import Policy
from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus
from mcp_devops.gateway.door import Gateway
from mcp_devops.responder.runs.steps import Steps
from mcp_devops.responder.watching.rollouts import Rollout
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.toolkit.context import Caller
from tests.rooms.integrations.sentry.test_record import Ingestion
from tests.rooms.responder.test_service import ALONE, ASKING, Night, night

ANN = Caller("ann", "test")
OWN_NUMBERS = (
    ALONE
    + """\
scopes:
  - match: {namespaces: [shop]}
    thresholds: {errors: {floor: 0.02}}
"""
)


async def question(it: Night, after: int = 0) -> Approval:
    """The question that waits, once so many were asked before it."""
    desk = await it.gateway.services.get(ApprovalDesk)
    async with asyncio.timeout(60):
        while True:
            asked = await it.rows("SELECT id FROM approvals")
            waiting = await desk.waiting()
            if waiting and len(asked) > after:
                return waiting[-1]
            await asyncio.sleep(0.05)


async def yes(it: Night, approval: Approval) -> None:
    desk = await it.gateway.services.get(ApprovalDesk)
    await desk.answer(approval.id, ApprovalStatus.APPROVED, who="ann", channel="terminal")


async def test_what_was_judged_anew_while_a_person_thought_is_asked_about_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch, ASKING) as it:
        first = await question(it)
        looked = {"incident_id": first.plan.incident_id}
        await it.gateway.call(
            "incident_investigate", {"namespace": "shop", "workload": "cart"}, ANN
        )
        judged = await it.gateway.call("incident_decide", looked, ANN)
        await yes(it, first)
        second = await question(it, after=1)
        done_on_the_first = await it.rows("SELECT * FROM actions")
        await yes(it, second)
        run = await it.ended("cart")
        actions = await it.rows("SELECT status FROM actions")
    assert judged.data is not None and judged.data["verdict_id"] == second.plan.verdict_id
    assert first.plan.verdict_id != second.plan.verdict_id
    assert done_on_the_first == [], "an approval is of the plan that was read"
    assert run["status"] == "recovered" and [a["status"] for a in actions] == ["done"]
    assert it.pages.pages == 1, "the same alert, not a second one"


async def test_a_run_leaves_a_workload_that_was_made_anew_to_that_ones_own_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch, ASKING) as it:
        asked = await question(it)
        (run,) = await it.rows("SELECT template_hash FROM runs WHERE target LIKE '%/cart %'")
        policy = PolicyFile(tmp_path / "policy.yaml", it.gateway.clock, Policy())
        steps = Steps(it.gateway, policy, it.responder.people, it.responder.watch)
        template = str(run["template_hash"])
        before = Rollout(target=asked.plan.target, uid="the-one-before", template_hash=template)
        seen = await steps.look(before)
    assert seen.over == "another rollout replaced it"


async def test_a_scope_with_its_own_thresholds_is_judged_by_them_and_acted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night("crash-loop", tmp_path, monkeypatch, OWN_NUMBERS) as it:
        run = await it.ended("cart")
        found = await it.gateway.call("incident_get", {"incident_id": run["incident_id"]}, ANN)
        other = await it.gateway.call("incident_explain", {"topic": "policy"}, ANN)
    assert found.data is not None
    version = found.data["incident"]["verdict"]["policy_version"]
    assert run["status"] == "recovered"
    assert version not in other.text, "these are not the server's numbers"
    assert it.pages.pages == 0


async def test_a_rollback_is_written_down_in_sentry_with_a_dsn_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingestion = Ingestion()
    async with ingestion.running() as dsn:

        async def configured(gateway: Gateway) -> None:
            monkeypatch.setenv("MCP_DEVOPS_SENTRY__DSN", dsn)

        async with night("crash-loop", tmp_path, monkeypatch, before=configured) as it:
            run = await it.ended("cart")
    (envelope,) = ingestion.envelopes
    assert run["status"] == "recovered"
    assert b'"recovered"' in envelope and b"cart" in envelope and b"diagnostics.json" in envelope
