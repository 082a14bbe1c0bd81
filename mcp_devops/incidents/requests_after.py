"""Whether requests are good again after a rollback: asks the source that showed they were not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from mcp_devops.errors import DevOpsError
from mcp_devops.incidents.requests import tagged_sources
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.series import Subject, error_rate
from mcp_devops.model.arms import summarise
from mcp_devops.model.evidence import Arm, DiagnosticContext
from mcp_devops.model.window import Window
from mcp_devops.text.people import percent
from mcp_devops.toolkit.comparing import VersionedService
from mcp_devops.toolkit.context import Services, ToolContext

SLOW_SOURCE_STEPS = 3
"""Steps between two questions to a source that counts in steps of a minute."""


class Rates(NamedTuple):
    """What one source counted before the rollback."""

    source: str
    service: str
    baseline: float | None
    after: float | None
    """Share of failed requests of the undone revision, or since the deployment."""


class Counted(NamedTuple):
    """Requests of one stretch of time."""

    rate: float | None
    """Share that failed; null: there were none, or they are not counted yet."""
    requests: float
    seconds: float
    """Length of the stretch."""


Reader = Callable[[datetime, datetime], Awaitable[Counted]]
"""Counts requests since a moment; the second is now."""


def rates_of(found: DiagnosticContext | None) -> Rates | None:
    """The error rates that the verdict rested on, by the first source that counted requests."""
    if found is None:
        return None
    told: dict[tuple[str, str], dict[Arm, float | None]] = {}
    for series in found.requests:
        arms = told.setdefault((series.source, series.service), {})
        arms[series.arm] = summarise(series, found.windows).error_rate
    for (source, service), arms in told.items():
        after = arms.get(Arm.NEW)
        rates = Rates(
            source, service, arms.get(Arm.BASELINE), arms.get(Arm.AFTER) if after is None else after
        )
        if rates.baseline is not None or rates.after is not None:
            return rates
    return None


async def watch_requests(
    context: ToolContext[IncidentSettings], namespace: str, before: Rates, end: float
) -> tuple[str, float | None, str]:
    """Look at the requests from now on, until they are good or time is up.

    Args:
        context: Of the call.
        namespace: Of the service.
        before: What is compared with, and who counted it.
        end: Reading of the monotonic clock at which time is up.

    Returns:
        (recovered, not_recovered or unknown, the newest error rate, a sentence).
    """
    settings, clock = context.client, context.clock
    reader = await _reader(context, namespace, before)
    if reader is None:
        return "unknown", None, f"{before.source}, which showed the errors, is off now."
    pause = settings.verify_step_s
    if before.source != "prometheus":
        pause *= SLOW_SOURCE_STEPS
    baseline = before.baseline or 0.0
    limit = baseline + settings.error_floor
    start = clock.now()
    counted = Counted(None, 0.0, 0.0)
    while True:
        await asyncio.sleep(pause)
        late = clock.monotonic() >= end
        try:
            counted = await reader(start, clock.now())
        except DevOpsError as problem:
            if late:
                return "unknown", None, f"The error rate cannot be read: {problem.what}"
            continue
        enough = counted.seconds >= settings.verify_window_s
        if counted.rate is not None and enough and counted.rate <= limit:
            return (
                "recovered",
                counted.rate,
                f"Errors {percent(counted.rate)} over the last {counted.seconds:.0f} s"
                f" ({counted.requests:.0f} requests, {before.source}), baseline"
                f" {percent(baseline)}.",
            )
        if late:
            break
    if counted.rate is None:
        says = f"{before.source} has counted no request since the rollback, or not yet."
        return "unknown", None, says
    return (
        "not_recovered",
        counted.rate,
        f"Errors are still {percent(counted.rate)}, baseline {percent(baseline)}.",
    )


async def _reader(
    context: ToolContext[IncidentSettings], namespace: str, before: Rates
) -> Reader | None:
    if before.source == "prometheus":
        prometheus = await context.services.find(PrometheusClient)
        if prometheus is None:
            return None
        subject = Subject(before.service, namespace)
        window_s = context.client.verify_window_s
        return lambda start, now: _prometheus(prometheus, subject, window_s, start, now)
    return await _tagged(context.services, before)


async def _prometheus(
    client: PrometheusClient, subject: Subject, window_s: float, start: datetime, now: datetime
) -> Counted:
    first = max(start, now - timedelta(seconds=window_s))
    rate, requests = await error_rate(client, subject, start, Window(start=first, end=now))
    return Counted(rate, requests, (now - first).total_seconds())


async def _tagged(services: Services, before: Rates) -> Reader | None:
    """Compares before and after the rollback, as it was done around the deployment."""
    source = next((s for s in tagged_sources() if s[0] == before.source), None)
    client = await services.find(source[1]) if source else None
    if source is None or client is None:
        return None
    service, compare = VersionedService(before.service, None, None, None), source[2]

    async def read(start: datetime, now: datetime) -> Counted:
        found = await compare(client, service, start, client.settings.rule)
        after = [s for s in found.series if s.arm is Arm.AFTER] if found else []
        if found is None or not after:
            return Counted(None, 0.0, 0.0)
        told = summarise(after[0], found.windows)
        seconds = len(after[0].buckets) * after[0].step_s
        return Counted(told.error_rate, told.requests or 0.0, seconds)

    return read
