"""Evidence for tests of the judgement: plain numbers in, a DiagnosticContext out.

Series are given as one number a bucket; the deployment is at T0, buckets are 60 s long and the
windows are the defaults (baseline -40 to -10 minutes).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mcp_devops.model.change import Change, ChangeArea, Revision, TemplateDifference
from mcp_devops.model.evidence import (
    Arm,
    Bucket,
    DiagnosticContext,
    Missing,
    Neighbour,
    PodCause,
    RequestSeries,
    RevisionPods,
    RolloutClass,
    RolloutHealth,
    ScalingEvent,
)
from mcp_devops.model.surroundings import (
    Drift,
    DriftArea,
    ImageRisk,
    OutboundCalls,
    ReleaseIssues,
)
from mcp_devops.model.target import Workload
from mcp_devops.model.window import WindowRule, windows_around

T0 = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
"""When the judged deployment began."""

CHECKOUT = Workload(namespace="shop", name="checkout")

Numbers = Sequence[float | None]


def seconds(after: float) -> datetime:
    return T0 + timedelta(seconds=after)


def buckets(
    start_s: float,
    step_s: float,
    requests: Numbers | float | None = None,
    errors: Numbers | None = None,
    p99_ms: Numbers | None = None,
    mean_ms: Numbers | None = None,
    slow: Numbers | None = None,
) -> tuple[Bucket, ...]:
    """Buckets from `start_s` (relative to T0) on; the longest list says how many."""
    lists = [v for v in (requests, errors, p99_ms, mean_ms, slow) if isinstance(v, Sequence)]
    count = max(len(v) for v in lists)

    def at(values: Numbers | float | None, index: int) -> float | None:
        return values[index] if isinstance(values, Sequence) else values

    return tuple(
        Bucket(
            start=seconds(start_s + i * step_s),
            requests=at(requests, i),
            errors=at(errors, i),
            p99_ms=at(p99_ms, i),
            mean_ms=at(mean_ms, i),
            slow=at(slow, i),
        )
        for i in range(count)
    )


def series(
    arm: Arm,
    found: tuple[Bucket, ...],
    *,
    source: str = "prometheus",
    service: str = "checkout",
    step_s: float = 60,
    queries: tuple[str, ...] = (),
) -> RequestSeries:
    return RequestSeries(
        source=source, service=service, arm=arm, step_s=step_s, buckets=found, queries=queries
    )


def baseline(
    errors: Numbers | None = None, requests: Numbers | float | None = 1000, **more: Any
) -> RequestSeries:
    """Thirty minutes that end ten minutes before T0; a shorter list begins there too."""
    errors = [1.0] * 30 if errors is None else errors
    return series(Arm.BASELINE, buckets(-2400, 60, requests, errors, **more))


def after(
    arm: Arm, errors: Numbers | None, requests: Numbers | float | None = 1000, **more: Any
) -> RequestSeries:
    """Buckets of 60 s from T0 on."""
    return series(arm, buckets(0, 60, requests, errors, **more))


def revision(number: int, template: str | None = None) -> Revision:
    return Revision(
        number=number,
        name=f"checkout-{number}",
        template_hash=template or f"template-{number}",
        created_at=T0 if number == 42 else T0 - timedelta(days=1),
    )


def difference(area: ChangeArea, path: str = "containers[checkout].image") -> TemplateDifference:
    return TemplateDifference(area=area, path=path, before="a", after="b")


PREVIOUS = revision(41)


def change(*areas: ChangeArea, previous: Revision | None = PREVIOUS, at: datetime = T0) -> Change:
    return Change(
        workload=CHECKOUT,
        uid="uid-1",
        started_at=at,
        revision=revision(42),
        previous=previous,
        differences=tuple(difference(area) for area in areas or (ChangeArea.IMAGE,)),
    )


NEW_IMAGE = change()


def pods(
    ready: int,
    failing: int = 0,
    *,
    total: int | None = None,
    number: int = 42,
    restarts: int = 0,
    cause: PodCause = PodCause.NONE,
    exit_codes: tuple[int, ...] = (),
    log_line: str | None = None,
) -> RevisionPods:
    return RevisionPods(
        revision=number,
        pods=ready + failing if total is None else total,
        ready=ready,
        failing=failing,
        restarts=restarts,
        cause=cause,
        exit_codes=exit_codes,
        log_line=log_line,
    )


def rollout(
    rollout_class: RolloutClass,
    new: RevisionPods,
    old: RevisionPods | None = None,
    *,
    at_s: float = 240,
    cause: PodCause | None = None,
    desired: int = 4,
    immediate: bool | None = None,
    deadline_exceeded: bool = False,
) -> RolloutHealth:
    hurt = rollout_class in (
        RolloutClass.FULL_OUTAGE,
        RolloutClass.PARTIAL_OUTAGE,
        RolloutClass.CREEPING_OUTAGE,
    )
    return RolloutHealth(
        at=seconds(at_s),
        desired=desired,
        available=new.ready + (old.ready if old else 0),
        fewest_available=desired - 1,
        new=new,
        old=old,
        rollout_class=rollout_class,
        cause=new.cause if cause is None else cause,
        immediate=hurt if immediate is None else immediate,
        deadline_exceeded=deadline_exceeded,
        summary="",
    )


def neighbour(
    name: str, *, sick: bool, deployed: bool = False, requests: float | None = 1000
) -> Neighbour:
    return Neighbour(
        service=name,
        deployed_recently=deployed,
        baseline_error_rate=0.001,
        after_error_rate=0.2 if sick else 0.001,
        requests=requests,
        sick=sick,
    )


def scaling(at_s: float, what: str = "HPA scaled checkout from 6 to 3") -> ScalingEvent:
    return ScalingEvent(at=seconds(at_s), what=what, source="horizontal-pod-autoscaler")


def drifted(
    weight: float = 0.8, *, names_service: bool = False, address: str = "aws_security_group.shop"
) -> Drift:
    return Drift(
        at=T0,
        address=address,
        area=DriftArea.NETWORK,
        weight=weight,
        what="update: what may reach the service differs",
        names_service=names_service,
    )


def calls(
    after: float,
    *,
    before: float | None = 0.001,
    number: float = 1000,
    old: float | None = None,
    new: float | None = None,
    dependency: str = "bank",
) -> OutboundCalls:
    return OutboundCalls(
        dependency=dependency,
        baseline_error_rate=before,
        after_error_rate=after,
        calls=number,
        failed=number * after,
        old_error_rate=old,
        new_error_rate=new,
        query="sum by (server_address) (increase(calls[600s]))",
    )


def risky(*, hold: bool = True) -> ImageRisk:
    return ImageRisk(
        image="shop/checkout:2",
        previous="shop/checkout:1",
        hold=hold,
        summary="1 new vulnerability",
        reasons=("critical: CVE-2030-1 in openssl (fixed in 3.0.9)",) if hold else (),
        new_by_severity={"critical": 1} if hold else {"low": 1},
    )


def issues(serious: int = 2, events: int = 40, level: str = "error") -> ReleaseIssues:
    return ReleaseIssues(
        source="sentry rest", release="shop@2.0", new={level: serious}, events=events
    )


def missing(source: str = "prometheus", *, needed: bool) -> Missing:
    return Missing(source=source, what="error rate", why="UPSTREAM_TIMEOUT", needed=needed)


def context(
    *requests: RequestSeries,
    now_s: float = 600,
    judged: Change | None = NEW_IMAGE,
    rollout: RolloutHealth | None = None,
    neighbours: Sequence[Neighbour] = (),
    scaling: Sequence[ScalingEvent] = (),
    missing: Sequence[Missing] = (),
    drift: Sequence[Drift] = (),
    outbound: Sequence[OutboundCalls] = (),
    image_risk: ImageRisk | None = None,
    issues: ReleaseIssues | None = None,
    rolled_back_before: bool = False,
    windowed: bool = True,
) -> DiagnosticContext:
    return DiagnosticContext(
        target=CHECKOUT,
        collected_at=seconds(now_s),
        change=judged,
        windows=windows_around(T0, seconds(now_s), WindowRule()) if windowed else None,
        rollout=rollout,
        requests=requests,
        scaling=tuple(scaling),
        drift=tuple(drift),
        outbound=tuple(outbound),
        image_risk=image_risk,
        issues=issues,
        neighbours=tuple(neighbours),
        rolled_back_before=rolled_back_before,
        missing=tuple(missing),
    )
