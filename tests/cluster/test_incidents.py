"""The whole path on the real cluster, as a user with exactly the printed Role."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from mcp_devops.errors import NotFound
from tests.support.cluster import AVAILABLE, WHY_NOT, connected, shop, until
from tests.support.on_call import WINDOWS, at_work, healthy_traffic, on_call, place

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)]


async def test_an_error_regression_is_judged_approved_undone_and_verified_with_the_printed_role(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path, "errors") as (duty, made):
        await healthy_traffic(made)
        await made.set_env(VERSION="v2", FAIL_RATE="0.25", LATENCY_MS="60")
        await made.rolled_out()
        verdict = await duty.verdict_of("roll_back")
        done = await duty.data("incident_roll_back", incident_id=verdict["incident_id"])
        again = await duty.data("incident_roll_back", incident_id=verdict["incident_id"])
        live = await made.read()
    assert verdict["cause"] == "new_code_regression" and verdict["confidence"] >= 0.8
    assert done["status"] == "recovered" and done["template_restored"] is True
    assert done["verification"]["error_rate_before"] > 0.1
    assert done["verification"]["error_rate_after"] < 0.01
    assert len(duty.asked) == 1 and "FAIL_RATE" in duty.asked[0]
    assert "not done again" in again["headline"]
    env = {e["name"] for e in live["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert "FAIL_RATE" not in env


CRASHES = {
    "crash loop": {"VERSION": "v2", "CRASH_AFTER_S": "2"},
    "out of memory": {"VERSION": "v2", "LEAK_MB_PER_S": "40"},
    "missing configuration": {"VERSION": "v2", "REQUIRE_ENV": "PAYMENT_URL"},
}
CAUSES = {
    "crash loop": "crash_loop",
    "out of memory": "oom_killed",
    "missing configuration": "crash_loop",
}


@pytest.mark.parametrize("fault", sorted(CRASHES))
async def test_pods_that_cannot_live_are_rolled_back_without_waiting_for_metrics(
    tmp_path: Path, fault: str
) -> None:
    async with at_work(tmp_path, "pods") as (duty, made):
        await made.set_env(**CRASHES[fault])
        verdict = await duty.verdict_of("roll_back")
        found = await duty.data("incident_investigate", workload=made.name, **WINDOWS)
        done = await duty.data("incident_roll_back", incident_id=verdict["incident_id"])
    assert found["rollout"]["cause"] in (CAUSES[fault], "crash_loop")
    if fault != "out of memory":  # the kernel leaves no last words
        assert found["rollout"]["new"]["log_line"]
    assert done["status"] == "recovered", done["headline"]


async def test_an_image_that_cannot_be_pulled_is_rolled_back(tmp_path: Path) -> None:
    async with at_work(tmp_path, "pull") as (duty, made):
        await made.set_image("registry.invalid/shop:nope")
        verdict = await duty.verdict_of("roll_back", 150)
        done = await duty.data("incident_roll_back", incident_id=verdict["incident_id"])
    assert "image" in verdict["headline"]
    assert done["status"] == "recovered"


async def test_pods_that_never_turn_ready_are_rolled_back_once_that_is_sure(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path, "unready") as (duty, made):
        await made.set_env(VERSION="v2", UNREADY="1")
        early = (await duty.verdict())[1]
        # Sure is the progress deadline, or the policy's 180 s if the controller is late.
        verdict = await duty.verdict_of("roll_back", 240)
        done = await duty.data("incident_roll_back", incident_id=verdict["incident_id"])
    assert early["action"] != "roll_back"
    assert done["status"] == "recovered"


async def test_a_healthy_deployment_is_left_alone(tmp_path: Path) -> None:
    async with at_work(tmp_path, "fine") as (duty, made):
        await healthy_traffic(made)
        await made.set_env(VERSION="v2")
        await made.rolled_out()
        verdict = await duty.verdict_of("no_action", 150)
        refused = await duty.call("incident_roll_back", incident_id=verdict["incident_id"])
    assert verdict["action"] == "no_action" and verdict["automatic"] is False
    assert refused.is_error and refused.meta is not None
    assert refused.meta["mcp-devops/error"]["code"] == "PRECONDITION_FAILED"
    assert duty.asked == []


async def test_a_deployment_that_moved_since_the_verdict_is_not_rolled_back(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path, "moved") as (duty, made):
        await made.set_env(VERSION="v2", CRASH_AFTER_S="2")
        verdict = await duty.verdict_of("roll_back")
        await made.set_env(VERSION="v3", CRASH_AFTER_S="0")
        refused = await duty.call("incident_roll_back", incident_id=verdict["incident_id"])
        live = await made.read()
    assert refused.is_error and refused.meta is not None
    assert refused.meta["mcp-devops/error"]["code"] == "PRECONDITION_FAILED"
    env = live["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "VERSION", "value": "v3"} in env


async def test_a_viewer_is_told_what_is_missing_and_who_grants_it(tmp_path: Path) -> None:
    async with (
        connected() as admin,
        shop(await admin.cluster(), "view", replicas=1) as made,
        on_call(tmp_path, os.environ["TEST_CLUSTER_VIEWER_KUBECONFIG"], made) as duty,
    ):
        refused = await duty.call("incident_investigate", workload=made.name)
        seen = await duty.data("kubernetes_check_access")
    assert refused.is_error and refused.meta is not None
    error = refused.meta["mcp-devops/error"]
    assert error["code"] == "PERMISSION_DENIED"
    assert any("deployments" in need for need in error["details"]["missing"])
    assert "kubectl" in error["fix"] or "rbac" in error["fix"]
    assert any(not line["allowed"] for line in seen["permissions"])


async def test_the_read_only_role_is_enough_to_look_and_not_to_act(tmp_path: Path) -> None:
    async with (
        place(tmp_path) as there,
        shop(there.cluster, "reader", replicas=1, namespace=there.namespace) as made,
        on_call(tmp_path, there.kubeconfig, made) as duty,
    ):
        found = await duty.data("incident_investigate", workload=made.name, **WINDOWS)
        refused = await duty.call("kubernetes_roll_back", workload=made.name, from_revision=1)
    assert found["revision"] == 1
    gaps = {m["what"] for m in found.get("missing", []) if m["source"] == "kubernetes"}
    assert gaps <= {"node events"}, "a Role of one namespace cannot see nodes"
    assert refused.is_error


async def test_a_change_survives_the_servers_death_and_is_not_done_twice(tmp_path: Path) -> None:
    """Kill the server while it verifies; the next one finds the plan and its fate."""
    from mcp_devops.journal.database import open_database
    from mcp_devops.journal.journal import Journal
    from mcp_devops.text.secrets import Redactor
    from mcp_devops.toolkit.clock import SystemClock

    async with (
        place(tmp_path, "--writes") as there,
        shop(there.cluster, "killed", namespace=there.namespace) as made,
    ):
        await made.set_env(VERSION="v2", CRASH_AFTER_S="2")
        async with on_call(tmp_path, there.kubeconfig, made) as duty:
            verdict = await duty.verdict_of("roll_back")
        before = (await made.read())["metadata"]["generation"]
        victim = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.roll_back_once"),
            *(str(tmp_path / "state"), verdict["incident_id"], made.namespace),
            env={**os.environ, "KUBECONFIG": str(there.kubeconfig)},
            stdout=asyncio.subprocess.DEVNULL,
        )

        async def moved() -> bool:
            return bool((await made.read())["metadata"]["generation"] > before)

        await until(moved, bool, 60)
        victim.kill()
        await victim.wait()
        async with open_database(tmp_path / "state" / "state.db") as database:
            journal = Journal(database, Redactor(), SystemClock().now)
            assert (await journal.verify()).ok
            unfinished = [e.kind.value for e in await journal.unfinished()]
        generation = (await made.read())["metadata"]["generation"]
        async with on_call(tmp_path, there.kubeconfig, made, "legacy") as duty:
            told = await duty.data("incident_get", incident_id=verdict["incident_id"])
            done = await duty.data("incident_roll_back", incident_id=verdict["incident_id"])
        after = (await made.read())["metadata"]["generation"]
    assert "action_started" in unfinished
    assert told["incident"]["status"] in ("rolling_back", "verifying")
    assert done["status"] == "recovered", "the next server goes on with the verification"
    assert after == generation, "the rollback was sent a second time"


async def test_unknown_names_and_namespaces_get_a_clear_answer(tmp_path: Path) -> None:
    async with (
        connected() as admin,
        shop(await admin.cluster(), "known", replicas=1) as made,
        on_call(tmp_path, os.environ["KUBECONFIG"], made) as duty,
    ):
        typo = await duty.call("incident_investigate", workload=made.name[:-1])
        nowhere = await duty.call(
            "kubernetes_describe_pods", namespace="no-such-namespace", workload=made.name
        )
        pod = await duty.call("kubernetes_tail_logs", pod=f"{made.name}-x")
    codes = [r.meta and r.meta["mcp-devops/error"]["code"] for r in (typo, nowhere, pod)]
    assert codes == [NotFound.code] * 3
    assert made.name in str(typo.content)
