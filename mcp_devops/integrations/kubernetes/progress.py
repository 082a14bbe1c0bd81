"""How far a rollout is, and since when the live revision is rolling out. Pure.

Status follows `kubectl rollout status` (kubernetes.md 6), read once from the object.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from mcp_devops.integrations.kubernetes.podstate import condition, words
from mcp_devops.integrations.kubernetes.revisions import (
    Json,
    desired_of,
    holder_of_pod,
    is_paused,
    live_holder,
    metadata_of,
    moment,
    was_brought_back,
)
from mcp_devops.integrations.kubernetes.trouble import Scene, available_of, updated_of
from mcp_devops.model.record import Record
from mcp_devops.model.target import WorkloadKind
from mcp_devops.text.people import plural


class RolloutState(StrEnum):
    """Where a rollout stands."""

    DONE = "done"
    PROGRESSING = "progressing"
    FAILED = "failed"
    """Its progress deadline passed. Kubernetes goes on trying, and never rolls back by itself."""
    PAUSED = "paused"
    MANUAL = "manual"
    """Strategy OnDelete: a pod gets the new template only when somebody deletes it."""


class RolloutStatus(Record):
    """How far a rollout is, in pods."""

    state: RolloutState
    """done, progressing, failed, paused or manual."""
    says: str
    """One sentence with the numbers."""
    desired: int = 0
    """Pods asked for."""
    updated: int = 0
    """Pods of the newest template."""
    ready: int = 0
    """Pods that pass their readiness probe."""
    available: int = 0
    """Pods ready for at least minReadySeconds."""
    total: int = 0
    """Pods that exist, old ones included."""
    observed: bool = True
    """Whether the controller has seen the newest spec; if not, the numbers are about an older."""


def rollout_status(workload: Json, kind: WorkloadKind) -> RolloutStatus:
    """Say how far the rollout of a workload is; pure.

    Done does not mean healthy: pods that crash after turning ready still complete a rollout.
    """
    status = workload.get("status") or {}
    desired = desired_of(workload, kind)
    generation = int(metadata_of(workload).get("generation") or 0)
    observed = int(status.get("observedGeneration") or 0) >= generation
    updated, available = updated_of(workload, kind), available_of(workload, kind)
    if kind is WorkloadKind.DAEMON_SET:
        ready, total = status.get("numberReady"), status.get("currentNumberScheduled")
    else:
        ready, total = status.get("readyReplicas"), status.get("replicas")
    counts = RolloutStatus(
        state=RolloutState.PROGRESSING,
        says="The controller has not seen the newest spec yet.",
        desired=desired,
        updated=updated,
        ready=int(ready or 0),
        available=available,
        total=int(total or 0),
        observed=observed,
    )
    if is_paused(workload):
        says = f"Paused: {updated} of {desired} pods have the newest template, nothing moves."
        return counts.model_copy(update={"state": RolloutState.PAUSED, "says": says})
    if not observed:
        return counts
    rule = {
        WorkloadKind.DEPLOYMENT: _deployment,
        WorkloadKind.STATEFUL_SET: _stateful_set,
        WorkloadKind.DAEMON_SET: _daemon_set,
    }[kind]
    state, says = rule(workload, counts)
    return counts.model_copy(update={"state": state, "says": says})


def _deployment(workload: Json, n: RolloutStatus) -> tuple[RolloutState, str]:
    progress = condition(workload, "Progressing")
    if progress.get("reason") == "ProgressDeadlineExceeded":
        limit = (workload.get("spec") or {}).get("progressDeadlineSeconds", 600)
        return RolloutState.FAILED, (
            f"No progress within {limit} s: {n.updated} of {n.desired} pods have the newest"
            f" template, {n.available} are available."
        )
    if refused := condition(workload, "ReplicaFailure").get("message"):
        return RolloutState.PROGRESSING, f"Pods cannot be created: {words(refused)}"
    if n.updated < n.desired:
        return RolloutState.PROGRESSING, (
            f"{n.updated} of {n.desired} pods have the newest template."
        )
    if n.total > n.updated:
        return RolloutState.PROGRESSING, (
            f"{plural(n.total - n.updated, 'old pod')} still to be removed."
        )
    if n.available < n.updated:
        return RolloutState.PROGRESSING, (
            f"{n.available} of {n.updated} pods of the newest template are available."
        )
    if n.desired == 0:
        return RolloutState.DONE, "Scaled to zero: nothing runs."
    return RolloutState.DONE, f"All {plural(n.desired, 'pod')} have the newest template."


def _stateful_set(workload: Json, n: RolloutStatus) -> tuple[RolloutState, str]:
    strategy = (workload.get("spec") or {}).get("updateStrategy") or {}
    status = workload.get("status") or {}
    if strategy.get("type") == "OnDelete":
        return _on_delete(n)
    if n.ready < n.desired:
        return RolloutState.PROGRESSING, (
            f"{n.ready} of {n.desired} pods are ready, {n.updated} have the newest template."
        )
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    if n.updated < n.desired - partition:
        return RolloutState.PROGRESSING, (
            f"{n.updated} of {n.desired - partition} pods have the newest template."
        )
    if partition:
        return RolloutState.DONE, (
            f"Partition {partition}: {plural(n.updated, 'pod')} of {n.desired} have the newest"
            " template, and no more will get it."
        )
    if status.get("updateRevision") != status.get("currentRevision"):
        return RolloutState.PROGRESSING, "The last pods are being checked."
    if n.desired == 0:
        return RolloutState.DONE, "Scaled to zero: nothing runs."
    return RolloutState.DONE, f"All {plural(n.desired, 'pod')} have the newest template."


def _daemon_set(workload: Json, n: RolloutStatus) -> tuple[RolloutState, str]:
    strategy = (workload.get("spec") or {}).get("updateStrategy") or {}
    if n.desired == 0:
        return RolloutState.DONE, "No node matches: nothing runs anywhere."
    if strategy.get("type") == "OnDelete":
        return _on_delete(n)
    if n.updated < n.desired:
        return RolloutState.PROGRESSING, (
            f"{n.updated} of {plural(n.desired, 'node')} have a pod with the newest template."
        )
    if n.available < n.desired:
        return RolloutState.PROGRESSING, f"{n.available} of {n.desired} pods are available."
    return RolloutState.DONE, f"All {plural(n.desired, 'node')} run the newest template."


def _on_delete(n: RolloutStatus) -> tuple[RolloutState, str]:
    if n.updated >= n.desired and n.ready >= n.desired:
        return RolloutState.DONE, f"All {plural(n.desired, 'pod')} have the newest template."
    return RolloutState.MANUAL, (
        f"Strategy OnDelete: {n.updated} of {n.desired} pods have the newest template; the others"
        " get it when somebody deletes them."
    )


def rollout_began(scene: Scene) -> datetime | None:
    """When the live revision began to roll out; None where its holder is not known.

    For a revision that is new this is its holder's creation. One that was brought back keeps the
    creation of its first life; it cannot have come back before the youngest of the others was
    made, so the first sign after that counts: it being scaled up, another being scaled down, one
    of its pods being made. Without any sign, that bound itself.
    """
    holders = scene.holders or ()
    live = live_holder(scene.workload, holders)
    if live is None:
        return None
    created = moment(metadata_of(live).get("creationTimestamp"))
    others = [h for h in holders if h is not live]
    bound = max(
        (t for h in others if (t := moment(metadata_of(h).get("creationTimestamp")))), default=None
    )
    if created is None or bound is None or not was_brought_back(live, others):
        return created
    signs = [
        *_scalings(scene, str(metadata_of(live).get("name", ""))),
        *(
            moment(metadata_of(p).get("creationTimestamp"))
            for p in scene.pods
            if holder_of_pod(p, scene.kind, [live]) is not None
        ),
    ]
    return min((s for s in signs if s and s > bound), default=max(bound, created))


def _scalings(scene: Scene, name: str) -> list[datetime | None]:
    found = []
    uid = str(metadata_of(scene.workload).get("uid", ""))
    for event in scene.events.get(uid, ()):
        text = str(event.get("message", ""))
        if event.get("reason") != "ScalingReplicaSet":
            continue
        # "Scaled up replica set NAME to 3", on newer servers "... NAME from 1 to 3".
        mine = f" {name} " in text
        if mine == ("caled up" in text):
            found.append(moment(event.get("lastTimestamp")) or moment(event.get("eventTime")))
    return found
