"""A service's requests, errors and latency around a deployment, in buckets, per revision."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from string import Template

from mcp_devops.integrations.prometheus.client import PrometheusClient, Series
from mcp_devops.integrations.prometheus.conventions import (
    Convention,
    find_convention,
    pod_pattern,
)
from mcp_devops.model.evidence import Arm, Bucket, RequestSeries
from mcp_devops.model.window import Window, WindowRule, Windows, windows_around
from mcp_devops.toolkit.comparing import RequestComparison, before

SAMPLES_IN_RANGE = 4
"""Samples an `increase` range should hold: with fewer, one lost scrape leaves a hole."""


@dataclass(frozen=True)
class Subject:
    """Whose requests are looked at.

    Attributes:
        service: The service's name, as labels give it.
        namespace: Its namespace.
        new: ReplicaSet (or workload) name of the judged revision; None: revisions are not split.
        old: ReplicaSet name of the revision before it.
    """

    service: str
    namespace: str
    new: str | None = None
    old: str | None = None


@dataclass(frozen=True)
class Comparison(RequestComparison):
    """The same with the names under which the service was found; None: the operator's queries."""

    convention: Convention | None


@dataclass(frozen=True)
class _Queries:
    requests: str
    errors: str | None
    p99: str | None
    mean: str | None
    buckets: str | None


async def compare(
    client: PrometheusClient, subject: Subject, deployed_at: datetime, rule: WindowRule
) -> Comparison | None:
    """Fetch all arms of a subject.

    Returns:
        The comparison, or None while not one whole step has passed since the deployment.

    Raises:
        NoData: No known counter exists for the service.
        InvalidArguments, CredentialsRejected, RateLimited, UpstreamTimeout, UpstreamUnavailable:
            As the client raises them.
    """
    windows = windows_around(deployed_at, client.clock.now(), rule)
    if windows is None:
        return None
    if client.settings.requests_query:
        return await _with_own_queries(client, subject, windows, rule)
    convention = await find_convention(client, subject.service, subject.namespace, windows)
    coarse = math.ceil(SAMPLES_IN_RANGE * convention.scrape_s / 5) * 5
    if coarse > rule.step_s:
        rule = rule.model_copy(update={"step_s": float(coarse)})
        wider = windows_around(deployed_at, client.clock.now(), rule)
        if wider is None:
            return None
        windows = wider
    arms: list[tuple[Arm, Window, str | None]] = [
        (Arm.BASELINE, before(windows), None),
        (Arm.AFTER, windows.after, None),
    ]
    if convention.pod_label and subject.new and subject.old:
        arms += [
            (Arm.NEW, windows.after, pod_pattern(subject.new)),
            (Arm.CONTROL, windows.after, pod_pattern(subject.old)),
        ]
    edge = await _edge(client, convention, windows, rule.step_s)
    series = await asyncio.gather(
        *(
            _arm(
                client, subject, windows, arm, window, rule.step_s, _queries(convention, pods), edge
            )
            for arm, window, pods in arms
        )
    )
    return Comparison(windows, _split_or_not(series), convention)


def _split_or_not(series: Sequence[RequestSeries]) -> tuple[RequestSeries, ...]:
    """Drop the split by revision where it tells nothing; call a revision without series silent.

    An old revision with requests shows that the pods are told apart. Only then does "no series at
    all" of the new one mean that it served nothing: its buckets are left out, not null.
    """
    by_arm = {s.arm: s for s in series}
    new, control = by_arm.get(Arm.NEW), by_arm.get(Arm.CONTROL)
    if new is None or control is None:
        return tuple(series)
    if not any(b.requests for b in control.buckets) and not any(b.requests for b in new.buckets):
        return tuple(s for s in series if s not in (new, control))
    if any(b.requests for b in control.buckets) and all(b.requests is None for b in new.buckets):
        silent = new.model_copy(update={"buckets": ()})
        return tuple(silent if s is new else s for s in series)
    return tuple(series)


