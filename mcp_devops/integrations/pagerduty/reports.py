"""The page of an incident: what a woken person needs first, from the incident's own record."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from mcp_devops.integrations.pagerduty.events import dedup_key
from mcp_devops.integrations.pagerduty.records import ChangeEvent, Link, Page, PageSeverity
from mcp_devops.model.incident import Incident, IncidentStatus
from mcp_devops.model.record import Moment
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Verdict
from mcp_devops.text.people import percent
from mcp_devops.toolkit.report import Report

NEWEST_ENTRIES = 20
"""Timeline entries that a page carries; the incident's record has all of them."""


def page_of(
    incident: Incident,
    *,
    why: str,
    lead: str = "",
    do_next: str = "",
    severity: PageSeverity = PageSeverity.CRITICAL,
    links: tuple[Link, ...] = (),
    report: Report | None = None,
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
    if report is not None:
        details["report"] = report.model_dump(mode="json", exclude_none=True)
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
