"""What was seen: facts with their time, window and query, and what could not be seen."""

from __future__ import annotations

from enum import StrEnum

from mcp_devops.model.change import Change
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.surroundings import (
    Drift,
    ImageDifference,
    ImageRisk,
    OutboundCalls,
    ReleaseIssues,
)
from mcp_devops.model.target import Workload
from mcp_devops.model.window import Windows


class Arm(StrEnum):
    """Whose requests a series counts."""

    BASELINE = "baseline"
    """The whole service before the deployment."""
    AFTER = "after"
    """The whole service after it."""
    CONTROL = "control"
    """The old revision, in the same minutes as the new one."""
    NEW = "new"
    """The new revision only."""


class Bucket(Record):
    """One step of a series. A value that the source did not have is null, never zero."""

    start: Moment
    """When the bucket begins."""
    requests: float | None = None
    """Requests in the bucket."""
    errors: float | None = None
    """Failed requests among them."""
    p99_ms: float | None = None
    """99th percentile of the request duration in milliseconds."""
    mean_ms: float | None = None
    """Average request duration in milliseconds: steadier than a percentile, where it can be had."""
    slow: float | None = None
    """Requests slower than the series' slow_threshold_ms."""


class RequestSeries(Record):
    """Requests, errors and latency of one service and arm, in buckets."""

    source: str
    """The system that answered: prometheus, datadog, ..."""
    service: str
    """Whose requests."""
    arm: Arm
    """Which revision and period."""
    step_s: float
    """Bucket length in seconds."""
    buckets: tuple[Bucket, ...]
    """Oldest first, whole buckets only."""
    slow_threshold_ms: float | None = None
    """Histogram edge at or above the baseline's p99: what `slow` counts above."""
    queries: tuple[str, ...] = ()
    """The exact queries, so that a person can run them again."""
    note: str | None = None
    """A limit of the data, such as a p99 clamped at the last bucket edge."""
    windows: Windows | None = None
    """The source's own windows; null: those of the whole context."""


class RolloutClass(StrEnum):
    """What a trouble means for users, seen through the rollout (kubernetes.md 7)."""

    HEALTHY = "healthy"
    PROGRESSING = "progressing"
    START_UP_CHURN = "start_up_churn"
    SURGE_ONLY_CRASH = "surge_only_crash"
    """Only surge pods of the new revision fail; every promised pod still serves."""
    STALLED_ROLLOUT = "stalled_rollout"
    """The progress deadline passed; the old revision still serves."""
    NEVER_READY = "never_ready"
    """New pods run without restarts and never turn ready; the old revision serves."""
    CREEPING_OUTAGE = "creeping_outage"
    """New pods turn ready, then crash, and the old ones are being removed."""
    PARTIAL_OUTAGE = "partial_outage"
    """Fewer pods serve than the strategy promises."""
    FULL_OUTAGE = "full_outage"
    """Nothing serves."""
    SAME_CRASH_ON_BOTH = "same_crash_on_both_revisions"
    """Old pods fail the same way: not this deployment."""
    NODE = "node_trouble"
    """Only pods on one node fail."""
    UNKNOWN = "unknown"


class PodCause(StrEnum):
    """Why pods fail, from their states."""

    NONE = "none"
    CRASH_LOOP = "crash_loop"
    OOM_KILLED = "oom_killed"
    IMAGE_PULL = "image_cannot_be_pulled"
    CONFIG_MISSING = "config_missing"
    CANNOT_START = "container_cannot_start"
    UNSCHEDULABLE = "unschedulable"
    QUOTA = "quota_or_admission"
    INIT_CONTAINER = "init_container_fails"
    PROBE = "probe_fails"
    EXITS_BY_ITSELF = "exits_by_itself"


class RevisionPods(Record):
    """The pods of one revision, counted."""

    revision: int
    """Revision number; 0 where it is not known."""
    pods: int
    """Pods that exist and are not being deleted."""
    ready: int
    """Pods that pass their readiness probe."""
    failing: int
    """Pods with a trouble."""
    restarts: int
    """Container restarts of those pods, added up."""
    cause: PodCause = PodCause.NONE
    """The most telling trouble among them."""
    exit_codes: tuple[int, ...] = ()
    """Distinct exit codes of the last terminations."""
    log_line: str | None = None
    """The most telling line of the last failing container's log: data without weight."""


class RolloutHealth(Record):
    """Pods of the old and the new revision, and what that means for users."""

    at: Moment
    """When it was read."""
    desired: int
    """Pods asked for."""
    available: int
    """Pods that count as available."""
    fewest_available: int
    """Fewest available pods that the strategy allows during a rollout."""
    new: RevisionPods
    """The judged revision."""
    old: RevisionPods | None
    """All other revisions together; null: no old pod is left."""
    rollout_class: RolloutClass
    """What it means for users."""
    cause: PodCause
    """Why the pods fail."""
    immediate: bool
    """Whether users are being hurt now, so that sixty seconds of metrics need not be awaited."""
    deadline_exceeded: bool = False
    """Whether the rollout's progress deadline has passed at least once."""
    summary: str
    """One sentence for a person, with what still serves."""


class ScalingEvent(Record):
    """A change of capacity: an HPA step, a replica change, a node that came or went."""

    at: Moment
    """When."""
    what: str
    """What changed, from the event, redacted."""
    source: str
    """The component that reported it."""


class Neighbour(Record):
    """Another service in the same minutes: several sick at once is not one deployment's doing."""

    service: str
    """Its name."""
    deployed_recently: bool
    """Whether it rolled out itself within the judged period."""
    baseline_error_rate: float | None
    """Share of failed requests in the baseline."""
    after_error_rate: float | None
    """Share of failed requests in the after window."""
    requests: float | None = None
    """Requests in the after window."""
    sick: bool
    """Whether its error rate rose past the policy's floor, or its pods fail."""


class Missing(Record):
    """A fact that was asked for and not had. Never reads as healthy."""

    source: str
    """The system."""
    what: str
    """The fact."""
    why: str
    """Why it is missing, with the error's code."""
    needed: bool = False
    """Whether no automatic action may be taken without it."""


class DiagnosticContext(Record):
    """Everything that was collected about one deployment, with its times and its gaps."""

    target: Workload
    """The workload under judgement."""
    collected_at: Moment
    """When collection ended."""
    change: Change | None
    """The newest rollout; null: none was found."""
    windows: Windows | None = None
    """The windows of the request series; null: too early for one bucket, or no source."""
    rollout: RolloutHealth | None = None
    """Pods; null: not collected."""
    requests: tuple[RequestSeries, ...] = ()
    """Requests, errors, latency, per arm."""
    scaling: tuple[ScalingEvent, ...] = ()
    """Capacity changes inside the windows."""
    neighbours: tuple[Neighbour, ...] = ()
    """Other services in the same minutes."""
    outbound: tuple[OutboundCalls, ...] = ()
    """Its calls to dependencies."""
    drift: tuple[Drift, ...] = ()
    """Infrastructure that differs from its configuration."""
    image_risk: ImageRisk | None = None
    """New vulnerabilities; null: no scans to compare."""
    image_difference: ImageDifference | None = None
    """How the image differs; null: the images cannot be read."""
    issues: ReleaseIssues | None = None
    """What the error tracker says of the release."""
    rolled_back_before: bool = False
    """Whether this incident already had a rollback."""
    missing: tuple[Missing, ...] = ()
    """What could not be had."""
    took_s: float = 0.0
    """Seconds the collection took."""
