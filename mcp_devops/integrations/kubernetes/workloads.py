"""`kubernetes_list_workloads`: all workloads of a namespace, a line each, troubled ones first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.names import NameFilter, Place
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.podstate import PodState, condition, judge_pod
from mcp_devops.integrations.kubernetes.revisions import (
    POD_TEMPLATE_HASH,
    REVISION,
    Json,
    annotations_of,
    desired_of,
    images_of,
    is_paused,
    labels_of,
    metadata_of,
    moment,
)
from mcp_devops.integrations.kubernetes.together import missing, together
from mcp_devops.integrations.kubernetes.trouble import CAUSE_ORDER, available_of, updated_of
from mcp_devops.model.evidence import Missing, PodCause
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import WorkloadKind
from mcp_devops.text.people import plural
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.paging import page
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import tool


class WorkloadLine(Record):
    """One workload."""

    name: str
    """Its name."""
    kind: WorkloadKind = WorkloadKind.DEPLOYMENT
    """Its kind."""
    namespace: str
    """Where it lives."""
    available: int
    """Pods that count as available."""
    desired: int
    """Pods asked for."""
    trouble: str = ""
    """What ails it; empty: nothing seen."""
    failing: int = 0
    """Pods that fail."""
    restarts: int = 0
    """Container restarts of all its pods."""
    revision: int = 0
    """Revision of a Deployment."""
    images: tuple[str, ...] = ()
    """Images of its template."""
    unavailable_since: Moment | None = None
    """Since when fewer pods than promised are available; null: enough are, or it is not known."""

    def line(self) -> str:
        """For people."""
        kind = "" if self.kind is WorkloadKind.DEPLOYMENT else f" ({self.kind.value})"
        ails = f" {self.trouble}" if self.trouble else ""
        revision = f" r{self.revision}" if self.revision else ""
        return (
            f"{'!' if self.trouble else '-'} {self.namespace}/{self.name}{kind}"
            f" {self.available}/{self.desired}{revision} {' '.join(self.images)}{ails}"
        )


class WorkloadList(Answer):
    """Workloads, troubled first."""

    workloads: tuple[WorkloadLine, ...] = ()
    """A line each."""
    total: int = 0
    """Workloads over all pages."""
    troubled: int = 0
    """How many of them have a trouble."""
    next_cursor: str | None = None
    """Pass it to see more."""
    missing: tuple[Missing, ...] = ()
    """What could not be read."""

    def text(self) -> str:
        """A line per workload."""
        gaps = [f"missing: {m.what}: {m.why}" for m in self.missing]
        return "\n".join([self.headline, *(w.line() for w in self.workloads), *gaps])


class ListWorkloadsInput(Place):
    """Which workloads."""

    kinds: tuple[WorkloadKind, ...] = tuple(WorkloadKind)
    """Kinds to list; default all three."""
    name_contains: NameFilter | None = None
    """Part of the name."""
    troubled_only: bool = False
    """Leave out the healthy."""
    all_namespaces: bool = False
    """Look everywhere, without reading pods."""
    limit: int = Field(50, ge=1, le=200)
    """Lines per page."""
    cursor: str | None = None
    """next_cursor of the page before."""


@tool(
    name="kubernetes_list_workloads",
    title="List workloads",
    risk=Risk.READ,
    needs=(
        *(Rbac("list", kind.resource, "apps", optional=True) for kind in WorkloadKind),
        Rbac("list", "pods", optional=True),
    ),
)
async def list_workloads(
    args: ListWorkloadsInput, context: ToolContext[KubernetesClient]
) -> WorkloadList:
    """List Deployments, StatefulSets and DaemonSets with their health, troubled ones first.

    Use it to find the workload that an alert is about, or others that are sick at the same time.
    Next: kubernetes_describe_pods on one of them.
    """
    cluster = await context.client.cluster(args.context)
    namespace = None if args.all_namespaces else args.namespace or cluster.namespace
    lines, gaps = await survey(cluster, namespace, context.clock.now(), args.kinds)
    wanted = [
        line
        for line in lines
        if (not args.name_contains or args.name_contains in line.name)
        and (not args.troubled_only or line.trouble)
    ]
    shown, cursor = page(wanted, args, args.cursor, args.limit)
    troubled = sum(bool(line.trouble) for line in wanted)
    where = f"namespace {namespace}" if namespace else "all namespaces"
    return WorkloadList(
        headline=f"{plural(len(wanted), 'workload')} in {where} of context {cluster.name},"
        f" {troubled} troubled.",
        workloads=tuple(shown),
        total=len(wanted),
        troubled=troubled,
        next_cursor=cursor,
        missing=tuple(gaps),
    )


async def survey(
    cluster: Cluster,
    namespace: str | None,
    now: datetime,
    kinds: Sequence[WorkloadKind] = tuple(WorkloadKind),
) -> tuple[list[WorkloadLine], list[Missing]]:
    """All workloads with their health, troubled first, then by name.

    Raises:
        DevOpsError: Not one kind could be listed.
    """
    asks = [cluster.list_all(path_of(k.resource, "apps", namespace=namespace)) for k in kinds]
    if namespace is not None:
        asks.append(cluster.list_all(path_of("pods", namespace=namespace)))
    answers = await together(asks)
    gaps: list[Missing] = []
    pods: Mapping[tuple[str, str], list[PodState]] = {}
    if namespace is not None:
        seen = answers.pop()
        if isinstance(seen, DevOpsError):
            gaps.append(missing("pods", seen))
        else:
            pods = by_workload(seen, now)
    lines: list[WorkloadLine] = []
    failures = [a for a in answers if isinstance(a, DevOpsError)]
    if failures and len(failures) == len(answers):
        raise failures[0]
    for kind, answer in zip(kinds, answers, strict=True):
        if isinstance(answer, DevOpsError):
            gaps.append(missing(kind.resource, answer))
            continue
        for item in answer:
            own = pods.get((kind.value, str(metadata_of(item).get("name"))), ())
            lines.append(_line(kind, item, own))
    lines.sort(key=lambda w: (not w.trouble, w.available > 0, w.namespace, w.name))
    return lines, gaps


def by_workload(pods: Iterable[Json], now: datetime) -> dict[tuple[str, str], list[PodState]]:
    """Pods by (kind, name) of their workload; a ReplicaSet's name gives its Deployment's."""
    found: dict[tuple[str, str], list[PodState]] = defaultdict(list)
    for pod in pods:
        for owner in metadata_of(pod).get("ownerReferences") or ():
            if not owner.get("controller"):
                continue
            kind, name = str(owner.get("kind")), str(owner.get("name"))
            if kind == "ReplicaSet":
                suffix = labels_of(pod).get(POD_TEMPLATE_HASH)
                if not suffix or not name.endswith(f"-{suffix}"):
                    continue
                kind, name = WorkloadKind.DEPLOYMENT.value, name.removesuffix(f"-{suffix}")
            found[kind, name].append(judge_pod(pod, now))
    return found


def _line(kind: WorkloadKind, item: Json, pods: Sequence[PodState]) -> WorkloadLine:
    failing = [p for p in pods if p.failing]
    number = annotations_of(item).get(REVISION, "0")
    return WorkloadLine(
        name=str(metadata_of(item).get("name")),
        kind=kind,
        namespace=str(metadata_of(item).get("namespace")),
        available=available_of(item, kind),
        desired=desired_of(item, kind),
        trouble=_trouble(kind, item, failing),
        failing=len(failing),
        restarts=sum(p.restarts for p in pods),
        revision=int(number) if number.isdecimal() else 0,
        images=images_of(item),
        unavailable_since=_unavailable_since(item),
    )


def _unavailable_since(item: Json) -> datetime | None:
    available = condition(item, "Available")
    if available.get("status") != "False":
        return None
    return moment(available.get("lastTransitionTime"))


def _trouble(kind: WorkloadKind, item: Any, failing: Sequence[PodState]) -> str:
    desired, available = desired_of(item, kind), available_of(item, kind)
    if desired == 0 and not failing:
        return ""
    said = []
    if available == 0:
        said.append("nothing serves")
    elif available < desired:
        said.append(f"{desired - available} of {desired} not available")
    if failing:
        causes = {p.cause for p in failing}
        worst = next((c for c in CAUSE_ORDER if c in causes), PodCause.NONE)
        said.append(f"{plural(len(failing), 'pod')} failing: {worst.value}")
    if condition(item, "Progressing").get("reason") == "ProgressDeadlineExceeded":
        said.append("progress deadline exceeded")
    if condition(item, "ReplicaFailure").get("status") == "True":
        said.append("pods refused by quota or admission")
    if is_paused(item) and updated_of(item, kind) < desired:
        said.append("paused in mid-rollout")
    return "; ".join(said)
