"""The evidence in the form that rules read: sorted, cut at the deployment, compared once.

Nothing here weighs anything. Order of the evidence is removed here, and so is text from logs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from mcp_devops.decision.comparison import ErrorComparison, compare_errors
from mcp_devops.decision.latency import LatencyComparison, Measure, compare_latency
from mcp_devops.decision.pod_reading import PodReading, read_pods
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.silence import Silence, hear
from mcp_devops.model.evidence import Arm, Bucket, DiagnosticContext, RequestSeries

EDGE_S = 0.5
"""Seconds by which a bucket may overlap a window's edge: clocks of sources are rounded."""


@dataclass(frozen=True)
class Arms:
    """One source's and service's buckets, by arm, whole ones only, oldest first."""

    source: str
    service: str
    step_s: float
    baseline: tuple[Bucket, ...]
    """Inside the baseline window."""
    before: tuple[Bucket, ...]
    """Between the baseline window and the deployment: shows what began earlier."""
    after: tuple[Bucket, ...]
    control: tuple[Bucket, ...]
    new: tuple[Bucket, ...]
    new_asked: bool
    """Whether the source was asked for the new revision and answered, be it with nothing."""


class Facts:
    """One diagnostic context, read once."""

    def __init__(self, context: DiagnosticContext, policy: Policy, now: datetime) -> None:
        self.context = context
        self.policy = policy
        self.now = now

    @property
    def deployed_at(self) -> datetime | None:
        """When the judged change began."""
        if self.context.windows is not None:
            return self.context.windows.deployed_at
        return self.context.change.started_at if self.context.change is not None else None

    @cached_property
    def arms(self) -> tuple[Arms, ...]:
        """Every comparison that the request series allow."""
        keys = sorted({(s.source, s.service, s.step_s) for s in self.context.requests})
        return tuple(self._arms(*key) for key in keys)

    @cached_property
    def errors(self) -> tuple[ErrorComparison, ...]:
        """Error counts, compared; those against the same minutes first."""
        found = [c for arms in self.arms for c in compare_errors(arms, self.policy)]
        return tuple(sorted(found, key=lambda c: (not c.concurrent, c.source, c.service, c.arm)))

    @cached_property
    def latency(self) -> tuple[LatencyComparison, ...]:
        """Latency, compared."""
        found = [c for arms in self.arms for c in compare_latency(arms, self.policy)]
        return tuple(sorted(found, key=lambda c: (c.measure, c.source, c.service, c.says)))

    @cached_property
    def control_fell(self) -> tuple[ErrorComparison, ...]:
        """Old revision against its own past, where it got worse too."""
        return tuple(
            c
            for c in self.errors
            if c.arm is Arm.CONTROL
            and (c.fires or (c.rise >= self.policy.errors.large_drop and c.spiked))
        )

    @cached_property
    def judged(self) -> tuple[ErrorComparison, ...]:
        """The error comparisons that may blame the deployment.

        Before against after says nothing where the old revision, in the same minutes, could be
        compared with enough data, or got worse itself.
        """
        settled = {(c.source, c.service) for c in self.errors if c.concurrent and c.sees_enough}
        settled |= {(c.source, c.service) for c in self.control_fell}
        return tuple(
            c
            for c in self.errors
            if c.concurrent or (c.arm is not Arm.CONTROL and (c.source, c.service) not in settled)
        )

    @cached_property
    def worse_than_control(self) -> tuple[ErrorComparison, ...]:
        """New against old in the same minutes, where the new one is clearly worse."""
        return tuple(c for c in self.judged if c.concurrent and (c.fires or self.is_large(c)))

    def is_large(self, comparison: ErrorComparison) -> bool:
        """Whether a comparison shows a large drop of the success rate [C2]."""
        rules = self.policy.errors
        return (
            comparison.exposure_known
            and comparison.k1 >= rules.least_errors
            and comparison.rise >= rules.large_drop
            and comparison.p_value < rules.large_p
        )

    @cached_property
    def errors_up(self) -> bool:
        """Whether some comparison blames the deployment for errors."""
        return any(
            c.fires or c.modest or c.not_yet or (c.concurrent and self.is_large(c))
            for c in self.judged
            if not c.began_before
        )

    @cached_property
    def latency_judged(self) -> tuple[LatencyComparison, ...]:
        """The latency comparisons that may blame the deployment: same minutes before past."""
        settled = {(c.source, c.service) for c in self.latency if c.measure is Measure.CONCURRENT}
        return tuple(
            c
            for c in self.latency
            if c.measure is Measure.CONCURRENT or (c.source, c.service) not in settled
        )

    @cached_property
    def latency_up(self) -> bool:
        """Whether some latency comparison is hot."""
        return any(c.hot for c in self.latency_judged)

    @cached_property
    def pods(self) -> PodReading:
        """What the pods prove."""
        return read_pods(self.context, self.seconds_since_change, self.policy)

    @cached_property
    def silent(self) -> tuple[Silence, ...]:
        """Where a new revision gets no request, or nobody does."""
        return tuple(s for arms in self.arms if (s := hear(arms, self.context, self.policy)))

    @cached_property
    def sick_neighbours(self) -> tuple[str, ...]:
        """Other services that are sick and did not deploy themselves."""
        return tuple(
            sorted(n.service for n in self.context.neighbours if n.sick and not n.deployed_recently)
        )

    @cached_property
    def several_sick(self) -> bool:
        """Whether so many others are sick that one deployment is not the explanation.

        Not where the new revision is worse than the steady old one in the same minutes: then
        the others suffer from it, for a dependency's failure would hit the old one as well.
        """
        several = len(self.sick_neighbours) >= self.policy.pods.several
        return several and not (self.worse_than_control and not self.control_fell)

    @cached_property
    def both_sick(self) -> bool:
        """Whether the old revision got worse too, and the new one is not clearly worse still."""
        return bool(self.control_fell) and not self.worse_than_control

    @cached_property
    def new_alone(self) -> bool:
        """Whether the old revision, in the same place, shows that the new one did it."""
        return (bool(self.worse_than_control) and not self.control_fell) or self.pods.proven

    @cached_property
    def fails_anyway(self) -> bool:
        """Whether many requests fail, and nothing of the past says that they always did."""
        rules = self.policy.errors
        past = {(c.source, c.service) for c in self.errors if not c.concurrent}
        return any(
            c.exposure_known
            and (c.source, c.service) not in past
            and c.k1 >= rules.least_errors
            and c.rate1 >= rules.large_drop
            for c in self.errors
        )

    @property
    def has_symptoms(self) -> bool:
        """Whether this service itself shows trouble, whoever causes it."""
        return (
            self.errors_up
            or self.latency_up
            or self.pods.troubled
            or bool(self.silent)
            or bool(self.control_fell)
            or self.fails_anyway
            or any(c.began_before or c.spiked or c.not_yet for c in self.errors)
        )

    @cached_property
    def passed(self) -> bool:
        """Whether requests were worse, and no comparison shows any more that they are."""
        rules = self.policy.errors
        told = [c.passed for c in self.errors] + [c.passed for c in self.latency]
        smoulders = any(
            c.passed is None and c.rise >= rules.small_drop and c.p_value < rules.small_p
            for c in self.errors
        )
        return (
            True in told
            and False not in told
            and not smoulders
            and not self.latency_up
            and not self.pods.troubled
            and not self.silent
            and not any(m.needed for m in self.context.missing)
        )

    @property
    def seconds_since_change(self) -> float | None:
        """Age of the change when the pods were read; null where either is unknown."""
        rollout, deployed_at = self.context.rollout, self.deployed_at
        if rollout is None or deployed_at is None:
            return None
        return (rollout.at - deployed_at).total_seconds()

    def _arms(self, source: str, service: str, step_s: float) -> Arms:
        mine = [
            s
            for s in self.context.requests
            if (s.source, s.service, s.step_s) == (source, service, step_s)
        ]
        deployed = self.deployed_at
        own = next((s.windows for s in mine if s.windows is not None), None)
        windows = own or self.context.windows
        grace = timedelta(seconds=self.policy.window_rule(source).grace_s)
        if own is not None and deployed is not None:
            grace = max(grace, own.after.start - deployed)
        baseline_start = windows.baseline.start if windows is not None else None
        baseline_end = windows.baseline.end if windows is not None else deployed

        def buckets(arm: Arm) -> list[Bucket]:
            return _merged((s for s in mine if s.arm is arm), step_s, self._edges(), self.now)

        def following(arm: Arm) -> tuple[Bucket, ...]:
            return tuple(
                b for b in buckets(arm) if deployed is None or _reaches(b.start, deployed + grace)
            )

        def ends(bucket: Bucket) -> datetime:
            return bucket.start + timedelta(seconds=step_s)

        earlier = [
            b for b in buckets(Arm.BASELINE) if deployed is None or _reaches(deployed, ends(b))
        ]
        return Arms(
            source=source,
            service=service,
            step_s=step_s,
            baseline=tuple(
                b
                for b in earlier
                if (baseline_end is None or _reaches(baseline_end, ends(b)))
                and (baseline_start is None or _reaches(b.start, baseline_start))
            ),
            before=tuple(
                b for b in earlier if baseline_end is not None and _reaches(b.start, baseline_end)
            ),
            after=following(Arm.AFTER),
            control=following(Arm.CONTROL),
            new=following(Arm.NEW),
            new_asked=any(s.arm is Arm.NEW for s in mine),
        )

    def _edges(self) -> tuple[datetime, ...]:
        """Instants that no bucket may contain."""
        deployed = self.deployed_at
        return (deployed,) if deployed is not None else ()


