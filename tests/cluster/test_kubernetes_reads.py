"""The read tools against the real cluster: crash loops, pulls, outages, restricted users."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_devops.errors import NotFound, PermissionDenied
from mcp_devops.integrations.kubernetes import INTEGRATION, facts
from mcp_devops.integrations.kubernetes.access import (
    CheckAccessInput,
    check_access,
    check_kubernetes_access,
)
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.events import ListEventsInput, list_events
from mcp_devops.integrations.kubernetes.logs import TailLogsInput, tail_logs
from mcp_devops.integrations.kubernetes.names import workload_at
from mcp_devops.integrations.kubernetes.pods import DescribePodsInput, PodsAnswer, describe_pods
from mcp_devops.integrations.kubernetes.workloads import ListWorkloadsInput, list_workloads
from mcp_devops.model.evidence import PodCause, RolloutClass
from mcp_devops.model.target import WorkloadKind
from mcp_devops.toolkit.clock import SystemClock
from mcp_devops.toolkit.risk import Rbac
from tests.support.cluster import AVAILABLE, WHY_NOT, Shop, connected, shop, until
from tests.support.kubernetes_api import call, context_for

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)]

AGENT, VIEWER = "TEST_CLUSTER_AGENT_KUBECONFIG", "TEST_CLUSTER_VIEWER_KUBECONFIG"


async def describe(client: KubernetesClient, made: Shop, **args: Any) -> PodsAnswer:
    wanted = DescribePodsInput(workload=made.name, **args)
    return await describe_pods.run(wanted, context_for(client, SystemClock()))


async def test_a_crash_behind_a_surge_pod_is_no_outage_and_its_log_is_found() -> None:
    async with connected() as client:
        cluster = await client.cluster()
        async with shop(cluster, "surge") as made:
            healthy = await describe(client, made)
            assert (healthy.rollout, healthy.counts) == (RolloutClass.HEALTHY, {"ready": 3})

            await made.set_env(VERSION="v2", CRASH_AFTER_S="0.3", API_TOKEN="tok-123456789")
            await made.restarted(2)
            answer = await describe(client, made)
            assert answer.rollout is RolloutClass.SURGE_ONLY_CRASH
            assert not answer.immediate
            assert (answer.pods[0].cause, answer.pods[0].revision) == (PodCause.CRASH_LOOP, 2)
            assert "panic: runtime error" in answer.pods[0].log_line
            assert len(answer.text()) < 4096
            assert len(json.dumps(answer.model_dump(mode="json", exclude_defaults=True))) < 4096

            log = await tail_logs.run(
                TailLogsInput(workload=made.name), context_for(client, SystemClock())
            )
            assert "panic: runtime error" in (log.most_telling or "")
            assert "\x1b" not in log.text() and "[31m" not in log.text()

            detailed = await describe(client, made, response_format="detailed")
            assert "tok-123456789" not in detailed.model_dump_json()

            target = workload_at("", "shop", WorkloadKind.DEPLOYMENT, made.name)
            now = SystemClock().now()
            change = await facts.describe_change(cluster, target, now)
            assert change.previous is not None
            assert (change.revision.number, change.previous.number) == (2, 1)
            health = await facts.rollout_health(cluster, target, now)
            assert health.new.log_line is not None and health.available == 3


async def test_a_recreate_rollout_that_crashes_is_a_full_outage() -> None:
    async with connected() as client:
        cluster = await client.cluster()
        async with shop(cluster, "outage", ready=False, CRASH_AFTER_S="0.3") as made:
            await made.restarted(2)
            answer = await until(
                lambda: describe(client, made), lambda a: a.rollout is RolloutClass.FULL_OUTAGE
            )
            assert answer.immediate
            assert all(p.cause is PodCause.CRASH_LOOP for p in answer.pods)


async def test_an_image_that_cannot_be_pulled_has_no_log_and_says_why() -> None:
    async with connected() as client:
        cluster = await client.cluster()
        async with shop(cluster, "pull") as made:
            await made.set_image("registry.invalid/shop:none")
            answer = await until(
                lambda: describe(client, made),
                lambda a: any(p.cause is PodCause.IMAGE_PULL for p in a.pods),
            )
            assert "registry.invalid" in answer.pods[0].why
            log = await tail_logs.run(
                TailLogsInput(pod=answer.pods[0].name), context_for(client, SystemClock())
            )
            assert log.streams[0].no_log


async def test_a_missing_variable_and_an_oom_kill_are_told_apart() -> None:
    async with connected() as client:
        cluster = await client.cluster()
        async with (
            shop(cluster, "config", ready=False, REQUIRE_ENV="PAYMENT_URL") as config,
            shop(cluster, "oom", ready=False, LEAK_MB_PER_S="40") as leak,
        ):
            await config.restarted(1)
            missing = await tail_logs.run(
                TailLogsInput(workload=config.name), context_for(client, SystemClock())
            )
            assert "PAYMENT_URL is not set" in (missing.most_telling or "")
            # A busy engine misses a kernel's kill now and then: the pod that it did mark is meant.
            told = await until(
                lambda: describe(client, leak),
                lambda a: any(p.cause is PodCause.OOM_KILLED for p in a.pods),
            )
            killed = next(p for p in told.pods if p.cause is PodCause.OOM_KILLED)
            assert "SIGKILL, OOMKilled" in killed.why


async def test_pods_that_run_and_never_turn_ready_are_recognised() -> None:
    async with connected() as client:
        cluster = await client.cluster()
        async with shop(cluster, "unready") as made:
            await made.set_env(UNREADY="1")
            answer = await until(
                lambda: describe(client, made), lambda a: a.rollout is RolloutClass.NEVER_READY
            )
            assert answer.pods[0].cause is PodCause.PROBE


@asynccontextmanager
async def healthy() -> AsyncIterator[Shop]:
    """A service of the test's own that serves well."""
    async with connected() as admin, shop(await admin.cluster(), "seen") as made:
        yield made


