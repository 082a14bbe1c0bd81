"""The page of an incident: what a woken person needs first, from the incident's own record."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from mcp_devops.integrations.pagerduty.events import dedup_key
from mcp_devops.integrations.pagerduty.records import ChangeEvent, Link, Page, PageSeverity
from mcp_devops.model.evidence import DiagnosticContext
from mcp_devops.model.incident import Incident, IncidentStatus
from mcp_devops.model.record import Moment
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Verdict
from mcp_devops.text.people import percent

NEWEST_ENTRIES = 20
"""Timeline entries that a page carries; the incident's record has all of them."""
MOST_DIFFERENCES = 10
MOST_MISSING = 10


def page_of(
    incident: Incident,
    *,
    why: str,
    lead: str = "",
    do_next: str = "",
    severity: PageSeverity = PageSeverity.CRITICAL,
    links: tuple[Link, ...] = (),
    report: dict[str, Any] | None = None,
) -> Page:
    """The page of an incident.

    Args:
        incident: As it stands. Its id makes the dedup_key, so that it pages once.
        why: Why a person is woken, in one sentence: it starts the summary.
        lead: What is wrong, where `why` does not say it: then this starts the summary.
        do_next: What the person can do, with the command.
        severity: How bad it is.
        links: Dashboards, the incident's page, the chat thread.
        report: More of the diagnostic report, shown last and cut first.
    """
    target, verdict = incident.target, incident.verdict
    details: dict[str, Any] = {"why": why}
    if do_next:
        details["do_next"] = do_next
    details["incident"] = incident.id
    details["status"] = incident.status.value
    if incident.status is IncidentStatus.UNKNOWN:
        details["status"] = "unknown: a change was sent and its effect was not seen"
    if verdict is None:
        details["verdict"] = "none yet"
    else:
        details |= _verdict(verdict)
    if incident.verification:
        details["verification"] = incident.verification.says
    if incident.approval_id:
        details["approval"] = incident.approval_id
    details["timeline_utc"] = [
        f"{entry.at.astimezone(UTC):%H:%M:%S} {entry.what}"
        for entry in incident.timeline[-NEWEST_ENTRIES:]
    ]
    if report:
        details["report"] = report
    return Page(
        summary=f"{target.namespace}/{target.name}: {f'{lead} {why}' if lead else why}",
        severity=severity,
        source=place(target),
        component=target.name,
        dedup_key=dedup_key(incident.id),
        details=details,
        links=links,
        service=f"{target.namespace}/{target.name}",
        at=incident.opened_at,
    )


def report_of(context: DiagnosticContext) -> dict[str, Any]:
    """What was collected, for somebody without a keyboard: what was deployed, what it changed."""
    report: dict[str, Any] = {}
    change, rollout = context.change, context.rollout
    if change is not None:
        revision = change.revision
        why = f": {revision.change_cause}" if revision.change_cause else ""
        at = f"{change.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        report["deployed"] = f"revision {revision.number} at {at}{why}"
        report["images"] = list(revision.images)
        if change.previous is not None:
            report["revision_before"] = change.previous.number
            report["images_before"] = list(change.previous.images)
        shown = [
            f"{d.path}: {d.before or '(none)'} -> {d.after or '(none)'}"
            for d in change.differences[:MOST_DIFFERENCES]
        ]
        if (more := len(change.differences) - MOST_DIFFERENCES) > 0:
            shown.append(f"and {more} more")
        report["changed"] = shown
        if change.managed_by:
            report["managed_by"] = change.managed_by
    if rollout is not None:
        report["pods"] = rollout.summary
        if rollout.new.log_line:
            report["log_line_of_new_pods"] = rollout.new.log_line
    report["missing_evidence"] = [
        f"{m.source}: {m.what}: {m.why}" for m in context.missing[:MOST_MISSING]
    ]
    report["collected_at"] = f"{context.collected_at.astimezone(UTC):%H:%M:%S} UTC"
    return report


def change_of(
    target: Workload, summary: str, at: Moment, *, details: dict[str, Any] | None = None
) -> ChangeEvent:
    """A deployment or rollback for the service's timeline."""
    return ChangeEvent(
        summary=summary,
        source=place(target),
        at=at,
        details=details or {},
        service=f"{target.namespace}/{target.name}",
    )


def place(target: Workload) -> str:
    """Where a workload lives: cluster/namespace/name."""
    return "/".join(part for part in (target.cluster, target.namespace, target.name) if part)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.headline,
        "action": verdict.action.value,
        "confidence": percent(verdict.confidence),
        "cause": verdict.cause.value,
        "evidence_complete": verdict.evidence_complete,
        "stopped_by": [v.says for v in verdict.vetoes],
        "findings": [f.says for f in verdict.findings if f.counted],
        "other_explanation": verdict.runner_up,
        "check_next": verdict.ask_next,
    }
