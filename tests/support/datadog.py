"""A Datadog on loopback: trace metrics made by a rule, both query APIs, faults on request.

Requests and answers are held to the published shape by the models below (the fields and types of
the API description that datadog-api-client 2.62 is generated from).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from mcp_devops.integrations.datadog.client import DatadogClient
from mcp_devops.integrations.datadog.settings import DatadogSettings
from mcp_devops.scenarios.listening import listening
from tests.support.prometheus_api import FixedClock

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
"""Half a minute past: the newest bucket is not whole."""
API_KEY, APP_KEY = "a" * 32, "b" * 40
SECOND = {
    "family": "time", "name": "second", "plural": "seconds", "scale_factor": 1.0,
    "short_name": "s",
}  # fmt: skip

Handler = Callable[[Request], Awaitable[Response]]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Query(_Shape):
    data_source: Literal["metrics", "cloud_cost"]
    name: str
    query: str


class _Formula(_Shape):
    formula: str


class _Asked(_Shape):
    start: int = Field(alias="from", ge=1_000_000_000_000)  # milliseconds
    to: int = Field(ge=1_000_000_000_000)
    interval: int = Field(ge=1000)
    queries: list[_Query]
    formulas: list[_Formula]


class _RequestData(_Shape):
    type: Literal["timeseries_request"]
    attributes: _Asked


class TimeseriesRequest(_Shape):
    """Body of POST /api/v2/query/timeseries."""

    data: _RequestData


class _Unit(_Shape):
    family: str
    name: str
    plural: str
    scale_factor: float
    short_name: str


class _SeriesHead(_Shape):
    group_tags: list[str]
    query_index: int
    unit: list[_Unit | None] | None


class _Answered(_Shape):
    series: list[_SeriesHead]
    times: list[int]
    values: list[list[float | None]]


class _AnswerData(_Shape):
    type: Literal["timeseries_response"]
    attributes: _Answered


class TimeseriesAnswer(_Shape):
    """Answer of POST /api/v2/query/timeseries."""

    data: _AnswerData


class _V1Series(_Shape):
    metric: str
    scope: str
    expression: str
    display_name: str
    aggr: str | None
    interval: int
    length: int
    start: int
    end: int
    tag_set: list[str]
    query_index: int
    unit: list[_Unit | None] | None
    pointlist: list[list[float | None]]


class V1Answer(_Shape):
    """Answer of GET /api/v1/query."""

    status: Literal["ok", "error"]
    res_type: str
    query: str
    from_date: int
    to_date: int
    group_by: list[str]
    message: str
    series: list[_V1Series]
    error: str | None = None


@dataclass(frozen=True)
class Traffic:
    """What one version of a service served: from when to when, how much, how bad, how slow."""

    start: datetime
    end: datetime
    version: str = "1.0"
    per_minute: float = 600.0
    error_rate: float = 0.0
    p99_s: float = 0.25
    mean_s: float = 0.05
    service: str = "checkout"
    env: str = "prod"
    operation: str = "flask.request"

    def fits(self, tags: dict[str, str]) -> bool:
        own = {"service": self.service, "env": self.env, "version": self.version}
        return all(value == "*" or own.get(key) == value for key, value in tags.items())

    def requests(self, start: int, step_s: int, newest: datetime) -> float:
        first = max(start, self.start.timestamp())
        last = min(start + step_s, self.end.timestamp(), newest.timestamp())
        return max(0.0, last - first) * self.per_minute / 60


QUERY = re.compile(
    r"(?P<aggregator>sum|avg|p99):trace\.(?P<operation>[\w.]+?)(?:\.(?P<kind>hits|errors))?"
    r"\{(?P<scope>[^{}]+)\}(?P<count>\.as_count\(\))?(?:\.rollup\((?:sum, )?(?P<step>\d+)\))?"
)


@dataclass
class DatadogApi:
    """The stand-in.

    Attributes:
        traffic: What there is to count.
        lag: Seconds for which the newest spans have not arrived.
        faults: Handlers used up first, one a request.
        lacks_v2: Whether the second version's path is unknown.
        coarse: Interval answered in place of the one asked for.
        now: Time of the newest span, but for the lag.
        split: Answer every series twice, as an unaggregated query would.
        asked: Every request seen: method, path, and what it asked.
    """

    traffic: Sequence[Traffic] = ()
    lag: float = 0
    faults: list[Handler] = field(default_factory=list)
    lacks_v2: bool = False
    coarse: int | None = None
    split: bool = False
    now: datetime = NOW
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/v2/query/timeseries", self._guarded(self._v2), methods=["POST"]),
                Route("/api/v1/query", self._guarded(self._v1)),
                Route("/api/v1/validate", self._guarded(self._validate)),
            ]
        )

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            headers = request.headers
            if self.faults:
                return await self.faults.pop(0)(request)
            if headers.get("dd-api-key") != API_KEY:
                return JSONResponse({"errors": ["Forbidden"]}, 403)
            needs_app = request.url.path != "/api/v1/validate"
            if needs_app and headers.get("dd-application-key") != APP_KEY:
                return JSONResponse({"errors": ["Forbidden"]}, 403)
            return await handler(request)

        return answer

    async def _validate(self, request: Request) -> Response:
        self.asked.append(("GET", "/api/v1/validate", None))
        return JSONResponse({"valid": True})

    async def _v2(self, request: Request) -> Response:
        if self.lacks_v2:
            return JSONResponse({"errors": ["Not Found"]}, 404)
        try:
            asked = TimeseriesRequest.model_validate_json(await request.body()).data.attributes
        except ValidationError as wrong:
            return JSONResponse({"errors": [str(wrong)]}, 400)
        names = {q.name: q.query for q in asked.queries}
        queries = [names[f.formula] for f in asked.formulas]
        self.asked.append(("POST", request.url.path, queries))
        step = self.coarse or asked.interval // 1000
        rows, times = self._rows(queries, asked.start / 1000, asked.to / 1000, step)
        answer = TimeseriesAnswer.model_validate(
            {
                "data": {
                    "type": "timeseries_response",
                    "attributes": {
                        "series": [
                            {
                                "group_tags": [],
                                "query_index": index,
                                "unit": [SECOND, None] if timed else None,
                            }
                            for index, timed, _ in rows
                        ],
                        "times": [t * 1000 for t in times],
                        "values": [values for _, _, values in rows],
                    },
                }
            }
        )
        return JSONResponse(answer.model_dump())

    async def _v1(self, request: Request) -> Response:
        params = request.query_params
        start, end = int(params["from"]), int(params["to"])
        assert end < 10_000_000_000, "the first version speaks seconds"
        queries = re.split(r",(?=\w+:)(?![^{]*\})", params["query"])
        self.asked.append(("GET", request.url.path, queries))
        step = self.coarse or max(int(m["step"] or 20) for q in queries if (m := QUERY.match(q)))
        rows, times = self._rows(queries, start, end, step)
        series = []
        for index, timed, values in rows:
            points = [[t * 1000.0, v] for t, v in zip(times, values, strict=True) if v is not None]
            match = QUERY.match(queries[index])
            assert match is not None
            series.append(
                {
                    "metric": f"trace.{match['operation']}",
                    "scope": match["scope"],
                    "expression": queries[index],
                    "display_name": queries[index],
                    "aggr": match["aggregator"],
                    "interval": step,
                    "length": len(points),
                    "start": start * 1000,
                    "end": end * 1000,
                    "tag_set": [],
                    "query_index": index,
                    "unit": [SECOND, None] if timed else None,
                    "pointlist": points,
                }
            )
        answer = V1Answer.model_validate(
            {
                "status": "ok", "res_type": "time_series", "query": params["query"],
                "from_date": start * 1000, "to_date": end * 1000, "group_by": [], "message": "",
                "series": series,
            }
        )  # fmt: skip
        return JSONResponse(answer.model_dump(exclude_none=True))

    def _rows(
        self, queries: Sequence[str], start: float, end: float, step: int
    ) -> tuple[list[tuple[int, bool, list[float | None]]], list[int]]:
        """(index, whether a duration, values) of every query that has a series, and the times."""
        times = list(range(int(start // step) * step, int(end), step))
        rows = []
        for index, query in enumerate(queries):
            match = QUERY.fullmatch(query)
            if match is None:
                continue
            values = self._values(match, times, step)
            if any(v is not None for v in values):
                rows += [(index, match["kind"] is None, values)] * (2 if self.split else 1)
        return rows, times

    def _values(self, match: re.Match[str], times: Sequence[int], step: int) -> list[float | None]:
        tags = dict(part.split(":", 1) for part in match["scope"].split(","))
        served = [t for t in self.traffic if t.operation == match["operation"] and t.fits(tags)]
        newest = self.now - timedelta(seconds=self.lag)
        values: list[float | None] = []
        for at in times:
            counts = [(t, t.requests(at, step, newest)) for t in served]
            total = sum(n for _, n in counts)
            if match["kind"] == "hits":
                values.append(total or None)
            elif match["kind"] == "errors":
                values.append(sum(n * t.error_rate for t, n in counts) or None)
            elif match["aggregator"] == "p99":
                values.append(max((t.p99_s for t, n in counts if n), default=None))
            else:
                values.append(sum(n * t.mean_s for t, n in counts) / total if total else None)
        return values


def fault(kind: str) -> Handler:
    """A handler that fails in a named way."""

    async def answer(request: Request) -> Response:
        if kind == "html":
            return HTMLResponse("<html>gateway</html>")
        if kind == "slow":
            await asyncio.sleep(30)
        if kind == "redirect":
            return RedirectResponse("http://127.0.0.1:9/elsewhere", 307)
        if kind == "error_in_ok":
            return JSONResponse({"status": "error", "error": "Rule 'x' is invalid", "series": []})
        if kind == "errors_in_ok":
            return JSONResponse({"errors": "too many queries"})
        status = {
            "limited": 429, "unlimited": 429, "forbidden": 403, "unauthorized": 401,
            "bad_query": 400, "broken": 500, "overloaded": 503, "missing": 404,
        }[kind]  # fmt: skip
        headers = {"X-RateLimit-Reset": "0", "X-RateLimit-Name": "metrics_query"}
        return JSONResponse({"errors": [kind]}, status, headers if kind == "limited" else {})

    return answer


def limited(reset: str) -> Handler:
    """HTTP 429 with the seconds to go."""

    async def answer(request: Request) -> Response:
        headers = {
            "X-RateLimit-Limit": "1600", "X-RateLimit-Period": "3600",
            "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset,
            "X-RateLimit-Name": "metrics_query",
        }  # fmt: skip
        return JSONResponse({"errors": ["Rate limited"]}, 429, headers)

    return answer


@asynccontextmanager
async def datadog(
    api: DatadogApi, now: datetime = NOW, **settings: Any
) -> AsyncIterator[DatadogClient]:
    """A client of the stand-in, with both keys unless told otherwise."""
    options: dict[str, Any] = {"api_key": API_KEY, "app_key": APP_KEY, "settle_s": 0} | settings
    async with listening(api.app()) as url:
        client = DatadogClient(DatadogSettings.load(url=url, **options), FixedClock(now))
        try:
            yield client
        finally:
            await client.close()


def minutes_ago(minutes: float) -> datetime:
    """A moment before the whole minute that NOW lies in."""
    return NOW.replace(second=0) - timedelta(minutes=minutes)
