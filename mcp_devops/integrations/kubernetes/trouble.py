"""What failing pods mean for users, seen through the rollout. Pure (kubernetes.md 7).

A crash loop behind a surge pod hurts nobody; the same crash without old replicas is an outage; the
same crash on both revisions is not the deployment's doing. Conditions flap while pods become ready
between two crashes, so the class is judged by restarts, revisions and what is available.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mcp_devops.integrations.kubernetes.podstate import (
    PodPhase,
    PodState,
    condition,
    exit_meaning,
    judge_pod,
    words,
)
from mcp_devops.integrations.kubernetes.revisions import (
    POD_TEMPLATE_HASH,
    Bounds,
    Json,
    bounds_of,
    desired_of,
    holder_of_pod,
    labels_of,
    live_holder,
    metadata_of,
    moment,
    number_of,
    template_of,
)
from mcp_devops.model.evidence import PodCause, RevisionPods, RolloutClass, RolloutHealth
from mcp_devops.model.target import WorkloadKind
from mcp_devops.text.people import plural
from mcp_devops.text.severity import normalised

SAME_CRASH_S = 900.0
"""An old pod's crash within these seconds is compared with the new ones': 15 minutes, the age up
to which a deployment is blamed (A4)."""

_IN_MESSAGE = re.compile(r'ReplicaSet "([a-z0-9.-]+)"')

CAUSE_ORDER = (
    PodCause.OOM_KILLED, PodCause.CONFIG_MISSING, PodCause.CANNOT_START, PodCause.IMAGE_PULL,
    PodCause.INIT_CONTAINER, PodCause.CRASH_LOOP, PodCause.EXITS_BY_ITSELF, PodCause.QUOTA,
    PodCause.UNSCHEDULABLE, PodCause.PROBE,
)  # fmt: skip
"""Most telling first: what a person would name as the trouble of several pods."""

CRASHES = frozenset(
    [PodCause.CRASH_LOOP, PodCause.OOM_KILLED, PodCause.EXITS_BY_ITSELF, PodCause.INIT_CONTAINER]
)
"""Causes that count only when they repeat: a start that waits for its database crashes once."""

CAUSE_WORDS = {
    PodCause.NONE: "",
    PodCause.CRASH_LOOP: "crash loop",
    PodCause.OOM_KILLED: "killed for memory (OOMKilled)",
    PodCause.IMAGE_PULL: "image cannot be pulled",
    PodCause.CONFIG_MISSING: "ConfigMap, Secret or key missing",
    PodCause.CANNOT_START: "container cannot start",
    PodCause.UNSCHEDULABLE: "no node fits",
    PodCause.QUOTA: "refused by quota or admission",
    PodCause.INIT_CONTAINER: "init container fails",
    PodCause.PROBE: "probes fail",
    PodCause.EXITS_BY_ITSELF: "ends by itself with exit 0",
}


@dataclass(frozen=True)
class Scene:
    """A workload with all that was read about it, at one moment."""

    kind: WorkloadKind
    workload: Json
    holders: Sequence[Json] | None
    """ReplicaSets or ControllerRevisions; None: not permitted to read."""
    pods: Sequence[Json]
    at: datetime
    events: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    """Events by the uid of their object, oldest first."""


@dataclass(frozen=True)
class Judgement:
    """The rollout's health, and each pod's state with its revision."""

    health: RolloutHealth
    pods: tuple[tuple[PodState, int], ...]
    """Worst first, with the revision number (0: not known)."""


def judge(
    scene: Scene, *, deadline_seen: bool = False, log_lines: Mapping[str, str] | None = None
) -> Judgement:
    """Classify a workload's trouble.

    Args:
        scene: What was read.
        deadline_seen: Whether the progress deadline was seen to pass before: the condition flaps.
        log_lines: Most telling log line by pod name, where logs were read; two different lines
            mean two different crashes.
    """
    states = [(judge_pod(p, scene.at, scene.events.get(_uid(p), ())), p) for p in scene.pods]
    numbers = _numbers(scene)
    new, old = _split(scene, states)
    kinds = {s.name: numbers.get(s.name, 0) for s, _ in states}
    deadline = deadline_seen or _deadline_exceeded(scene)
    sight = _Sight(scene, new, old, log_lines or {}, deadline)
    found, immediate = _classify(sight)
    cause = sight.cause
    live = live_holder(scene.workload, scene.holders or ())
    lines = log_lines or {}
    new_record = _record(new, number_of(live) if live else 0, sight.refused, lines)
    old_numbers = [kinds[s.name] for s in old]
    health = RolloutHealth(
        at=scene.at,
        desired=sight.desired,
        available=sight.available,
        fewest_available=sight.bounds.fewest,
        new=new_record,
        old=_record(old, max(old_numbers, default=0), False, lines) if old else None,
        rollout_class=found,
        cause=cause,
        immediate=immediate,
        deadline_exceeded=deadline,
        summary=_summary(sight, found, new_record),
    )
    order = {p: i for i, p in enumerate(PodPhase)}
    ranked = sorted(states, key=lambda s: (order[s[0].phase], -s[0].restarts, s[0].name))
    return Judgement(health, tuple((s, kinds[s.name]) for s, _ in ranked))


class _Sight:
    """The numbers that the rules compare."""

    def __init__(
        self,
        scene: Scene,
        new: Sequence[PodState],
        old: Sequence[PodState],
        log_lines: Mapping[str, str],
        deadline: bool,
    ) -> None:
        self.scene, self.new, self.old, self.log_lines = scene, new, old, log_lines
        self.deadline = deadline
        self.desired = desired_of(scene.workload, scene.kind)
        self.bounds: Bounds = bounds_of(scene.workload, scene.kind)
        self.available = available_of(scene.workload, scene.kind)
        self.new_failing = [s for s in new if s.failing]
        self.old_failing = [s for s in old if s.failing]
        self.old_ready = sum(s.phase is PodPhase.READY for s in old)
        self.refused = _refused(scene)
        self.refusal = words(condition(scene.workload, "ReplicaFailure").get("message"))

    @property
    def failing(self) -> list[PodState]:
        return self.new_failing + self.old_failing

    @property
    def looping(self) -> bool:
        """Whether it is more than a first crash: one restart may be churn, two are a loop."""
        return self.refused or any(s.restarts >= 2 or s.cause not in CRASHES for s in self.failing)

    @property
    def cause(self) -> PodCause:
        causes = {s.cause for s in self.new_failing or self.old_failing}
        if self.refused and not self.new_failing:
            return PodCause.QUOTA
        return next((c for c in CAUSE_ORDER if c in causes), PodCause.NONE)


def _classify(sight: _Sight) -> tuple[RolloutClass, bool]:
    """The first row of the table that fits, and whether users are being hurt now."""
    below = sight.available < sight.bounds.fewest or sight.available == 0
    if sight.desired == 0:
        return RolloutClass.HEALTHY, False
    if not sight.failing and not sight.refused:
        return _calm(sight), False
    if _same_crash(sight):
        return RolloutClass.SAME_CRASH_ON_BOTH, below and sight.looping
    if _one_node(sight):
        return RolloutClass.NODE, False
    if sight.available == 0:
        return RolloutClass.FULL_OUTAGE, sight.looping
    if below or condition(sight.scene.workload, "Available").get("status") == "False":
        return RolloutClass.PARTIAL_OUTAGE, sight.looping
    if sight.new_failing and len(sight.old) < sight.bounds.fewest:
        # Old pods go only when new ones counted as available: these turned ready, then crashed.
        if 2 * len(sight.new_failing) >= len(sight.new):
            return RolloutClass.CREEPING_OUTAGE, True
        return RolloutClass.PARTIAL_OUTAGE, False
    if not sight.new_failing and not sight.refused:
        return RolloutClass.PROGRESSING, False
    if sight.deadline or sight.cause in (PodCause.QUOTA, PodCause.UNSCHEDULABLE):
        return RolloutClass.STALLED_ROLLOUT, False
    if sight.cause is PodCause.PROBE and not any(s.restarts for s in sight.new_failing):
        return RolloutClass.NEVER_READY, False
    return RolloutClass.SURGE_ONLY_CRASH, False


def _calm(sight: _Sight) -> RolloutClass:
    """No pod fails: done, on its way, or settling after restarts."""
    workload = sight.scene.workload
    status = workload.get("status") or {}
    observed = status.get("observedGeneration", 0) >= metadata_of(workload).get("generation", 0)
    phases = {s.phase for s in (*sight.new, *sight.old)}
    if PodPhase.SETTLING in phases:
        return RolloutClass.START_UP_CHURN
    done = (
        observed
        and not sight.old
        and sight.available >= sight.desired
        and updated_of(workload, sight.scene.kind) >= sight.desired
    )
    if done:
        churn = any(s.restarts and _recent(s, sight.scene.at) for s in sight.new)
        return RolloutClass.START_UP_CHURN if churn else RolloutClass.HEALTHY
    if sight.deadline:
        return RolloutClass.STALLED_ROLLOUT
    return RolloutClass.PROGRESSING


def _recent(state: PodState, now: datetime) -> bool:
    return any(
        t.finished_at and (now - t.finished_at).total_seconds() < SAME_CRASH_S
        for t in state.terminations
    )


def _same_crash(sight: _Sight) -> bool:
    """Whether old pods fail like the new ones: same cause, exit code, and log line if known."""
    if not sight.new_failing or not sight.old:
        return False
    fresh = {(c, k) for s in sight.new_failing for c, k in _signatures(s, sight)}
    for old in sight.old:
        if not old.failing and not _recent(old, sight.scene.at):
            continue
        for signature, line in _signatures(old, sight):
            if any(
                signature == other and (not line or not other_line or line == other_line)
                for other, other_line in fresh
            ):
                return True
    return False


def _signatures(state: PodState, sight: _Sight) -> list[tuple[tuple[str, ...], str]]:
    line = normalised(sight.log_lines.get(state.name, ""))
    if state.terminations:
        return [((t.container, t.reason, str(t.exit_code)), line) for t in state.terminations]
    if state.failing and state.cause in (PodCause.PROBE, PodCause.IMAGE_PULL):
        return [((state.container, state.cause.value), line)]
    return []


def _one_node(sight: _Sight) -> bool:
    """Whether only one node's pods fail, all of them, and the same revision serves elsewhere."""
    nodes = {s.node for s in sight.failing}
    if len(nodes) != 1 or "" in nodes or sight.refused:
        return False
    node = nodes.pop()
    same = sight.new if sight.new_failing else sight.old
    here = [s for s in (*sight.new, *sight.old) if s.node == node]
    elsewhere = [s for s in same if s.node != node and s.phase is PodPhase.READY]
    return all(s.failing for s in here) and len(elsewhere) >= 2


