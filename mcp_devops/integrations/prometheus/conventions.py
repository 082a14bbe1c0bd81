"""Which metric and labels a service's requests are counted in: found by looking, not assumed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcp_devops.errors import NoData
from mcp_devops.integrations.prometheus.client import SOURCE, PrometheusClient
from mcp_devops.model.window import Windows

COUNTERS = (
    "http_requests_total",
    "http_server_requests_seconds_count",
    "http_server_request_duration_seconds_count",
    "http_server_duration_milliseconds_count",
    "http_request_duration_seconds_count",
    "istio_requests_total",
    "nginx_ingress_controller_requests",
    "grpc_server_handled_total",
    "traces_spanmetrics_calls_total",
)
"""Request counters of the common client libraries and meshes, most specific first."""

HISTOGRAMS: Mapping[str, tuple[str, float]] = {
    "http_requests_total": ("http_request_duration_seconds_bucket", 1000.0),
    "http_server_requests_seconds_count": ("http_server_requests_seconds_bucket", 1000.0),
    "http_server_request_duration_seconds_count": (
        "http_server_request_duration_seconds_bucket",
        1000.0,
    ),
    "http_server_duration_milliseconds_count": ("http_server_duration_milliseconds_bucket", 1.0),
    "http_request_duration_seconds_count": ("http_request_duration_seconds_bucket", 1000.0),
    "istio_requests_total": ("istio_request_duration_milliseconds_bucket", 1.0),
    "nginx_ingress_controller_requests": (
        "nginx_ingress_controller_request_duration_seconds_bucket",
        1000.0,
    ),
    "grpc_server_handled_total": ("grpc_server_handling_seconds_bucket", 1000.0),
    "traces_spanmetrics_calls_total": ("traces_spanmetrics_latency_bucket", 1000.0),
}
"""The histogram that goes with each counter, and milliseconds in its unit."""

FAILED: Mapping[str, str] = {
    "status": '=~"5.."',
    "code": '=~"5.."',
    "status_code": '=~"5..|STATUS_CODE_ERROR"',
    "http_status_code": '=~"5.."',
    "http_response_status_code": '=~"5.."',
    "response_code": '=~"5..|0"',
    "grpc_code": '=~"Unknown|DeadlineExceeded|Internal|Unavailable|DataLoss"',
    "outcome": '="SERVER_ERROR"',
}
"""Labels that tell a failed request, and how; 4xx is the caller's fault and does not count."""


def quoted(value: str) -> str:
    """A PromQL string literal."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def pod_pattern(owner: str) -> str:
    """A regular expression for the pods of a ReplicaSet, StatefulSet or DaemonSet."""
    safe = "".join(c if c.isalnum() or c == "-" else f"\\{c}" for c in owner)
    return f"{safe}-[a-z0-9]+"


@dataclass(frozen=True)
class Convention:
    """How one service is counted."""

    counter: str
    histogram: str | None
    unit_ms: float
    selector: str
    """Matchers for the service and its namespace, without braces."""
    service_label: str
    failed: str | None
    """Matcher of failed requests; None: failures are not told apart."""
    pod_label: str | None
    scrape_s: float
    """Seconds between two samples."""

    def matchers(self, pods: str | None = None, *more: str) -> str:
        """All matchers, optionally for the pods of one revision only."""
        parts = [self.selector, *more]
        if pods is not None and self.pod_label:
            parts.append(f"{self.pod_label}=~{quoted(pods)}")
        return "{" + ",".join(p for p in parts if p) + "}"


async def find_convention(
    client: PrometheusClient, service: str, namespace: str, windows: Windows
) -> Convention:
    """Look which counters exist for a service within the windows.

    Raises:
        NoData: None of the known conventions has a series; with what was looked for.
    """
    settings = client.settings
    names = "|".join(COUNTERS)
    histograms = "|".join(sorted({h for h, _ in HISTOGRAMS.values()}))
    selectors = [
        f'{{__name__=~"{names}|{histograms}",{label}={quoted(service)}}}'
        for label in settings.service_labels
    ]
    found = await client.series(selectors, windows.baseline.start, windows.after.end)
    chosen = _choose(found, service, namespace, client)
    if chosen is None:
        raise NoData(
            f"Prometheus has no request counter for service {service!r}: looked for"
            f" {len(COUNTERS)} common metric names under the labels"
            f" {', '.join(settings.service_labels)}.",
            fix="Name the label in MCP_DEVOPS_PROMETHEUS__SERVICE_LABELS, or give"
            " MCP_DEVOPS_PROMETHEUS__REQUESTS_QUERY and ERRORS_QUERY.",
            source=SOURCE,
        )
    return chosen if chosen.scrape_s else await _with_scrape_interval(client, chosen, windows)


def _choose(
    found: Sequence[Mapping[str, str]], service: str, namespace: str, client: PrometheusClient
) -> Convention | None:
    settings = client.settings
    for counter in COUNTERS:
        for label in settings.service_labels:
            series = [s for s in found if s.get("__name__") == counter and s.get(label) == service]
            if not series:
                continue
            space = next(
                (
                    n
                    for n in settings.namespace_labels
                    if any(s.get(n) == namespace for s in series)
                ),
                None,
            )
            selector = f"{label}={quoted(service)}"
            if space:
                selector += f",{space}={quoted(namespace)}"
                series = [s for s in series if s.get(space) == namespace]
            keys = set().union(*series)
            histogram, unit = HISTOGRAMS[counter]
            has_histogram = any(
                s.get("__name__") == histogram and s.get(label) == service for s in found
            )
            failed = next((f"{k}{rule}" for k, rule in FAILED.items() if k in keys), None)
            return Convention(
                counter=counter,
                histogram=histogram if has_histogram else None,
                unit_ms=unit,
                selector=selector,
                service_label=label,
                failed=failed,
                pod_label=next((p for p in settings.pod_labels if p in keys), None),
                scrape_s=0.0,
            )
    return None


async def _with_scrape_interval(
    client: PrometheusClient, convention: Convention, windows: Windows
) -> Convention:
    """Measure how often the counter is sampled: a range must hold at least four samples."""
    from dataclasses import replace

    query = f"max(count_over_time({convention.counter}{convention.matchers()}[5m]))"
    answers = await asyncio.gather(
        client.query(query, windows.after.end), client.query(query, windows.baseline.end)
    )
    counts = [v for a in answers for s in a for _, v in s.points if v]
    return replace(convention, scrape_s=300.0 / max(counts) if counts else 15.0)
