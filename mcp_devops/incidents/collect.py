"""Asks every source at once, and makes one diagnostic context of what came and what did not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from mcp_devops.errors import UpstreamError
from mcp_devops.incidents.error_tracker import issues
from mcp_devops.incidents.gaps import Gaps
from mcp_devops.incidents.question import Question
from mcp_devops.incidents.requests import Rates, RequestEvidence, request_evidence
from mcp_devops.incidents.surroundings import drift, images
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.facts import (
    change_of,
    health_of,
    neighbours,
    scaling_events,
)
from mcp_devops.integrations.kubernetes.snapshot import Snapshot, look
from mcp_devops.model.change import Change
from mcp_devops.model.evidence import DiagnosticContext, Neighbour, RolloutHealth, ScalingEvent
from mcp_devops.model.surroundings import ImageDifference, ImageRisk, ReleaseIssues
from mcp_devops.model.target import Workload
from mcp_devops.toolkit.asked import AskedObserver
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Progress, Services

T = TypeVar("T")
SICK_RISE = 0.005
"""Rise of a neighbour's error rate that makes it sick: the floor of decision.md section 2."""

AROUND_S = 900
"""Seconds before the deployment in which others' rollouts and scaling may matter: the age within
which a deployment is suspected at all (users' rule A4)."""

PATIENCE = 0.25
"""Part of the deadline for which metrics wait for a cluster that does not answer, where the caller
said when the deployment was: they are then compared without telling revisions apart."""

Images = tuple[ImageRisk | None, ImageDifference | None]


class _Run:
    """One investigation: its sources, as tasks that begin as soon as they can."""

    def __init__(
        self, services: Services, clock: Clock, question: Question, observer: AskedObserver | None
    ) -> None:
        self.services = services
        self.clock = clock
        self.question = question
        self.gaps = Gaps(question.deadline_s, observer)
        self.tasks: list[asyncio.Task[object]] = []

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start one source."""
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    async def end(self) -> None:
        """Cancel what still runs, and wait for it."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def _running(services: Services, clock: Clock, question: Question) -> AsyncIterator[_Run]:
    run = _Run(services, clock, question, await services.find(AskedObserver))
    try:
        yield run
    finally:
        await run.end()


async def collect(
    services: Services, clock: Clock, question: Question, progress: Progress
) -> DiagnosticContext:
    """Collect everything about one deployment.

    Raises:
        NotFound, InvalidArguments, PermissionDenied, CredentialsRejected, NotConfigured: The
            workload itself cannot be read. An unreachable cluster is missing evidence instead.
    """
    begun = clock.monotonic()
    target = question.target
    cluster = await (await services.get(KubernetesClient)).cluster(target.cluster or None)
    async with _running(services, clock, question) as run:
        gaps = run.gaps
        drifted = run.begin(drift(gaps, services, question.service))
        await progress(1, 5, "reading the rollout and its pods")
        seen = run.begin(_look(gaps, cluster, target, clock))
        change = run.begin(_change(gaps, cluster, seen, question))
        rollout = run.begin(_health(gaps, cluster, seen))
        around = run.begin(_around(gaps, cluster, target, clock, change, question))
        requests = run.begin(_requests(run, change))
        image = run.begin(_images(run, change))
        reported = run.begin(_issues(run, change))
        # The workload that cannot be read at all ends the investigation before all else.
        await seen
        await progress(2, 5, "comparing metrics before and after; looking at neighbours")
        found, (scaling, others) = await requests, await around
        await progress(3, 5, "reading images and infrastructure")
        risk, difference = await image
        drift_found = await drifted
        await progress(4, 5, "weighing neighbours")
        return DiagnosticContext(
            target=target,
            change=await change,
            windows=found.windows,
            rollout=await rollout,
            requests=found.series,
            scaling=tuple(scaling),
            neighbours=_joined(others, found.rates, question.service),
            outbound=found.outbound,
            drift=drift_found,
            image_risk=risk,
            image_difference=difference,
            issues=await reported,
            missing=gaps.missing,
            collected_at=clock.now(),
            took_s=round(clock.monotonic() - begun, 3),
        )


