"""Error rate and latency from every metric source that is configured, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mcp_devops.errors import DevOpsError, NoData, NotConfigured, NotFound
from mcp_devops.incidents.error_tracker import compare_releases
from mcp_devops.incidents.gaps import Gaps
from mcp_devops.incidents.question import Question
from mcp_devops.incidents.versions import versions
from mcp_devops.integrations.cloudwatch.client import CloudWatchClient
from mcp_devops.integrations.cloudwatch.series import compare as compare_cloudwatch
from mcp_devops.integrations.datadog.client import DatadogClient
from mcp_devops.integrations.datadog.series import compare as compare_datadog
from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.outbound import outbound_calls
from mcp_devops.integrations.prometheus.series import (
    Comparison,
    Subject,
    neighbour_rates,
)
from mcp_devops.integrations.prometheus.series import (
    compare as compare_prometheus,
)
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.model.change import Change
from mcp_devops.model.evidence import RequestSeries
from mcp_devops.model.surroundings import OutboundCalls
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.model.window import WindowRule, Windows
from mcp_devops.toolkit.comparing import RequestComparison, VersionedService
from mcp_devops.toolkit.context import Services

WHAT = "error rate and p99"

Compare = Callable[
    [Any, VersionedService, datetime, WindowRule], Awaitable[RequestComparison | None]
]
Rates = dict[str, tuple[float | None, float | None, float]]
"""Error rates by service: baseline, after, and requests after."""


@dataclass
class RequestEvidence:
    """What the metric sources gave together."""

    windows: Windows | None = None
    series: tuple[RequestSeries, ...] = ()
    rates: Rates | None = None
    outbound: tuple[OutboundCalls, ...] = ()


@dataclass(frozen=True)
class _Source:
    """One metric source in use."""

    name: str
    work: Callable[[], Awaitable[RequestComparison | None]]
    rule: WindowRule


@dataclass(frozen=True)
class _Lost:
    source: str
    why: str
    failed: bool
    """Whether it broke, or has nothing to say."""


async def request_evidence(
    gaps: Gaps,
    services: Services,
    question: Question,
    change: Change | None,
    started: datetime,
) -> RequestEvidence:
    """Compare before and after in every configured source, all at once.

    A source that fails is needed only if no other one counted this service's requests.
    """
    subject = subject_of(question.service, question.target, change)
    found = RequestEvidence()
    sources: list[_Source] = []
    prometheus = await services.find(PrometheusClient)
    if prometheus is not None:
        own = question.windows.rule(prometheus.settings.rule)
        sources.append(
            _Source(
                "prometheus",
                lambda: _from_prometheus(gaps, prometheus, subject, started, own, found),
                own,
            )
        )
    tag = versions(change)
    tagged = VersionedService(question.service, None, tag.new, tag.old)
    for name, kind, comparing in tagged_sources():
        client = await services.find(kind)
        if client is not None:
            rule = question.windows.rule(client.settings.rule)
            sources.append(_Source(name, _bound(comparing, client, tagged, started, rule), rule))
    if not sources:
        gaps.note("prometheus", WHAT, "NOT_CONFIGURED: no metric source is set")
        return found
    answers = await asyncio.gather(*(_ask(gaps, s, started) for s in sources))
    given = [a for a in answers if isinstance(a, RequestComparison)]
    counted = any(b.requests is not None for a in given for s in a.series for b in s.buckets)
    for lost in answers:
        if isinstance(lost, _Lost):
            gaps.note(lost.source, WHAT, lost.why, needed=lost.failed and not counted)
    found.series = tuple(s for a in given for s in a.series)
    found.windows = given[0].windows if given else None
    return found


def subject_of(service: str, target: Workload, change: Change | None) -> Subject:
    """Whose requests to count; revisions are told apart by ReplicaSet, which Deployments have."""
    split = target.kind is WorkloadKind.DEPLOYMENT and change is not None
    return Subject(
        service=service,
        namespace=target.namespace,
        new=change.revision.name if split and change else None,
        old=change.previous.name if split and change and change.previous else None,
    )


def tagged_sources() -> list[tuple[str, type[Any], Compare]]:
    """Sources that tell versions apart by a tag, in the order in which their windows are shown."""
    return [
        ("datadog", DatadogClient, compare_datadog),
        ("cloudwatch", CloudWatchClient, compare_cloudwatch),
        ("sentry", SentryClient, compare_releases),
    ]


def _bound(
    comparing: Compare, client: Any, service: VersionedService, started: datetime, rule: WindowRule
) -> Callable[[], Awaitable[RequestComparison | None]]:
    return lambda: comparing(client, service, started, rule)


async def _ask(gaps: Gaps, source: _Source, started: datetime) -> RequestComparison | _Lost:
    try:
        async with gaps.asking(source.name):
            found = await source.work()
    except TimeoutError:
        return _Lost(source.name, gaps.late(), failed=True)
    except (NoData, NotConfigured, NotFound) as nothing:
        return _Lost(source.name, f"{nothing.code}: {nothing.what}", failed=False)
    except DevOpsError as problem:
        return _Lost(source.name, f"{problem.code}: {problem.what}", failed=True)
    if found is None:
        ready = started + timedelta(seconds=source.rule.grace_s + source.rule.step_s)
        why = f"TOO_EARLY: the first whole bucket ends at {ready:%H:%M:%S} UTC"
        return _Lost(source.name, why, failed=False)
    return found


async def _from_prometheus(
    gaps: Gaps,
    client: PrometheusClient,
    subject: Subject,
    started: datetime,
    rule: WindowRule,
    found: RequestEvidence,
) -> Comparison | None:
    """Its series; beside them the other services' rates and the calls to dependencies."""
    compared = await compare_prometheus(client, subject, started, rule)
    if compared is None or compared.convention is None:
        return compared
    convention, windows = compared.convention, compared.windows

    # Each makes its work itself: what is cancelled before it begins then leaves nothing behind.
    async def rates() -> Rates | None:
        work = neighbour_rates(client, convention, windows)
        return await gaps.attempt("prometheus", "error rates of other services", work)

    async def calls() -> Sequence[OutboundCalls] | None:
        work = outbound_calls(client, subject, windows)
        return await gaps.attempt("prometheus", "calls to dependencies", work)

    found.rates, outbound = await asyncio.gather(rates(), calls())
    found.outbound = tuple(outbound or ())
    return compared