def _reaches(later: datetime, earlier: datetime) -> bool:
    return (later - earlier).total_seconds() >= -EDGE_S


def _merged(
    series: Iterable[RequestSeries], step_s: float, edges: tuple[datetime, ...], now: datetime
) -> list[Bucket]:
    """Buckets of all series by time; whole ones that contain no edge; one for each start.

    Of two buckets with one start the one with more errors is kept: the choice must not depend
    on the order of the evidence, nor make it milder.
    """
    step = timedelta(seconds=step_s)
    kept: dict[datetime, Bucket] = {}
    for bucket in sorted((b for s in series for b in s.buckets), key=_severity):
        start, end = bucket.start, bucket.start + step
        if not _reaches(now, end):
            continue
        if any(not _reaches(start, edge) and not _reaches(edge, end) for edge in edges):
            continue
        kept[start] = bucket
    return [kept[start] for start in sorted(kept)]


def _severity(bucket: Bucket) -> tuple[float, ...]:
    values = (bucket.errors, bucket.requests, bucket.p99_ms, bucket.mean_ms, bucket.slow)
    return tuple(-1.0 if v is None else v for v in values)


def canonical(context: DiagnosticContext) -> dict[str, Any]:
    """The context as the verdict's identity sees it.

    Without the collection's duration, without log lines (they carry no weight), and with every
    list in one order, so that the same facts have the same digest.
    """
    dump = context.model_dump(mode="json", exclude={"took_s"})
    if context.rollout is not None:
        for revision in ("new", "old"):
            if dump["rollout"][revision] is not None:
                dump["rollout"][revision]["log_line"] = None
    for series in dump["requests"]:
        series["buckets"].sort(key=repr)
    for name in ("requests", "scaling", "neighbours", "outbound", "drift", "missing"):
        dump[name].sort(key=repr)
    # When drift was looked at and what an issue is called say nothing about the deployment.
    for drifted in dump["drift"]:
        drifted["at"] = None
    if dump["issues"] is not None:
        dump["issues"]["worst"] = []
    return dump
