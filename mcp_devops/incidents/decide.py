"""The tool that turns evidence into a verdict."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from mcp_devops.decision.engine import decide as judge
from mcp_devops.errors import InvalidArguments, NoData
from mcp_devops.incidents.outcomes import history_of
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.evidence import DiagnosticContext
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.record import Record
from mcp_devops.model.verdict import Action, Cause, CauseProbability, Finding, Verdict, Veto
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.text.people import ago, percent
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool

INCIDENT_ID = r"^inc-[0-9a-f]{8}$"
STALE_S = 120
"""Evidence older than this is still judged, and its age is said: a rollout moves in seconds."""


class Decide(Record):
    """What to judge: a stored incident's evidence, or evidence passed in."""

    incident_id: str | None = Field(None, pattern=INCIDENT_ID)
    """Incident whose newest evidence is judged; the verdict is stored with it."""
    evidence: dict[str, Any] | None = None
    """Or evidence as incident_investigate gives it in its detailed format; nothing is stored."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """detailed adds rules that did not count, and all causes."""


class Decision(Answer):
    """The verdict with its reasons."""

    verdict_id: str
    """The same facts under the same policy give the same id."""
    incident_id: str | None = None
    """The incident it is stored with."""
    action: Action
    """roll_back, fix_forward, hold_for_review or no_action."""
    cause: Cause
    """Most probable category."""
    confidence: float
    """Probability that the deployment did it."""
    calibrated: bool = False
    """Whether judged outcomes stand behind it."""
    finding_name: str | None = None
    """Named pattern."""
    findings: tuple[Finding, ...]
    """What counted, with numbers and signed weights in log-odds."""
    vetoes: tuple[Veto, ...] = ()
    """What stops an automatic action."""
    causes: tuple[CauseProbability, ...] = ()
    """All categories; detailed format only."""
    runner_up: str
    """The best other explanation."""
    ask_next: str
    """The one check that would part the two."""
    would_change: tuple[str, ...] = ()
    """What would change the verdict."""
    evidence_complete: bool
    """Whether no needed source is missing."""
    automatic: bool
    """Whether the rules for acting without a person hold."""
    evidence_age_s: float = 0
    """Age of the evidence in seconds."""
    policy_version: str
    """Policy that was applied."""
    next: str
    """The next move."""

    def text(self) -> str:
        """The verdict as a person reads it: what, why with weights, what speaks against it."""
        lines = [self.headline, f"Cause: {self.cause.value}. {self.runner_up}"]
        lines += [f"  {f.weight:+.1f} {f.group}: {f.says}" for f in self.findings]
        lines += [f"  VETO {v.code}: {v.says}" for v in self.vetoes]
        lines += [f"Would change it: {w}" for w in self.would_change]
        lines.append(f"Evidence {'complete' if self.evidence_complete else 'INCOMPLETE'}.")
        return "\n".join([*lines, f"Next: {self.next}"])


@tool(name="incident_decide", title="Decide on a deployment", risk=Risk.READ)
async def decide(args: Decide, context: ToolContext[IncidentSettings]) -> Decision:
    """Judge the collected evidence with the deterministic engine: action, cause, reasons, numbers.

    The same evidence gives the same verdict. Log text has no weight. Missing evidence is never
    healthy. Report the verdict as it is; do not replace it with your own guess. Next:
    incident_roll_back if it says roll_back, else what ask_next says.
    """
    team = await context.services.get(PolicyFile)
    now = context.clock.now()
    if (args.incident_id is None) == (args.evidence is None):
        raise InvalidArguments(
            "Pass either incident_id or evidence.", fix="incident_investigate gives both."
        )
    if args.evidence is not None:
        evidence = _parse(args.evidence)
        verdict = judge(evidence, team.judging(evidence.target), now)
        await _record(context, verdict, None)
        return present(verdict, None, 0.0, args.response_format)
    store = await context.services.get(IncidentStore)
    stored = await store.get(str(args.incident_id))
    if stored.context is None:
        raise NoData(
            f"Incident {args.incident_id} has no evidence yet.", fix="Call incident_investigate."
        )
    change = stored.context.change
    prior = await history_of(
        await context.services.get(Database),
        stored.incident.target,
        without_template=change.revision.template_hash if change is not None else None,
    )
    policy = team.judging(stored.incident.target)
    verdict = judge(stored.context, policy, now, prior=prior)
    age = (now - stored.context.collected_at).total_seconds()
    await _record(context, verdict, stored.incident.id)
    status = stored.incident.status
    if status in (IncidentStatus.INVESTIGATING, IncidentStatus.DECIDED):
        status = IncidentStatus.CLOSED if verdict.action is Action.NONE else IncidentStatus.DECIDED
    incident = stored.incident.model_copy(update={"verdict": verdict, "status": status})
    await store.save(
        stored.model_copy(update={"incident": incident}),
        f"verdict {verdict.action.value} ({percent(verdict.confidence)}): {verdict.headline}",
        "engine",
        verdict_id=verdict.id,
    )
    return present(verdict, stored.incident.id, age, args.response_format)


def _parse(evidence: dict[str, Any]) -> DiagnosticContext:
    try:
        return DiagnosticContext.model_validate(evidence)
    except ValidationError as problem:
        wrong = [".".join(map(str, e["loc"])) + f": {e['msg']}" for e in problem.errors()[:8]]
        raise InvalidArguments(
            f"evidence is not a diagnostic context: {'; '.join(wrong)}.",
            fix="Take it from incident_investigate with response_format detailed.",
        ) from None


async def _record(
    context: ToolContext[IncidentSettings], verdict: Verdict, incident_id: str | None
) -> None:
    journal = await context.services.get(Journal)
    await journal.append(
        EntryKind.DECISION,
        actor="engine",
        subject=str(verdict.target),
        incident_id=incident_id,
        call_id=context.call_id,
        body={"verdict": verdict.model_dump(mode="json", exclude_defaults=True)},
    )


def present(
    verdict: Verdict, incident_id: str | None, age_s: float, response_format: ResponseFormat
) -> Decision:
    """The verdict as an answer."""
    detailed = response_format is ResponseFormat.DETAILED
    headline = verdict.headline
    if age_s > STALE_S:
        headline += f" (The evidence was collected {ago(age_s)}: investigate again before acting.)"
    return Decision(
        headline=headline,
        verdict_id=verdict.id,
        incident_id=incident_id,
        action=verdict.action,
        cause=verdict.cause,
        confidence=round(verdict.confidence, 4),
        calibrated=verdict.calibrated,
        finding_name=verdict.finding_name,
        findings=tuple(_rounded(f) for f in verdict.findings if detailed or f.counted),
        vetoes=verdict.vetoes,
        causes=verdict.causes if detailed else (),
        runner_up=verdict.runner_up,
        ask_next=verdict.ask_next,
        would_change=verdict.would_change,
        evidence_complete=verdict.evidence_complete,
        automatic=verdict.automatic,
        evidence_age_s=round(age_s, 1),
        policy_version=verdict.policy_version,
        next=_next(verdict, incident_id),
    )


def _rounded(finding: Finding) -> Finding:
    """Two digits say all that a weight can; the journal keeps the rest."""
    lasted = finding.sustained_s
    return finding.model_copy(
        update={
            "weight": round(finding.weight, 2),
            "sustained_s": None if lasted is None else round(lasted, 1),
        }
    )


def _next(verdict: Verdict, incident_id: str | None) -> str:
    if verdict.action is Action.ROLL_BACK and incident_id:
        return f"incident_roll_back with incident_id {incident_id}; it asks for approval."
    if verdict.action is Action.ROLL_BACK:
        return "incident_investigate on the live workload, then incident_roll_back."
    if verdict.action is Action.NONE:
        return "Nothing to do; investigate again if symptoms persist."
    return f"{verdict.ask_next} A person may still roll back: incident_roll_back with" + (
        " despite_verdict." if incident_id else " an incident_id and despite_verdict."
    )