def available_of(workload: Json, kind: WorkloadKind) -> int:
    """Pods that count as available; old StatefulSet APIs know only ready ones."""
    status = workload.get("status") or {}
    if kind is WorkloadKind.DAEMON_SET:
        return int(status.get("numberAvailable") or 0)
    if kind is WorkloadKind.STATEFUL_SET and "availableReplicas" not in status:
        return int(status.get("readyReplicas") or 0)
    return int(status.get("availableReplicas") or 0)


def updated_of(workload: Json, kind: WorkloadKind) -> int:
    """Pods of the newest template."""
    status = workload.get("status") or {}
    key = "updatedNumberScheduled" if kind is WorkloadKind.DAEMON_SET else "updatedReplicas"
    if kind is WorkloadKind.STATEFUL_SET and (
        status.get("updateRevision") == status.get("currentRevision")
    ):
        return int(status.get("replicas") or 0)
    return int(status.get(key) or 0)


def _deadline_exceeded(scene: Scene) -> bool:
    progress = condition(scene.workload, "Progressing")
    return progress.get("reason") == "ProgressDeadlineExceeded"


def _refused(scene: Scene) -> bool:
    return condition(scene.workload, "ReplicaFailure").get("status") == "True"


def _uid(pod: Json) -> str:
    return str(metadata_of(pod).get("uid", ""))


