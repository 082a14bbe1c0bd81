"""A service's calls to its dependencies, as it counts them itself: found by convention."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.conventions import FAILED, pod_pattern, quoted
from mcp_devops.integrations.prometheus.series import Subject
from mcp_devops.model.surroundings import OutboundCalls
from mcp_devops.model.window import Window, Windows
from mcp_devops.text.clean import clean

MOST_DEPENDENCIES = 30
"""Dependencies of one service that are told, those with most calls first."""
_PEERS = (
    "server_address",
    "net_peer_name",
    "peer_service",
    "dependency",
    "upstream",
    "target",
    "client_name",
    "destination_service_name",
    "grpc_service",
    "server",
    "host",
)
"""Labels that may name whom a client calls, in order of preference."""


@dataclass(frozen=True)
class _Counter:
    """One counter of calls: its caller's labels, and what tells a failed call."""

    callers: tuple[str, ...] = ()
    """Labels that name the caller; none: the ordinary service labels."""
    fixed: str = ""
    """Matchers that always hold."""
    failed_name: str | None = None
    """Counter of the failed calls, where it is one of its own."""
    failed: Mapping[str, str] | None = None
    """Labels that tell a failed call; null: those of inbound requests."""


COUNTERS: Mapping[str, _Counter] = {
    "http_client_request_duration_seconds_count": _Counter(
        failed={"error_type": '!="",http_response_status_code!~"4.."', **FAILED}
    ),
    "http_client_requests_seconds_count": _Counter(
        failed={"outcome": '=~"SERVER_ERROR|UNKNOWN"', "status": '=~"5..|IO_ERROR|CLIENT_ERROR"'}
    ),
    "http_client_duration_milliseconds_count": _Counter(),
    "http_client_requests_total": _Counter(),
    "grpc_client_handled_total": _Counter(),
    "istio_requests_total": _Counter(("source_workload", "source_app"), 'reporter="source"'),
    "traces_service_graph_request_total": _Counter(
        ("client",), "", "traces_service_graph_request_failed_total"
    ),
}
"""Counters of outbound calls: OpenTelemetry (new and old names), Micrometer, the plain client
libraries, gRPC, Istio's source side, Tempo's service graph."""


@dataclass(frozen=True)
class _Found:
    """How one service's calls are counted."""

    counter: str
    failed_counter: str
    selector: str
    peer: str
    failed: str
    pod_label: str | None


async def outbound_calls(
    client: PrometheusClient, subject: Subject, windows: Windows
) -> list[OutboundCalls]:
    """What a service asks of each dependency, before and after, and by revision where it shows.

    Returns:
        Dependencies, those with most failed calls first; empty: the service counts no calls of
        its own, which says nothing about its dependencies.

    Raises:
        InvalidArguments, CredentialsRejected, RateLimited, UpstreamTimeout, UpstreamUnavailable:
            As the client raises them.
    """
    found = await _find(client, subject, windows)
    if found is None:
        return []
    arms: list[tuple[Window, str | None]] = [(windows.baseline, None), (windows.after, None)]
    if found.pod_label and subject.new and subject.old:
        arms += [
            (windows.after, pod_pattern(subject.old)),
            (windows.after, pod_pattern(subject.new)),
        ]
    answers = await asyncio.gather(*(_arm(client, found, window, pods) for window, pods in arms))
    before, after = answers[:2]
    old, new = answers[2:] if len(answers) == 4 else ({}, {})
    calls = [
        OutboundCalls(
            dependency=clean(peer)[:120],
            baseline_error_rate=_rate(before.get(peer)),
            after_error_rate=_rate(counts),
            calls=counts[0],
            failed=counts[1],
            old_error_rate=_rate(old.get(peer)),
            new_error_rate=_rate(new.get(peer)),
            query=_query(found, windows.after, None, failed=True),
        )
        for peer, counts in after.items()
    ]
    return sorted(calls, key=lambda c: (-c.failed, -c.calls, c.dependency))[:MOST_DEPENDENCIES]


async def _find(client: PrometheusClient, subject: Subject, windows: Windows) -> _Found | None:
    """The first counter in order that has series of the service."""
    settings = client.settings
    plain = "|".join(name for name, counter in COUNTERS.items() if not counter.callers)
    asked = [(plain, label, "") for label in settings.service_labels]
    for name, counter in COUNTERS.items():
        fixed = f",{counter.fixed}" if counter.fixed else ""
        asked += [(name, label, fixed) for label in counter.callers]
    selectors = [
        f'{{__name__=~"{names}",{label}={quoted(subject.service)}{fixed}}}'
        for names, label, fixed in asked
    ]
    found = await client.series(selectors, windows.baseline.start, windows.after.end)
    for name, counter in COUNTERS.items():
        mine = [s for s in found if s.get("__name__") == name]
        if mine and (chosen := _convention(name, counter, mine, subject, client)) is not None:
            return chosen
    return None


def _convention(
    name: str,
    counter: _Counter,
    series: Sequence[Mapping[str, str]],
    subject: Subject,
    client: PrometheusClient,
) -> _Found | None:
    settings = client.settings
    labels = {label for one in series for label in one}
    caller = next(
        label
        for label in (counter.callers or settings.service_labels)
        if any(one.get(label) == subject.service for one in series)
    )
    peer = next((p for p in _PEERS if p in labels and p != caller), None)
    if peer is None:
        return None
    failures = counter.failed or FAILED
    failed = next((f"{label}{how}" for label, how in failures.items() if label in labels), "")
    if not failed and counter.failed_name is None:
        return None
    matchers = [f"{caller}={quoted(subject.service)}", counter.fixed]
    space = next((n for n in settings.namespace_labels if n in labels), None)
    if space and any(one.get(space) == subject.namespace for one in series):
        matchers.append(f"{space}={quoted(subject.namespace)}")
    pod = next((p for p in settings.pod_labels if p in labels), None)
    return _Found(
        counter=name,
        failed_counter=counter.failed_name or name,
        selector=",".join(m for m in matchers if m),
        peer=peer,
        failed="" if counter.failed_name else failed,
        pod_label=pod,
    )


async def _arm(
    client: PrometheusClient, found: _Found, window: Window, pods: str | None
) -> dict[str, tuple[float, float]]:
    """(calls, failed) by dependency."""
    total, failed = await asyncio.gather(
        client.query(_query(found, window, pods, failed=False), window.end),
        client.query(_query(found, window, pods, failed=True), window.end),
    )
    bad = {s.labels.get(found.peer, ""): s.points[0][1] or 0.0 for s in failed}
    counts: dict[str, tuple[float, float]] = {}
    for series in total:
        peer, calls = series.labels.get(found.peer, ""), series.points[0][1] or 0.0
        if peer:
            counts[peer] = (round(calls, 1), round(min(bad.get(peer, 0.0), calls), 1))
    return counts


def _query(found: _Found, window: Window, pods: str | None, *, failed: bool) -> str:
    parts = [found.selector]
    if failed and found.failed:
        parts.append(found.failed)
    if pods is not None:
        parts.append(f"{found.pod_label}=~{quoted(pods)}")
    name = found.failed_counter if failed else found.counter
    return f"sum by ({found.peer}) (increase({name}{{{','.join(parts)}}}[{window.seconds:.0f}s]))"


def _rate(counts: tuple[float, float] | None) -> float | None:
    return round(counts[1] / counts[0], 5) if counts and counts[0] > 0 else None
