"""Revisions of a workload, told apart by their pod template and not by their number. Pure.

Numbers mislead: an undo gives the old template the highest number, so "the previous number" may be
the bad one. Everything here compares templates (kubernetes.md 5). Objects are the API's raw JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mcp_devops.model.change import Revision
from mcp_devops.model.record import digest
from mcp_devops.model.target import WorkloadKind

Json = Mapping[str, Any]

POD_TEMPLATE_HASH = "pod-template-hash"
"""Label that the Deployment controller adds to a ReplicaSet's template and pods."""
CONTROLLER_REVISION_HASH = "controller-revision-hash"
"""Label that ties a StatefulSet's or DaemonSet's pod to its ControllerRevision."""
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
"""Numbers that a ReplicaSet had before; present after an undo brought it back."""
CHANGE_CAUSE = "kubernetes.io/change-cause"

_GITOPS = (
    ("Argo CD", "argocd.argoproj.io/tracking-id"),
    ("Argo CD", "argocd.argoproj.io/instance"),
    ("Flux", "kustomize.toolkit.fluxcd.io/name"),
    ("Flux", "helm.toolkit.fluxcd.io/name"),
    ("Config Sync", "configmanagement.gke.io/managed"),
    ("Fleet", "objectset.rio.cattle.io/id"),
    ("kapp", "kapp.k14s.io/app"),
    ("Helm", "meta.helm.sh/release-name"),
)
"""Marks that tools leave on what they apply; the first that fits names the one who re-applies."""


def moment(text: str | None) -> datetime | None:
    """An API time as an aware datetime; None for none, or for what is no time."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else None


def metadata_of(thing: Json) -> Json:
    """The metadata of an object; empty where it has none."""
    meta: Json = thing.get("metadata") or {}
    return meta


def annotations_of(thing: Json) -> Mapping[str, str]:
    """The annotations of an object."""
    return metadata_of(thing).get("annotations") or {}


def labels_of(thing: Json) -> Mapping[str, str]:
    """The labels of an object."""
    return metadata_of(thing).get("labels") or {}


def template_of(thing: Json) -> dict[str, Any]:
    """The pod template of a workload, ReplicaSet or ControllerRevision, comparable with `==`.

    What a controller adds is left out: the template hash, patch directives, and nulls that old
    ControllerRevisions hold and new servers omit.
    """
    spec = (thing.get("data") or thing).get("spec") or {}
    cleaned = _cleaned(spec.get("template") or {})
    return cleaned if isinstance(cleaned, dict) else {}


def _cleaned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            k: _cleaned(v)
            for k, v in value.items()
            if v is not None and k not in ("$patch", POD_TEMPLATE_HASH)
        }
    return [_cleaned(v) for v in value] if isinstance(value, list) else value


def template_hash(thing: Json) -> str:
    """SHA-256 of the pod template: the identity of a revision."""
    return digest(template_of(thing))


def number_of(holder: Json) -> int:
    """Revision number of a ReplicaSet or ControllerRevision; 0 where it has none."""
    if isinstance(holder.get("revision"), int):
        return int(holder["revision"])
    text = annotations_of(holder).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def controlled_by(thing: Json, owner: Json) -> bool:
    """Whether the owner's uid controls the thing; names are reused, uids are not."""
    uid = metadata_of(owner).get("uid")
    return bool(uid) and any(
        r.get("controller") and r.get("uid") == uid
        for r in metadata_of(thing).get("ownerReferences") or ()
    )


def history(workload: Json, holders: Iterable[Json]) -> list[Json]:
    """The ReplicaSets or ControllerRevisions that the workload controls, newest number first."""
    mine = [h for h in holders if controlled_by(h, workload)]
    return sorted(
        mine,
        key=lambda h: (number_of(h), str(metadata_of(h).get("creationTimestamp", ""))),
        reverse=True,
    )


def live_holder(workload: Json, holders: Iterable[Json]) -> Json | None:
    """The holder whose template is the workload's own; None before its controller made one.

    StatefulSets name theirs in `status.updateRevision`, which counts where templates do not compare
    because an older API version stored the ControllerRevision.
    """
    mine = history(workload, holders)
    live = template_of(workload)
    named = (workload.get("status") or {}).get("updateRevision")
    observed = (workload.get("status") or {}).get("observedGeneration", 0)
    current = observed >= metadata_of(workload).get("generation", 0)
    for holder in mine:
        if template_of(holder) == live:
            return holder
    if current and named:
        return next((h for h in mine if metadata_of(h).get("name") == named), None)
    return None


def rollback_target(
    workload: Json, holders: Iterable[Json], bad: Collection[str] = ()
) -> Json | None:
    """The newest holder whose template is neither live nor known bad; None: nothing to return to.

    Args:
        workload: The workload as it is now.
        holders: Its ReplicaSets or ControllerRevisions, and any others.
        bad: Template hashes that were judged bad.
    """
    avoid = {template_hash(workload), *bad}
    live = live_holder(workload, holders)
    return next(
        (h for h in history(workload, holders) if h is not live and template_hash(h) not in avoid),
        None,
    )