async def test_a_viewer_gets_pods_and_a_clear_word_on_everything_else() -> None:
    async with healthy() as made, connected(VIEWER) as client:
        context = context_for(client, SystemClock())
        with pytest.raises(PermissionDenied) as caught:
            await tail_logs.run(TailLogsInput(selector=f"app={made.name}"), context)
        assert "--user=viewer" in caught.value.details["grants"][0]
        with pytest.raises(PermissionDenied):
            await call(list_events, ListEventsInput(), context)
        pods = await describe_pods.run(DescribePodsInput(selector=f"app={made.name}"), context)
        assert pods.pods
        missing = await check_access(
            client,
            CheckAccessInput(namespace="shop"),
            (Rbac("list", "pods"), Rbac("get", "pods/log"), Rbac("list", "events", optional=True)),
        )
        assert [(d.identity, str(d.need)) for d in missing] == [("viewer", "get pods/log")]
        report = await call(check_kubernetes_access, CheckAccessInput(), context)
        assert report.identity == "viewer"
        allowed = {line.permission for line in report.permissions if line.allowed}
        assert allowed == {"get pods", "list pods"}


async def test_an_agent_may_diagnose_without_seeing_nodes() -> None:
    async with healthy() as made, connected(AGENT) as client:
        context = context_for(client, SystemClock())
        found = await call(list_workloads, ListWorkloadsInput(name_contains=made.name), context)
        assert [w.name for w in found.workloads] == [made.name]
        answer = await describe_pods.run(DescribePodsInput(workload=made.name), context)
        assert answer.rollout is not None and answer.missing == ()


async def test_a_misspelt_name_is_corrected() -> None:
    async with healthy() as made, connected() as client:
        misspelt = made.name.replace("seen", "sen")
        with pytest.raises(NotFound) as caught:
            await describe_pods.run(
                DescribePodsInput(workload=misspelt), context_for(client, SystemClock())
            )
        assert made.name in caught.value.details["near"]


async def test_ping_reaches_the_cluster() -> None:
    assert INTEGRATION.ping is not None
    async with connected() as client:
        assert (await INTEGRATION.ping(client)).ok
