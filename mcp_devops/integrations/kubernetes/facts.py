"""Facts about a workload for the rooms that judge: health, change, scaling, neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mcp_devops.errors import DevOpsError, NoData
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.events import event_object, event_time
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.podlogs import crash_lines
from mcp_devops.integrations.kubernetes.podstate import PodPhase, PodState, words
from mcp_devops.integrations.kubernetes.progress import rollout_began
from mcp_devops.integrations.kubernetes.revisions import (
    Json,
    holder_of_pod,
    live_holder,
    managed_by,
    metadata_of,
    moment,
    revision_of,
    rollback_target,
)
from mcp_devops.integrations.kubernetes.snapshot import Snapshot, look, selector_of
from mcp_devops.integrations.kubernetes.together import missing, together
from mcp_devops.integrations.kubernetes.trouble import Scene, judge, started_at
from mcp_devops.integrations.kubernetes.workloads import WorkloadLine, survey
from mcp_devops.model.change import Change, TemplateDifference
from mcp_devops.model.evidence import Missing, Neighbour, RolloutHealth, ScalingEvent
from mcp_devops.model.target import Workload, WorkloadKind

SCALING_REASONS = frozenset(
    ["SuccessfulRescale", "FailedGetResourceMetric", "FailedRescale", "NodeNotReady",
     "NodeReady", "RegisteredNode", "RemovingNode", "TriggeredScaleUp", "NotTriggerScaleUp",
     "ScaleDown", "ScaledUpGroup", "Evicted", "Preempted", "TaintManagerEviction"]
)  # fmt: skip
"""Event reasons that tell of a change of capacity that no rollout made."""


ONSET_SLACK_S = 300
"""Seconds before a deployment in which a neighbour's outage may still share its cause (seed)."""


async def rollout_health(
    cluster: Cluster,
    workload: Workload,
    now: datetime,
    *,
    deadline_seen: bool = False,
    logs: bool = True,
) -> RolloutHealth:
    """Judge a workload's pods through its rollout, with one log line of each revision's crash.

    Args:
        cluster: Where.
        workload: Which.
        now: The moment to judge at.
        deadline_seen: Whether the progress deadline was seen to pass before.
        logs: Whether to read the logs of one failing pod of each revision; denied is not an error.

    Raises:
        NotFound: The workload is not there.
        PermissionDenied: The workload or its pods may not be read.
    """
    seen = await look(cluster, workload, now)
    return await health_of(cluster, seen, deadline_seen=deadline_seen, logs=logs)


async def health_of(
    cluster: Cluster, seen: Snapshot, *, deadline_seen: bool = False, logs: bool = True
) -> RolloutHealth:
    """`rollout_health` of a workload that was read already."""
    judgement = judge(seen.scene, deadline_seen=deadline_seen)
    if not logs:
        return judgement.health
    chosen = _to_read(seen.scene, judgement.pods)
    if not chosen:
        return judgement.health
    try:
        lines = await crash_lines(cluster, chosen)
    except DevOpsError:
        # A log line has no weight in any judgement; without the right to read it, it is left out.
        return judgement.health
    return judge(seen.scene, deadline_seen=deadline_seen, log_lines=lines).health


def _to_read(scene: Scene, pods: Sequence[tuple[PodState, int]]) -> list[tuple[Json, str]]:
    """One crashed pod of each revision, with the container that crashed."""
    by_name = {str(metadata_of(p).get("name")): p for p in scene.pods}
    chosen: dict[int, tuple[Json, str]] = {}
    for state, revision in pods:
        if state.counts and state.terminations and revision not in chosen:
            container = state.container or state.terminations[0].container
            chosen[revision] = (by_name[state.name], container)
    return list(chosen.values())


async def describe_change(
    cluster: Cluster, workload: Workload, now: datetime, bad: Sequence[str] = ()
) -> Change:
    """Say which revision is live, since when, what it replaced, and who else manages it.

    Args:
        cluster: Where.
        workload: Which.
        now: The moment.
        bad: Template hashes that were judged bad: no target of a rollback.

    Raises:
        NotFound: The workload is not there.
        NoData: Its controller has made no revision yet.
        PermissionDenied: Its revisions may not be read.
    """
    return await change_of(cluster, await look(cluster, workload, now), bad)


