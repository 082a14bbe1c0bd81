"""A Prometheus on loopback: counters made by a rule, real HTTP, faults on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.settings import PrometheusSettings
from mcp_devops.scenarios.listening import listening
from mcp_devops.scenarios.packing import Samples
from mcp_devops.scenarios.replay_prometheus import prometheus_app

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SCRAPE_S = 5
EDGES = ("0.05", "0.1", "0.25", "0.5", "1", "+Inf")


class FixedClock:
    """Stands still at the end of the samples."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()


@dataclass(frozen=True)
class Pod:
    """One pod's traffic: from when to when, how much, how bad, how slow."""

    name: str
    start: datetime
    end: datetime
    rps: float = 10.0
    error_rate: float = 0.0
    slow: float = 0.0
    """Share of requests between 0.25 and 0.5 s; the others take under 0.05 s."""
    service: str = "checkout"
    extra: dict[str, str] = field(default_factory=lambda: {"namespace": "shop"})


def samples_of(pod: Pod, label: str = "service", code: str = "status") -> list[Samples]:
    """The counters and the histogram that a scrape of this pod would have given."""
    count = int((pod.end - pod.start).total_seconds() // SCRAPE_S) + 1
    times = [pod.start.timestamp() + i * SCRAPE_S for i in range(count)]
    total = [round(pod.rps * SCRAPE_S * i, 6) for i in range(count)]
    base = {label: pod.service, "pod": pod.name, **pod.extra}

    def series(name: str, share: float, **labels: str) -> Samples:
        return Samples(
            {"__name__": name, **base, **labels}, times, [round(t * share, 6) for t in total]
        )

    found = [series("http_requests_total", 1 - pod.error_rate, **{code: "200"})]
    if pod.error_rate:
        found.append(series("http_requests_total", pod.error_rate, **{code: "500"}))
    for edge in EDGES:
        fast = 1.0 if float(edge) >= 0.5 else 1 - pod.slow
        found.append(series("http_request_duration_seconds_bucket", fast, le=edge))
    found.append(series("http_request_duration_seconds_count", 1))
    mean = 0.02 * (1 - pod.slow) + 0.4 * pod.slow
    found.append(series("http_request_duration_seconds_sum", mean))
    return found


class _Tape:
    def __init__(self, samples: Sequence[Samples]) -> None:
        self._samples = samples

    def until(self, at: float) -> Sequence[Samples]:
        return self._samples


class _World:
    def __init__(self, samples: Sequence[Samples], clock: FixedClock) -> None:
        self.tape = _Tape(samples)
        self._clock = clock

    def now(self) -> float:
        return self._clock.now().timestamp()


@asynccontextmanager
async def prometheus(
    samples: Sequence[Samples], clock: FixedClock | None = None, **settings: Any
) -> AsyncIterator[PrometheusClient]:
    """A client of a Prometheus that holds these samples."""
    clock = clock or FixedClock()
    app = prometheus_app(_World(samples, clock))  # type: ignore[arg-type]  # the part that it uses
    async with listening(app) as url:
        client = PrometheusClient(PrometheusSettings(url=url, **settings), clock)
        try:
            yield client
        finally:
            await client.close()


def fault(kind: str) -> Callable[[Request], Any]:
    """A handler that fails in a named way."""

    async def answer(request: Request) -> Response:
        if kind == "html":
            return HTMLResponse("<html>gateway</html>")
        if kind == "slow":
            await asyncio.sleep(30)
        if kind == "limited":
            return JSONResponse({}, 429, {"Retry-After": "7"})
        if kind == "unauthorized":
            return JSONResponse({"status": "error", "error": "no"}, 401)
        if kind == "forbidden":
            return HTMLResponse("no", 403)
        if kind == "bad_query":
            body = {"status": "error", "errorType": "bad_data", "error": "parse error at 1:2"}
            return JSONResponse(body, 400)
        if kind == "overloaded":
            body = {"status": "error", "errorType": "timeout", "error": "query timed out"}
            return JSONResponse(body, 503)
        rows = [{"metric": {"n": str(i)}, "value": [0, "1"]} for i in range(2001)]
        data = {"resultType": "vector", "result": rows}
        return JSONResponse({"status": "success", "data": data})

    return answer


@asynccontextmanager
async def failing(kind: str, **settings: Any) -> AsyncIterator[PrometheusClient]:
    """A client of something that fails in a named way on every path."""
    app = Starlette(routes=[Route("/{path:path}", fault(kind), methods=["GET", "POST"])])
    async with listening(app) as url:
        client = PrometheusClient(PrometheusSettings(url=url, **settings), FixedClock())
        try:
            yield client
        finally:
            await client.close()


def minutes_ago(minutes: float) -> datetime:
    """A moment before NOW."""
    return NOW - timedelta(minutes=minutes)
