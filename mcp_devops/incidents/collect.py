"""Asks every source at once, and makes one diagnostic context of what came and what did not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from mcp_devops.errors import DevOpsError, NoData, UpstreamError
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.facts import (
    change_of,
    health_of,
    neighbours,
    scaling_events,
)
from mcp_devops.integrations.kubernetes.snapshot import Snapshot, look
from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.series import (
    Comparison,
    Subject,
    compare,
    neighbour_rates,
)
from mcp_devops.model.change import Change
from mcp_devops.model.evidence import (
    DiagnosticContext,
    Missing,
    Neighbour,
    RolloutHealth,
    ScalingEvent,
)
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.comparing import WindowOverrides
from mcp_devops.toolkit.context import Progress, Services

T = TypeVar("T")
SICK_RISE = 0.005
"""Rise of a neighbour's error rate that makes it sick: the floor of decision.md section 2."""


AROUND_S = 900
"""Seconds before the deployment in which others' rollouts and scaling may matter: the age within
which a deployment is suspected at all (users' rule A4)."""


@dataclass
class Question:
    """What to collect, and how.

    Attributes:
        target: The workload.
        service: Its name in metric labels.
        windows: What differs from each source's own windows.
        deployed_at: Overrides when the change began.
        deadline_s: Seconds one source may take.
        rolled_back_before: Whether this incident already had a rollback.
        bad: Template hashes that were judged bad before: nothing to return to.
    """

    target: Workload
    service: str
    windows: WindowOverrides = field(default_factory=WindowOverrides)
    deployed_at: datetime | None = None
    deadline_s: float = 20.0
    rolled_back_before: bool = False
    bad: tuple[str, ...] = ()


@dataclass
class _Gaps:
    deadline_s: float
    missing: list[Missing] = field(default_factory=list)

    async def attempt(
        self, source: str, what: str, work: Awaitable[T], *, needed: bool = False
    ) -> T | None:
        """Await one source; its failure is a line of missing evidence, not a failed run."""
        try:
            async with asyncio.timeout(self.deadline_s):
                return await work
        except TimeoutError:
            why = f"UPSTREAM_TIMEOUT: no answer within {self.deadline_s:g} s"
        except DevOpsError as problem:
            why = f"{problem.code}: {problem.what}"
        self.missing.append(Missing(source=source, what=what, why=why, needed=needed))
        return None

    async def listed(self, what: str, work: Awaitable[tuple[list[T], list[Missing]]]) -> list[T]:
        """Await a source that tells its own gaps beside what it found."""
        found = await self.attempt("kubernetes", what, work)
        if found is None:
            return []
        self.missing += found[1]
        return found[0]


async def collect(
    services: Services, clock: Clock, question: Question, progress: Progress
) -> DiagnosticContext:
    """Collect everything about one deployment.

    Raises:
        NotFound, InvalidArguments, PermissionDenied, CredentialsRejected, NotConfigured: The
            workload itself cannot be read. An unreachable cluster is missing evidence instead.
    """
    begun = clock.monotonic()
    gaps = _Gaps(question.deadline_s)
    target = question.target
    cluster = await (await services.get(KubernetesClient)).cluster(target.cluster or None)
    await progress(1, 5, "reading the rollout and its pods")
    seen = await _look(gaps, cluster, target, clock)
    change: Change | None = None
    rollout: RolloutHealth | None = None
    if seen is not None:
        change, rollout = await asyncio.gather(
            gaps.attempt(
                "kubernetes", "the rollout", change_of(cluster, seen, question.bad), needed=True
            ),
            gaps.attempt("kubernetes", "pods", health_of(cluster, seen), needed=True),
        )
    started = question.deployed_at or (change.started_at if change else None)
    comparison: Comparison | None = None
    scaling: list[ScalingEvent] = []
    others: list[Neighbour] = []
    if started is not None:
        await progress(2, 5, "comparing metrics before and after; looking at neighbours")
        since = started - timedelta(seconds=AROUND_S)
        now = clock.now()
        recent_s = (now - since).total_seconds()
        comparison, scaling, others = await asyncio.gather(
            _requests(gaps, services, question, change, started),
            gaps.listed("scaling events", scaling_events(cluster, target, since)),
            gaps.listed("other workloads", neighbours(cluster, target, now, started, recent_s)),
        )
    await progress(4, 5, "weighing neighbours")
    around = await _neighbours(gaps, services, question, comparison, others)
    return DiagnosticContext(
        target=target,
        collected_at=clock.now(),
        change=change,
        windows=comparison.windows if comparison else None,
        rollout=rollout,
        requests=comparison.series if comparison else (),
        scaling=tuple(scaling),
        neighbours=around,
        rolled_back_before=question.rolled_back_before,
        missing=tuple(gaps.missing),
        took_s=round(clock.monotonic() - begun, 3),
    )


