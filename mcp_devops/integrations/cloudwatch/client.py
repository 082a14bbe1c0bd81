"""The only file that talks to CloudWatch: metrics in, points out, failures as our errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mcp_devops.errors import PermissionDenied, UpstreamTimeout, UpstreamUnavailable
from mcp_devops.integrations.cloudwatch import sdk
from mcp_devops.integrations.cloudwatch.connecting import GivenUpError, connect, waited_for
from mcp_devops.integrations.cloudwatch.failures import LIMITED, SOURCE, code_of, explained
from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings
from mcp_devops.toolkit.clock import Clock

MOST_PAGES = 20
"""Pages of one answer; each may hold 100,800 points."""
PAUSES_S = (0.2, 0.8)
"""Pauses before an answer of "limit exceeded" is asked for again; botocore repeats the others."""

Points = Mapping[int, float]
"""Values by the bucket's start in epoch seconds."""


@dataclass(frozen=True)
class Metric:
    """One metric and statistic."""

    namespace: str
    name: str
    stat: str
    dimensions: tuple[tuple[str, str], ...]

    def text(self, period_s: int) -> str:
        """The query for a person."""
        where = ",".join(f"{k}={v}" for k, v in self.dimensions)
        return f"{self.namespace} {self.name} {self.stat} period={period_s} {{{where}}}"

    def query(self, number: int, period_s: int) -> dict[str, Any]:
        """The query as GetMetricData has it; without a unit, since a wrong one finds nothing."""
        dimensions = [{"Name": k, "Value": v} for k, v in self.dimensions]
        metric = {
            "Namespace": self.namespace, "MetricName": self.name, "Dimensions": dimensions,
        }  # fmt: skip
        return {
            "Id": f"m{number}",
            "ReturnData": True,
            "MetricStat": {"Metric": metric, "Period": period_s, "Stat": self.stat},
        }


class CloudWatchClient:
    """Asks one region. boto3 is imported and connected on the first call, in its thread."""

    def __init__(self, settings: CloudWatchSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self._lock = threading.Lock()
        self._made: Any = None

    async def metric_data(
        self, metrics: Sequence[Metric], start: datetime, end: datetime, period_s: int
    ) -> list[Points]:
        """Several metrics over one stretch of time [start, end), in one request a page.

        Returns:
            The points of each metric, in their order; empty where there is none.

        Raises:
            NotConfigured: boto3, the region, the profile or credentials are missing.
            CredentialsRejected, PermissionDenied, InvalidArguments, RateLimited,
                UpstreamTimeout, UpstreamUnavailable: As named.
        """
        given_up = threading.Event()
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                return await asyncio.to_thread(
                    self._fetch, tuple(metrics), start, end, period_s, given_up
                )
        except TimeoutError as late:
            raise UpstreamTimeout(
                f"CloudWatch did not answer within {self.settings.timeout_s:g} s.",
                fix="Raise MCP_DEVOPS_CLOUDWATCH__TIMEOUT_S, or ask for shorter windows.",
                source=SOURCE,
            ) from late
        finally:
            # A thread cannot be cancelled: it sees this before each attempt and page, and ends.
            given_up.set()

    async def close(self) -> None:
        """End the connections."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _fetch(
        self,
        metrics: tuple[Metric, ...],
        start: datetime,
        end: datetime,
        period_s: int,
        given_up: threading.Event,
    ) -> list[Points]:
        """Blocking; in a worker thread, whose context is its own."""
        waited_for.set(given_up)
        kit = sdk.load()
        asked = {
            "MetricDataQueries": [m.query(i, period_s) for i, m in enumerate(metrics)],
            "StartTime": start,
            "EndTime": end,
            "ScanBy": "TimestampAscending",
        }
        try:
            return self._pages(kit, self._connected(kit), asked, len(metrics), given_up)
        except (kit.exceptions.ClientError, kit.exceptions.BotoCoreError) as problem:
            raise explained(problem, kit.exceptions) from problem
        except GivenUpError as nobody:
            raise UpstreamTimeout(
                "Given up before CloudWatch answered.", fix="Repeat.", source=SOURCE
            ) from nobody

    def _pages(
        self,
        kit: sdk.Sdk,
        connection: Any,
        asked: Mapping[str, Any],
        count: int,
        given_up: threading.Event,
    ) -> list[Points]:
        found: list[dict[int, float]] = [{} for _ in range(count)]
        status = ["Complete"] * count
        token: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            page = _patiently(kit, connection, {**asked, **token}, given_up)
            results = page.get("MetricDataResults")
            if not isinstance(results, list):
                raise _strange("did not answer with its API")
            for result in results:
                number = _number(result, count)
                status[number] = str(result.get("StatusCode", "Complete"))
                _check(status[number], result)
                found[number] |= _points(result)
            following = page.get("NextToken")
            if not following:
                if "PartialData" in status:
                    raise _strange("gave a part of the data and no way to the rest")
                return list(found)
            if following == token.get("NextToken"):
                raise _strange("repeats a page")
            token = {"NextToken": following}
        raise _strange(f"has more than {MOST_PAGES} pages")

    def _connected(self, kit: sdk.Sdk) -> Any:
        with self._lock:
            if self._made is None:
                self._made = connect(kit, self.settings)
            return self._made


def _patiently(
    kit: sdk.Sdk, connection: Any, asked: Mapping[str, Any], given_up: threading.Event
) -> Mapping[str, Any]:
    """One page; again after a pause where CloudWatch says that its limit is exceeded."""
    pauses = list(PAUSES_S)
    while True:
        try:
            page: Mapping[str, Any] = connection.get_metric_data(**asked)
        except kit.exceptions.ClientError as problem:
            repeats = problem.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
            if not pauses or repeats or code_of(problem) not in LIMITED:
                raise
            given_up.wait(pauses.pop(0))
        else:
            return page


def _number(result: Mapping[str, Any], count: int) -> int:
    name = str(result.get("Id", ""))
    number = int(name[1:]) if name[:1] == "m" and name[1:].isdecimal() else count
    if number >= count:
        raise _strange("answered a query that was not asked")
    return number


def _check(status: str, result: Mapping[str, Any]) -> None:
    said = "; ".join(str(m.get("Value", "")) for m in result.get("Messages") or [])
    if status == "Forbidden":
        raise PermissionDenied(
            "The AWS identity may not read one of the metrics.",
            fix="Allow cloudwatch:GetMetricData to it, in the metrics' own account as well.",
            source=SOURCE,
            upstream=said,
            grants=["cloudwatch:GetMetricData"],
        )
    if status == "InternalError":
        raise UpstreamUnavailable(
            "CloudWatch failed at one of the metrics (InternalError).",
            fix="Wait and repeat.",
            source=SOURCE,
            upstream=said,
        )


def _points(result: Mapping[str, Any]) -> dict[int, float]:
    times, values = result.get("Timestamps") or [], result.get("Values") or []
    if len(times) != len(values):
        raise _strange("gave values without their times")
    return {round(t.timestamp()): float(v) for t, v in zip(times, values, strict=True)}


def _strange(what: str) -> UpstreamUnavailable:
    return UpstreamUnavailable(
        f"CloudWatch {what}.",
        fix="Wait and repeat; if it stays, check MCP_DEVOPS_CLOUDWATCH__ENDPOINT_URL.",
        source=SOURCE,
    )
