"""One question about a service in buckets, asked the new way and, failing that, the old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from mcp_devops.errors import InvalidArguments, NoData, NotFound, Unsupported
from mcp_devops.integrations.sentry.client import NO_ORGANIZATION, Params, SentryClient
from mcp_devops.integrations.sentry.foreign import term
from mcp_devops.integrations.sentry.projects import Project
from mcp_devops.integrations.sentry.timeseries import Axis, read_stats, read_timeseries

ERRORS = ("count()",)
REQUESTS, FAILED, P99 = "count()", "failure_count()", "p99(span.duration)"
SPANS = (REQUESTS, FAILED, P99)
NEW_PATH, OLD_PATH = "events-timeseries", "events-stats"


@dataclass(frozen=True)
class Question:
    """What stays the same between the questions of one comparison."""

    projects: tuple[Project, ...]
    environment: str | None
    start: datetime
    end: datetime
    step_s: int

    def params(self, dataset: str, axes: tuple[str, ...], release: str | None) -> Params:
        """The query parameters."""
        # Without it every span of a request would count as a request.
        query = ["is_transaction:true"] if dataset == "spans" else []
        if release is not None:
            query.append(term("release", release))
        found = [("dataset", dataset), *(("yAxis", axis) for axis in axes)]
        found += [("project", p.id) for p in self.projects]
        if self.environment is not None:
            found.append(("environment", self.environment))
        found += [
            ("start", _utc(self.start)),
            ("end", _utc(self.end)),
            ("interval", _interval(self.step_s)),
            ("query", " ".join(query)),
        ]
        if dataset == "spans":
            # An extrapolated count claims more certainty than the samples behind it have.
            found.append(("disableAggregateExtrapolation", "1"))
        return found


@dataclass(frozen=True)
class Told:
    """One question's answer.

    Attributes:
        axes: Its series, each with buckets of the length that was asked for.
        query: The exact request.
        endpoint: Which path answered.
    """

    axes: Mapping[str, Axis]
    query: str
    endpoint: str


async def ask(
    client: SentryClient,
    question: Question,
    dataset: str,
    axes: tuple[str, ...],
    release: str | None = None,
) -> Told:
    """Fetch the axes of a dataset, of one release or of all.

    Raises:
        NoData: There is no series in the answer, or its buckets have another length.
        NotFound: The organisation or the environment does not exist.
        As SentryClient.get.
    """
    params = question.params(dataset, axes, release)
    path, endpoint = client.path(f"{NEW_PATH}/"), NEW_PATH
    try:
        reply = await client.get(path, params, what="the environment or project")
        found = read_timeseries(reply.data)
    except (NotFound, Unsupported, InvalidArguments) as unknown:
        if unknown.details.get("missing") == NO_ORGANIZATION:
            raise
        # Older versions lack the path (404) or the dataset (400).
        path, endpoint = client.path(f"{OLD_PATH}/"), OLD_PATH
        params = [*params, ("partial", "1")]
        try:
            reply = await client.get(path, params, what="the environment or project")
        except (NotFound, Unsupported) as gone:
            # A newer version has no old path: then the first answer told the reason.
            raise unknown if isinstance(unknown, InvalidArguments) else gone from None
        found = read_stats(reply.data, axes)
    query = f"GET {path}?{urlencode(params)}"
    if not any(axis in found and found[axis].points for axis in axes):
        raise NoData(
            f"Sentry answered without one complete bucket (dataset {dataset}): that is unknown,"
            " not zero.",
            fix="Check project and environment, and that the token sees the project.",
            source="sentry",
        )
    for axis in found.values():
        if axis.points and axis.interval_s != question.step_s:
            told = "of unclear length" if axis.interval_s is None else f"of {axis.interval_s:g} s"
            raise NoData(
                f"Sentry answered in buckets {told}, asked were {question.step_s} s.",
                fix="Ask with the step_s that it uses.",
                source="sentry",
            )
    return Told(found, query, endpoint)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _interval(step_s: int) -> str:
    return f"{step_s // 60}m" if step_s % 60 == 0 else f"{step_s}s"
