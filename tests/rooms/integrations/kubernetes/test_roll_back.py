"""A rollback: rehearsed first, bound to what was judged, sent once, read back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.errors import NotFound, OutcomeUnknown, PreconditionFailed
from mcp_devops.integrations.kubernetes.revisions import template_hash, template_of
from mcp_devops.integrations.kubernetes.rolling_back import (
    apply_roll_back,
    plan_roll_back,
    wait_until_settled,
)
from mcp_devops.model.target import WorkloadKind
from mcp_devops.toolkit.clock import SystemClock
from tests.support.kube_api import Workshop, cluster_of, template
from tests.support.kubernetes_api import Asked, Reply, status

GOOD = template()
DRY = "dryRun"


def shop_of(kind: WorkloadKind = WorkloadKind.DEPLOYMENT, **spec: Any) -> Workshop:
    """Revision 1 is good, revision 2 is live and bad."""
    shop = Workshop(kind, **spec)
    shop.deploy(image="shop:2", env=[{"name": "MODE", "value": "bad"}])
    return shop


def live(shop: Workshop) -> dict[str, Any]:
    found: dict[str, Any] = template_of(shop.object)
    return found


@pytest.mark.parametrize("kind", list(WorkloadKind))
async def test_the_same_body_is_rehearsed_before_it_is_sent_and_restores_the_whole_template(
    kind: WorkloadKind, tmp_path: Path
) -> None:
    shop = shop_of(kind)
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t", expect_revision=2)
        assert not shop.patches
        outcome = await apply_roll_back(cluster, plan)
    assert [DRY in p.query for p in shop.patches] == [True, False]
    assert shop.patches[0].body == shop.patches[1].body
    assert {p.query["fieldManager"] for p in shop.patches} == {"mcp-devops"}
    assert live(shop) == GOOD
    assert outcome.template_restored
    assert outcome.live_template_hash == plan.to_template_hash
    assert (outcome.from_revision, outcome.to_revision, outcome.live_revision) == (2, 1, 3)


async def test_annotations_come_from_the_revision_and_numbers_stay_the_deployments_own(
    tmp_path: Path,
) -> None:
    shop = shop_of()
    shop.object["metadata"]["annotations"] |= {"team": "v2", "only-new": "x"}
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        await apply_roll_back(cluster, plan)
    body = shop.sent[0].json
    sent = next(o["value"] for o in body if o["path"] == "/metadata/annotations")
    assert sent == {"team": "v1", "deployment.kubernetes.io/revision": "2"}


async def test_a_second_apply_of_the_same_plan_sends_nothing(tmp_path: Path) -> None:
    shop = shop_of()
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        await apply_roll_back(cluster, plan)
        sent = len(shop.patches)
        again = await apply_roll_back(cluster, plan)
    assert len(shop.patches) == sent
    assert not again.changed
    assert again.template_restored


async def test_a_plan_whose_template_moved_is_refused_and_says_what_is_live(tmp_path: Path) -> None:
    shop = shop_of()
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        shop.deploy(image="shop:3")
        with pytest.raises(PreconditionFailed) as refused:
            await apply_roll_back(cluster, plan)
    assert not shop.patches
    assert refused.value.details["moved"]
    assert refused.value.details["live_revision"] == 3
    assert refused.value.details["live_template_hash"] == template_hash(shop.object)


async def test_an_object_made_anew_is_another_object(tmp_path: Path) -> None:
    shop = shop_of()
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        shop.object["metadata"]["uid"] = "u-2"
        with pytest.raises(PreconditionFailed) as refused:
            await apply_roll_back(cluster, plan)
    assert refused.value.details["live_uid"] == "u-2"
    assert not shop.patches


@pytest.mark.parametrize(
    "expectation",
    [{"expect_uid": "u-9"}, {"expect_revision": 1}, {"expect_template_hash": "0" * 64}],
)
async def test_a_plan_is_refused_when_what_was_judged_is_not_live(
    expectation: dict[str, Any], tmp_path: Path
) -> None:
    shop = shop_of()
    async with cluster_of(shop, tmp_path) as cluster:
        with pytest.raises(PreconditionFailed) as refused:
            await plan_roll_back(cluster, shop.target, tool="t", **expectation)
    assert refused.value.details["moved"]
    assert refused.value.details["live_revision"] == 2


async def test_a_status_write_in_between_is_a_reason_to_look_again_and_go_on(
    tmp_path: Path,
) -> None:
    shop = shop_of()

    def touch_once(asked: Asked) -> Reply | None:
        if len(shop.patches) == 2:
            shop.touch()
        return None

    shop.on_patch = touch_once
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        outcome = await apply_roll_back(cluster, plan)
    assert outcome.attempts == 2
    assert [DRY in p.query for p in shop.patches] == [True, False, True, False]
    assert live(shop) == GOOD


async def test_a_rollout_between_the_rehearsal_and_the_patch_is_not_overwritten(
    tmp_path: Path,
) -> None:
    shop = shop_of()

    def deploy_once(asked: Asked) -> Reply | None:
        if len(shop.patches) == 2:
            shop.deploy(image="shop:3")
        return None

    shop.on_patch = deploy_once
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        with pytest.raises(PreconditionFailed) as refused:
            await apply_roll_back(cluster, plan)
    assert refused.value.details["moved"]
    assert live(shop) == template(image="shop:3")


async def test_an_object_that_never_stands_still_is_given_up_after_three_tries(
    tmp_path: Path,
) -> None:
    shop = shop_of()

    def always_touch(asked: Asked) -> Reply | None:
        shop.touch()
        return None

    shop.on_patch = always_touch
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        with pytest.raises(PreconditionFailed) as refused:
            await apply_roll_back(cluster, plan)
    assert refused.value.details["status"] == 409
    assert len(shop.patches) == 3
    assert not shop.sent


async def test_a_lost_answer_is_an_unknown_outcome_while_the_old_template_is_live(
    tmp_path: Path,
) -> None:
    shop = shop_of()
    shop.on_patch = lambda asked: None if DRY in asked.query else Reply(close=True)
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        with pytest.raises(OutcomeUnknown) as unknown:
            await apply_roll_back(cluster, plan)
    assert unknown.value.details["live"] == "before"
    assert len(shop.sent) == 1


async def test_a_lost_answer_is_a_success_once_the_wanted_template_is_seen_live(
    tmp_path: Path,
) -> None:
    shop = shop_of()
    shop.after_patch = lambda _: Reply(close=True)
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        outcome = await apply_roll_back(cluster, plan)
    assert outcome.answer_lost
    assert outcome.template_restored
    assert len(shop.sent) == 1


async def test_an_admission_that_refuses_the_rehearsal_stops_everything(tmp_path: Path) -> None:
    shop = shop_of()
    shop.on_patch = lambda _: status(422, "denied by policy", "Invalid")
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        with pytest.raises(PreconditionFailed):
            await apply_roll_back(cluster, plan)
    assert len(shop.patches) == 1
    assert not shop.sent


async def test_a_server_that_would_store_another_template_is_not_sent_the_patch(
    tmp_path: Path,
) -> None:
    shop = shop_of()
    shop.on_patch = lambda _: Reply(
        body=__import__("json")
        .dumps({**shop.object, "spec": {"template": template(image="mirror/shop:1")}})
        .encode()
    )
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        with pytest.raises(PreconditionFailed) as refused:
            await apply_roll_back(cluster, plan)
    assert refused.value.details["fields"] == ["containers[checkout].image"]
    assert not shop.sent


async def test_a_paused_deployment_is_refused_before_and_after_the_plan(tmp_path: Path) -> None:
    shop = shop_of()
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
        shop.object["spec"]["paused"] = True
        with pytest.raises(PreconditionFailed) as late:
            await apply_roll_back(cluster, plan)
        with pytest.raises(PreconditionFailed) as early:
            await plan_roll_back(cluster, shop.target, tool="t")
    assert late.value.details["paused"]
    assert early.value.details["paused"]
    assert not shop.patches


async def test_without_another_revision_there_is_nothing_to_return_to(tmp_path: Path) -> None:
    shop = Workshop()
    async with cluster_of(shop, tmp_path) as cluster:
        with pytest.raises(PreconditionFailed) as refused:
            await plan_roll_back(cluster, shop.target, tool="t")
    assert refused.value.details["nothing_to_return_to"]


async def test_templates_that_were_judged_bad_are_passed_over(tmp_path: Path) -> None:
    shop = shop_of()
    bad = template_hash(shop.object)
    shop.deploy(image="shop:3")
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t", bad_templates=[bad])
        named = await plan_roll_back(
            cluster, shop.target, tool="t", bad_templates=[bad], to_revision=2
        )
    assert plan.to_revision == 1
    assert any("judged bad" in w for w in named.warnings)


async def test_a_number_that_an_undo_took_away_is_explained(tmp_path: Path) -> None:
    shop = shop_of()
    async with cluster_of(shop, tmp_path) as cluster:
        await apply_roll_back(cluster, await plan_roll_back(cluster, shop.target, tool="t"))
        with pytest.raises(NotFound) as gone:
            await plan_roll_back(cluster, shop.target, tool="t", to_revision=1)
        with pytest.raises(PreconditionFailed) as already:
            await plan_roll_back(cluster, shop.target, tool="t", to_revision=3)
    assert "revision 3 now" in gone.value.fix
    assert already.value.details["already"]


async def test_undoing_an_undo_is_warned_about(tmp_path: Path) -> None:
    shop = shop_of()
    async with cluster_of(shop, tmp_path) as cluster:
        first = await plan_roll_back(cluster, shop.target, tool="t")
        await apply_roll_back(cluster, first)
        second = await plan_roll_back(cluster, shop.target, tool="t")
    assert not any("undoes that undo" in w for w in first.warnings)
    assert any("undoes that undo" in w for w in second.warnings)


async def test_a_plan_says_what_will_change_and_masks_secrets(tmp_path: Path) -> None:
    shop = Workshop()
    shop.deploy(env=[{"name": "DB_PASSWORD", "value": "sesame-open-42"}])
    shop.object["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
    assert [d.path for d in plan.differences] == ["containers[checkout].env[DB_PASSWORD]"]
    assert "sesame" not in plan.model_dump_json()
    assert any("Helm" in w for w in plan.warnings)


async def test_the_digest_binds_the_template_and_not_the_wording(tmp_path: Path) -> None:
    shop = shop_of()
    async with cluster_of(shop, tmp_path) as cluster:
        one = await plan_roll_back(cluster, shop.target, tool="t", reason="a")
        two = await plan_roll_back(cluster, shop.target, tool="t", reason="b")
        shop.deploy(image="shop:3")
        three = await plan_roll_back(cluster, shop.target, tool="t", reason="a")
    assert one.digest == two.digest != three.digest


async def test_an_ordered_stateful_set_names_the_pod_that_blocks_its_rollback(
    tmp_path: Path,
) -> None:
    shop = shop_of(WorkloadKind.STATEFUL_SET)
    shop.pods[1]["status"]["conditions"][0]["status"] = "False"
    name = shop.pods[1]["metadata"]["name"]
    async with cluster_of(shop, tmp_path) as cluster:
        plan = await plan_roll_back(cluster, shop.target, tool="t")
    assert any(f"delete pod {name}" in w for w in plan.warnings)


async def test_a_steady_rollout_settles(tmp_path: Path) -> None:
    shop = shop_of()
    async with cluster_of(shop, tmp_path) as cluster:
        end = await wait_until_settled(
            cluster, shop.target, deadline_s=10, steady_s=0.05, clock=SystemClock()
        )
    assert end.settled
    assert (end.pods, end.ready, end.restarts) == (2, 2, 0)


async def test_restarts_that_go_on_keep_a_finished_rollout_from_settling(tmp_path: Path) -> None:
    shop = shop_of()

    async def crash() -> None:
        while True:
            shop.pods[0]["status"]["containerStatuses"][0]["restartCount"] += 1
            shop.touch()
            await asyncio.sleep(0.02)

    async with cluster_of(shop, tmp_path) as cluster:
        crashing = asyncio.create_task(crash())
        end = await wait_until_settled(
            cluster, shop.target, deadline_s=0.6, steady_s=0.3, clock=SystemClock()
        )
        crashing.cancel()
    assert not end.settled
    assert end.restarts > 0


async def test_a_pod_that_turns_ready_late_settles_the_wait_by_the_watch(tmp_path: Path) -> None:
    shop = shop_of()
    shop.pods[0]["status"]["conditions"][0]["status"] = "False"
    told: list[str] = []

    async def tell(what: str) -> None:
        told.append(what)
        if "1 of 2 pods are ready" in what:
            shop.pods[0]["status"]["conditions"][0]["status"] = "True"
            shop.touch()

    async with cluster_of(shop, tmp_path) as cluster:
        end = await wait_until_settled(
            cluster, shop.target, deadline_s=10, steady_s=0.01, clock=SystemClock(),
            on_progress=tell,
        )  # fmt: skip
    assert end.settled
    assert told[-1] == "All 2 pods are ready."


async def test_who_may_read_but_not_watch_still_sees_a_rollout_settle(tmp_path: Path) -> None:
    shop = shop_of()
    shop.answer = lambda asked: (
        status(403, 'User "v" cannot watch resource', "Forbidden")
        if "watch" in asked.query
        else None
    )
    async with cluster_of(shop, tmp_path) as cluster:
        end = await wait_until_settled(
            cluster, shop.target, deadline_s=10, steady_s=0.05, clock=SystemClock()
        )
    assert end.settled
    assert end.pods_seen


async def test_pods_that_may_not_be_read_are_said_to_be_unseen(tmp_path: Path) -> None:
    shop = shop_of()
    shop.answer = lambda asked: (
        status(403, 'User "v" cannot list resource', "Forbidden")
        if asked.path.endswith("/pods")
        else None
    )
    async with cluster_of(shop, tmp_path) as cluster:
        end = await wait_until_settled(
            cluster, shop.target, deadline_s=10, steady_s=0.05, clock=SystemClock()
        )
    assert end.settled
    assert not end.pods_seen
    assert "pods were not seen" in end.says


async def test_a_workload_deleted_meanwhile_ends_the_wait(tmp_path: Path) -> None:
    shop = shop_of()
    shop.answer = lambda asked: (
        Reply(body=b'{"items": [], "metadata": {"resourceVersion": "1"}}')
        if asked.path.endswith("/deployments")
        else None
    )
    async with cluster_of(shop, tmp_path) as cluster:
        with pytest.raises(NotFound):
            await wait_until_settled(
                cluster, shop.target, deadline_s=10, steady_s=5, clock=SystemClock()
            )


async def test_a_deadline_that_passes_tells_how_far_it_came(tmp_path: Path) -> None:
    shop = shop_of()
    shop.object["status"]["availableReplicas"] = 1
    async with cluster_of(shop, tmp_path) as cluster:
        end = await wait_until_settled(
            cluster, shop.target, deadline_s=0.1, steady_s=5, clock=SystemClock()
        )
    assert not end.settled
    assert "1 of 2" in end.says
