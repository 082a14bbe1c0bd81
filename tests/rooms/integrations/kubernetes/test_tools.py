"""The read tools over real sockets, answered from recorded scenes."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mcp_devops.errors import InvalidArguments, NotFound, PermissionDenied
from mcp_devops.integrations.kubernetes import INTEGRATION, facts
from mcp_devops.integrations.kubernetes.access import (
    CheckAccessInput,
    check_kubernetes_access,
    denied,
)
from mcp_devops.integrations.kubernetes.events import (
    ListEventsInput,
    event_time,
    fold_events,
    list_events,
)
from mcp_devops.integrations.kubernetes.names import Namespace, ObjectName, Selector, workload_at
from mcp_devops.integrations.kubernetes.podfacts import container_facts
from mcp_devops.integrations.kubernetes.pods import DescribePodsInput, PodsAnswer, describe_pods
from mcp_devops.integrations.kubernetes.settings import KubernetesSettings
from mcp_devops.integrations.kubernetes.workloads import ListWorkloadsInput, list_workloads
from mcp_devops.model.evidence import PodCause, RolloutClass
from mcp_devops.model.target import WorkloadKind
from mcp_devops.toolkit.answer import ResponseFormat
from mcp_devops.toolkit.risk import Rbac
from tests.rooms.integrations.kubernetes.scenes import old_and_new
from tests.support.kubernetes_api import (
    FIXTURES,
    Api,
    Asked,
    FixedClock,
    Handler,
    Reply,
    call,
    client_of,
    context_for,
    ok,
    replay,
    scene_data,
    serving,
    status,
    write_kubeconfig,
)


@asynccontextmanager
async def on(
    tmp_path: Path, data: dict[str, Any], handler: Handler | None = None
) -> AsyncIterator[tuple[Any, Api]]:
    clock = FixedClock(datetime.fromisoformat(data["at"]))
    async with (
        serving(handler or replay(data, crash_log)) as api,
        client_of(write_kubeconfig(tmp_path, api.url), clock) as client,
    ):
        yield context_for(client, clock), api


def crash_log(_: Asked) -> Reply:
    return Reply(body=(FIXTURES / "crash_loop" / "current.log").read_bytes())


def refusing(data: dict[str, Any], *words: str) -> Handler:
    """The scene, but with some resources denied to a user."""
    inner = replay(data, crash_log)

    def answer(asked: Asked) -> Any:
        last = asked.path.rsplit("/", 1)[-1]
        if last in words or (len(words) and asked.path.split("/")[-2] in words):
            return status(403, f'{last} is forbidden: User "viewer" cannot do that', "Forbidden")
        return inner(asked)

    return answer


def size(answer: PodsAnswer) -> int:
    return len(json.dumps(answer.model_dump(mode="json", exclude_defaults=True)))


async def describe(tmp_path: Path, data: dict[str, Any], **args: Any) -> PodsAnswer:
    async with on(tmp_path, data) as (context, _):
        wanted = {"workload": data["workload"]["metadata"]["name"], **args}
        return await describe_pods.run(DescribePodsInput(**wanted), context)


async def test_a_crash_loop_is_told_in_less_than_four_kilobytes(tmp_path: Path) -> None:
    answer = await describe(tmp_path, scene_data("crash_loop"))
    assert answer.rollout is RolloutClass.STALLED_ROLLOUT
    assert answer.counts == {"failing": 1, "ready": 3}
    assert "panic: runtime error" in answer.pods[0].log_line
    assert size(answer) < 4096 and len(answer.text()) < 4096
    assert answer.missing[0].what == "nodes of failing pods"


async def test_a_detailed_answer_masks_secret_environment(tmp_path: Path) -> None:
    answer = await describe(
        tmp_path, scene_data("crash_loop"), response_format=ResponseFormat.DETAILED
    )
    env = answer.pods[0].containers[0].env
    assert "DB_PASSWORD=[REDACTED:env]" in env
    assert "CRASH_AFTER_S=0.3" in env
    assert "hunter2" not in answer.text() + answer.model_dump_json()


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        ("image_pull", PodCause.IMAGE_PULL),
        ("oom", PodCause.OOM_KILLED),
        ("unready", PodCause.PROBE),
    ],
)
async def test_the_first_pod_shown_is_the_one_in_trouble(
    tmp_path: Path, case: str, cause: PodCause
) -> None:
    answer = await describe(tmp_path, scene_data(case))
    assert answer.pods[0].cause is cause
    assert answer.pods[0].containers and not answer.pods[-1].containers


async def test_five_hundred_pods_are_counted_and_paged_worst_first(tmp_path: Path) -> None:
    data = scene_data("crash_loop")
    old, new = old_and_new(data)
    data["pods"] = []
    for n in range(500):
        pod = copy.deepcopy(new[0] if n % 100 == 7 else old[0])
        pod["metadata"].update(name=f"k8s-crash-{n:03}", uid=f"uid-{n}")
        data["pods"].append(pod)

    def paged(asked: Asked) -> Any:
        if asked.path.endswith("/pods"):
            start = int(asked.query.get("continue", 0))
            end = start + 200
            more = {"continue": str(end)} if end < 500 else {}
            return ok({"items": data["pods"][start:end], "metadata": more})
        return replay(data, crash_log)(asked)

    async with on(tmp_path, data, paged) as (context, api):
        first = await describe_pods.run(DescribePodsInput(workload="k8s-crash"), context)
        assert first.counts == {"failing": 5, "ready": 495}
        assert [p.state.value for p in first.pods[:6]] == ["failing"] * 5 + ["ready"]
        second = await describe_pods.run(
            DescribePodsInput(workload="k8s-crash", cursor=first.next_cursor), context
        )
        assert {p.name for p in first.pods}.isdisjoint(p.name for p in second.pods)
        with pytest.raises(InvalidArguments):
            await describe_pods.run(DescribePodsInput(cursor=first.next_cursor), context)
    assert size(first) < 8192
    assert len([a for a in api.asked if a.path.endswith("/events")]) <= 3 * 10


async def test_what_may_not_be_read_is_missing_with_its_grant(tmp_path: Path) -> None:
    data = scene_data("surge_crash")
    denied_parts = refusing(data, "replicasets", "events", "nodes", "log")
    async with on(tmp_path, data, denied_parts) as (context, _):
        answer = await describe_pods.run(DescribePodsInput(workload="k8s-surge"), context)
    assert answer.rollout is RolloutClass.SURGE_ONLY_CRASH
    gaps = {m.what: m.why for m in answer.missing}
    assert set(gaps) == {
        "revisions (replicasets)", "events", "nodes of failing pods", "log line of the crash"
    }  # fmt: skip
    assert all("kubectl create" in why and "--user=viewer" in why for why in gaps.values())


async def test_pods_that_may_not_be_listed_are_an_error_and_no_empty_answer(
    tmp_path: Path,
) -> None:
    data = scene_data("surge_crash")
    async with on(tmp_path, data, refusing(data, "pods")) as (context, _):
        with pytest.raises(PermissionDenied):
            await describe_pods.run(DescribePodsInput(workload="k8s-surge"), context)


async def test_one_pod_and_a_selector_are_described_too(tmp_path: Path) -> None:
    data = scene_data("crash_loop")
    name = old_and_new(data)[1][0]["metadata"]["name"]
    async with on(tmp_path, data) as (context, _):
        one = await describe_pods.run(DescribePodsInput(pod=name), context)
        some = await describe_pods.run(DescribePodsInput(selector="app=k8s-crash"), context)
        with pytest.raises(NotFound):
            await describe_pods.run(DescribePodsInput(pod="gone"), context)
    assert "is failing (crash_loop)" in one.headline
    assert some.headline.startswith("1 pod of 4 fail")


async def test_workloads_are_listed_troubled_first(tmp_path: Path) -> None:
    data = scene_data("crash_loop")
    healthy = copy.deepcopy(data["workload"])
    healthy["metadata"]["name"] = "a-healthy-one"
    healthy["status"]["conditions"] = []
    inner = replay(data)

    def answer(asked: Asked) -> Any:
        if asked.path.endswith("/deployments"):
            return ok({"items": [healthy, data["workload"]], "metadata": {}})
        return inner(asked)

    async with on(tmp_path, data, answer) as (context, _):
        found = await call(list_workloads, ListWorkloadsInput(), context)
        filtered = await call(list_workloads, ListWorkloadsInput(name_contains="healthy"), context)
        everywhere = await call(list_workloads, ListWorkloadsInput(all_namespaces=True), context)
    assert [w.name for w in found.workloads] == ["k8s-crash", "a-healthy-one"]
    assert "1 pod failing: crash_loop" in found.workloads[0].trouble
    assert found.workloads[1].trouble == ""
    assert [w.name for w in filtered.workloads] == ["a-healthy-one"]
    assert everywhere.total == 2


async def test_events_are_folded_with_warnings_first(tmp_path: Path) -> None:
    async with on(tmp_path, scene_data("oom")) as (context, _):
        found = await call(list_events, ListEventsInput(limit=5), context)
    assert found.events[0].warning
    assert found.total > len(found.events)
    backoff = next(e for e in found.events if e.reason == "BackOff")
    assert (backoff.also, backoff.count > 3) == (2, True)


def test_event_times_follow_the_series_then_the_old_fields() -> None:
    event = {"eventTime": None, "lastTimestamp": "2026-01-01T00:02:00Z",
             "firstTimestamp": "2026-01-01T00:01:00Z"}  # fmt: skip
    assert str(event_time(event)) == "2026-01-01 00:02:00+00:00"
    event["series"] = {"lastObservedTime": "2026-01-01T00:03:00.123456Z", "count": 9}  # type: ignore[assignment]  # a nested field
    assert str(event_time(event)).startswith("2026-01-01 00:03:00")
    assert fold_events([event])[0].count == 9
    assert event_time({}) is None


async def test_a_missing_permission_is_asked_for_once_and_a_yes_remembered(
    tmp_path: Path,
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path.endswith("selfsubjectreviews"):
            return ok({"status": {"userInfo": {"username": "system:serviceaccount:ops:bot"}}})
        wanted = asked.json["spec"]["resourceAttributes"]
        return ok({"status": {"allowed": wanted["resource"] != "deployments"}})

    needs = [Rbac("list", "pods"), Rbac("get", "pods/log"), Rbac("patch", "deployments", "apps")]
    async with on(tmp_path, scene_data("oom"), answer) as (context, api):
        cluster = await context.client.cluster()
        [missing] = await denied(cluster, "shop", needs)
        reviews = len(api.asked)
        await denied(cluster, "shop", needs)
        assert len(api.asked) == reviews + 2
        context.clock.seconds += 61
        await denied(cluster, "shop", needs)
        assert len(api.asked) == reviews + 2 + 4
    assert missing.need == needs[2]
    assert missing.identity == "system:serviceaccount:ops:bot"
    assert "--serviceaccount=ops:bot" in missing.grant
    assert "--resource=deployments.apps" in missing.grant
    log = next(a.json["spec"]["resourceAttributes"] for a in api.asked if b"log" in a.body)
    assert (log["resource"], log["subresource"], log["namespace"]) == ("pods", "log", "shop")


async def test_the_access_matrix_covers_what_every_tool_needs(tmp_path: Path) -> None:
    async with on(tmp_path, scene_data("oom")) as (context, _):
        report = await call(check_kubernetes_access, CheckAccessInput(), context)
    listed = {line.permission for line in report.permissions}
    assert {str(n) for t in INTEGRATION.tools for n in t.needs} == listed
    assert all(line.allowed for line in report.permissions)


async def test_facts_for_the_judging_rooms_come_from_the_same_scene(tmp_path: Path) -> None:
    data = scene_data("crash_loop")
    target = workload_at("test", "shop", WorkloadKind.DEPLOYMENT, "k8s-crash")
    async with on(tmp_path, data) as (context, _):
        cluster, now = await context.client.cluster(), context.clock.now()
        health = await facts.rollout_health(cluster, target, now)
        change = await facts.describe_change(cluster, target, now)
        events, _ = await facts.scaling_events(cluster, target, now - timedelta(hours=1))
        others, _ = await facts.neighbours(cluster, target, now, now)
    assert health.new.log_line is not None and "panic" in health.new.log_line
    assert change.previous is not None
    assert (change.revision.number, change.previous.number) == (2, 1)
    assert {d.path.rsplit(".", 1)[-1] for d in change.differences} >= {"env[VERSION]"}
    assert "hunter2" not in change.model_dump_json()
    assert events == [] and others == []


async def test_ping_says_version_server_and_namespace(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/version":
            return ok({"gitVersion": "v1.20.2"})
        return status(403, 'User "viewer" cannot create resource', "Forbidden")

    assert INTEGRATION.ping is not None
    async with on(tmp_path, scene_data("oom"), answer) as (context, _):
        health = await INTEGRATION.ping(context.client)
    assert health.ok and "v1.20.2" in health.says and "as viewer" in health.says
    async with client_of(tmp_path / "none") as client:
        assert not (await INTEGRATION.ping(client)).ok


def test_the_integration_is_off_without_a_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert INTEGRATION.why_off(KubernetesSettings(kubeconfig=(str(tmp_path / "none"),)))
    config = write_kubeconfig(tmp_path, "http://127.0.0.1:1")
    assert INTEGRATION.why_off(KubernetesSettings(kubeconfig=(str(config),))) is None


def test_environment_from_elsewhere_is_named_by_its_reference() -> None:
    env = [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        {"name": "URL", "value": "postgres://app:s3cr3tpass@db/shop"},
    ]
    spec = {"containers": [{"name": "c", "env": env, "args": ["--token", "abcdef123456789"],
                            "envFrom": [{"secretRef": {"name": "all"}}]}]}  # fmt: skip
    [found] = container_facts({"spec": spec}, detailed=True)
    assert "A from secret db/password" in found.env
    assert "(all of secret all)" in found.env
    assert "s3cr3tpass" not in found.line() and "abcdef123456789" not in found.line()


HOSTILE = ["../x", "a/b", "a b", "A", "-a", "a-", "a\n", "a;rm", "", "a" * 300, "ä", "a..b", "$(x)"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_kubernetes_does_not_allow_are_refused(name: str) -> None:
    for kind in (Namespace, ObjectName):
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(name)


@given(st.text(max_size=30))
def test_what_passes_as_a_name_is_harmless_in_a_path(name: str) -> None:
    try:
        TypeAdapter(ObjectName).validate_python(name)
    except ValidationError:
        return
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert ".." not in name


def test_selectors_as_kubectl_takes_them() -> None:
    for good in ("app=checkout", "app in (a,b),tier!=db", "app.kubernetes.io/name=x,!y"):
        assert TypeAdapter(Selector).validate_python(good) == good
    for bad in ("", "app=x&limit=1", "a\nb", "a;b"):
        with pytest.raises(ValidationError):
            TypeAdapter(Selector).validate_python(bad)