async def change_of(cluster: Cluster, seen: Snapshot, bad: Sequence[str] = ()) -> Change:
    """`describe_change` of a workload that was read already."""
    scene, target = seen.scene, seen.target
    if scene.holders is None:
        # Asked again for its own error, which names the permission and the grant.
        resource = "replicasets" if scene.kind is WorkloadKind.DEPLOYMENT else "controllerrevisions"
        await cluster.list_all(
            path_of(resource, "apps", namespace=target.namespace),
            {"labelSelector": selector_of(scene.workload)},
        )
    holders = scene.holders or ()
    live = live_holder(scene.workload, holders)
    if live is None:
        raise NoData(
            f"{target} has no revision of its present template yet.",
            fix="Its controller may be a moment behind; call again.",
            source="kubernetes",
        )
    previous = rollback_target(scene.workload, holders, bad)
    started = rollout_began(scene) or started_at(scene) or scene.at
    return Change(
        workload=target,
        uid=str(metadata_of(scene.workload).get("uid", "")),
        started_at=started,
        revision=revision_of(live, _pods_of(scene, live)),
        previous=revision_of(previous, _pods_of(scene, previous)) if previous else None,
        differences=_differences(previous, live) if previous else (),
        managed_by=managed_by(
            scene.workload, scene.kind, await _autoscalers(cluster, target.namespace)
        ),
    )


def _pods_of(scene: Scene, holder: Json) -> list[Json]:
    return [p for p in scene.pods if holder_of_pod(p, scene.kind, [holder]) is holder]


def _differences(old: Json, new: Json) -> tuple[TemplateDifference, ...]:
    from mcp_devops.integrations.kubernetes.diff import differences
    from mcp_devops.integrations.kubernetes.revisions import template_of

    return differences(template_of(old), template_of(new))


async def _autoscalers(cluster: Cluster, namespace: str) -> list[Any]:
    path = path_of("horizontalpodautoscalers", "autoscaling", namespace=namespace)
    try:
        return await cluster.shared.get(path, lambda: cluster.list_all(path))
    except DevOpsError:
        # Optional: without it an HPA is not named as a co-manager, and replicas are never touched.
        return []


async def scaling_events(
    cluster: Cluster,
    workload: Workload,
    since: datetime,
    live: str = "",
    began: datetime | None = None,
) -> tuple[list[ScalingEvent], list[Missing]]:
    """Changes of capacity since a moment, oldest first: HPA steps, replicas, nodes, evictions.

    Scale steps that a rollout makes are not among them: a rollout only ever adds pods to the live
    revision, so one that takes some away was somebody's, or something's, own.

    Args:
        cluster: Where.
        workload: Whose capacity.
        since: Oldest event that counts.
        live: Name of the live revision's ReplicaSet; empty: replica changes are not told.
        began: When that revision began to roll out.

    Node events lie in namespace "default" and are optional.
    """
    home, default = await together(
        [
            _capacity_events(cluster, workload.namespace),
            _capacity_events(cluster, "default", fieldSelector="involvedObject.kind=Node"),
        ]
    )
    gaps: list[Missing] = []
    found: list[ScalingEvent] = []
    for what, events in (("scaling events", home), ("node events", default)):
        if isinstance(events, DevOpsError):
            gaps.append(missing(what, events))
            continue
        for event in events:
            at = event_time(event)
            if at is not None and at >= since and _is_scaling(event, workload, live, began):
                about = event_object(event)
                found.append(
                    ScalingEvent(
                        at=at,
                        what=f"{about.get('kind')}/{about.get('name')} {event.get('reason')}:"
                        f" {words(event.get('message'))}",
                        source=str(
                            (event.get("source") or {}).get("component")
                            or event.get("reportingComponent")
                            or ""
                        ),
                    )
                )
    return sorted(found, key=lambda e: e.at), gaps


