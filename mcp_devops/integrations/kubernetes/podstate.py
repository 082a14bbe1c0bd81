"""What one pod is doing and what ails it, from its status and its events. Pure.

Restarts and terminations are read, not the word CrashLoopBackOff: for about ten seconds after an
exit the state is `terminated`, and the word first shows at the second restart (kubernetes.md 7).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mcp_devops.integrations.kubernetes.revisions import Json, is_ready, metadata_of, moment
from mcp_devops.model.evidence import PodCause
from mcp_devops.text.clean import clean
from mcp_devops.text.people import duration

IMAGE_REASONS = frozenset(
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
     "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"]
)  # fmt: skip
"""Waiting reasons that mean: the image is not there."""
CONFIG_REASONS = frozenset(["CreateContainerConfigError"])
"""Waiting reasons that mean: a ConfigMap, Secret or key is not there."""
START_REASONS = frozenset(
    ["CreateContainerError", "RunContainerError", "ContainerCannotRun", "StartError",
     "PostStartHookError", "PreCreateHookError", "CreatePodSandboxError"]
)  # fmt: skip
"""Waiting or terminated reasons that mean: the runtime could not start the process."""
SETTLED_S = 60.0
"""Seconds a restarted pod has to stay ready before its restarts are churn (kubernetes.md 7.8)."""
FORGOTTEN_S = 600.0
"""Seconds after which an ended crash no longer counts: the kubelet resets its back-off then."""
STUCK_S = 120.0
"""Seconds a container may take to be created; image pulls of gigabytes stay below it (seed)."""
_LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
MESSAGE_LIMIT = 240
"""Characters of the kubelet's words that are kept."""


class PodPhase(StrEnum):
    """What a pod is doing, in the order in which a person wants to see them."""

    FAILING = "failing"
    SETTLING = "settling"
    """Ready again after one restart, for less than a minute."""
    STARTING = "starting"
    READY = "ready"
    TERMINATING = "terminating"
    """Being deleted: its exit says nothing."""
    ENDED = "ended"
    """Succeeded, evicted or failed for good; its controller has replaced it."""


@dataclass(frozen=True)
class Termination:
    """How a container's run ended."""

    container: str
    exit_code: int
    reason: str
    message: str
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def ran_s(self) -> float | None:
        """Seconds it ran."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class PodState:
    """One pod, judged."""

    name: str
    uid: str
    node: str
    phase: PodPhase
    cause: PodCause
    why: str
    """One sentence; empty where nothing ails it."""
    container: str
    """The container that ails; empty where none does."""
    restarts: int
    terminations: tuple[Termination, ...]
    """The last one of each container that had one."""
    ready_since: datetime | None
    created_at: datetime | None

    @property
    def failing(self) -> bool:
        """Whether it counts as a trouble."""
        return self.phase is PodPhase.FAILING

    @property
    def counts(self) -> bool:
        """Whether its controller counts it."""
        return self.phase not in (PodPhase.TERMINATING, PodPhase.ENDED)

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Distinct exit codes of the last terminations."""
        return tuple(sorted({t.exit_code for t in self.terminations}))


def exit_meaning(code: int) -> str:
    """What an exit code says: the signal above 128, the shell's two, or nothing."""
    if code in (126, 127):
        return "not executable" if code == 126 else "command not found"
    if 128 < code < 165:
        try:
            return signal.Signals(code - 128).name
        except ValueError:
            return ""
    return ""


def exit_words(termination: Termination) -> str:
    """An end in words: `exit 137 (SIGKILL, OOMKilled) after 12 s`."""
    notes = [exit_meaning(termination.exit_code)]
    if termination.reason not in ("Error", "Completed", ""):
        notes.append(termination.reason)
    told = ", ".join(n for n in notes if n)
    ran = termination.ran_s
    return (
        f"exit {termination.exit_code}"
        + (f" ({told})" if told else "")
        + (f" after {duration(ran)}" if ran is not None and ran >= 0 else "")
    )


def judge_pod(pod: Json, now: datetime, events: Sequence[Json] = ()) -> PodState:
    """Say what a pod is doing and what ails it.

    Args:
        pod: As the API gave it.
        now: The moment to judge at.
        events: Events of this pod, if they could be read: they tell a probe's kill from a crash.
    """
    status = pod.get("status") or {}
    statuses = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    ready = condition(pod, "Ready")
    ready_now = is_ready(pod)
    since = moment(ready.get("lastTransitionTime"))
    terminations = tuple(_terminations(statuses))
    restarts = sum(int(c.get("restartCount") or 0) for c in statuses)
    phase, cause, why, container = _judge(pod, now, events, terminations, restarts)
    return PodState(
        name=str(metadata_of(pod).get("name", "")),
        uid=str(metadata_of(pod).get("uid", "")),
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        phase=phase,
        cause=cause,
        why=why,
        container=container,
        restarts=restarts,
        terminations=terminations,
        ready_since=since if ready_now else None,
        created_at=moment(metadata_of(pod).get("creationTimestamp")),
    )


