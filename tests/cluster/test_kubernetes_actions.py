"""Rolling back, restarting, pausing and watching on a real cluster."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from mcp_devops.errors import OperatorError, PermissionDenied, PreconditionFailed
from mcp_devops.integrations.kubernetes.actions import pause, restart, roll_back
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.facts import describe_change
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.revisions import template_of
from mcp_devops.integrations.kubernetes.rolling_back import (
    Settled,
    apply_roll_back,
    plan_roll_back,
    wait_until_settled,
)
from mcp_devops.integrations.kubernetes.rollouts import Rollout, get_rollout
from mcp_devops.integrations.kubernetes.watching import watch_rollout
from mcp_devops.model.change import ChangeArea
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.toolkit.clock import SystemClock
from mcp_devops.toolkit.context import Caller, ToolContext
from tests.support.cluster import AVAILABLE, NAMESPACE, WHY_NOT, connected

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT),
]

KINDS = tuple(WorkloadKind)


@pytest.fixture
async def as_admin() -> AsyncIterator[KubernetesClient]:
    async with connected() as client:
        yield client


@pytest.fixture
async def as_agent() -> AsyncIterator[KubernetesClient]:
    async with connected("TEST_CLUSTER_AGENT_KUBECONFIG") as client:
        yield client


@pytest.fixture
async def as_viewer() -> AsyncIterator[KubernetesClient]:
    async with connected("TEST_CLUSTER_VIEWER_KUBECONFIG") as client:
        yield client


@pytest.fixture
async def admin(as_admin: KubernetesClient) -> Cluster:
    return await as_admin.cluster()


def manifest(kind: WorkloadKind, name: str) -> dict[str, Any]:
    labels = {"app": name}
    variables = [
        {"name": "SERVICE", "value": name},
        {"name": "VERSION", "value": "v1"},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    container = {
        "name": "shop",
        "image": "test/shop:1",
        "imagePullPolicy": "IfNotPresent",
        "env": variables,
        "readinessProbe": {
            "exec": {"command": ["/bin/shop", "healthcheck"]},
            "periodSeconds": 1,
            "failureThreshold": 2,
        },
        "volumeMounts": [{"name": "targets", "mountPath": "/targets"}],
        "resources": {
            "requests": {"cpu": "1m", "memory": "8Mi"},
            "limits": {"memory": "64Mi"},
        },
    }
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "hostNetwork": True,
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                "volumes": [{"name": "targets", "hostPath": {"path": "/run/test-cluster/targets"}}],
            },
        },
    }
    if kind is WorkloadKind.DEPLOYMENT:
        spec["strategy"] = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        }
    if kind is WorkloadKind.STATEFUL_SET:
        spec |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    if kind is not WorkloadKind.DAEMON_SET:
        # This kubelet keeps a deleted pod for up to 30 s, and a StatefulSet waits for each.
        spec["replicas"] = 1 if kind is WorkloadKind.STATEFUL_SET else 2
    return {
        "apiVersion": "apps/v1",
        "kind": kind.value,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": spec,
    }


def path(workload: Workload) -> str:
    return path_of(workload.kind.resource, "apps", namespace=workload.namespace, name=workload.name)


async def settle(cluster: Cluster, workload: Workload) -> Settled:
    return await wait_until_settled(
        cluster, workload, deadline_s=150, steady_s=1, clock=SystemClock()
    )


@pytest.fixture
async def make(admin: Cluster) -> AsyncIterator[Any]:
    made: list[Workload] = []

    async def one(kind: WorkloadKind = WorkloadKind.DEPLOYMENT) -> Workload:
        name = f"r8s-{secrets.token_hex(3)}"
        workload = Workload(cluster=admin.context, namespace=NAMESPACE, kind=kind, name=name)
        await admin.post(path_of(kind.resource, "apps", namespace=NAMESPACE), manifest(kind, name))
        made.append(workload)
        settled = await settle(admin, workload)
        assert settled.settled, settled.says
        return workload

    yield one
    for workload in made:
        await admin.delete(path(workload), {"propagationPolicy": "Background"})


async def deploy(admin: Cluster, workload: Workload, **change: Any) -> None:
    """A new revision: another image, variable and limit, unless told otherwise."""
    container: dict[str, Any] = {
        "name": "shop",
        "image": "test/shop:2",
        "env": [
            {"name": "VERSION", "value": "v2"},
            {"name": "DB_PASSWORD", "value": "hunter2-x9Q"},
        ],
        "resources": {"limits": {"memory": "48Mi"}},
        **change,
    }
    await admin.patch(
        path(workload),
        {"spec": {"template": {"spec": {"containers": [container]}}}},
        "application/strategic-merge-patch+json",
    )


def context(client: KubernetesClient) -> ToolContext[KubernetesClient]:
    return ToolContext(
        client=client,
        services=None,  # type: ignore[arg-type]  # these tools ask for no other service
        clock=SystemClock(),
        caller=Caller("tester", "test"),
        call_id="call-1",
    )


async def run(spec: Any, client: KubernetesClient, **arguments: Any) -> Any:
    """Plan and run a tool as the gateway does, with a yes."""
    args = spec.input.model_validate({"namespace": NAMESPACE, **arguments})
    ctx = context(client)
    if spec.plan is None:
        return await spec.run(args, ctx)
    return await spec.run(args, replace(ctx, approved=await spec.plan(args, ctx)))


async def rollout_of(client: KubernetesClient, workload: Workload) -> Rollout:
    found = await run(get_rollout, client, workload=workload.name, kind=workload.kind)
    assert isinstance(found, Rollout)
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rollback_restores_the_whole_template(
    kind: WorkloadKind, make: Any, admin: Cluster, as_admin: KubernetesClient
) -> None:
    workload = await make(kind)
    before = template_of(await admin.get(path(workload)))
    await deploy(admin, workload)
    assert (await settle(admin, workload)).settled

    seen = await rollout_of(as_admin, workload)
    assert seen.live_revision == 2
    assert {d.area for d in seen.differences} >= {
        ChangeArea.IMAGE, ChangeArea.ENVIRONMENT, ChangeArea.RESOURCES,
    }  # fmt: skip
    assert "hunter2" not in seen.text() + seen.model_dump_json()

    done = await run(
        roll_back, as_admin, workload=workload.name, kind=kind, from_revision=2, wait_s=150
    )
    assert done.template_restored
    assert done.settled, done.pods
    assert (done.from_revision, done.to_revision, done.live_revision) == (2, 1, 3)
    assert template_of(await admin.get(path(workload))) == before

    with pytest.raises(PreconditionFailed) as again:
        await run(roll_back, as_admin, workload=workload.name, kind=kind, from_revision=2)
    assert again.value.details["moved"]


async def test_a_rollback_whose_revision_moved_is_refused_and_changes_nothing(
    make: Any, admin: Cluster
) -> None:
    workload = await make()
    await deploy(admin, workload)
    await settle(admin, workload)
    plan = await plan_roll_back(admin, workload, tool="t", expect_revision=2)
    await deploy(admin, workload, env=[{"name": "VERSION", "value": "v3"}])
    await settle(admin, workload)
    held = template_of(await admin.get(path(workload)))
    with pytest.raises(PreconditionFailed) as refused:
        await apply_roll_back(admin, plan)
    assert refused.value.details["moved"]
    assert refused.value.details["live_revision"] == 3
    assert template_of(await admin.get(path(workload))) == held


async def test_a_scale_in_between_does_not_stop_a_rollback(make: Any, admin: Cluster) -> None:
    workload = await make()
    await deploy(admin, workload)
    await settle(admin, workload)
    plan = await plan_roll_back(admin, workload, tool="t")
    await admin.patch(path(workload), {"spec": {"replicas": 1}}, "application/merge-patch+json")
    outcome = await apply_roll_back(admin, plan)
    assert outcome.template_restored
    assert outcome.live_revision == 3
    assert (await settle(admin, workload)).pods == 1
    again = await apply_roll_back(admin, plan)
    assert not again.changed
    assert again.template_restored


async def test_a_paused_deployment_is_not_rolled_back_until_it_is_resumed(
    make: Any, admin: Cluster, as_admin: KubernetesClient
) -> None:
    workload = await make()
    await deploy(admin, workload)
    await settle(admin, workload)
    paused = await run(pause, as_admin, workload=workload.name)
    assert paused.paused
    assert (await rollout_of(as_admin, workload)).status.state == "paused"
    with pytest.raises(PreconditionFailed) as refused:
        await run(roll_back, as_admin, workload=workload.name, from_revision=2)
    assert refused.value.details["paused"]
    with pytest.raises(PreconditionFailed) as twice:
        await run(pause, as_admin, workload=workload.name)
    assert twice.value.details["already"]
    assert (await run(pause, as_admin, workload=workload.name, paused=False)).paused is False
    done = await run(roll_back, as_admin, workload=workload.name, from_revision=2, wait_s=150)
    assert done.settled, done.pods


@pytest.mark.parametrize("kind", KINDS)
async def test_a_restart_replaces_the_pods_and_keeps_the_rest_of_the_template(
    kind: WorkloadKind, make: Any, as_admin: KubernetesClient, admin: Cluster
) -> None:
    workload = await make(kind)
    done = await run(
        restart, as_admin, workload=workload.name, kind=kind, from_revision=1, wait_s=150
    )
    assert done.settled, done.pods
    assert done.live_revision == 2
    seen = await rollout_of(as_admin, workload)
    assert [d.path for d in seen.differences] == ["restart"]
    with pytest.raises(PreconditionFailed):
        await run(restart, as_admin, workload=workload.name, kind=kind, from_revision=1)


async def test_the_agent_may_roll_back_a_deployment(
    make: Any, admin: Cluster, as_agent: KubernetesClient
) -> None:
    workload = await make()
    await deploy(admin, workload)
    await settle(admin, workload)
    done = await run(
        roll_back, as_agent, workload=workload.name, from_revision=2, to_revision=1, wait_s=150
    )
    assert done.template_restored
    assert done.settled, done.pods


async def test_the_agent_is_told_which_grant_a_stateful_set_needs(
    make: Any, admin: Cluster, as_agent: KubernetesClient
) -> None:
    workload = await make(WorkloadKind.STATEFUL_SET)
    await deploy(admin, workload)
    await settle(admin, workload)
    with pytest.raises(PermissionDenied) as refused:
        await run(roll_back, as_agent, workload=workload.name, kind=workload.kind, from_revision=2)
    assert refused.value.details["verb"] == "patch"
    assert "statefulsets" in refused.value.details["grants"][0]
    assert (await rollout_of(as_agent, workload)).live_revision == 2


async def test_the_viewer_is_refused(make: Any, as_viewer: KubernetesClient) -> None:
    workload = await make()
    with pytest.raises(OperatorError) as refused:
        await run(roll_back, as_viewer, workload=workload.name, from_revision=2)
    assert refused.value.code == "PERMISSION_DENIED"


async def test_a_watch_tells_of_a_rollout_from_its_start_to_its_end(
    make: Any, admin: Cluster, as_agent: KubernetesClient
) -> None:
    workload = await make()
    told: list[str] = []
    cluster = await as_agent.cluster()

    async def listen() -> None:
        async with aclosing(watch_rollout(cluster, workload)) as lines:
            async for line in lines:
                told.append(line)
                if "done." in line and any("new pod template" in t for t in told):
                    return

    listener = asyncio.create_task(listen())
    # Templates are changed until one is heard: the watch begins at a moment nobody can see.
    number = 0
    while not any("new pod template" in line for line in told):
        number += 1
        await deploy(admin, workload, env=[{"name": "VERSION", "value": f"v{number + 1}"}])
        await asyncio.wait([listener], timeout=0.5)
    async with asyncio.timeout(150):
        await listener
    assert told[-1].endswith("have the newest template.")


async def test_a_crash_behind_surge_pods_is_undone_and_the_start_of_the_undo_is_known(
    make: Any, admin: Cluster, as_admin: KubernetesClient
) -> None:
    workload = await make()
    first = await describe_change(admin, workload, SystemClock().now())
    await deploy(admin, workload, env=[{"name": "CRASH_AFTER_S", "value": "1"}])
    stuck = await wait_until_settled(admin, workload, deadline_s=4, steady_s=1, clock=SystemClock())
    assert not stuck.settled
    bad = await describe_change(admin, workload, SystemClock().now())
    assert bad.previous is not None
    assert bad.previous.template_hash == first.revision.template_hash
    plan = await plan_roll_back(
        admin, workload, tool="t", expect_template_hash=bad.revision.template_hash
    )
    outcome = await apply_roll_back(admin, plan)
    assert outcome.template_restored
    end = await settle(admin, workload)
    assert end.settled, end.says
    assert end.restarts == 0
    seen = await rollout_of(as_admin, workload)
    assert seen.live_since is not None
    assert seen.live_since >= bad.started_at
