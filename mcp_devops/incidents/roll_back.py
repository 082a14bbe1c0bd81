"""The tool that undoes a judged deployment: planned, approved, done once, verified."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.errors import DevOpsError, OutcomeUnknown, PreconditionFailed
from mcp_devops.incidents.decide import INCIDENT_ID
from mcp_devops.incidents.sentry_record import write_down
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.incidents.store import IncidentStore, Stored
from mcp_devops.incidents.verify import verify
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.rolling_back import (
    ROLL_BACK_NEEDS,
    apply_roll_back,
    plan_roll_back,
    roll_back_needs_of,
)
from mcp_devops.journal.database import Database
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.incident import IncidentStatus, Verification
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Action, Verdict
from mcp_devops.text.people import ago
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool

ACTED = (
    IncidentStatus.ROLLING_BACK,
    IncidentStatus.VERIFYING,
    IncidentStatus.RECOVERED,
    IncidentStatus.NOT_RECOVERED,
    IncidentStatus.UNKNOWN,
)
"""Statuses in which the incident's plan was started."""
UNATTENDED = "watch"
"""Channel of the server's own runs."""


class RollBack(Record):
    """Which judged incident to act on."""

    incident_id: str = Field(pattern=INCIDENT_ID)
    """Incident with a verdict; the workload and the revision follow from it."""
    to_revision: int | None = Field(None, ge=1)
    """Revision to restore; default: the newest whose template is neither live nor judged bad."""
    despite_verdict: str | None = Field(None, min_length=10, max_length=500)
    """Reason of a person who rolls back although the verdict is not roll_back; always asked."""


class RollBackResult(Answer):
    """What was done, and whether it helped."""

    status: str
    """recovered, not_recovered or unknown."""
    incident_id: str
    """The incident."""
    target: Workload
    """The workload."""
    from_revision: int | None
    """The revision that was undone."""
    to_revision: int | None
    """The revision whose template was restored."""
    live_revision: int | None = None
    """Its number now: an undo renumbers."""
    approved_by: str
    """Who said yes."""
    template_restored: bool
    """Whether the live template equals the target's, read back."""
    verification: Verification
    """How recovery was checked."""
    warnings: tuple[str, ...] = ()
    """What may undo the undo, and other things to know."""
    next: str
    """The next move."""


async def plan(args: RollBack, context: ToolContext[IncidentSettings]) -> ActionPlan:
    """Work out exactly what will be done; changes nothing.

    Raises:
        NotFound: No such incident.
        PreconditionFailed: No verdict, an old one, one that does not say roll back, or the
            workload moved since it was judged.
    """
    store = await context.services.get(IncidentStore)
    stored = await store.get(args.incident_id)
    if stored.plan is not None and stored.incident.status in ACTED:
        return stored.plan
    verdict = _judged(stored, args)
    is_fresh = await _fresh_enough(stored, context)
    found = stored.context
    if found is None or found.change is None:
        raise PreconditionFailed(
            f"Incident {args.incident_id} does not know which rollout was judged.",
            fix="Call incident_investigate again.",
        )
    cluster = await _cluster(context, stored.incident.target)
    reason = verdict.headline
    if args.despite_verdict:
        reason += f" A person decides: {args.despite_verdict}"
    made = await plan_roll_back(
        cluster,
        stored.incident.target,
        tool="incident_roll_back",
        to_revision=args.to_revision,
        expect_uid=found.change.uid,
        expect_template_hash=found.change.revision.template_hash,
        bad_templates=await store.judged_bad(stored.incident.target),
        verdict_id=verdict.id,
        incident_id=stored.incident.id,
        reason=reason,
    )
    alone = verdict.automatic and is_fresh and args.despite_verdict is None
    return made.model_copy(
        update={
            "confidence": verdict.confidence,
            "evidence_complete": verdict.evidence_complete,
            "automatic_allowed": alone,
        }
    )


def _judged(stored: Stored, args: RollBack) -> Verdict:
    verdict = stored.incident.verdict
    if verdict is None or stored.context is None:
        raise PreconditionFailed(
            f"Incident {args.incident_id} has no verdict.", fix="Call incident_decide first."
        )
    if verdict.action is not Action.ROLL_BACK and args.despite_verdict is None:
        raise PreconditionFailed(
            f"The verdict is {verdict.action.value}, not roll_back: {verdict.headline}",
            fix=f"{verdict.ask_next} If a person wants the rollback anyway, pass despite_verdict"
            " with the reason.",
        )
    return verdict