async def error_rate(
    client: PrometheusClient, subject: Subject, deployed_at: datetime, window: Window
) -> tuple[float | None, float]:
    """Share of failed requests inside one window, and how many requests there were.

    Returns:
        (rate, requests); the rate is None where there was no request, or none is counted.

    Raises:
        As compare.
    """
    around = Windows(
        deployed_at=deployed_at,
        baseline=Window(start=window.start - timedelta(hours=1), end=deployed_at),
        after=window,
    )
    convention = await find_convention(client, subject.service, subject.namespace, around)
    pods = pod_pattern(subject.new) if subject.new and convention.pod_label else None
    queries = _queries(convention, pods)
    span = f"{window.seconds:.0f}s"
    requests, errors = await asyncio.gather(
        client.query(queries.requests.replace("$range", span), window.end),
        client.query((queries.errors or "vector(0)").replace("$range", span), window.end),
    )
    total = sum(v or 0.0 for s in requests for _, v in s.points)
    failed = sum(v or 0.0 for s in errors for _, v in s.points)
    return (min(1.0, failed / total) if total > 0 else None), total


async def neighbour_rates(
    client: PrometheusClient, convention: Convention, windows: Windows
) -> dict[str, tuple[float | None, float | None, float]]:
    """Error rates of every service counted in the same way: (baseline, after, requests after)."""
    rates: dict[str, list[float | None]] = {}
    requests_after: dict[str, float] = {}
    label = convention.service_label
    namespace = ",".join(p for p in convention.selector.split(",")[1:])

    async def by_service(window: Window, failed: bool) -> dict[str, float]:
        more = [namespace, convention.failed or ""] if failed else [namespace]
        matchers = "{" + ",".join(m for m in more if m) + "}"
        query = (
            f"sum by ({label}) (increase({convention.counter}{matchers}[{window.seconds:.0f}s]))"
        )
        found = await client.query(query, window.end)
        return {s.labels.get(label, ""): s.points[0][1] or 0.0 for s in found}

    before, before_bad, after, after_bad = await asyncio.gather(
        by_service(windows.baseline, False),
        by_service(windows.baseline, True),
        by_service(windows.after, False),
        by_service(windows.after, True),
    )
    for name in set(before) | set(after):
        rates[name] = [
            _rate(before_bad.get(name, 0.0), before.get(name, 0.0)),
            _rate(after_bad.get(name, 0.0), after.get(name, 0.0)),
        ]
        requests_after[name] = after.get(name, 0.0)
    return {n: (r[0], r[1], requests_after[n]) for n, r in sorted(rates.items()) if n}


def _rate(failed: float, total: float) -> float | None:
    return min(1.0, failed / total) if total > 0 else None


def _queries(convention: Convention, pods: str | None) -> _Queries:
    plain = convention.matchers(pods)
    errors = None
    if convention.failed:
        bad = convention.matchers(pods, convention.failed)
        errors = f"sum(increase({convention.counter}{bad}[$range]))"
    by_edge = p99 = mean = None
    if convention.histogram:
        by_edge = f"sum by (le) (increase({convention.histogram}{plain}[$range]))"
        p99 = f"{convention.unit_ms:g} * histogram_quantile(0.99, {by_edge})"
        family = convention.histogram.removesuffix("_bucket")
        mean = (
            f"{convention.unit_ms:g} * sum(increase({family}_sum{plain}[$range]))"
            f" / sum(increase({family}_count{plain}[$range]))"
        )
    return _Queries(
        requests=f"sum(increase({convention.counter}{plain}[$range]))",
        errors=errors,
        p99=p99,
        mean=mean,
        buckets=by_edge,
    )


@dataclass(frozen=True)
class _Edge:
    """The histogram edge at or above the baseline's p99."""

    label: str
    threshold_ms: float
    top_ms: float


async def _edge(
    client: PrometheusClient, convention: Convention, windows: Windows, step_s: float
) -> _Edge | None:
    queries = _queries(convention, None)
    if queries.buckets is None:
        return None
    span = f"{windows.baseline.seconds:.0f}s"
    found = await client.query(queries.buckets.replace("$range", span), windows.baseline.end)
    counts = sorted(
        (float(s.labels["le"]), s.labels["le"], s.points[0][1] or 0.0)
        for s in found
        if "le" in s.labels
    )
    finite = [c for c in counts if math.isfinite(c[0])]
    if not finite or counts[-1][2] <= 0:
        return None
    total = counts[-1][2]
    reached = next((c for c in finite if c[2] >= 0.99 * total), finite[-1])
    unit = convention.unit_ms
    return _Edge(reached[1], reached[0] * unit, finite[-1][0] * unit)


