"""How far a rollout is, since when, what its tools say, and what a watch tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.errors import NotFound, OutcomeUnknown, PreconditionFailed
from mcp_devops.integrations.kubernetes.actions import pause, restart, roll_back
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.diff import RESTARTED_AT
from mcp_devops.integrations.kubernetes.progress import (
    RolloutState,
    rollout_began,
    rollout_status,
)
from mcp_devops.integrations.kubernetes.resources import ROLLOUT
from mcp_devops.integrations.kubernetes.rollouts import get_rollout, rollout_needs_of
from mcp_devops.integrations.kubernetes.trouble import Scene
from mcp_devops.integrations.kubernetes.watching import watch_rollout
from mcp_devops.model.target import WorkloadKind
from mcp_devops.toolkit.clock import SystemClock
from tests.support.kube_api import Workshop, cluster_of
from tests.support.kubernetes_api import (
    Reply,
    client_of,
    context_for,
    serving,
    status,
    write_kubeconfig,
)

Json = dict[str, Any]
DEPLOYMENT, STATEFUL_SET, DAEMON_SET = WorkloadKind


def deployment(spec: Json | None = None, **numbers: Any) -> Json:
    counts = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}
    return {
        "metadata": {"generation": 2},
        "spec": {"replicas": 3, **(spec or {})},
        "status": {"observedGeneration": 2, **counts, **numbers},
    }


def progressing(reason: str) -> list[Json]:
    return [{"type": "Progressing", "status": "False", "reason": reason}]


@pytest.mark.parametrize(
    ("thing", "kind", "state", "words"),
    [
        (deployment(), DEPLOYMENT, "done", "All 3 pods"),
        (deployment(observedGeneration=1), DEPLOYMENT, "progressing", "has not seen"),
        (deployment(updatedReplicas=1), DEPLOYMENT, "progressing", "1 of 3"),
        (deployment(replicas=4), DEPLOYMENT, "progressing", "1 old pod still"),
        (deployment(availableReplicas=2), DEPLOYMENT, "progressing", "2 of 3"),
        (deployment({"paused": True}, updatedReplicas=1), DEPLOYMENT, "paused", "1 of 3"),
        (
            deployment(updatedReplicas=1, conditions=progressing("ProgressDeadlineExceeded")),
            DEPLOYMENT, "failed", "within 600 s",
        ),
        (
            deployment({"replicas": 0}, replicas=0, updatedReplicas=0, availableReplicas=0),
            DEPLOYMENT, "done", "Scaled to zero",
        ),
        (deployment(readyReplicas=2), STATEFUL_SET, "progressing", "2 of 3 pods are ready"),
        (
            deployment({"updateStrategy": {"rollingUpdate": {"partition": 2}}},
                       updatedReplicas=1, updateRevision="b", currentRevision="a"),
            STATEFUL_SET, "done", "Partition 2",
        ),
        (
            deployment({"updateStrategy": {"rollingUpdate": {"partition": 0}}},
                       updatedReplicas=2, updateRevision="b", currentRevision="a"),
            STATEFUL_SET, "progressing", "2 of 3",
        ),
        (
            deployment({"updateStrategy": {"type": "OnDelete"}}, updatedReplicas=1,
                       updateRevision="b", currentRevision="a"),
            STATEFUL_SET, "manual", "1 of 3",
        ),
        (deployment(desiredNumberScheduled=0), DAEMON_SET, "done", "No node matches"),
        (
            deployment(desiredNumberScheduled=2, updatedNumberScheduled=1),
            DAEMON_SET, "progressing", "1 of 2 nodes",
        ),
        (
            deployment(desiredNumberScheduled=2, updatedNumberScheduled=2, numberAvailable=1),
            DAEMON_SET, "progressing", "1 of 2 pods",
        ),
        (
            deployment(desiredNumberScheduled=2, updatedNumberScheduled=2, numberAvailable=2),
            DAEMON_SET, "done", "All 2 nodes",
        ),
    ],
)  # fmt: skip
def test_a_rollout_stands_where_kubectl_says_it_stands(
    thing: Json, kind: WorkloadKind, state: str, words: str
) -> None:
    found = rollout_status(thing, kind)
    assert found.state is RolloutState(state)
    assert words in found.says


def at(minute: int) -> str:
    return f"2026-11-20T10:{minute:02d}:00Z"


def when(minute: int) -> datetime:
    return datetime(2026, 11, 20, 10, minute, tzinfo=UTC)


def scene_of(shop: Workshop, pods: dict[str, int], messages: dict[str, int]) -> Scene:
    """A workshop whose holders were made in minutes 1, 2, ...; pods and events as given."""
    for number, holder in enumerate(shop.holders, 1):
        holder["metadata"]["creationTimestamp"] = at(number)
    made = [
        {
            "metadata": {
                "creationTimestamp": at(m),
                "ownerReferences": [{"uid": u, "controller": True}],
            }
        }
        for u, m in pods.items()
    ]
    events = [
        {"reason": "ScalingReplicaSet", "message": text, "lastTimestamp": at(m)}
        for text, m in messages.items()
    ]
    return Scene(DEPLOYMENT, shop.object, shop.holders, made, when(30), {"u-1": events})


def brought_back() -> Workshop:
    shop = Workshop()
    shop.deploy(image="shop:2")
    shop.deploy()
    return shop


def test_a_new_revision_began_when_its_replica_set_was_made() -> None:
    shop = Workshop()
    shop.deploy(image="shop:2")
    assert rollout_began(scene_of(shop, {"h-2": 3}, {})) == when(2)


def test_a_revision_that_came_back_with_new_pods_began_with_its_first_one() -> None:
    assert rollout_began(scene_of(brought_back(), {"h-1": 9}, {})) == when(9)


def test_an_undo_that_left_old_pods_alone_began_when_the_other_revision_was_scaled_down() -> None:
    messages = {
        "Scaled up replica set checkout-1 to 2": 1,
        "Scaled up replica set checkout-2 to 1": 2,
        "Scaled down replica set checkout-2 to 0": 7,
    }
    assert rollout_began(scene_of(brought_back(), {"h-1": 1}, messages)) == when(7)


def test_a_revision_that_came_back_without_a_trace_began_after_the_one_between() -> None:
    assert rollout_began(scene_of(brought_back(), {"h-1": 1}, {})) == when(2)


def test_only_the_permissions_of_one_kind_are_asked_for() -> None:
    needed = {(n.verb, n.resource) for n in rollout_needs_of(DAEMON_SET)}
    assert ("list", "controllerrevisions") in needed
    assert ("get", "daemonsets") in needed
    assert not {("list", "replicasets"), ("get", "deployments")} & needed


@asynccontextmanager
async def client_on(shop: Workshop, tmp_path: Path) -> AsyncIterator[KubernetesClient]:
    async with serving(shop) as api, client_of(write_kubeconfig(tmp_path, api.url)) as client:
        yield client


async def run(spec: Any, client: KubernetesClient, **arguments: Any) -> Any:
    args = spec.input.model_validate({"workload": "checkout", **arguments})
    context = context_for(client, SystemClock())
    if spec.plan is None:
        return await spec.run(args, context)
    return await spec.run(args, replace(context, approved=await spec.plan(args, context)))


async def test_the_tool_compares_the_live_revision_with_the_one_to_return_to(
    tmp_path: Path,
) -> None:
    shop = Workshop()
    shop.deploy(image="shop:2")
    async with client_on(shop, tmp_path) as client:
        found = await run(get_rollout, client)
    assert (found.live_revision, found.rollback_revision) == (2, 1)
    assert [(d.before, d.after) for d in found.differences] == [("shop:1", "shop:2")]
    assert [(r.number, r.live) for r in found.revisions] == [(2, True), (1, False)]
    assert "containers[checkout].image: shop:1 -> shop:2" in found.text()
    assert "from_revision=2" in found.next


async def test_the_tool_compares_any_two_revisions_and_names_those_that_exist(
    tmp_path: Path,
) -> None:
    shop = Workshop()
    shop.deploy(image="shop:2")
    shop.deploy(image="shop:3")
    async with client_on(shop, tmp_path) as client:
        found = await run(get_rollout, client, from_revision=1, to_revision=2, limit=1)
        with pytest.raises(NotFound) as missing:
            await run(get_rollout, client, from_revision=9)
    assert [(d.before, d.after) for d in found.differences] == [("shop:1", "shop:2")]
    assert (len(found.revisions), found.more_revisions) == (1, 2)
    assert missing.value.details["known"] == [3, 2, 1]


async def test_a_rollback_by_the_tool_is_bound_to_the_revision_that_was_judged(
    tmp_path: Path,
) -> None:
    shop = Workshop()
    shop.deploy(image="shop:2")
    async with client_on(shop, tmp_path) as client:
        done = await run(roll_back, client, from_revision=2, wait_s=0)
        with pytest.raises(PreconditionFailed) as again:
            await run(roll_back, client, from_revision=2, wait_s=0)
    assert done.template_restored
    assert done.live_revision == 3
    assert again.value.details["moved"]
    assert len(shop.sent) == 1


async def test_a_restart_adds_a_timestamp_once(tmp_path: Path) -> None:
    shop = Workshop()
    async with client_on(shop, tmp_path) as client:
        await run(restart, client, from_revision=1, wait_s=0)
        with pytest.raises(PreconditionFailed):
            await run(restart, client, from_revision=1, wait_s=0)
    assert RESTARTED_AT in shop.object["spec"]["template"]["metadata"]["annotations"]
    assert [("dryRun" in p.query) for p in shop.patches] == [True, False]
    assert len(shop.holders) == 2


async def test_a_restart_without_an_answer_is_unknown_while_it_is_not_seen(tmp_path: Path) -> None:
    shop = Workshop()
    shop.on_patch = lambda asked: None if "dryRun" in asked.query else Reply(close=True)
    async with client_on(shop, tmp_path) as client:
        with pytest.raises(OutcomeUnknown) as unknown:
            await run(restart, client, from_revision=1, wait_s=0)
    assert unknown.value.details["live"] == "before"


async def test_a_restart_without_an_answer_is_done_once_it_is_seen(tmp_path: Path) -> None:
    shop = Workshop()
    shop.after_patch = lambda _: Reply(close=True)
    async with client_on(shop, tmp_path) as client:
        done = await run(restart, client, from_revision=1, wait_s=0)
    assert done.live_revision == 2
    assert len(shop.sent) == 1


async def test_pausing_twice_is_refused_and_resuming_undoes_it(tmp_path: Path) -> None:
    shop = Workshop()
    async with client_on(shop, tmp_path) as client:
        assert (await run(pause, client)).paused is True
        with pytest.raises(PreconditionFailed) as twice:
            await run(pause, client)
        assert shop.object["spec"]["paused"] is True
        assert (await run(pause, client, paused=False)).paused is False
    assert twice.value.details["already"]
    assert "paused" not in shop.object["spec"]


async def test_a_pause_is_bound_to_the_generation_that_was_planned(tmp_path: Path) -> None:
    shop = Workshop()
    async with client_on(shop, tmp_path) as client:
        context = context_for(client, SystemClock())
        args = pause.input.model_validate({"workload": "checkout"})
        assert pause.plan is not None
        plan = await pause.plan(args, context)
        shop.object["metadata"]["generation"] += 1
        with pytest.raises(PreconditionFailed) as refused:
            await pause.run(args, replace(context, approved=plan))
    assert refused.value.details["moved"]
    assert not shop.patches


async def test_a_watch_tells_of_a_new_template_and_not_of_a_status_write(tmp_path: Path) -> None:
    shop = Workshop()
    async with cluster_of(shop, tmp_path) as cluster:
        told: list[str] = []

        async def listen() -> None:
            async with aclosing(watch_rollout(cluster, shop.target)) as lines:
                async for line in lines:
                    told.append(line)
                    return

        listener = asyncio.create_task(listen())
        for number in range(2, 200):
            shop.touch()
            await asyncio.wait([listener], timeout=0.02)
            if listener.done():
                break
            shop.deploy(image=f"shop:{number}")
        await listener
    assert "new pod template" in told[0]


class Only:
    """Serves one client."""

    def __init__(self, client: KubernetesClient) -> None:
        self.client = client

    async def get(self, kind: type[Any]) -> Any:
        return self.client

    async def find(self, kind: type[Any]) -> Any:
        return self.client


async def test_the_resource_reads_as_json_and_lists_what_it_can(tmp_path: Path) -> None:
    shop = Workshop()
    async with client_on(shop, tmp_path) as client:
        services = Only(client)
        assert ROLLOUT.list is not None
        assert ROLLOUT.complete is not None
        (item,) = await ROLLOUT.list(services)
        parameters = ROLLOUT.match(item.uri)
        assert parameters is not None
        told = json.loads(await ROLLOUT.read(services, parameters))
        assert await ROLLOUT.complete(services, "name", "che") == ["checkout"]
        assert await ROLLOUT.complete(services, "kind", "dep") == ["Deployment"]
        assert not await ROLLOUT.complete(services, "namespace", "")
        with pytest.raises(NotFound):
            await ROLLOUT.read(services, {**parameters, "kind": "Job"})
    assert told["rollout"]["state"] == "done"
    assert told["health"]["rollout_class"] == "healthy"


async def test_completions_and_lists_are_empty_where_nothing_may_be_listed(tmp_path: Path) -> None:
    def deny(_: Any) -> Reply:
        return status(403, 'User "v" cannot list resource', "Forbidden")

    config_of = write_kubeconfig
    async with serving(deny) as api, client_of(config_of(tmp_path, api.url)) as client:
        assert ROLLOUT.list is not None
        assert ROLLOUT.complete is not None
        assert await ROLLOUT.list(Only(client)) == ()
        assert await ROLLOUT.complete(Only(client), "namespace", "") == ()
