"""Whether a rollback helped: pods steady, and errors down where they can be counted."""

from __future__ import annotations

from mcp_devops.incidents.requests_after import rates_of, watch_requests
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.incidents.store import Stored
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.settling import wait_until_settled
from mcp_devops.model.incident import Verification
from mcp_devops.text.people import duration
from mcp_devops.toolkit.context import Progress, ToolContext


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
    before = rates_of(stored.context)
    outcome, after, said = "recovered", None, ""
    if stored.plan and settled.template_hash != stored.plan.to_template_hash:
        outcome, template_restored = "unknown", False
        said = "Somebody rolled out another template meanwhile."
    elif not template_restored or not settled.settled:
        outcome = "not_recovered"
    elif before is not None:
        await progress(3, 4, "pods are healthy; watching the error rate")
        outcome, after, said = await watch_requests(context, target.namespace, before, end)
    else:
        said = "The error rate was not checked: no source counts this service's requests."
    took = context.clock.monotonic() - begun
    return Verification(
        outcome=outcome,
        checked_at=context.clock.now(),
        took_s=round(took, 1),
        template_restored=template_restored,
        pods=settled.says,
        error_rate_before=before.after if before else None,
        error_rate_after=after,
        says=f"{_verb(outcome)} {target} after {duration(took)}. {settled.says} {said}".strip(),
    )


def _verb(outcome: str) -> str:
    return {
        "recovered": "Recovered:",
        "not_recovered": "NOT recovered:",
        "unknown": "Recovery UNKNOWN:",
    }[outcome]