def _numbers(scene: Scene) -> dict[str, int]:
    holders = scene.holders or ()
    found = {}
    for pod in scene.pods:
        holder = holder_of_pod(pod, scene.kind, holders)
        if holder is not None:
            found[str(metadata_of(pod).get("name", ""))] = number_of(holder)
    return found


def _split(
    scene: Scene, states: Sequence[tuple[PodState, Json]]
) -> tuple[list[PodState], list[PodState]]:
    """Pods of the live template and all others; pods that do not count are left out."""
    new: list[PodState] = []
    old: list[PodState] = []
    live = template_of(scene.workload)
    status = scene.workload.get("status") or {}
    current = live_holder(scene.workload, scene.holders) if scene.holders else None
    hash_in_message = _hash_in_message(scene)
    for state, pod in states:
        if not state.counts:
            continue
        if scene.holders:
            holder = holder_of_pod(pod, scene.kind, scene.holders)
            is_new = holder is not None and (holder is current or template_of(holder) == live)
        elif scene.kind is WorkloadKind.STATEFUL_SET and status.get("updateRevision"):
            is_new = labels_of(pod).get("controller-revision-hash") == status["updateRevision"]
        else:
            # Without the right to read ReplicaSets the condition still names the newest one.
            own = labels_of(pod).get(POD_TEMPLATE_HASH)
            is_new = hash_in_message is None or own is None or own == hash_in_message
        (new if is_new else old).append(state)
    return new, old


def _hash_in_message(scene: Scene) -> str | None:
    found = _IN_MESSAGE.search(str(condition(scene.workload, "Progressing").get("message", "")))
    return found[1].rpartition("-")[2] if found else None