async def _look(gaps: Gaps, cluster: Cluster, target: Workload, clock: Clock) -> Snapshot | None:
    """Read the workload with its pods and revisions; only an unreachable cluster is a gap."""
    try:
        async with gaps.asking("kubernetes"):
            return await look(cluster, target, clock.now())
    except TimeoutError:
        why = gaps.late()
    except UpstreamError as problem:
        why = f"{problem.code}: {problem.what}"
    gaps.note("kubernetes", "the workload", why, needed=True)
    return None


async def _change(
    gaps: Gaps, cluster: Cluster, looked: Awaitable[Snapshot | None], question: Question
) -> Change | None:
    seen = await looked
    if seen is None:
        return None
    found = change_of(cluster, seen, question.bad)
    return await gaps.attempt("kubernetes", "the rollout", found, needed=True)


async def _health(
    gaps: Gaps, cluster: Cluster, looked: Awaitable[Snapshot | None]
) -> RolloutHealth | None:
    seen = await looked
    if seen is None:
        return None
    return await gaps.attempt("kubernetes", "pods", health_of(cluster, seen), needed=True)


async def _started(change: asyncio.Task[Change | None], question: Question) -> datetime | None:
    """When the change began; None: nobody knows."""
    if question.deployed_at is not None:
        return question.deployed_at
    found = await change
    return found.started_at if found else None


async def _around(
    gaps: Gaps,
    cluster: Cluster,
    target: Workload,
    clock: Clock,
    change: asyncio.Task[Change | None],
    question: Question,
) -> tuple[list[ScalingEvent], list[Neighbour]]:
    """Capacity changes, and other workloads of the namespace."""
    live = await change
    started = await _started(change, question)
    if started is None or live is None:
        return [], []
    since = started - timedelta(seconds=AROUND_S)
    now = clock.now()
    recent_s = (now - since).total_seconds()
    revision = live.revision.name

    # Each makes its work itself: what is cancelled before it begins then leaves nothing behind.
    async def scaling() -> list[ScalingEvent]:
        work = scaling_events(cluster, target, since, revision, started)
        return await gaps.listed("scaling events", work)

    async def others() -> list[Neighbour]:
        work = neighbours(cluster, target, now, started, recent_s)
        return await gaps.listed("other workloads", work)

    return await asyncio.gather(scaling(), others())


async def _requests(run: _Run, change: asyncio.Task[Change | None]) -> RequestEvidence:
    question = run.question
    if question.deployed_at is not None:
        await asyncio.wait([change], timeout=question.deadline_s * PATIENCE)
        live = change.result() if change.done() else None
    else:
        live = await change
    started = question.deployed_at or (live.started_at if live else None)
    if started is None:
        return RequestEvidence()
    return await request_evidence(run.gaps, run.services, question, live, started)


async def _images(run: _Run, change: asyncio.Task[Change | None]) -> Images:
    return await images(run.gaps, run.services, await change)


async def _issues(run: _Run, change: asyncio.Task[Change | None]) -> ReleaseIssues | None:
    live = await change
    since = await _started(change, run.question)
    return await issues(run.gaps, run.services, live, run.question.service, since)


def _joined(others: list[Neighbour], rates: Rates | None, service: str) -> tuple[Neighbour, ...]:
    """What pods and what metrics say of the other services."""
    known = {n.service: n for n in others}
    for name, (before, after, requests) in (rates or {}).items():
        if name == service:
            continue
        base = known.get(name) or Neighbour(
            service=name,
            deployed_recently=False,
            baseline_error_rate=None,
            after_error_rate=None,
            sick=False,
        )
        rose = before is not None and after is not None and after - before >= SICK_RISE
        known[name] = base.model_copy(
            update={
                "baseline_error_rate": before,
                "after_error_rate": after,
                "requests": requests,
                "sick": base.sick or rose,
            }
        )
    return tuple(sorted(known.values(), key=lambda n: (not n.sick, n.service)))
