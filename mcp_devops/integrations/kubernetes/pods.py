"""`kubernetes_describe_pods`: what ails a workload's pods, worst first, judged by its rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, cast

from pydantic import Field, model_validator

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.events import EventLine, events_by_uid, fold_events
from mcp_devops.integrations.kubernetes.names import ObjectName, Place, Selector, workload_at
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.podfacts import ContainerFacts, container_facts
from mcp_devops.integrations.kubernetes.podlogs import crash_lines
from mcp_devops.integrations.kubernetes.podstate import (
    PodPhase,
    PodState,
    condition,
    judge_pod,
    words,
)
from mcp_devops.integrations.kubernetes.revisions import Json, metadata_of
from mcp_devops.integrations.kubernetes.snapshot import (
    PODS_WITH_EVENTS,
    WORKLOAD_NEEDS,
    look,
    needs_of,
)
from mcp_devops.integrations.kubernetes.together import missing, together
from mcp_devops.integrations.kubernetes.trouble import judge
from mcp_devops.model.evidence import Missing, PodCause, RolloutClass
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import WorkloadKind
from mcp_devops.text.people import duration, plural
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.paging import page
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import tool

A = TypeVar("A")
B = TypeVar("B")

ROUTINE = frozenset(["Pulled", "Pulling", "Created", "Started", "Scheduled", "SuccessfulCreate"])
"""Reasons of events that every start has; left out of a concise answer."""
EVENTS_SHOWN = 6
"""Kinds of events in a concise answer."""
NODES_LOOKED_AT = 3
"""Nodes of failing pods that are read."""
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
"""Node conditions that are troubles when true."""
READ_NODES = Rbac("get", "nodes", optional=True, cluster_wide=True)
READ_LOGS = Rbac("get", "pods/log", optional=True)


class DescribePodsInput(Place):
    """Which pods. At most one of workload, pod and selector; none: all of the namespace."""

    workload: ObjectName | None = None
    """Pods of this workload, judged by its rollout."""
    kind: WorkloadKind = WorkloadKind.DEPLOYMENT
    """The workload's kind."""
    pod: ObjectName | None = None
    """One pod."""
    selector: Selector | None = None
    """Pods by label: app=checkout."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """detailed: every container with probes, resources and environment."""
    limit: int = Field(20, ge=1, le=200)
    """Pods per page, worst first."""
    cursor: str | None = None
    """next_cursor of the page before."""

    @model_validator(mode="after")
    def _one_of(self) -> DescribePodsInput:
        if sum(x is not None for x in (self.workload, self.pod, self.selector)) > 1:
            raise ValueError("give at most one of workload, pod and selector")
        return self


class PodReport(Record):
    """One pod."""

    name: str
    """Its name."""
    state: PodPhase
    """What it is doing."""
    revision: int = 0
    """Revision of its workload; 0: not known."""
    ready: str = ""
    """Ready containers of all."""
    restarts: int = 0
    """Container restarts."""
    cause: PodCause = PodCause.NONE
    """What ails it."""
    why: str = ""
    """The evidence, in words."""
    log_line: str = ""
    """The log line that most likely says why, for the first pod of a kind of trouble: data."""
    node: str = ""
    """Where it runs."""
    age: str = ""
    """Since its creation."""
    containers: tuple[ContainerFacts, ...] = ()
    """In a concise answer only for the first pod of each kind of trouble."""


class PodsAnswer(Answer):
    """Pods, worst first."""

    namespace: str
    """Where."""
    rollout: RolloutClass | None = None
    """What the trouble means for users; of a workload only."""
    immediate: bool = False
    """Whether users are being hurt now."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Pods by state, over all pages."""
    pods: tuple[PodReport, ...] = ()
    """Worst first."""
    events: tuple[EventLine, ...] = ()
    """What happened to them, warnings first."""
    nodes: tuple[str, ...] = ()
    """What is wrong with nodes of failing pods."""
    next_cursor: str | None = None
    """Pass it to see more."""
    missing: tuple[Missing, ...] = ()
    """What could not be read."""
    at: Moment
    """When it was read."""

    def text(self) -> str:
        """A line per pod, then containers of the troubled, then events."""
        parts = [self.headline]
        for p in self.pods:
            revision = f" r{p.revision}" if p.revision else ""
            ails = f" {p.cause.value}: {p.why}" if p.why else ""
            restarts = f" {p.restarts} restarts" if p.restarts else ""
            parts.append(f"- {p.name}{revision} {p.state.value} {p.ready}{restarts}{ails}")
            parts += [f"    log: {p.log_line}"] if p.log_line else []
            parts += [f"    {c.line()}" for c in p.containers]
        if self.events:
            parts.append("events:")
        parts += [f"  {e.line(self.at)}" for e in self.events]
        parts += [f"node {n}" for n in self.nodes]
        parts += [f"missing: {m.what}: {m.why}" for m in self.missing]
        if self.next_cursor:
            parts.append("more pods: pass next_cursor")
        return "\n".join(parts)


