"""Latency of two arms against each other: all numbers of one comparison, no opinion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import fmean, median
from typing import TYPE_CHECKING

from mcp_devops.decision import statistics as st
from mcp_devops.decision.comparison import grid, is_count
from mcp_devops.decision.policy import Policy
from mcp_devops.model.evidence import Bucket

if TYPE_CHECKING:
    from mcp_devops.decision.facts import Arms


class Measure(StrEnum):
    """What was compared, from the most to the least telling."""

    CONCURRENT = "concurrent"
    """p99, average or slow requests against the old revision in the same minutes."""
    SLOW = "slow"
    """Share of requests above a histogram edge, before and after."""
    MEAN = "mean"
    """Average, before and after."""
    P99 = "p99"
    """A percentile series only, before and after."""


@dataclass(frozen=True)
class LatencyComparison:
    """One measure of one source and service."""

    source: str
    service: str
    measure: Measure
    hot: bool
    """Up, for long enough, and after the deployment."""
    warm: bool
    """Up by the modest ratio of the named regression."""
    ratio: float
    """New against reference: of durations, or of shares of slow requests."""
    onset: datetime | None
    """Start of the first sustained run; null if it is not hot, or between concurrent arms."""
    sustained_s: float
    """Seconds that it has been hot."""
    began_before: bool
    """Whether the last bucket before the deployment was already hot."""
    passed: bool | None
    """Whether it was hot once and is over; null: never hot, or it cannot be told."""
    says: str
    """The numbers for a person."""
    of_shares: bool = False
    """Whether `ratio` compares shares of slow requests, which is no factor of a duration."""


def compare_latency(arms: Arms, policy: Policy) -> list[LatencyComparison]:
    """All latency comparisons of one source and service."""
    found = [
        _concurrent_series(arms, "p99_ms", policy),
        _concurrent_series(arms, "mean_ms", policy),
        _slow(arms, arms.new, arms.control, Measure.CONCURRENT, policy),
    ]
    least = policy.window_rule(arms.source).min_baseline_buckets
    if arms.step_s >= st.LONG_STEP_S:
        least = min(least, policy.time.long_step_buckets)
    for after in (arms.after, arms.new):
        found += [
            _series(arms, after, "mean_ms", Measure.MEAN, least, policy),
            _series(arms, after, "p99_ms", Measure.P99, least, policy),
        ]
        if len(arms.baseline) >= least:
            found.append(_slow(arms, after, arms.baseline, Measure.SLOW, policy))
    return [comparison for comparison in found if comparison is not None]


def _values(buckets: tuple[Bucket, ...], field: str) -> list[tuple[datetime, float]]:
    values = [(b.start, getattr(b, field)) for b in buckets]
    return [(start, v) for start, v in values if is_count(v) and v > 0]


def _concurrent_series(arms: Arms, field: str, policy: Policy) -> LatencyComparison | None:
    rules = policy.latency
    new = [v for _, v in _values(arms.new, field)]
    old = [v for _, v in _values(arms.control, field)]
    if min(len(new), len(old)) < rules.concurrent_points:
        return None
    ratio, p = median(new) / median(old), st.p_larger(new, old)
    tall = rules.slo_ms is None or median(new) > rules.slo_ms
    return LatencyComparison(
        source=arms.source,
        service=arms.service,
        measure=Measure.CONCURRENT,
        hot=ratio >= rules.concurrent_ratio and p < rules.concurrent_p and tall,
        warm=ratio > rules.warm_ratio and p < rules.concurrent_p,
        ratio=ratio,
        onset=None,
        sustained_s=len(new) * arms.step_s,
        began_before=False,
        passed=None,
        says=(
            f"{_name(field)} {median(new):.0f} ms against {median(old):.0f} ms of the old "
            f"revision in the same minutes, {ratio:.2f} times "
            f"(p {p:.2g}; {arms.source}, {arms.service})"
        ),
    )


def _series(
    arms: Arms,
    after: tuple[Bucket, ...],
    field: str,
    measure: Measure,
    least: int,
    policy: Policy,
) -> LatencyComparison | None:
    rules, step_s = policy.latency, arms.step_s
    baseline = [v for _, v in _values(arms.baseline, field)]
    new = _values(after, field)
    if len(baseline) < least or not new:
        return None
    values = [v for _, v in new]

    def hot(value: float) -> bool:
        point = st.latency_point(baseline, value, rules.least_scale)
        return point.hot(rules.ratio, rules.scores) and value > (rules.slo_ms or 0.0)

    states = grid([(start, hot(value)) for start, value in new], step_s)
    run = st.sustained(states, step_s, policy.time.sustained_s)
    before = _values(arms.before, field)
    began_before = bool(before) and hot(before[-1][1])
    ratio = fmean(values) / median(baseline)
    over = st.has_ended(states, step_s, policy.time.sustained_s)
    ended = run is not None and over
    return LatencyComparison(
        source=arms.source,
        service=arms.service,
        measure=measure,
        hot=run is not None and not began_before and not ended,
        warm=ratio > rules.warm_ratio and not began_before,
        ratio=ratio,
        onset=new[0][0] + timedelta(seconds=run.first * step_s) if run else None,
        sustained_s=run.hot * step_s if run else 0.0,
        began_before=began_before,
        passed=over if any(states) else None,
        says=(
            f"{_name(field)} {fmean(values):.0f} ms against {median(baseline):.0f} ms before, "
            f"{ratio:.2f} times ({arms.source}, {arms.service})"
        ),
    )


def _slow(
    arms: Arms,
    new: tuple[Bucket, ...],
    reference: tuple[Bucket, ...],
    measure: Measure,
    policy: Policy,
) -> LatencyComparison | None:
    rules, step_s = policy.latency, arms.step_s
    slow1, slow0 = _slow_points(new), _slow_points(reference)
    k1, n1 = math.fsum(k for _, k, _ in slow1), math.fsum(n for _, _, n in slow1)
    k0, n0 = math.fsum(k for _, k, _ in slow0), math.fsum(n for _, _, n in slow0)
    if n1 <= 0 or n0 <= 0:
        return None
    rate1, rate0 = k1 / n1, k0 / n0
    phi = 1.0 if measure is Measure.CONCURRENT else st.dispersion([(k, n) for _, k, n in slow0])

    def hot(k: float, n: float) -> bool:
        return k / n - rate0 >= rules.slow_floor and k / n >= rules.concurrent_ratio * rate0

    states = grid([(start, hot(k, n) if n > 0 else None) for start, k, n in slow1], step_s)
    run = st.sustained(states, step_s, policy.time.sustained_s)
    sure = st.p_above(k1, n1, k0, n0, rules.concurrent_ratio, phi)
    up = rate1 - rate0 >= rules.slow_floor and k1 >= policy.errors.least_errors
    over = st.has_ended(states, step_s, policy.time.sustained_s)
    ended = run is not None and over
    return LatencyComparison(
        source=arms.source,
        service=arms.service,
        measure=measure,
        hot=up and sure >= policy.errors.sure and run is not None and not ended,
        warm=False,
        ratio=rate1 / rate0 if rate0 else math.inf,
        of_shares=True,
        onset=slow1[0][0] + timedelta(seconds=run.first * step_s) if run else None,
        sustained_s=run.hot * step_s if run else 0.0,
        began_before=False,
        passed=over if any(states) else None,
        says=(
            f"{rate1:.1%} of the requests were slower than the edge above the usual p99, "
            f"{rate0:.1%} in the reference ({arms.source}, {arms.service})"
        ),
    )


def _slow_points(buckets: tuple[Bucket, ...]) -> list[tuple[datetime, float, float]]:
    return [
        (b.start, b.slow, b.requests) for b in buckets if is_count(b.slow) and is_count(b.requests)
    ]


def _name(field: str) -> str:
    return "p99" if field == "p99_ms" else "average latency"