Finding = tuple[PodPhase, PodCause, str, str]


def _judge(
    pod: Json,
    now: datetime,
    events: Sequence[Json],
    terminations: Sequence[Termination],
    restarts: int,
) -> Finding:
    status = pod.get("status") or {}
    if metadata_of(pod).get("deletionTimestamp"):
        return PodPhase.TERMINATING, PodCause.NONE, "", ""
    if status.get("phase") in ("Succeeded", "Failed"):
        reason = status.get("reason") or status.get("phase")
        return PodPhase.ENDED, PodCause.NONE, f"{reason}: {words(status.get('message'))}", ""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return PodPhase.FAILING, PodCause.UNSCHEDULABLE, words(scheduled.get("message")), ""
    for init, entry in _container_statuses(status):
        if found := _waiting(entry, init):
            return found
    crash = _crash(pod, now, events, terminations, restarts)
    if crash:
        return crash
    if is_ready(pod):
        if restarts and (age(condition(pod, "Ready"), now) or 0) < SETTLED_S:
            recent = [t for t in terminations if _seconds_since(t.finished_at, now) < SETTLED_S]
            if recent:
                return PodPhase.SETTLING, PodCause.NONE, "ready again after a restart", ""
        return PodPhase.READY, PodCause.NONE, "", ""
    return _not_ready(pod, now, events)


def _container_statuses(status: Json) -> Iterable[tuple[bool, Json]]:
    for key, init in (("initContainerStatuses", True), ("containerStatuses", False)):
        for entry in status.get(key) or ():
            yield init, entry


def _waiting(entry: Json, init: bool) -> Finding | None:
    name = str(entry.get("name", ""))
    waiting = (entry.get("state") or {}).get("waiting") or {}
    reason = str(waiting.get("reason", ""))
    told = words(waiting.get("message"))
    if reason in IMAGE_REASONS:
        image = str(entry.get("image", ""))[:200]
        return PodPhase.FAILING, PodCause.IMAGE_PULL, f"{reason} {image}: {told}", name
    if reason in CONFIG_REASONS:
        return PodPhase.FAILING, PodCause.CONFIG_MISSING, told, name
    if reason in START_REASONS:
        cause = PodCause.INIT_CONTAINER if init else PodCause.CANNOT_START
        return PodPhase.FAILING, cause, f"{reason}: {told}", name
    return None


def _crash(
    pod: Json,
    now: datetime,
    events: Sequence[Json],
    terminations: Sequence[Termination],
    restarts: int,
) -> Finding | None:
    status = pod.get("status") or {}
    for init, entry in _container_statuses(status):
        name = str(entry.get("name", ""))
        end = next((t for t in terminations if t.container == name), None)
        state = entry.get("state") or {}
        back_off = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        if end is None or (init and end.exit_code == 0 and not back_off):
            continue
        ended_now = "terminated" in state
        if not ended_now and not back_off and _is_over(pod, entry, end, now):
            continue
        why = f"{exit_words(end)}, {int(entry.get('restartCount') or 0)} restarts"
        if end.message:
            why += f"; said: {words(end.message)}"
        return PodPhase.FAILING, _crash_cause(init, end, events), why, name
    return None


def _is_over(pod: Json, entry: Json, end: Termination, now: datetime) -> bool:
    """Whether a crashed container has come back: row 8 of the table, or long ago."""
    if _seconds_since(end.finished_at, now) > FORGOTTEN_S:
        return True
    if not is_ready(pod):
        return False
    stayed = age(condition(pod, "Ready"), now) or 0.0
    return stayed >= SETTLED_S or int(entry.get("restartCount") or 0) <= 1


def _crash_cause(init: bool, end: Termination, events: Sequence[Json]) -> PodCause:
    if init:
        return PodCause.INIT_CONTAINER
    if end.reason == "OOMKilled":
        return PodCause.OOM_KILLED
    if end.reason in START_REASONS or end.exit_code in (126, 127):
        return PodCause.CANNOT_START
    if end.exit_code in (137, 143) and any(
        (e.get("reason") == "Killing" and "probe" in str(e.get("message", "")))
        or (e.get("reason") == "Unhealthy" and "iveness probe" in str(e.get("message", "")))
        for e in events
    ):
        return PodCause.PROBE
    return PodCause.EXITS_BY_ITSELF if end.exit_code == 0 else PodCause.CRASH_LOOP