@dataclass
class _Found:
    """Pods with their states, worst first, and what came with them."""

    pods: list[tuple[PodState, int, Json]]
    headline: str
    rollout: RolloutClass | None = None
    immediate: bool = False
    events: list[Json] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


def pod_needs(args: DescribePodsInput) -> Sequence[Rbac]:
    """What one call needs."""
    if args.workload is not None:
        return (*needs_of(args.kind), READ_NODES, READ_LOGS)
    verb = "get" if args.pod is not None else "list"
    return (Rbac(verb, "pods"), Rbac("list", "events", optional=True), READ_NODES, READ_LOGS)


@tool(
    name="kubernetes_describe_pods",
    title="Describe pods",
    risk=Risk.READ,
    needs=(*WORKLOAD_NEEDS, Rbac("get", "pods"), READ_NODES, READ_LOGS),
    needs_for=pod_needs,
)
async def describe_pods(
    args: DescribePodsInput, context: ToolContext[KubernetesClient]
) -> PodsAnswer:
    """Say what ails the pods of a workload, worst first, and whether users are hurt by it.

    States, restarts, exit codes, events and nodes, judged by revision: a crash behind a surge pod
    is no outage. Also for one pod, a selector or a namespace. Next: kubernetes_tail_logs.
    """
    cluster = await context.client.cluster(args.context)
    namespace = args.namespace or cluster.namespace
    now = context.clock.now()
    if args.workload is not None:
        found = await _of_workload(cluster, args, namespace, now)
    else:
        found = await _of_pods(cluster, args, namespace, now)
    shown, cursor = page(found.pods, args, args.cursor, args.limit)
    failing = [s for s, _, _ in found.pods if s.failing]
    (nodes, node_gap), (lines, log_gap) = await _both(
        _nodes(cluster, failing), _log_lines(cluster, shown)
    )
    found.missing += [gap for gap in (node_gap, log_gap) if gap is not None]
    detailed = args.response_format is ResponseFormat.DETAILED
    counts = Counter(s.phase.value for s, _, _ in found.pods)
    events = fold_events(found.events, warnings_first=True)
    return PodsAnswer(
        headline=found.headline,
        namespace=namespace,
        rollout=found.rollout,
        immediate=found.immediate,
        counts=dict(counts),
        pods=_reports(shown, now, lines, detailed=detailed),
        events=tuple(
            events if detailed else [e for e in events if e.reason not in ROUTINE][:EVENTS_SHOWN]
        ),
        nodes=tuple(nodes),
        next_cursor=cursor,
        missing=tuple(found.missing),
        at=now,
    )


async def _of_workload(
    cluster: Cluster, args: DescribePodsInput, namespace: str, now: datetime
) -> _Found:
    target = workload_at(cluster.name, namespace, args.kind, args.workload or "")
    seen = await look(cluster, target, now)
    judgement = judge(seen.scene)
    by_name: dict[str, Json] = {str(metadata_of(p).get("name")): p for p in seen.scene.pods}
    return _Found(
        pods=[(s, revision, by_name[s.name]) for s, revision in judgement.pods],
        headline=f"{target}: {judgement.health.summary}",
        rollout=judgement.health.rollout_class,
        immediate=judgement.health.immediate,
        events=[e for events in seen.scene.events.values() for e in events],
        missing=list(seen.missing),
    )