async def _capacity_events(cluster: Cluster, namespace: str, **query: str | int) -> list[Json]:
    """Events of a namespace whose reason may be a change of capacity."""
    path = path_of("events", namespace=namespace)
    wanted = {*SCALING_REASONS, "ScalingReplicaSet"}

    async def read() -> list[Json]:
        return [e for e in await cluster.list_all(path, query) if e.get("reason") in wanted]

    return await cluster.shared.get((path, *query.items()), read)


def _is_scaling(event: Json, workload: Workload, live: str, began: datetime | None) -> bool:
    about = event_object(event)
    reason = str(event.get("reason", ""))
    if about.get("kind") == "Deployment":
        at = event_time(event)
        return (
            bool(live)
            and about.get("name") == workload.name
            and reason == "ScalingReplicaSet"
            # After ten events of a kind the API server puts "(combined from ...): " before them.
            and f"Scaled down replica set {live} " in str(event.get("message", ""))
            and at is not None
            and (began is None or at >= began)
        )
    if about.get("kind") == "Node":
        return reason in SCALING_REASONS
    if about.get("kind") == "HorizontalPodAutoscaler":
        return reason in SCALING_REASONS
    if about.get("kind") == "Pod":
        return reason in SCALING_REASONS and str(about.get("name", "")).startswith(
            f"{workload.name}-"
        )
    return False


async def neighbours(
    cluster: Cluster,
    workload: Workload,
    now: datetime,
    since: datetime,
    recent_s: float = 3600,
) -> tuple[list[Neighbour], list[Missing]]:
    """Other workloads of the namespace: whether they rolled out lately, and whether they broke.

    A neighbour is sick if it became unavailable at about the time of the judged deployment. One
    that was broken long before says nothing about a common cause. Their request rates are left
    open: only metrics know them.

    Args:
        cluster: Where.
        workload: The one under judgement; left out.
        now: The moment.
        since: When the judged deployment began.
        recent_s: Seconds within which a rollout is recent.

    Raises:
        DevOpsError: Workloads may not be listed at all.
    """
    namespace = workload.namespace
    around = await cluster.shared.get(
        ("neighbours", namespace), lambda: _neighbourhood(cluster, namespace, now)
    )
    lines, gaps = around.lines, list(around.gaps)
    fresh = {
        owner for owner, made in around.newest.items() if now - made <= timedelta(seconds=recent_s)
    }
    return [
        Neighbour(
            service=line.name,
            deployed_recently=(line.kind.value, line.name) in fresh,
            baseline_error_rate=None,
            after_error_rate=None,
            sick=line.unavailable_since is not None
            and line.unavailable_since >= since - timedelta(seconds=ONSET_SLACK_S),
        )
        for line in lines
        if (line.kind, line.name) != (workload.kind, workload.name)
    ], gaps


@dataclass(frozen=True)
class _Around:
    """A namespace's workloads."""

    lines: list[WorkloadLine]
    gaps: list[Missing]
    newest: dict[tuple[str, str], datetime]
    """When the newest revision of a workload was made, by its kind and name."""


async def _neighbourhood(cluster: Cluster, namespace: str, now: datetime) -> _Around:
    kinds = ("replicasets", "controllerrevisions")
    holders = [cluster.list_all(path_of(r, "apps", namespace=namespace)) for r in kinds]
    (lines, gaps), found = await _both(survey(cluster, namespace, now), holders)
    newest: dict[tuple[str, str], datetime] = {}
    for what, answer in zip(kinds, found, strict=True):
        if isinstance(answer, DevOpsError):
            gaps.append(missing(f"{what} of neighbours", answer))
            continue
        for holder in answer:
            made = moment(metadata_of(holder).get("creationTimestamp"))
            if made is None:
                continue
            for owner in metadata_of(holder).get("ownerReferences") or ():
                key = (str(owner.get("kind")), str(owner.get("name")))
                newest[key] = max(made, newest.get(key, made))
    return _Around(lines, gaps, newest)


async def _both(first: Any, rest: Sequence[Any]) -> Any:
    answers = await together([first, *rest])
    if isinstance(answers[0], DevOpsError):
        raise answers[0]
    return answers[0], answers[1:]


__all__ = [
    "PodPhase",
    "change_of",
    "describe_change",
    "health_of",
    "neighbours",
    "rollout_health",
    "scaling_events",
]
