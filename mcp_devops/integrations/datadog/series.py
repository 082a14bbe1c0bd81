"""A service's requests, errors and latency around a deployment, in buckets, per version."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mcp_devops.errors import NoData
from mcp_devops.integrations.datadog.answers import SOURCE, Points
from mcp_devops.integrations.datadog.client import DatadogClient
from mcp_devops.integrations.datadog.queries import (
    Queries,
    environment_of,
    hits,
    of_operation,
    of_operator,
    operation_name,
    scope_of,
    splits,
)
from mcp_devops.model.evidence import Arm, Bucket, RequestSeries
from mcp_devops.model.window import Window, WindowRule, Windows, windows_around
from mcp_devops.toolkit.comparing import RequestComparison, VersionedService, before

NO_ERRORS_SERIES = "no series of errors: 0 errors in buckets with requests"
"""Note of an arm whose errors metric does not exist: a counter that never counted has no series."""


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Arm:
    arm: Arm
    window: Window
    queries: Queries


def rule_on_grid(deployed_at: datetime, rule: WindowRule) -> WindowRule:
    """The rule moved to Datadog's grid: buckets begin at whole steps of the epoch.

    The baseline becomes whole steps long. The bucket that holds the deployment belongs to neither
    side.
    """
    step = timedelta(seconds=max(1, round(rule.step_s)))
    # In whole microseconds: seconds since 1970 as a float would miss the grid by one of them.
    since = deployed_at - EPOCH
    forwards = -(since + timedelta(seconds=rule.grace_s)) % step
    backwards = (since - timedelta(seconds=rule.buffer_s)) % step
    return rule.model_copy(
        update={
            "step_s": step.total_seconds(),
            "baseline_s": math.ceil(rule.baseline_s / step.total_seconds()) * step.total_seconds(),
            "grace_s": rule.grace_s + forwards.total_seconds(),
            "buffer_s": rule.buffer_s + backwards.total_seconds(),
        }
    )


async def compare(
    client: DatadogClient, service: VersionedService, deployed_at: datetime, rule: WindowRule
) -> RequestComparison | None:
    """Fetch all arms of a service: two requests, or one with the operator's own queries.

    With both versions given, and told apart by the version tag, the new one is compared with the
    old one in the same minutes.

    Returns:
        The comparison, or None while not one whole, settled step has passed since the deployment.

    Raises:
        NoData: No trace operation has a request of the service.
        InvalidArguments: A name cannot be a tag's value, or as the client raises it.
        CredentialsRejected, RateLimited, UpstreamTimeout, UpstreamUnavailable: As the client
            raises them.
    """
    rule = rule_on_grid(deployed_at, rule)
    settled = client.clock.now() - timedelta(seconds=client.settings.settle_s)
    windows = windows_around(deployed_at, settled, rule)
    if windows is None:
        return None
    step_s = int(rule.step_s)
    start, end = windows.baseline.start, windows.after.end
    arms = await _arms(client, service, windows, step_s)
    asked = tuple(dict.fromkeys(q for arm in arms for q in arm.queries.texts))
    found = await client.timeseries(asked, start, end, step_s)
    answers = dict(zip(asked, found, strict=True))
    series = [_series(service.service, windows, arm, answers, step_s) for arm in arms]
    return RequestComparison(windows, _split_or_not(series))


async def _arms(
    client: DatadogClient, service: VersionedService, windows: Windows, step_s: int
) -> list[_Arm]:
    settings = client.settings
    versions: list[tuple[Arm, Window, str | None]] = [
        (Arm.BASELINE, before(windows), None),
        (Arm.AFTER, windows.after, None),
    ]
    if service.new and service.old and service.new != service.old and splits(settings):
        versions += [
            (Arm.NEW, windows.after, service.new),
            (Arm.CONTROL, windows.after, service.old),
        ]
    if settings.requests_query:
        return [_Arm(a, w, of_operator(settings, service, v, step_s)) for a, w, v in versions]
    scopes = [(a, w, scope_of(settings, service, v)) for a, w, v in versions]
    operation = await _operation(client, service, windows, step_s)
    return [_Arm(a, w, of_operation(operation, scope, step_s)) for a, w, scope in scopes]


async def _operation(
    client: DatadogClient, service: VersionedService, windows: Windows, step_s: int
) -> str:
    """The first trace operation, in the settings' order, that has a request of the service."""
    names = [operation_name(n) for n in client.settings.operations]
    scope = scope_of(client.settings, service)
    asked = [hits(name, scope, step_s) for name in names]
    found = await client.timeseries(asked, windows.baseline.start, windows.after.end, step_s)
    for name, points in zip(names, found, strict=True):
        if any(points.values.values()):
            return name
    environment = environment_of(client.settings, service)
    raise NoData(
        f"Datadog has no traced request of service {service.service!r}"
        + (f" in env {environment!r}" if environment else "")
        + f" under any of {len(names)} operations.",
        fix="Check the service and env tags; name its operation in"
        " MCP_DEVOPS_DATADOG__OPERATIONS, or its metrics in MCP_DEVOPS_DATADOG__REQUESTS_QUERY.",
        source=SOURCE,
        operations=names,
    )