def _record(
    states: Sequence[PodState], revision: int, refused: bool, log_lines: Mapping[str, str]
) -> RevisionPods:
    failing = [s for s in states if s.failing]
    causes = {s.cause for s in failing}
    cause = next((c for c in CAUSE_ORDER if c in causes), PodCause.NONE)
    return RevisionPods(
        revision=revision,
        pods=len(states),
        ready=sum(s.phase in (PodPhase.READY, PodPhase.SETTLING) for s in states)
        + sum(s.failing and s.ready_since is not None for s in states),
        failing=len(failing),
        restarts=sum(s.restarts for s in states),
        cause=PodCause.QUOTA if refused and not failing else cause,
        exit_codes=tuple(sorted({c for s in failing for c in s.exit_codes})),
        log_line=next((log_lines[s.name] for s in failing if s.name in log_lines), None),
    )


def _summary(sight: _Sight, found: RolloutClass, new: RevisionPods) -> str:
    serves = f"{sight.available} of {sight.desired} pods are available"
    ails = _ails(sight, new)
    if sight.desired == 0:
        return "Scaled to zero: no pod is asked for, none serves."
    old = f", {plural(sight.old_ready, 'pod')} of the old revision among them" if sight.old else ""
    if found is RolloutClass.HEALTHY:
        return f"Healthy: {serves}, all of the newest revision."
    if found is RolloutClass.PROGRESSING:
        return f"The rollout goes on: {serves}{old}; no pod fails."
    if found is RolloutClass.START_UP_CHURN:
        return f"Restarted at the start and ready since: {serves}{old}."
    if found is RolloutClass.FULL_OUTAGE:
        return f"Full outage: no pod serves; {ails}."
    if found is RolloutClass.PARTIAL_OUTAGE:
        return f"Partial outage: {serves}{old}, at least {sight.bounds.fewest} promised; {ails}."
    if found is RolloutClass.CREEPING_OUTAGE:
        return (
            f"Creeping outage: new pods turn ready, then fail, and old ones are removed; {serves}"
            f"{old}; {ails}."
        )
    if found is RolloutClass.SAME_CRASH_ON_BOTH:
        return f"Old and new pods fail the same way, so not this deployment; {serves}; {ails}."
    if found is RolloutClass.NODE:
        return f"Only pods on node {sight.failing[0].node} fail; {serves}; {ails}."
    if found is RolloutClass.STALLED_ROLLOUT:
        late = "its progress deadline passed" if sight.deadline else "it cannot go on"
        return f"The rollout is stalled ({late}); {serves}{old}; {ails or 'nothing crashes'}."
    if found is RolloutClass.NEVER_READY:
        return f"New pods run and never turn ready; {serves}{old}; {ails}."
    return f"Only extra pods of the new revision fail; {serves}{old}; {ails}."


def _ails(sight: _Sight, new: RevisionPods) -> str:
    if sight.refused and not sight.new_failing:
        return f"new pods {CAUSE_WORDS[PodCause.QUOTA]}: {sight.refusal}".rstrip(": ")
    states = sight.new_failing or sight.old_failing
    if not states:
        return ""
    whose = f" of revision {new.revision}" if new.revision and sight.new_failing else ""
    codes = sorted({c for s in states for c in s.exit_codes})
    told = ", ".join(
        f"exit {c}" + (f" {exit_meaning(c)}" if exit_meaning(c) else "") for c in codes
    )
    restarts = sum(s.restarts for s in states)
    notes = [n for n in (told, plural(restarts, "restart") if restarts else "") if n]
    return f"{plural(len(states), 'pod')}{whose} failing: {CAUSE_WORDS[sight.cause]}" + (
        f" ({'; '.join(notes)})" if notes else ""
    )


def started_at(scene: Scene) -> datetime | None:
    """When the live revision began to roll out.

    A revision that was brought back keeps the creation time of its first life. Then the first
    scale-up after its last scale-down tells, else the oldest of its pods.
    """
    from mcp_devops.integrations.kubernetes.revisions import was_brought_back

    live = live_holder(scene.workload, scene.holders or ())
    if live is None:
        return None
    created = moment(metadata_of(live).get("creationTimestamp"))
    if not was_brought_back(live, scene.holders or ()):
        return created
    name = f"{metadata_of(live).get('name')} to "
    up: list[datetime] = []
    down: list[datetime] = []
    for event in scene.events.get(_uid(scene.workload), ()):
        text = str(event.get("message", ""))
        at = moment(event.get("lastTimestamp")) or moment(event.get("eventTime"))
        if event.get("reason") == "ScalingReplicaSet" and name in text and at:
            (up if "caled up" in text else down).append(at)
    last_down = max(down, default=None)
    starts = [at for at in up if last_down is None or at >= last_down]
    pods = [
        made
        for p in scene.pods
        if holder_of_pod(p, scene.kind, [live]) is not None
        and (made := moment(metadata_of(p).get("creationTimestamp")))
    ]
    return min(starts, default=None) or min(pods, default=None) or created