async def _look(gaps: _Gaps, cluster: Cluster, target: Workload, clock: Clock) -> Snapshot | None:
    """Read the workload with its pods and revisions; only an unreachable cluster is a gap."""
    try:
        async with asyncio.timeout(gaps.deadline_s):
            return await look(cluster, target, clock.now())
    except TimeoutError:
        why = f"UPSTREAM_TIMEOUT: no answer within {gaps.deadline_s:g} s"
    except UpstreamError as problem:
        why = f"{problem.code}: {problem.what}"
    gaps.missing.append(Missing(source="kubernetes", what="the workload", why=why, needed=True))
    return None


def subject_of(question_service: str, target: Workload, change: Change | None) -> Subject:
    """Whose requests to count; revisions are told apart by ReplicaSet, which Deployments have."""
    split = target.kind is WorkloadKind.DEPLOYMENT and change is not None
    return Subject(
        service=question_service,
        namespace=target.namespace,
        new=change.revision.name if split and change else None,
        old=change.previous.name if split and change and change.previous else None,
    )


async def _requests(
    gaps: _Gaps,
    services: Services,
    question: Question,
    change: Change | None,
    started: datetime,
) -> Comparison | None:
    prometheus = await services.find(PrometheusClient)
    what = "error rate and p99"
    if prometheus is None:
        gaps.missing.append(
            Missing(source="prometheus", what=what, why="NOT_CONFIGURED: no metric source is set")
        )
        return None
    rule = question.windows.rule(prometheus.settings.rule)
    subject = subject_of(question.service, question.target, change)
    try:
        async with asyncio.timeout(question.deadline_s):
            found = await compare(prometheus, subject, started, rule)
    except NoData as nothing:
        gaps.missing.append(
            Missing(source="prometheus", what=what, why=f"{nothing.code}: {nothing.what}")
        )
        return None
    except TimeoutError:
        why = f"UPSTREAM_TIMEOUT: no answer within {question.deadline_s:g} s"
        gaps.missing.append(Missing(source="prometheus", what=what, why=why, needed=True))
        return None
    except DevOpsError as problem:
        why = f"{problem.code}: {problem.what}"
        gaps.missing.append(Missing(source="prometheus", what=what, why=why, needed=True))
        return None
    if found is None:
        ready = started + timedelta(seconds=rule.grace_s + rule.step_s)
        why = f"TOO_EARLY: the first whole bucket ends at {ready:%H:%M:%S} UTC"
        gaps.missing.append(Missing(source="prometheus", what=what, why=why))
    return found


async def _neighbours(
    gaps: _Gaps,
    services: Services,
    question: Question,
    comparison: Comparison | None,
    others: list[Neighbour],
) -> tuple[Neighbour, ...]:
    """Join what pods and what metrics say of the other services."""
    known = {n.service: n for n in others}
    prometheus = await services.find(PrometheusClient)
    if prometheus is not None and comparison is not None and comparison.convention is not None:
        rates = await gaps.attempt(
            "prometheus",
            "error rates of other services",
            neighbour_rates(prometheus, comparison.convention, comparison.windows),
        )
        for name, (before, after, requests) in (rates or {}).items():
            if name == question.service:
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