def _series(
    service: str, windows: Windows, arm: _Arm, answers: Mapping[str, Points], step_s: int
) -> RequestSeries:
    nothing = Points()

    def points(query: str | None) -> Points:
        return answers[query] if query else nothing

    requests, errors = points(arm.queries.requests), points(arm.queries.errors)
    p99, mean = points(arm.queries.p99), points(arm.queries.mean)
    buckets = []
    for start in _starts(arm.window, step_s):
        total = requests.values.get(start)
        failed: float | None = None
        if arm.queries.errors and total is not None:
            failed = min(errors.values.get(start) or 0.0, total)
        buckets.append(
            Bucket(
                start=datetime.fromtimestamp(start, UTC),
                requests=total,
                errors=failed,
                p99_ms=_milliseconds(p99, start) if total else None,
                mean_ms=_milliseconds(mean, start) if total else None,
            )
        )
    silent_errors = arm.queries.errors and not errors.found
    counted = any(b.requests is not None for b in buckets)
    return RequestSeries(
        source=SOURCE,
        service=service,
        windows=windows,
        arm=arm.arm,
        step_s=float(step_s),
        buckets=tuple(buckets),
        queries=arm.queries.texts,
        note=NO_ERRORS_SERIES if silent_errors and counted else None,
    )


def _starts(window: Window, step_s: int) -> range:
    """Starts of the whole buckets inside a window whose start lies on the grid."""
    return range(int(window.start.timestamp()), int(window.end.timestamp()) - step_s + 1, step_s)


def _milliseconds(points: Points, start: int) -> float | None:
    value = points.values.get(start)
    # Durations of trace metrics are seconds; a metric with a unit of its own says so.
    return None if value is None else value * 1000 * (points.unit_s or 1.0)


def _split_or_not(series: Sequence[RequestSeries]) -> tuple[RequestSeries, ...]:
    """Drop the split by version where it tells nothing; call a version without points silent.

    An old version with requests shows that the version tag is set. Only then does "no points at
    all" of the new one mean that it served nothing: its buckets are left out, not null.
    """
    by_arm = {s.arm: s for s in series}
    new, control = by_arm.get(Arm.NEW), by_arm.get(Arm.CONTROL)
    if new is None or control is None:
        return tuple(series)
    old_serves = any(b.requests for b in control.buckets)
    if not old_serves and not any(b.requests for b in new.buckets):
        return tuple(s for s in series if s not in (new, control))
    if old_serves and all(b.requests is None for b in new.buckets):
        silent = new.model_copy(update={"buckets": (), "note": None})
        return tuple(silent if s is new else s for s in series)
    return tuple(series)
