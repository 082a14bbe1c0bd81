"""Reads a workload with its revisions, pods and events, independent requests at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.events import LIST_EVENTS, events_by_uid, events_of
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.podstate import PodPhase, judge_pod
from mcp_devops.integrations.kubernetes.revisions import (
    Json,
    controlled_by,
    desired_of,
    live_holder,
    metadata_of,
)
from mcp_devops.integrations.kubernetes.together import missing, together
from mcp_devops.integrations.kubernetes.trouble import Scene
from mcp_devops.model.evidence import Missing
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.toolkit.risk import Rbac

WORKLOAD_NEEDS = (
    *(Rbac("get", kind.resource, "apps") for kind in WorkloadKind),
    Rbac("list", "pods"),
    Rbac("list", "replicasets", "apps", optional=True),
    Rbac("list", "controllerrevisions", "apps", optional=True),
    Rbac("list", "events", optional=True),
)
"""What `look` asks for; `needs_of` picks the part one kind needs."""
PODS_WITH_EVENTS = 8
"""Pods whose events are read, worst first: more of them repeat what these say."""


def needs_of(kind: WorkloadKind) -> tuple[Rbac, ...]:
    """The part of WORKLOAD_NEEDS that a workload of this kind needs."""
    holders = holders_of(kind)
    return tuple(
        n
        for n in WORKLOAD_NEEDS
        if n.resource in (kind.resource, holders, "pods", LIST_EVENTS.resource)
    )


def holders_of(kind: WorkloadKind) -> str:
    """The resource that keeps this kind's revisions."""
    return "replicasets" if kind is WorkloadKind.DEPLOYMENT else "controllerrevisions"


@dataclass(frozen=True)
class Snapshot:
    """What was read about a workload, and what could not be."""

    target: Workload
    scene: Scene
    missing: tuple[Missing, ...]


def selector_of(workload: Json) -> str:
    """The workload's label selector as a query parameter."""
    selector = (workload.get("spec") or {}).get("selector") or {}
    parts = [f"{k}={v}" for k, v in (selector.get("matchLabels") or {}).items()]
    for rule in selector.get("matchExpressions") or ():
        key, operator = rule.get("key"), rule.get("operator")
        values = ",".join(rule.get("values") or ())
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": f"{key}",
                "DoesNotExist": f"!{key}",
            }[operator]
        )
    return ",".join(parts)


async def look(
    cluster: Cluster, target: Workload, now: datetime, *, events: bool = True
) -> Snapshot:
    """Read a workload: the object, then its revisions, pods and events, then its pods' events.

    Args:
        cluster: Where.
        target: Which.
        now: The moment to judge pods at.
        events: Whether to read events too.

    Raises:
        NotFound: The workload is not there; similar names are in its details.
        PermissionDenied: The workload or its pods may not be read.
    """
    kind, namespace = target.kind, target.namespace
    workload = await cluster.find(kind.resource, "apps", namespace, target.name)
    query: dict[str, str | int] = {"labelSelector": selector_of(workload)}
    resource = holders_of(kind)
    own = str(metadata_of(workload).get("uid"))
    asks = [
        cluster.list_all(path_of(resource, "apps", namespace=namespace), query),
        cluster.list_all(path_of("pods", namespace=namespace), query),
    ]
    if events:
        asks.append(events_of(cluster, namespace, own))
    found, seen, *about = await together(asks)
    if isinstance(seen, DevOpsError):
        raise seen
    gaps: list[Missing] = []
    holders: list[dict[str, Any]] | None = None
    if isinstance(found, DevOpsError):
        gaps.append(missing(f"revisions ({resource})", found))
    else:
        holders = [h for h in found if controlled_by(h, workload)]
    pods = _own(kind, workload, holders, seen)
    by_uid: dict[str, list[dict[str, Any]]] = {}
    if events:
        try:
            if isinstance(about[0], DevOpsError):
                raise about[0]
            uids = _worth_events(kind, workload, holders, pods, now)
            by_uid = {own: about[0], **await events_by_uid(cluster, namespace, uids)}
        except DevOpsError as failure:
            gaps.append(missing("events", failure))
    scene = Scene(kind, workload, holders, pods, now, by_uid)
    return Snapshot(target, scene, tuple(gaps))


def _own(
    kind: WorkloadKind, workload: Json, holders: list[dict[str, Any]] | None, pods: list[Any]
) -> list[dict[str, Any]]:
    """Pods that are really this workload's: selectors may overlap."""
    if kind is not WorkloadKind.DEPLOYMENT:
        return [p for p in pods if controlled_by(p, workload)]
    if holders is None:
        return pods
    return [p for p in pods if any(controlled_by(p, h) for h in holders)]


def _worth_events(
    kind: WorkloadKind,
    workload: Json,
    holders: list[dict[str, Any]] | None,
    pods: list[Any],
    now: datetime,
) -> list[str]:
    """Uids beside the workload's own: the troubled pods, and the revision that lacks pods."""
    uids = []
    live = live_holder(workload, holders or ())
    if live is not None and len(pods) < desired_of(workload, kind):
        uids.append(str(metadata_of(live).get("uid")))
    troubled = [
        state
        for state in (judge_pod(p, now) for p in pods)
        if state.phase in (PodPhase.FAILING, PodPhase.STARTING, PodPhase.SETTLING)
    ]
    troubled.sort(key=lambda s: (s.phase is not PodPhase.FAILING, -s.restarts, s.name))
    return uids + [s.uid for s in troubled[:PODS_WITH_EVENTS]]
