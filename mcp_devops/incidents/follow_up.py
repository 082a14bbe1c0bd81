"""What an incident's record leaves to do and to ask; every line follows from a fact in it."""

from __future__ import annotations

from collections.abc import Iterator

from mcp_devops.incidents.account import UNATTENDED, Account
from mcp_devops.model.arms import summarise
from mcp_devops.model.change import ChangeArea
from mcp_devops.model.evidence import Arm, DiagnosticContext
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.verdict import Action, Cause
from mcp_devops.text.people import percent

NOTICEABLE = 0.01
"""Share of failed requests from which on a readiness probe should have had something to say."""


def actions_from(account: Account) -> list[str]:
    """Things to do, the most urgent first."""
    found = account.evidence
    verdict = account.incident.verdict
    lines = [*_of_outcome(account)]
    if found is not None and verdict is not None and verdict.cause is Cause.NEW_CODE:
        lines += _of_readiness(found)
    if found is not None:
        lines += [*_of_pods(found), *_of_surroundings(found), *_of_sources(found)]
    lines += [
        f"Veto {v.code} stopped an automatic action: decide whether that should stay so. {v.says}"
        for v in (verdict.vetoes if verdict else ())
    ]
    if not account.incident.opened_by.endswith(UNATTENDED):
        lines.append(
            "Check whether an alert should have come first: the record holds none, only who opened"
            " the incident."
        )
    return list(dict.fromkeys(lines))


def _of_outcome(account: Account) -> Iterator[str]:
    status, verdict = account.incident.status, account.incident.verdict
    plan = account.plan
    if status is IncidentStatus.NOT_RECOVERED:
        yield "Now: the change did not help. Investigate again, on both revisions."
    if status is IncidentStatus.UNKNOWN:
        yield "Now: find out which revision is live; the change's outcome is unknown."
    if account.judged is not None and not account.judged.was_right:
        note = f": {account.judged.note}" if account.judged.note else ""
        yield f"The decision was judged wrong{note}. Find which finding misled it, and mend that."
    if plan is not None and plan.from_revision is not None:
        yield (
            f"Fix revision {plan.from_revision} before it is deployed again: the rollback removed"
            " it, not its cause."
        )
        yield from (f"Heed the plan's warning: {warning}" for warning in plan.warnings)
    elif verdict is not None and verdict.action is Action.ROLL_BACK:
        yield "The verdict says roll back, and no rollback is recorded: decide."
    elif verdict is not None and verdict.action is Action.FIX_FORWARD:
        yield f"Fix forward: {verdict.headline}"
    change = account.evidence.change if account.evidence else None
    if change is not None and change.managed_by:
        yield f"Bring the source of truth in line, or it re-applies this: {change.managed_by}"


def _of_readiness(found: DiagnosticContext) -> Iterator[str]:
    """Pods that called themselves ready while their requests failed."""
    rollout = found.rollout
    rates = {s.arm: summarise(s, found.windows).error_rate for s in found.requests}
    failed = rates.get(Arm.NEW)
    if rollout is not None and rollout.new.ready and failed is not None and failed >= NOTICEABLE:
        yield (
            f"{rollout.new.ready} of {rollout.new.pods} new pods were ready while"
            f" {percent(failed)} of their requests failed: let a readiness probe or a canary step"
            " exercise what failed."
        )


def _of_pods(found: DiagnosticContext) -> Iterator[str]:
    """What the pods and the change to them tell."""
    rollout = found.rollout
    if rollout is not None and rollout.new.failing and rollout.new.log_line:
        yield f"Start from the new revision's last words (data): {rollout.new.log_line}"
    if rollout is not None and rollout.deadline_exceeded:
        yield "The rollout passed its progress deadline: let the pipeline stop there by itself."
    removed = [
        d.path
        for d in (found.change.differences if found.change else ())
        if d.area is ChangeArea.PROBES and d.after is None
    ]
    yield from (
        f"The change removed a probe: {path}. Restore it, or say why not." for path in removed
    )


def _of_surroundings(found: DiagnosticContext) -> Iterator[str]:
    for drift in found.drift:
        where = f" (declared at {drift.where})" if drift.where else ""
        yield f"Reconcile drifted {drift.address}{where}: {drift.what}"
    if found.image_risk is not None and found.image_risk.hold:
        reasons = "; ".join(found.image_risk.reasons) or found.image_risk.summary
        yield f"Replace {found.image_risk.image} before it goes on: {reasons}"
    if found.issues is not None and found.issues.serious:
        worst = ", ".join(found.issues.worst) or "see the tracker"
        yield (
            f"Work through {found.issues.serious} new or returned errors of {found.issues.release}"
            f" ({found.issues.source}): {worst}"
        )
    for calls in found.outbound:
        if calls.failed and (calls.after_error_rate or 0) > (calls.baseline_error_rate or 0):
            yield (
                f"Ask after {calls.dependency}: {percent(calls.after_error_rate)} of the calls to"
                f" it failed, {percent(calls.baseline_error_rate)} before."
            )
    for event in found.scaling:
        yield f"Review the capacity change by {event.source}: {event.what}"
    sick = [n.service for n in found.neighbours if n.sick]
    if sick:
        yield f"Bring in the owners of what was sick at the same time: {', '.join(sick)}."


def _of_sources(found: DiagnosticContext) -> Iterator[str]:
    if not found.requests:
        yield "Give the service a metric source that counts its requests and errors."
    for gap in found.missing:
        need = ", which an automatic action needs" if gap.needed else ""
        yield f"Make {gap.source} ({gap.what}) available{need}: {gap.why}"


def questions_from(account: Account) -> list[str]:
    """What the record raises and does not answer."""
    incident, found = account.incident, account.evidence
    verdict, checked = incident.verdict, incident.verification
    lines = []
    if verdict is not None and verdict.ask_next:
        lines.append(verdict.ask_next)
    if verdict is None or verdict.cause is Cause.UNKNOWN:
        lines.append("What was the cause? The record gives no category.")
    else:
        lines.append("What was the mechanism behind the category, and why did no test show it?")
    if found is None or not any(b.requests for s in found.requests for b in s.buckets):
        lines.append("How many requests failed, and whose? Nothing counted them.")
    if checked is not None and checked.error_rate_after is None:
        lines.append("Did errors really end? The error rate after the change was not seen.")
    if account.plan is not None and checked is None:
        lines.append("Did the change help? It was not verified.")
    if verdict is not None and not verdict.calibrated and account.judged is None:
        lines.append("Was the verdict right? Its probability is not calibrated yet.")
    return lines
