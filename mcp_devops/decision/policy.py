"""Every number the rules use: unit, default, source, bounds.

"Seed" is a number that was chosen; everything else says where it was measured: [C] and [C2]
are 217 and 149 staged releases, [T] and [P] a shop under injected faults and on normal days,
[N] another shop with code and infrastructure faults. A number that is not here is not in the rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from pydantic import Field

from mcp_devops.model.record import Record, digest
from mcp_devops.model.window import WindowRule

WEIGHT_LIMIT = 4.5
"""No single group may move the log-odds further than this (method, section 7)."""


class ErrorRules(Record):
    """When error counts differ, and by how much."""

    floor: float = Field(0.005, ge=0.0001, le=0.2)
    """Rise of the error rate below which nothing fires, as a share (seed; tighten to the SLO)."""
    ratio: float = Field(1.5, ge=1, le=10)
    """Ratio of the rates that must be exceeded to fire alone (simulated: .006 false alarms)."""
    modest_ratio: float = Field(1.05, ge=1, le=2)
    """Ratio that suffices if latency rises too (users' rule: error rate up > 5 %)."""
    sure: float = Field(0.95, ge=0.9, le=0.9999)
    """Probability that the ratio is exceeded from which it counts (simulated)."""
    anytime_odds: float = Field(20, ge=10, le=1000)
    """Anytime evidence E from which it counts, instead of `sure` (simulated: .02-.04)."""
    least_errors: int = Field(5, ge=3, le=1000)
    """Raw errors in the new arm below which nothing fires (simulated)."""
    large_drop: float = Field(0.05, ge=0.01, le=1)
    """Drop of the success rate between concurrent arms that is large, as a share [C2]."""
    large_p: float = Field(0.01, gt=0, le=0.05)
    """One-sided p of a large drop [C2]."""
    small_drop: float = Field(0.01, ge=0.001, le=0.5)
    """Drop of the success rate that is a small one, as a share [C]."""
    small_p: float = Field(0.05, gt=0, le=0.1)
    """One-sided p of a small drop (seed)."""
    visible_drop: float = Field(0.02, ge=0.001, le=0.2)
    """Rise that a comparison must be able to see before "no drop" means anything (seed)."""
    recent_s: float = Field(300, ge=120, le=3600)
    """Newest seconds, judged by themselves too: a late onset is not diluted (seed)."""


class LatencyRules(Record):
    """When latency differs."""

    ratio: float = Field(1.25, ge=1.05, le=10)
    """Ratio to the baseline's median from which a bucket is hot [P]."""
    scores: float = Field(3.5, ge=2, le=10)
    """Robust standard deviations from which a bucket is hot (method, section 4)."""
    least_scale: float = Field(0.05, ge=0.01, le=0.5)
    """Smallest scatter assumed for a baseline, in logs (method, section 4)."""
    concurrent_ratio: float = Field(1.5, ge=1.1, le=10)
    """Ratio between concurrent arms [C2]."""
    concurrent_p: float = Field(0.01, gt=0, le=0.05)
    """One-sided p between concurrent arms [C2]."""
    concurrent_points: int = Field(8, ge=4, le=1000)
    """Points a side from which two percentile series are compared (method, section 4)."""
    warm_ratio: float = Field(1.10, ge=1.01, le=2)
    """Rise of the mean p99 that completes the named regression (users' rule: p99 up > 10 %)."""
    infrastructure_ratio: float = Field(2.0, ge=1.2, le=10)
    """Rise of p99 without an error drop that points at infrastructure [N]."""
    slow_floor: float = Field(0.01, ge=0.001, le=0.5)
    """Rise of the share of slow requests below which nothing fires (seed)."""
    slo_ms: float | None = Field(None, gt=0)
    """p99 in milliseconds below which nothing is hot; null: no absolute objective is set."""


class TimeRules(Record):
    """How long, how old, how near."""

    sustained_s: float = Field(60, ge=60, le=1800)
    """Seconds of elevation before a rollback may be recommended (users' rule A5)."""
    age_s: float = Field(900, ge=60, le=7200)
    """Seconds after the deployment in which the onset must lie to act alone (users' rule A4)."""
    never_ready_s: float = Field(180, ge=60, le=3600)
    """Seconds after which pods that never turn ready are a failure, not a slow start (seed)."""
    scaling_before_s: float = Field(600, ge=0, le=3600)
    """Seconds before a latency onset in which a scaling event explains it (seed)."""
    scaling_after_s: float = Field(60, ge=0, le=600)
    """Seconds after the onset in which it still does; later ones are an effect (seed)."""
    long_step_buckets: int = Field(3, ge=1, le=20)
    """Whole baseline buckets that suffice if they are 300 s or longer (seed)."""


class SilenceRules(Record):
    """When a version that gets no request is evidence."""

    expected: float = Field(10, ge=5, le=1000)
    """Requests due below which no silence is called; exp(-10) is 4.5e-5 (seed)."""
    least_s: float = Field(180, ge=60, le=3600)
    """Seconds it must last (seed)."""


class PodRules(Record):
    """When pod states prove a broken revision."""

    restarts: int = Field(2, ge=1, le=100)
    """Restarts from which a crash is a loop (tried on real pods: CrashLoopBackOff shows at 2)."""
    failing_share: float = Field(0.5, gt=0, le=1)
    """Share of the new revision's pods from which it counts as serving nothing (seed)."""
    several: int = Field(2, ge=2, le=50)
    """Other services sick at once from which one deployment is not the explanation (seed)."""
    neighbours_known: int = Field(2, ge=1, le=50)
    """Other services that must be measured before "the others are fine" means anything (seed)."""
    neighbour_requests: float = Field(50, ge=1, le=10_000)
    """Requests such a service must have had (seed)."""


class SurroundingsRules(Record):
    """When what surrounds a deployment counts."""

    heavy_drift: float = Field(0.6, ge=0, le=1)
    """Weight of a drifted resource from which it can hurt a service (seed)."""
    outbound_rise: float = Field(0.02, ge=0.001, le=1)
    """Rise of the share of failing calls from which a dependency fails (seed: visible_drop)."""


def _weight(value: float) -> Any:
    return Field(value, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)


class Weights(Record):
    """Log-odds that the deployment did it; in each group only the strongest finding counts."""

    concurrent_large: float = _weight(4.5)
    """Errors: large drop against the old version in the same minutes ([C2] 4.7, capped)."""
    concurrent_small: float = _weight(1.5)
    """Errors: small drop against the old version (seed)."""
    fires: float = _weight(3.0)
    """Errors: ratio, floor, count and duration all hold (seed)."""
    modest: float = _weight(1.5)
    """Errors: above the modest ratio, or hot in the newest bucket only (seed)."""
    silence: float = _weight(2.8)
    """Errors: the new version serves nothing while the old one does, or it took the capacity
    down ([C2]: 12 of 33 faulty, 2 of 116 innocent releases were silent)."""
    no_drop: float = _weight(-1.8)
    """Errors: enough data and no drop [C2]."""
    latency_strong: float = _weight(2.3)
    """Latency: concurrent, or average, or share of slow requests [C2], [T] 6/10 against 0/142."""
    latency_series: float = _weight(1.5)
    """Latency: only a percentile series is hot ([T] 8/10 against 5-8/142; seed)."""
    latency_warm: float = _weight(1.0)
    """Latency: p99 up by more than the users' 10 % together with errors (seed)."""
    latency_flat: float = _weight(-0.6)
    """Latency: enough data and not up [C2]; 0 where errors rose, for 8 of 10 real error faults
    leave p99 alone [T]."""
    pods_new_only: float = _weight(3.0)
    """Pods: the new revision fails, the old one is or was healthy (seed)."""
    pods_elsewhere: float = _weight(-1.5)
    """Pods: both revisions fail alike, a node, a quota, missing capacity (seed)."""
    control_fell: float = _weight(-0.7)
    """Environment: the old version fell too, against its own past [C2]."""
    several_services: float = _weight(-1.5)
    """Environment: several other services are sick in the same minutes (seed)."""
    neighbours_fine: float = _weight(0.7)
    """Environment: several others were measured and are fine (seed: control_fell, mirrored)."""
    scaling: float = _weight(-1.5)
    """Environment: only latency rose, and capacity changed at its onset (seed)."""
    outbound_fails: float = _weight(-1.5)
    """Environment: calls to a dependency began to fail (seed; method, section 7)."""
    drift_here: float = _weight(-2.3)
    """Environment: drift that names the service (seed: latency's strong weight, mirrored)."""
    drift: float = _weight(-0.7)
    """Environment: drift that can hurt a service, of unknown age (seed: control_fell)."""
    release_issues: float = _weight(0.5)
    """Change: the release brought new or regressed errors (seed: change_touches)."""
    change_touches: float = _weight(0.5)
    """Change: the template differs in what fails (seed)."""
    nothing_changed: float = _weight(-1.5)
    """Change: the template differs in metadata only, a restart (seed)."""


class Loss(Record):
    """What each action costs; the ratios make p > .8 a rollback and p < .2 no action (seed)."""

    rollback_wrong: float = Field(4.5, gt=0, le=100)
    """Rolled back, and the deployment was innocent."""
    hold_guilty: float = Field(1.0, ge=0, le=100)
    """Held for review, and the deployment did it."""
    hold_innocent: float = Field(0.5, ge=0, le=100)
    """Held for review for nothing."""
    nothing_guilty: float = Field(3.0, gt=0, le=100)
    """Did nothing, and the deployment did it."""


class Limits(Record):
    """Caps on the probability, and what acting without a person takes."""

    automatic_confidence: float = Field(0.80, ge=0.80, le=0.999)
    """Least probability for acting without a person (users' rule A12); may only be raised."""
    before_after_cap: float = Field(0.90, ge=0.5, le=0.95)
    """Highest probability if nothing was compared at the same time (method, section 9)."""
    exposure_unknown_cap: float = Field(0.70, ge=0.5, le=0.79)
    """Highest probability if errors are known and requests are not (method, section 1)."""
    right_share: float = Field(0.80, ge=0.5, le=0.99)
    """Lower bound of the share of right decisions that must hold, once there are enough."""
    judged_outcomes: int = Field(14, ge=14, le=10_000)
    """Judged outcomes from which that bound is asked for (14 of 14 right: .807)."""
    calibrated_outcomes: int = Field(30, ge=30, le=10_000)
    """Judged outcomes from which a probability is called calibrated (method, section 10)."""
    unknown_below: float = Field(0.5, ge=0.3, le=0.9)
    """Share of the best cause below which the cause is "unknown" (method, section 8)."""


class CauseRules(Record):
    """Prior shares of the causes, and the evidence between them, in log-odds."""

    code: float = Field(0.45, gt=0, lt=1)
    """Prior share: new code, or the configuration shipped with it (seed)."""
    infrastructure: float = Field(0.25, gt=0, lt=1)
    """Prior share (seed)."""
    upstream: float = Field(0.20, gt=0, lt=1)
    """Prior share (seed)."""
    none: float = Field(0.10, gt=0, lt=1)
    """Prior share (seed)."""
    drop_for_code: float = _weight(4.27)
    """A drop of the success rate, for code (12 of 14 against 0 of 42 [N])."""
    no_drop_for_code: float = _weight(-1.78)
    """No drop although it could be seen, for code [N]."""
    slow_for_infrastructure: float = _weight(1.68)
    """p99 doubled without a drop, for infrastructure (38 of 42 against 2 of 14 [N])."""
    not_slow_for_infrastructure: float = _weight(-2.07)
    """Neither, for infrastructure [N]."""
    decisive: float = _weight(4.27)
    """A state that names its cause by itself: quota, node, several services (seed: as a drop)."""
    quiet_for_none: float = _weight(3.0)
    """Enough data and nothing up, for "none" (seed)."""


class Policy(Record):
    """All numbers of one way to judge. Change a copy; the version follows the content."""

    name: str = Field("default", min_length=1, max_length=40, pattern=r"^[a-z0-9-]+$")
    """What people call it."""
    errors: ErrorRules = ErrorRules()
    """Error counts."""
    latency: LatencyRules = LatencyRules()
    """Latency."""
    time: TimeRules = TimeRules()
    """Durations and distances."""
    silence: SilenceRules = SilenceRules()
    """A version without a request."""
    pods: PodRules = PodRules()
    """Pods and other services."""
    surroundings: SurroundingsRules = SurroundingsRules()
    """Drift, dependencies."""
    weights: Weights = Weights()
    """Log-odds of every finding."""
    loss: Loss = Loss()
    """Costs of wrong and late actions."""
    limits: Limits = Limits()
    """Caps, and the conditions for acting without a person."""
    causes: CauseRules = CauseRules()
    """Shares of the causes."""
    windows: WindowRule = WindowRule()
    """Windows of a source that has no rule of its own (users' rule A2)."""
    source_windows: dict[str, WindowRule] = Field(
        default_factory=lambda: {
            "sentry": WindowRule(grace_s=180),
            "cloudwatch": WindowRule(grace_s=60),
        }
    )
    """Windows by source, for those that lag: Sentry by 2-3 minutes (users' rule A2)."""

    def window_rule(self, source: str) -> WindowRule:
        """The window rule of a source, by its name."""
        return self.source_windows.get(source, self.windows)

    @cached_property
    def version(self) -> str:
        """Name and first 12 hex digits of the content's digest: other numbers, other version."""
        return f"{self.name}-{digest(self.model_dump(mode='json'))[:12]}"

    def describe(self) -> str:
        """All numbers as Markdown: one table a group, with value and meaning."""
        lines = [f"# Policy {self.version}", "", "Weights and evidence are log-odds."]
        for title, record in self._groups():
            about = _one_line(type(record).__doc__)
            lines += [
                "",
                f"## {title}",
                "",
                about,
                "",
                "| number | value | meaning |",
                "|---|---|---|",
            ]
            lines += [
                f"| {name} | {getattr(record, name)} | {_one_line(field.description)} |"
                for name, field in type(record).model_fields.items()
            ]
        return "\n".join(lines) + "\n"

    def _groups(self) -> Iterator[tuple[str, Record]]:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Record):
                yield name, value
        for source, rule in sorted(self.source_windows.items()):
            yield f"windows of {source}", rule


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


class ChangeHistory(Record):
    """What is known about the service's past deployments and past verdicts."""

    deployments: int = Field(0, ge=0)
    """Deployments seen."""
    failed: int = Field(0, ge=0)
    """Those that had to be undone or repaired."""
    judged: int = Field(0, ge=0)
    """Automatic decisions that somebody judged afterwards."""
    right: int = Field(0, ge=0)
    """Those that were right."""

    @property
    def failure_rate(self) -> float:
        """(failed + 1) / (deployments + 10): .1 for a service without a history."""
        return min(0.9, (self.failed + 1) / (self.deployments + 10))