async def _arm(
    client: PrometheusClient,
    subject: Subject,
    windows: Windows,
    arm: Arm,
    window: Window,
    step_s: float,
    queries: _Queries,
    edge: _Edge | None,
) -> RequestSeries:
    span = f"{step_s:g}s"

    async def values(query: str | None) -> dict[float, float | None]:
        if query is None:
            return {}
        first = window.start + timedelta(seconds=step_s)
        found = await client.query_range(query.replace("$range", span), first, window.end, step_s)
        return _only(found)

    slow_query = None
    if edge is not None and queries.buckets is not None:
        inner = queries.buckets.removeprefix("sum by (le) ")
        over = inner.replace("}[", ',le="+Inf"}[').replace("{,", "{")
        under = inner.replace("}[", f',le="{edge.label}"}}[').replace("{,", "{")
        slow_query = f"sum{over} - sum{under}"
    requests, errors, p99, mean, slow = await asyncio.gather(
        values(queries.requests),
        values(queries.errors),
        values(queries.p99),
        values(queries.mean),
        values(slow_query),
    )
    buckets = tuple(
        _bucket(end, step_s, requests, errors if queries.errors else None, p99, mean, slow)
        for end in _ends(window, step_s)
    )
    clamped = edge is not None and any(
        b.p99_ms is not None and b.p99_ms >= edge.top_ms for b in buckets
    )
    return RequestSeries(
        source="prometheus",
        service=subject.service,
        windows=windows,
        arm=arm,
        step_s=step_s,
        buckets=buckets,
        slow_threshold_ms=edge.threshold_ms if edge else None,
        queries=tuple(
            q.replace("$range", span) for q in (queries.requests, queries.errors, queries.p99) if q
        ),
        note=f"p99 is at or beyond the histogram's last edge, {edge.top_ms:g} ms"
        if clamped and edge
        else None,
    )


def _only(found: Iterable[Series]) -> dict[float, float | None]:
    """The one series of an aggregated answer; none is no data, not zero."""
    for series in found:
        return {round(at, 3): value for at, value in series.points}
    return {}


def _ends(window: Window, step_s: float) -> list[float]:
    steps = int(window.seconds // step_s + 1e-9)
    return [round(window.start.timestamp() + step_s * (i + 1), 3) for i in range(steps)]


def _bucket(
    end: float,
    step_s: float,
    requests: dict[float, float | None],
    errors: dict[float, float | None] | None,
    p99: dict[float, float | None],
    mean: dict[float, float | None],
    slow: dict[float, float | None],
) -> Bucket:
    total = requests.get(end)
    failed: float | None = None
    if errors is not None and total is not None:
        # A class of answers that never occurred has no series: that is zero failures, as long as
        # requests were counted at all.
        failed = min(errors.get(end) or 0.0, total)
    slower = slow.get(end)
    return Bucket(
        start=datetime.fromtimestamp(end - step_s, UTC),
        requests=total,
        errors=failed,
        p99_ms=p99.get(end) if total else None,
        mean_ms=mean.get(end) if total else None,
        slow=max(0.0, slower) if slower is not None and total else None,
    )


async def _with_own_queries(
    client: PrometheusClient, subject: Subject, windows: Windows, rule: WindowRule
) -> Comparison:
    """The operator's queries: whole service, or per revision where they use $pods."""
    settings = client.settings

    def fill(query: str | None, pods: str) -> str | None:
        if query is None:
            return None
        names = {"service": subject.service, "namespace": subject.namespace, "pods": pods}
        return Template(query).safe_substitute(names)

    def own(pods: str) -> _Queries:
        p99 = fill(settings.p99_query, pods)
        return _Queries(
            requests=fill(settings.requests_query, pods) or "",
            errors=fill(settings.errors_query, pods),
            p99=f"1000 * ({p99})" if p99 else None,
            mean=None,
            buckets=None,
        )

    arms = [(Arm.BASELINE, before(windows), ".*"), (Arm.AFTER, windows.after, ".*")]
    if subject.new and subject.old and "$pods" in (settings.requests_query or ""):
        arms += [
            (Arm.NEW, windows.after, pod_pattern(subject.new)),
            (Arm.CONTROL, windows.after, pod_pattern(subject.old)),
        ]
    series = await asyncio.gather(
        *(_arm(client, subject, windows, a, w, rule.step_s, own(pods), None) for a, w, pods in arms)
    )
    return Comparison(windows, _split_or_not(series), None)
