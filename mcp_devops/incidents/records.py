"""The tools that tell what is known: one incident, all of them, and the texts of the room."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from mcp_devops.decision.policy import Policy
from mcp_devops.errors import InvalidArguments
from mcp_devops.incidents.decide import INCIDENT_ID
from mcp_devops.incidents.prompts import render_incident_report, render_rollback_decision
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.journal import Journal
from mcp_devops.model.evidence import DiagnosticContext
from mcp_devops.model.incident import Incident, IncidentStatus
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.verdict import Action
from mcp_devops.text.people import plural
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.paging import page
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool


class GetIncident(Record):
    """Which incident."""

    incident_id: str = Field(pattern=INCIDENT_ID)
    """inc-<8 hex>, from incident_investigate or incident_list."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """detailed adds the evidence and the journal's entries."""


class JournalLine(Record):
    """One journal entry, short."""

    seq: int
    """Place in the journal."""
    at: Moment
    """When."""
    kind: str
    """What kind of entry."""
    actor: str
    """Who."""
    subject: str
    """About what."""


class IncidentAnswer(Answer):
    """An incident as it stands."""

    incident: Incident
    """Status, verdict, verification, timeline."""
    journal: tuple[JournalLine, ...] = ()
    """Its journal entries; detailed format."""
    evidence: DiagnosticContext | None = None
    """The newest evidence; detailed format."""


@tool(name="incident_get", title="Get an incident", risk=Risk.READ)
async def get_incident(args: GetIncident, context: ToolContext[IncidentSettings]) -> IncidentAnswer:
    """Tell how an incident stands: status, verdict, approval, verification, timeline.

    response_format detailed adds the evidence and the journal entries.
    """
    store = await context.services.get(IncidentStore)
    stored = await store.get(args.incident_id)
    incident = stored.incident
    headline = f"{incident.id}, {incident.target}: {incident.status.value}."
    if incident.timeline:
        headline += f" {incident.timeline[-1].what}"
    lines: tuple[JournalLine, ...] = ()
    if args.response_format is ResponseFormat.DETAILED:
        journal = await context.services.get(Journal)
        found = await journal.list(incident_id=incident.id, limit=200)
        lines = tuple(
            JournalLine(seq=e.seq, at=e.at, kind=e.kind.value, actor=e.actor, subject=e.subject)
            for e in found.entries
        )
    return IncidentAnswer(
        headline=headline,
        incident=incident,
        journal=lines,
        evidence=stored.context if lines else None,
    )


class ListIncidents(Record):
    """Which incidents."""

    open_only: bool = False
    """Only those in which somebody still has to look."""
    limit: int = Field(20, ge=1, le=100)
    """Incidents on one page."""
    cursor: str | None = None
    """next_cursor of the page before."""


class IncidentLine(Record):
    """One incident in a line."""

    id: str
    """Its id."""
    target: str
    """The workload."""
    status: IncidentStatus
    """Where it stands."""
    opened_at: Moment
    """When it was opened."""
    action: Action | None = None
    """The newest verdict's action."""
    confidence: float | None = None
    """Its confidence."""
    last: str = ""
    """The newest line of its timeline."""


class IncidentList(Answer):
    """Incidents, newest first."""

    incidents: tuple[IncidentLine, ...]
    """One line each."""
    total: int
    """All that fit."""
    next_cursor: str | None = None
    """Pass it as cursor for the next page."""


@tool(name="incident_list", title="List incidents", risk=Risk.READ)
async def list_incidents(
    args: ListIncidents, context: ToolContext[IncidentSettings]
) -> IncidentList:
    """List incidents, newest first, with status and verdict in a line each."""
    store = await context.services.get(IncidentStore)
    found = await store.all(open_only=args.open_only)
    shown, cursor = page(found, args, args.cursor, args.limit)
    return IncidentList(
        headline=f"{plural(len(found), 'incident')}{' open' if args.open_only else ''}.",
        incidents=tuple(_line(i) for i in shown),
        total=len(found),
        next_cursor=cursor,
    )


def _line(incident: Incident) -> IncidentLine:
    verdict = incident.verdict
    return IncidentLine(
        id=incident.id,
        target=str(incident.target),
        status=incident.status,
        opened_at=incident.opened_at,
        action=verdict.action if verdict else None,
        confidence=round(verdict.confidence, 3) if verdict else None,
        last=incident.timeline[-1].what if incident.timeline else "",
    )


class Topic(StrEnum):
    """What can be explained."""

    POLICY = "policy"
    ROLLBACK_DECISION = "rollback-decision"
    INCIDENT_REPORT = "incident-report"


class Explain(Record):
    """What to explain."""

    topic: Topic = Topic.POLICY
    """policy: every number of the engine; the others: the server's prompts as text."""
    namespace: str | None = Field(None, max_length=63)
    """For rollback-decision."""
    workload: str | None = Field(None, max_length=253)
    """For rollback-decision."""
    incident_id: str | None = Field(None, pattern=INCIDENT_ID)
    """For incident-report."""


class Explanation(Answer):
    """A text to read and follow."""

    topic: Topic
    """What it is about."""
    body: str
    """Markdown."""

    def text(self) -> str:
        """The text itself."""
        return self.body


@tool(name="incident_explain", title="Explain policy or procedure", risk=Risk.READ)
async def explain(args: Explain, context: ToolContext[IncidentSettings]) -> Explanation:
    """Give the decision policy with every number and source, or a procedure to follow.

    The same texts as the server's policy resource and prompts, for clients that have tools only.
    """
    if args.topic is Topic.POLICY:
        policy = await context.services.get(Policy)
        body = policy.describe()
    elif args.topic is Topic.ROLLBACK_DECISION:
        body = await render_rollback_decision(
            context.services, _required(args, "namespace", "workload")
        )
    else:
        body = await render_incident_report(context.services, _required(args, "incident_id"))
    return Explanation(headline=f"{args.topic.value}:", topic=args.topic, body=body)


def _required(args: Explain, *names: str) -> dict[str, Any]:
    values = {n: getattr(args, n) for n in names}
    if missing := [n for n, v in values.items() if not v]:
        raise InvalidArguments(
            f"{args.topic.value} needs {', '.join(missing)}.", fix="Pass them as well."
        )
    return values