def revision_of(holder: Json, pods: Sequence[Json] = ()) -> Revision:
    """The record of one revision.

    Args:
        holder: ReplicaSet or ControllerRevision.
        pods: Pods of this revision, to count them where the holder has no status of its own.
    """
    status = holder.get("status") or {}
    if "data" in holder:
        replicas, ready = len(pods), sum(is_ready(p) for p in pods)
    else:
        replicas, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    created = moment(metadata_of(holder).get("creationTimestamp"))
    return Revision(
        number=number_of(holder),
        name=str(metadata_of(holder).get("name", "")),
        template_hash=template_hash(holder),
        created_at=created or datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
        images=images_of(holder),
        change_cause=annotations_of(holder).get(CHANGE_CAUSE),
        replicas=replicas,
        ready_replicas=ready,
    )


def images_of(thing: Json) -> tuple[str, ...]:
    """Images of the containers, in the template's order; init containers are left out."""
    spec = template_of(thing).get("spec") or {}
    return tuple(str(c.get("image", "")) for c in spec.get("containers") or ())


def is_ready(pod: Json) -> bool:
    """Whether a pod's Ready condition is true and it is not being deleted."""
    if metadata_of(pod).get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def holder_of_pod(pod: Json, kind: WorkloadKind, holders: Iterable[Json]) -> Json | None:
    """The revision a pod belongs to: its ReplicaSet, or the ControllerRevision its label names."""
    if kind is WorkloadKind.DEPLOYMENT:
        return next((h for h in holders if controlled_by(pod, h)), None)
    label = labels_of(pod).get(CONTROLLER_REVISION_HASH)
    if not label:
        return None
    # A StatefulSet labels its pods with the whole name, a DaemonSet with the hash at its end.
    for holder in holders:
        name = str(metadata_of(holder).get("name", ""))
        if name == label or labels_of(holder).get(CONTROLLER_REVISION_HASH) == label:
            return holder
    return None


def was_brought_back(holder: Json, holders: Iterable[Json]) -> bool:
    """Whether a revision went live again after a newer one: its creation is not its start then."""
    if annotations_of(holder).get(REVISION_HISTORY):
        return True
    created = str(metadata_of(holder).get("creationTimestamp", ""))
    return any(
        h is not holder and str(metadata_of(h).get("creationTimestamp", "")) > created
        for h in holders
    )


@dataclass(frozen=True)
class Bounds:
    """What the strategy allows during a rollout, in pods."""

    most: int
    """Most pods at once."""
    fewest: int
    """Fewest available pods."""


def desired_of(workload: Json, kind: WorkloadKind) -> int:
    """Pods asked for: spec.replicas (1 by default), for a DaemonSet one per matching node."""
    if kind is WorkloadKind.DAEMON_SET:
        return int((workload.get("status") or {}).get("desiredNumberScheduled", 0))
    replicas = (workload.get("spec") or {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def bounds_of(workload: Json, kind: WorkloadKind) -> Bounds:
    """Most pods and fewest available ones that the update strategy allows.

    Deployments round a surge up and an unavailable share down, and never let both be zero;
    StatefulSets and DaemonSets round up (kubernetes.md 7).
    """
    n = desired_of(workload, kind)
    spec = workload.get("spec") or {}
    if kind is WorkloadKind.DEPLOYMENT:
        strategy = spec.get("strategy") or {}
        if strategy.get("type") == "Recreate":
            return Bounds(n, 0)
        rule = strategy.get("rollingUpdate") or {}
        surge = scaled(rule.get("maxSurge", "25%"), n, up=True)
        out = scaled(rule.get("maxUnavailable", "25%"), n, up=False)
        if not surge and not out:
            out = 1
        return Bounds(n + surge, max(0, n - out))
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return Bounds(n, n)
    rule = strategy.get("rollingUpdate") or {}
    surge = scaled(rule.get("maxSurge", 0), n, up=True)
    out = scaled(rule.get("maxUnavailable", 0 if surge else 1), n, up=True)
    return Bounds(n + surge, max(0, n - out))


def scaled(value: Any, n: int, *, up: bool) -> int:
    """An int-or-percentage of n, rounded up or down."""
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdecimal():
        part = int(value[:-1]) * n
        return -(-part // 100) if up else part // 100
    return int(value) if isinstance(value, int) or str(value).isdecimal() else 0


def is_paused(workload: Json) -> bool:
    """Whether a Deployment's rollout is paused: a patch would be accepted and start nothing."""
    return bool((workload.get("spec") or {}).get("paused"))


def managed_by(workload: Json, kind: WorkloadKind, autoscalers: Iterable[Json] = ()) -> str | None:
    """Who else decides about this workload: a GitOps tool, Helm, an HPA; None: nobody known.

    Args:
        workload: The workload.
        kind: Its kind; items of a list do not carry it.
        autoscalers: HorizontalPodAutoscalers of its namespace.
    """
    found = []
    marks = {**annotations_of(workload), **labels_of(workload)}
    for tool, mark in _GITOPS:
        if mark in marks:
            found.append(f"{tool} ({_short(marks[mark])})")
            break
    else:
        if manager := marks.get("app.kubernetes.io/managed-by"):
            found.append(_short(manager))
    name = metadata_of(workload).get("name")
    for scaler in autoscalers:
        target = (scaler.get("spec") or {}).get("scaleTargetRef") or {}
        if target.get("name") == name and target.get("kind") == kind:
            found.append(f"HorizontalPodAutoscaler {metadata_of(scaler).get('name')} (replicas)")
    return "; ".join(found) or None


def _short(text: str) -> str:
    return "".join(c for c in str(text) if c.isprintable())[:80]
