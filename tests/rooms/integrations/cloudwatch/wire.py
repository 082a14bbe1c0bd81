"""GetMetricData on loopback as botocore speaks it (JSON 1.0), for what moto does not have.

Requests and answers are held to botocore's own service model: what the SDK would refuse to send,
or could not read, is an error here.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from mcp_devops.integrations.cloudwatch.client import CloudWatchClient
from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings
from mcp_devops.scenarios.listening import listening
from tests.support.prometheus_api import FixedClock

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
TARGET = "GraniteServiceVersion20100801.GetMetricData"
JSON_1_0 = "application/x-amz-json-1.0"

Value = Callable[[datetime], float | None]
Handler = Callable[[Request], Awaitable[Response]]


def minutes_ago(minutes: float) -> datetime:
    return NOW.replace(second=0) - timedelta(minutes=minutes)


def constant(value: float, since: float = 600, until: float = -10) -> Value:
    """The value in every bucket between two moments, given in minutes ago."""

    def at(start: datetime) -> float | None:
        return value if minutes_ago(since) <= start < minutes_ago(until) else None

    return at


@dataclass
class Wire:
    """The stand-in.

    Attributes:
        metrics: (metric name, statistic) to its values.
        dimensions: Those that every question must have; None: any.
        page: Points of one metric on one page; None: all on one.
        faults: Handlers used up first, one a request.
        status: Status of every result in place of the true one.
        token: Token in place of the true one.
        shift_s: Seconds by which every time is off.
        asked: The validated requests.
        keys: Access keys that signed them.
    """

    metrics: Mapping[tuple[str, str], Value] = field(default_factory=dict)
    dimensions: Mapping[str, str] | None = None
    page: int | None = None
    faults: list[Handler] = field(default_factory=list)
    status: str | None = None
    token: str | None = None
    shift_s: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        assert request.headers["x-amz-target"] == TARGET
        assert request.headers["content-type"] == JSON_1_0
        signed = re.search(
            r"Credential=(\w+)/\d+/[\w-]+/monitoring/aws4_request", request.headers["authorization"]
        )
        assert signed is not None
        self.keys.append(signed[1])
        asked = json.loads(await request.body())
        validated(asked, "input_shape")
        self.asked.append(asked)
        if self.faults:
            return await self.faults.pop(0)(request)
        return json_answer(validated(self._page(asked), "output_shape"))

    def _page(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["ScanBy"] == "TimestampAscending"
        first = int(asked.get("NextToken", "0"))
        results, more = [], False
        for query in asked["MetricDataQueries"]:
            points = self._points(asked, query["MetricStat"])
            last = len(points) if self.page is None else first + self.page
            partial = last < len(points)
            more = more or partial
            part = points[first:last]
            results.append(
                {
                    "Id": query["Id"],
                    "Label": query["MetricStat"]["Metric"]["MetricName"],
                    "Timestamps": [t + self.shift_s for t, _ in part],
                    "Values": [v for _, v in part],
                    "StatusCode": self.status or ("PartialData" if partial else "Complete"),
                    "Messages": [{"Code": "X", "Value": "said"}] if self.status else [],
                }
            )
        answer: dict[str, Any] = {"MetricDataResults": results, "Messages": []}
        if more or self.token:
            answer["NextToken"] = self.token or str(first + (self.page or 0))
        return answer

    def _points(self, asked: dict[str, Any], wanted: dict[str, Any]) -> list[tuple[int, float]]:
        assert "Unit" not in wanted
        metric, period = wanted["Metric"], wanted["Period"]
        where = {d["Name"]: d["Value"] for d in metric.get("Dimensions", [])}
        value = self.metrics.get((metric["MetricName"], wanted["Stat"]))
        if value is None or (self.dimensions is not None and where != self.dimensions):
            return []
        assert asked["StartTime"] % period == 0 and asked["EndTime"] % period == 0
        starts = range(int(asked["StartTime"]), int(asked["EndTime"]), period)
        found = [(t, value(datetime.fromtimestamp(t, UTC))) for t in starts]
        return [(t, v) for t, v in found if v is not None]


def validated(data: dict[str, Any], shape: str) -> dict[str, Any]:
    """The data, which botocore's model of GetMetricData allows."""
    session = importlib.import_module("botocore.session").get_session()
    operation = session.get_service_model("cloudwatch").operation_model("GetMetricData")
    validator = importlib.import_module("botocore.validate").ParamValidator()
    report = validator.validate(data, getattr(operation, shape))
    assert not report.has_errors(), report.generate_report()
    return data


def json_answer(
    body: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(json.dumps(body), status, headers, media_type=JSON_1_0)


def error(code: str, status: int = 400, message: str = "said", query: str | None = None) -> Handler:
    """A failure as CloudWatch gives it; `query`: the code of the older protocol, in a header."""

    async def answer(request: Request) -> Response:
        headers = {"x-amzn-query-error": f"{query};Sender"} if query else {}
        body = {"__type": f"com.amazonaws.cloudwatch#{code}", "message": message}
        return json_answer(body, status, headers)

    return answer


async def html(request: Request) -> Response:
    return HTMLResponse("<html>gateway</html>")


async def slow(request: Request) -> Response:
    await asyncio.sleep(30)
    raise AssertionError


@asynccontextmanager
async def cloudwatch(
    wire: Wire, now: datetime = NOW, **settings: Any
) -> AsyncIterator[CloudWatchClient]:
    """A client of the stand-in: a load balancer without lag, unless told otherwise."""
    options: dict[str, Any] = {
        "kind": "load_balancer",
        "region": "eu-west-1",
        "services": {
            "checkout": {"LoadBalancer": "app/prod/50dc", "TargetGroup": "targetgroup/a/1"}
        },
        "settle_s": 0,
        "grace_s": 0,
    } | settings
    async with listening(wire.app()) as url:
        client = CloudWatchClient(
            CloudWatchSettings.load(endpoint_url=url, **options), FixedClock(now)
        )
        try:
            yield client
        finally:
            await client.close()