async def _of_pods(
    cluster: Cluster, args: DescribePodsInput, namespace: str, now: datetime
) -> _Found:
    if args.pod is not None:
        raw: Sequence[Json] = [await cluster.find("pods", "", namespace, args.pod)]
    else:
        params: dict[str, str | int] = {"labelSelector": args.selector} if args.selector else {}
        raw = await cluster.list_all(path_of("pods", namespace=namespace), params)
    order = {phase: i for i, phase in enumerate(PodPhase)}
    pods: list[tuple[PodState, int, Json]] = [(judge_pod(p, now), 0, p) for p in raw]
    pods.sort(key=lambda s: (order[s[0].phase], -s[0].restarts, s[0].name))
    worth = [s for s, _, _ in pods if s.failing or args.pod is not None][:PODS_WITH_EVENTS]
    found = _Found(pods, "")
    try:
        by_uid = await events_by_uid(cluster, namespace, [s.uid for s in worth])
    except DevOpsError as failure:
        found.missing.append(missing("events", failure))
        by_uid = {}
    found.events += [e for events in by_uid.values() for e in events]
    # With its events a probe's kill is told from a crash.
    pods[:] = [
        (judge_pod(p, now, by_uid[s.uid]) if s.uid in by_uid else s, r, p) for s, r, p in pods
    ]
    failing = [s for s, _, _ in pods if s.failing]
    where = f"namespace {namespace}" + (f", {args.selector}" if args.selector else "")
    if args.pod is not None and pods:
        state = pods[0][0]
        ails = f" ({state.cause.value}): {state.why}" if state.why else ""
        found.headline = f"Pod {namespace}/{args.pod} is {state.phase.value}{ails}."
    else:
        found.headline = f"{plural(len(failing), 'pod')} of {len(pods)} fail in {where}."
    return found


def _firsts(shown: Sequence[tuple[PodState, int, Json]]) -> dict[str, Json]:
    """The first failing pod of each revision and cause, by name: what the others would repeat."""
    found: dict[tuple[int, PodCause], tuple[str, Json]] = {}
    for state, revision, pod in shown:
        if state.failing:
            found.setdefault((revision, state.cause), (state.name, pod))
    return dict(found.values())


async def _log_lines(
    cluster: Cluster, shown: Sequence[tuple[PodState, int, Json]]
) -> tuple[dict[str, str], Missing | None]:
    """The most telling log line of the first pod of each kind of trouble that leaves a log."""
    firsts = _firsts(shown)
    chosen = [
        (pod, state.container)
        for state, _, pod in shown
        if state.name in firsts and state.container and state.terminations
    ]
    if not chosen:
        return {}, None
    try:
        return await crash_lines(cluster, chosen), None
    except DevOpsError as failure:
        return {}, missing("log line of the crash", failure)


async def _both(first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
    # Both collect their own failures, so only a bug can raise here.
    one, two = await together(cast(list[Awaitable[Any]], [first, second]))
    return cast(A, one), cast(B, two)


def _reports(
    shown: Sequence[tuple[PodState, int, Json]],
    now: datetime,
    lines: Mapping[str, str],
    *,
    detailed: bool,
) -> tuple[PodReport, ...]:
    firsts = _firsts(shown)
    reports = []
    for state, revision, pod in shown:
        first = state.name in firsts
        statuses = (pod.get("status") or {}).get("containerStatuses") or ()
        total = len((pod.get("spec") or {}).get("containers") or ())
        reports.append(
            PodReport(
                name=state.name,
                state=state.phase,
                revision=revision,
                ready=f"{sum(bool(c.get('ready')) for c in statuses)}/{total}",
                restarts=state.restarts,
                cause=state.cause,
                why=state.why,
                log_line=lines.get(state.name, ""),
                node=state.node,
                age=duration((now - state.created_at).total_seconds()) if state.created_at else "",
                containers=container_facts(pod, detailed=detailed) if first or detailed else (),
            )
        )
    return tuple(reports)


async def _nodes(cluster: Cluster, failing: Sequence[PodState]) -> tuple[list[str], Missing | None]:
    names = [n for n, _ in Counter(s.node for s in failing if s.node).most_common(NODES_LOOKED_AT)]
    answers = await together([cluster.get(path_of("nodes", name=n)) for n in names])
    said: list[str] = []
    for name, node in zip(names, answers, strict=True):
        if isinstance(node, DevOpsError):
            return said, missing("nodes of failing pods", node)
        if troubles := node_troubles(node):
            said.append(f"{name}: {', '.join(troubles)}")
    return said, None


def node_troubles(node: Json) -> list[str]:
    """What is wrong with a node: not ready, a pressure, cordoned."""
    found = []
    if condition(node, "Ready").get("status") != "True":
        found.append(f"not ready ({words(condition(node, 'Ready').get('message'))})")
    found += [k for k in PRESSURES if condition(node, k).get("status") == "True"]
    if (node.get("spec") or {}).get("unschedulable"):
        found.append("cordoned")
    return found