def _not_ready(pod: Json, now: datetime, events: Sequence[Json]) -> Finding:
    status = pod.get("status") or {}
    started = moment(status.get("startTime")) or moment(metadata_of(pod).get("creationTimestamp"))
    lived = _seconds_since(started, now) if started else 0.0
    running = [
        e for e in status.get("containerStatuses") or () if "running" in (e.get("state") or {})
    ]
    waiting = [e for e in status.get("containerStatuses") or () if e not in running]
    if waiting or not running:
        mounts = [e for e in events if e.get("reason") in ("FailedMount", "FailedAttachVolume")]
        if mounts:
            told = words(mounts[-1].get("message"))
            missing = "not found" in told
            cause = PodCause.CONFIG_MISSING if missing else PodCause.CANNOT_START
            return PodPhase.FAILING, cause, told, ""
        if lived > STUCK_S and not _init_runs(status):
            return (
                PodPhase.FAILING, PodCause.CANNOT_START,
                f"no container created for {duration(lived)}", "",
            )  # fmt: skip
        return PodPhase.STARTING, PodCause.NONE, "", ""
    unready = next((e for e in running if not e.get("ready")), running[0])
    name = str(unready.get("name", ""))
    since = moment((unready["state"]["running"] or {}).get("startedAt"))
    ran = _seconds_since(since, now) if since else lived
    patience = _patience(pod, name)
    if ran <= patience:
        return PodPhase.STARTING, PodCause.NONE, "", ""
    told = next(
        (words(e.get("message")) for e in reversed(events) if e.get("reason") == "Unhealthy"), ""
    )
    if not told and all(e.get("ready") for e in running):
        told = words(condition(pod, "Ready").get("message")) or "a readiness gate is not met"
    why = f"runs for {duration(ran)} and is not ready" + (f": {told}" if told else "")
    return PodPhase.FAILING, PodCause.PROBE, why, name


def _init_runs(status: Json) -> bool:
    return any(
        "running" in (e.get("state") or {}) for e in status.get("initContainerStatuses") or ()
    )


def _patience(pod: Json, container: str) -> float:
    """Seconds until a container's probes would have given up: unready before that is starting."""
    for spec in (pod.get("spec") or {}).get("containers") or ():
        if spec.get("name") == container:
            probes = [spec.get("readinessProbe"), spec.get("startupProbe")]
            return 10.0 + sum(_probe_s(p) for p in probes if p)
    return 10.0


def _probe_s(probe: Mapping[str, Any]) -> float:
    tries = int(probe.get("failureThreshold") or 3)
    return float(
        int(probe.get("initialDelaySeconds") or 0) + int(probe.get("periodSeconds") or 10) * tries
    )


def _terminations(statuses: Iterable[Json]) -> Iterable[Termination]:
    for entry in statuses:
        end = (entry.get("state") or {}).get("terminated") or (entry.get("lastState") or {}).get(
            "terminated"
        )
        # Written by the kubelet about a container that it lost sight of: no exit of the program.
        if not end or end.get("reason") == "ContainerStatusUnknown":
            continue
        yield Termination(
            container=str(entry.get("name", "")),
            exit_code=int(end.get("exitCode") or 0),
            reason=str(end.get("reason", "")),
            message=words(end.get("message")),
            started_at=moment(end.get("startedAt")),
            finished_at=moment(end.get("finishedAt")),
        )


def condition(thing: Json, kind: str) -> Json:
    """A condition of a status by its type; empty where it is not there."""
    for entry in (thing.get("status") or {}).get("conditions") or ():
        if entry.get("type") == kind:
            found: Json = entry
            return found
    return {}


def age(of: Json, now: datetime) -> float | None:
    """Seconds since a condition's last transition; None where it does not say."""
    since = moment(of.get("lastTransitionTime"))
    return None if since is None else max(0.0, (now - since).total_seconds())


def _seconds_since(then: datetime | None, now: datetime) -> float:
    return float("inf") if then is None else (now - then).total_seconds()


def words(text: Any) -> str:
    """Foreign text on one line: cleaned, then bounded."""
    flat = _LONG_ID.sub(r"\1", " ".join(clean(str(text or "")).split()))
    return flat if len(flat) <= MESSAGE_LIMIT else flat[: MESSAGE_LIMIT - 1] + "…"
