"""A service's requests, errors and latency around a deployment, in buckets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mcp_devops.errors import NoData, UpstreamUnavailable
from mcp_devops.integrations.cloudwatch.client import CloudWatchClient, Metric, Points
from mcp_devops.integrations.cloudwatch.failures import SOURCE
from mcp_devops.integrations.cloudwatch.metrics import ServiceMetrics, metrics_of
from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings
from mcp_devops.model.evidence import Arm, Bucket, RequestSeries
from mcp_devops.model.window import Window, WindowRule, Windows, windows_around
from mcp_devops.toolkit.comparing import RequestComparison, VersionedService, before

NO_ERRORS = "no point of errors: 0 errors in buckets with requests"
"""Note of an arm without any error: its metric has no point where there was none."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_S, DAY_S = 3600, 86_400
KEPT = ((60, 3 * HOUR_S), (300, 15 * DAY_S), (3600, 63 * DAY_S))
"""(shortest period, age in seconds from which only that is kept), from GetMetricData's text."""
SHORT_PERIODS = (10, 20, 30)
"""Periods below a minute that a high-resolution metric answers, of those that step_s may be."""


def period_of(step_s: float, age_s: float, high_resolution: bool) -> int:
    """The period nearest above a step that CloudWatch keeps for data of that age, in seconds."""
    shortest = 1 if high_resolution else 60
    for period, age in KEPT:
        if age_s >= age:
            shortest = max(shortest, period)
    if shortest == 1 and step_s < 60:
        return next((p for p in SHORT_PERIODS if p >= step_s), 60)
    unit = max(60, shortest)
    return max(1, math.ceil(step_s / unit)) * unit


def rule_for(
    settings: CloudWatchSettings, deployed_at: datetime, now: datetime, rule: WindowRule
) -> WindowRule:
    """The rule in periods that CloudWatch keeps, moved to its grid: whole periods of the epoch.

    The bucket that holds the deployment belongs to neither side.
    """
    reach = timedelta(seconds=rule.baseline_s + rule.buffer_s)
    age_s = (now - deployed_at + reach).total_seconds()
    period = period_of(rule.step_s, age_s, settings.high_resolution)
    # In whole microseconds: seconds since 1970 as a float would miss the grid by one of them.
    step, since = timedelta(seconds=period), deployed_at - EPOCH
    forwards = -(since + timedelta(seconds=rule.grace_s)) % step
    backwards = (since - timedelta(seconds=rule.buffer_s)) % step
    return rule.model_copy(
        update={
            "step_s": float(period),
            "baseline_s": math.ceil(rule.baseline_s / period) * float(period),
            "grace_s": rule.grace_s + forwards.total_seconds(),
            "buffer_s": rule.buffer_s + backwards.total_seconds(),
        }
    )


async def compare(
    client: CloudWatchClient, service: VersionedService, deployed_at: datetime, rule: WindowRule
) -> RequestComparison | None:
    """Fetch a service before and after, in one request. Versions are not told apart.

    Returns:
        The comparison, or None while not one whole, settled step has passed since the grace.

    Raises:
        NoData: There is no point of any of its metrics.
        NotFound: No dimensions are known for the service.
        InvalidArguments: A name does not fit into a dimension, or as the client raises it.
        NotConfigured, CredentialsRejected, PermissionDenied, RateLimited, UpstreamTimeout,
            UpstreamUnavailable: As the client raises them.
    """
    settings = client.settings
    now = client.clock.now()
    rule = rule_for(settings, deployed_at, now, rule)
    windows = windows_around(deployed_at, now - timedelta(seconds=settings.settle_s), rule)
    if windows is None:
        return None
    metrics = metrics_of(settings, service)
    period_s = int(rule.step_s)
    asked = metrics.all
    answer = await client.metric_data(asked, windows.baseline.start, windows.after.end, period_s)
    if not any(answer):
        raise NoData(
            f"CloudWatch has no point of {asked[0].text(period_s)} nor of the metrics beside it.",
            fix="Check the region, and the service's dimensions in [cloudwatch]: each must be"
            " given exactly as the metric has it.",
            source=SOURCE,
            queries=[m.text(period_s) for m in asked],
        )
    found = dict(zip(asked, answer, strict=True))
    _check_grid(answer, period_s)
    series = tuple(
        _series(service.service, windows, arm, window, period_s, metrics, found)
        for arm, window in (
            (Arm.BASELINE, before(windows)),
            (Arm.AFTER, windows.after),
        )
    )
    return RequestComparison(windows, series)


def _check_grid(answer: Sequence[Points], period_s: int) -> None:
    if any(at % period_s for points in answer for at in points):
        raise UpstreamUnavailable(
            f"CloudWatch answered buckets that are not those of {period_s} s.",
            fix="Choose another step_s, a whole number of minutes.",
            source=SOURCE,
        )


def _series(
    service: str,
    windows: Windows,
    arm: Arm,
    window: Window,
    period_s: int,
    metrics: ServiceMetrics,
    found: dict[Metric, Points],
) -> RequestSeries:
    nothing: Points = {}
    p99 = found[metrics.p99] if metrics.p99 else nothing
    mean = found[metrics.mean] if metrics.mean else nothing
    buckets = []
    for start in _starts(window, period_s):
        total, failed = _counts(metrics, found, start)
        buckets.append(
            Bucket(
                start=datetime.fromtimestamp(start, UTC),
                requests=total,
                errors=failed,
                p99_ms=_scaled(p99.get(start), metrics.unit_ms) if total else None,
                mean_ms=_scaled(mean.get(start), metrics.unit_ms) if total else None,
            )
        )
    notes = [metrics.note]
    if any(b.errors is not None for b in buckets) and not any(b.errors for b in buckets):
        notes.append(NO_ERRORS)
    return RequestSeries(
        source=SOURCE,
        service=service,
        windows=windows,
        arm=arm,
        step_s=float(period_s),
        buckets=tuple(buckets),
        queries=tuple(m.text(period_s) for m in metrics.all),
        note="; ".join(n for n in notes if n) or None,
    )


def _counts(
    metrics: ServiceMetrics, found: dict[Metric, Points], start: int
) -> tuple[float | None, float | None]:
    """Requests and failed ones of a bucket.

    The errors' metrics have no point where there was no error: that is 0 as long as requests were
    counted, and unknown where they were not.
    """
    total = found[metrics.requests].get(start)
    if not metrics.errors:
        return total, None
    failed = sum(found[m].get(start, 0.0) for m in metrics.errors)
    if metrics.errors_are_requests and failed > (total or 0.0):
        # A load balancer without a target answers 503 and counts no request.
        total = failed
    return total, None if total is None else min(failed, total)


def _starts(window: Window, period_s: int) -> range:
    """Starts of the whole buckets inside a window whose start lies on the grid."""
    first, end = int(window.start.timestamp()), int(window.end.timestamp())
    return range(first, end - period_s + 1, period_s)


def _scaled(value: float | None, unit_ms: float) -> float | None:
    return None if value is None else value * unit_ms
