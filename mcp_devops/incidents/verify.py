"""Whether a rollback helped: pods steady, and errors down where they can be counted."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from mcp_devops.errors import DevOpsError
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.incidents.store import Stored
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.settling import wait_until_settled
from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.series import Subject, error_rate
from mcp_devops.model.arms import summarise
from mcp_devops.model.evidence import Arm, DiagnosticContext
from mcp_devops.model.incident import Verification
from mcp_devops.model.window import Window
from mcp_devops.text.people import duration, percent
from mcp_devops.toolkit.context import Progress, ToolContext


def rates_of(found: DiagnosticContext | None) -> tuple[float | None, float | None]:
    """The error rates (baseline, after) that the verdict rested on."""
    if found is None:
        return None, None
    rates = {s.arm: summarise(s, found.windows).error_rate for s in found.requests}
    return rates.get(Arm.BASELINE), rates.get(Arm.NEW) or rates.get(Arm.AFTER)


async def verify(
    context: ToolContext[IncidentSettings],
    cluster: Cluster,
    stored: Stored,
    template_restored: bool,
    begun: float,
    progress: Progress,
) -> Verification:
    """Watch a rolled-back workload until it is healthy, or the deadline.

    Recovered: the template is the one wanted, all its pods are ready and stood still, and, where
    requests were counted before, the error rate is back at the baseline's within the floor. A
    metric source that fails now makes the outcome unknown, never recovered.
    """
    settings = context.client
    target = stored.incident.target
    end = begun + settings.verify_deadline_s
    settled = await wait_until_settled(
        cluster,
        target,
        deadline_s=settings.verify_deadline_s,
        steady_s=settings.steady_s,
        clock=context.clock,
    )
    baseline, before = rates_of(stored.context)
    outcome, after, said = "recovered", None, ""
    if stored.plan and settled.template_hash != stored.plan.to_template_hash:
        outcome, template_restored = "unknown", False
        said = "Somebody rolled out another template meanwhile."
    elif not template_restored or not settled.settled:
        outcome = "not_recovered"
    elif baseline is not None or before is not None:
        await progress(3, 4, "pods are healthy; watching the error rate")
        outcome, after, said = await _requests(context, stored, baseline or 0.0, end)
    else:
        said = "The error rate was not checked: no source counts this service's requests."
    took = context.clock.monotonic() - begun
    return Verification(
        outcome=outcome,
        checked_at=context.clock.now(),
        took_s=round(took, 1),
        template_restored=template_restored,
        pods=settled.says,
        error_rate_before=before,
        error_rate_after=after,
        says=f"{_verb(outcome)} {target} after {duration(took)}. {settled.says} {said}".strip(),
    )


def _verb(outcome: str) -> str:
    return {
        "recovered": "Recovered:",
        "not_recovered": "NOT recovered:",
        "unknown": "Recovery UNKNOWN:",
    }[outcome]


async def _requests(
    context: ToolContext[IncidentSettings], stored: Stored, baseline: float, end: float
) -> tuple[str, float | None, str]:
    """Look at the requests since the pods settled, until they are good or time is up."""
    settings = context.client
    prometheus = await context.services.find(PrometheusClient)
    service = stored.context.requests[0].service if stored.context else stored.incident.target.name
    limit = baseline + settings.error_floor
    if prometheus is None:
        return "unknown", None, "The metric source that showed the errors is off now."
    start = context.clock.now()
    rate: float | None = None
    while True:
        await asyncio.sleep(settings.verify_step_s)
        now = context.clock.now()
        first = max(start, now - timedelta(seconds=settings.verify_window_s))
        window = Window(start=first, end=now)
        subject = Subject(service, stored.incident.target.namespace)
        try:
            rate, requests = await error_rate(prometheus, subject, start, window)
        except DevOpsError as problem:
            if context.clock.monotonic() >= end:
                return "unknown", None, f"The error rate cannot be read: {problem.what}"
            continue
        enough = (now - start).total_seconds() >= settings.verify_window_s
        if rate is not None and enough and rate <= limit:
            return (
                "recovered",
                rate,
                f"Errors {percent(rate)} over the last {settings.verify_window_s:g} s"
                f" ({requests:.0f} requests), baseline {percent(baseline)}.",
            )
        if context.clock.monotonic() >= end:
            break
    if rate is None:
        return "unknown", None, "No request was counted since the rollback."
    return (
        "not_recovered",
        rate,
        f"Errors are still {percent(rate)}, baseline {percent(baseline)}.",
    )