async def _fresh_enough(stored: Stored, context: ToolContext[IncidentSettings]) -> bool:
    """Whether the evidence is fresh enough to act on without a person.

    A person who was asked while it was fresh may take as long as the question is open: what moves
    in the meantime is refused by the plan itself.

    Raises:
        PreconditionFailed: It is too old, and no question about it is open.
    """
    found = stored.context
    assert found is not None  # noqa: S101 - what has a verdict has evidence
    now = context.clock.now()
    age = (now - found.collected_at).total_seconds()
    if age <= context.client.evidence_age_s:
        return True
    database = await context.services.get(Database)
    question = await database.read(
        lambda c: c.execute(
            "SELECT 1 FROM approvals WHERE incident_id = ? AND expires_at > ?"
            " AND status IN ('pending', 'approved') AND requested_at >= ?",
            (stored.incident.id, now.isoformat(), found.collected_at.isoformat()),
        ).fetchone()
    )
    if question is None:
        raise PreconditionFailed(
            f"The evidence was collected {ago(age)}: too old to act on.",
            fix="Call incident_investigate and incident_decide again.",
        )
    return False


async def _cluster(context: ToolContext[IncidentSettings], target: Workload) -> Cluster:
    kubernetes = await context.services.get(KubernetesClient)
    return await kubernetes.cluster(target.cluster or None)


@tool(
    name="incident_roll_back",
    title="Roll back a judged deployment",
    risk=Risk.CHANGE,
    needs=ROLL_BACK_NEEDS,
    needs_for_plan=lambda plan: roll_back_needs_of(plan.target.kind),
    plan=plan,
)
async def roll_back(args: RollBack, context: ToolContext[IncidentSettings]) -> RollBackResult:
    """Undo the judged rollout of an incident, after approval, and verify that it helped.

    Restores the whole pod template of the previous good revision; refuses if the workload moved
    since it was judged. A person approves (dialog, or `mcp-devops approve ID`), or the policy
    does. Watches until healthy, or says not recovered. Repeating the call does nothing twice.
    """
    store = await context.services.get(IncidentStore)
    stored = await store.get(args.incident_id)
    planned = context.plan
    who = str(context.caller)
    stored = await _move(
        store, stored, IncidentStatus.ROLLING_BACK, "rollback started", context, planned
    )
    cluster = await _cluster(context, planned.target)
    await context.progress(1, 4, "dry run, then the rollback")
    begun = context.clock.monotonic()
    try:
        outcome = await apply_roll_back(cluster, planned)
    except OutcomeUnknown:
        await _move(
            store, stored, IncidentStatus.UNKNOWN, "sent, outcome unknown", context, planned
        )
        raise
    except DevOpsError as refused:
        cleared = stored.model_copy(update={"plan": None})
        await _move(store, cleared, IncidentStatus.DECIDED, f"refused: {refused.what}", context)
        raise
    stored = await _move(
        store, stored, IncidentStatus.VERIFYING, outcome.headline, context, planned
    )
    await context.progress(2, 4, "rolled back; verifying")
    verification = await verify(
        context, cluster, stored, outcome.template_restored, begun, context.progress
    )
    status = IncidentStatus(verification.outcome)
    incident = stored.incident.model_copy(update={"status": status, "verification": verification})
    await store.save(
        stored.model_copy(update={"incident": incident}),
        verification.says,
        who,
        verification=verification.model_dump(mode="json"),
    )
    lost = await _recorded(context, stored.incident.id)
    await context.progress(4, 4, verification.outcome)
    return RollBackResult(
        headline=verification.says,
        status=verification.outcome,
        incident_id=stored.incident.id,
        target=planned.target,
        from_revision=planned.from_revision,
        to_revision=planned.to_revision,
        live_revision=outcome.live_revision,
        approved_by=context.approved_by,
        template_restored=outcome.template_restored,
        verification=verification,
        warnings=(*planned.warnings, *lost),
        next=_next(status, stored.incident.id),
    )


async def _recorded(context: ToolContext[IncidentSettings], incident_id: str) -> tuple[str, ...]:
    """Write the rollback down in Sentry. Returns what could not be."""
    if context.caller.channel == UNATTENDED:
        # People come first at night: the run records it once they are told.
        return ()
    return await write_down(context.services, context.clock, incident_id, str(context.caller))


async def _move(
    store: IncidentStore,
    stored: Stored,
    status: IncidentStatus,
    what: str,
    context: ToolContext[IncidentSettings],
    planned: ActionPlan | None = None,
) -> Stored:
    incident = stored.incident.model_copy(
        update={"status": status, "plan_digest": planned.digest if planned else None}
    )
    changed = stored.model_copy(
        update={"incident": incident, "plan": planned if planned else stored.plan}
    )
    if planned is None:
        changed = changed.model_copy(update={"plan": None})
    by = f"{context.caller}, approved by {context.approved_by}"
    return await store.save(changed, what, by)


def _next(status: IncidentStatus, incident_id: str) -> str:
    if status is IncidentStatus.RECOVERED:
        return (
            f"Nothing urgent. Draft the report: prompt incident-report, or incident_get"
            f" {incident_id}; the new revision still needs its fix."
        )
    return (
        "Users may still be affected: incident_investigate again; if the same failure shows on"
        " both revisions, the cause lies elsewhere."
    )
