"""The published shapes of Sentry's answers and requests, as far as the integration reads them.

Field names and types follow getsentry/sentry-api-schema (OpenAPI, 2026-08) and, for the two
endpoints outside of it, the source of getsentry/sentry. Written by hand: no answer was recorded.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

CLOSED = ConfigDict(extra="forbid", strict=True)
OPEN = ConfigDict(extra="allow", strict=True)

DATASETS = {"errors", "logs", "profile_functions", "spans", "tracemetrics", "uptime_results"}
TIMESERIES_PARAMETERS = {
    *("dataset", "end", "environment", "project", "start", "statsPeriod", "topEvents", "sort"),
    *("comparisonDelta", "interval", "groupBy", "yAxis", "query", "excludeOther"),
    *("disableAggregateExtrapolation", "preventMetricAggregates"),
}
ISSUES_PARAMETERS = {
    *("environment", "project", "statsPeriod", "start", "end", "groupStatsPeriod"),
    *("shortIdLookup", "query", "viewId", "sort", "limit", "expand", "collapse", "cursor"),
}
RELEASES_PARAMETERS = {"project", "environment", "query", "status", "sort", "per_page", "cursor"}


@with_config(CLOSED)
class Row(TypedDict):
    timestamp: float
    value: float
    incomplete: bool
    comparisonValue: NotRequired[float]
    sampleCount: NotRequired[float]
    sampleRate: NotRequired[float | None]
    confidence: NotRequired[Literal["low", "high"] | None]
    incompleteReason: NotRequired[str]


@with_config(CLOSED)
class SeriesMeta(TypedDict):
    order: NotRequired[int]
    isOther: NotRequired[bool]
    valueUnit: str | None
    dataScanned: NotRequired[Literal["partial", "full"]]
    valueType: str
    interval: float


@with_config(CLOSED)
class Series(TypedDict):
    values: list[Row]
    yAxis: str
    groupBy: NotRequired[list[dict[str, str]]]
    meta: SeriesMeta


@with_config(CLOSED)
class StatsMeta(TypedDict):
    dataset: str
    start: float
    end: float


@with_config(CLOSED)
class TimeSeriesAnswer(TypedDict):
    meta: StatsMeta
    timeSeries: list[Series]


@with_config(OPEN)
class OldStats(TypedDict):
    data: list[tuple[int, list[dict[str, Any]]]]
    start: float
    end: float


@with_config(OPEN)
class IssueRow(TypedDict):
    id: str
    shortId: str
    title: str
    culprit: str | None
    level: str
    status: str
    substatus: str | None
    count: str
    userCount: int
    firstSeen: str
    lastSeen: str
    permalink: str
    project: dict[str, Any]


@with_config(CLOSED)
class DeployRow(TypedDict):
    id: str
    environment: str
    dateStarted: str | None
    dateFinished: str
    name: str | None
    url: str | None


@with_config(OPEN)
class ReleaseRow(TypedDict):
    version: str
    shortVersion: str
    dateCreated: str
    dateReleased: str | None
    newGroups: int
    deployCount: int
    lastDeploy: DeployRow | None
    projects: list[dict[str, Any]]


@with_config(OPEN)
class ProjectRow(TypedDict):
    id: str
    slug: str
    name: str
    firstEvent: str | None


@with_config(OPEN)
class OrganizationRow(TypedDict):
    id: str
    slug: str
    name: str
    links: dict[str, str]
    access: list[str]


def checked(shape: Any, answer: Any) -> Any:
    """The answer, if it has the published shape."""
    # Tuples stand for JSON lists here, so strictness is left to the leaves.
    TypeAdapter(shape).validate_python(answer, strict=False)
    return answer
