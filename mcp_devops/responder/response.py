"""What to do with a verdict: act alone, ask, page or record. Pure; the least that any rule allows.

Every rule can only lower the answer, never raise it, so a stricter rule never does more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from mcp_devops.decision.policy import ChangeHistory
from mcp_devops.decision.statistics import cp_lower
from mcp_devops.decision.vetoes import NOT_ENOUGH_DATA
from mcp_devops.gateway.consent import AUTOMATIC_CONFIDENCE
from mcp_devops.gateway.freezes import Freeze
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Action, Verdict
from mcp_devops.response_policy.hours import Effect, strictest
from mcp_devops.response_policy.limits import Breaker, PastAct, Stopped, may_act
from mcp_devops.response_policy.policy import Automatic, Explanation, Page, Resolve, ResponsePolicy
from mcp_devops.text.people import percent

PASSING = frozenset(
    {
        *("not_sustained", "recovered", "onset_before_deployment", "onset_late"),
        *("both_revisions_sick", "dependency_fails", NOT_ENOUGH_DATA),
    }
)
"""Vetoes that say nothing of what is wrong now, once every comparison is back to normal."""
VERDICT_AGE = timedelta(seconds=600)
"""Age from which a verdict is too old to act on alone (as `incident.evidence_age_s`)."""


class Kind(StrEnum):
    """What is done, least first."""

    RECORD = "record_only"
    PAGE = "page_only"
    ASK = "ask"
    ACT = "act"


_ORDER = {kind: place for place, kind in enumerate(Kind)}
_EFFECTS = {
    Effect.ASK: Kind.ASK,
    Effect.PAGE_ONLY: Kind.PAGE,
    Effect.RECORD_ONLY: Kind.RECORD,
}
_WISHES = {
    Action.ROLL_BACK: (Kind.ACT, "The verdict is to roll back"),
    Action.HOLD: (Kind.ASK, "The verdict is to hold for a person's review"),
    Action.FIX_FORWARD: (Kind.PAGE, "The verdict is to fix forward, which nobody can approve"),
    Action.NONE: (Kind.RECORD, "The verdict is that nothing needs to be done"),
}


class Response(Record):
    """What to do, and why."""

    kind: Kind
    """act, ask, page_only or record_only."""
    reasons: tuple[str, ...]
    """Why, in plain words: the verdict first, then every rule that lowered it, in order."""
    policy_version: str
    """Version of the response policy."""
    scope: str
    """The scope that applied."""
    scope_line: int | None
    """Its line in the file; null: none in a file."""
    wakes: bool
    """Whether the PagerDuty alert is to be opened now."""
    approvers: tuple[str, ...] = ()
    """Who may answer, if a person is asked; empty: whoever a channel lets answer."""
    deadline: Moment | None = None
    """When no answer becomes a no, if a person is asked."""
    page: Page
    """Who is told."""
    resolve: Resolve
    """What becomes of the page once a rollback is verified."""


def decide_response(
    verdict: Verdict,
    target: Workload,
    policy: ResponsePolicy,
    now: datetime,
    frozen: Freeze | None,
    history: Collection[PastAct],
    *,
    breaker: Breaker = Breaker(),  # noqa: B008 - immutable
    record: ChangeHistory | None = None,
) -> Response:
    """Say what to do with a verdict.

    Args:
        verdict: The verdict.
        target: The workload it is about.
        policy: The policy in force.
        now: The moment.
        frozen: The freeze that holds for the workload, if there is one.
        history: Automatic rollbacks, as for `limits.may_act`.
        breaker: The breaker's switch.
        record: How often automatic decisions were right, over all services; null: unknown.
    """
    found = policy.explain(target)
    kind, says = _WISHES[verdict.action]
    reasons = [f"{says} (probability {percent(verdict.confidence)})."]
    if verdict.action is Action.NONE and not verdict.evidence_complete:
        kind = Kind.PAGE
        reasons.append("Evidence is missing, so it is not taken for an all-clear.")
    ceilings = [
        *_by_itself(verdict),
        *_by_the_scope(verdict, found),
        *_by_the_hours(policy, now),
        *((Kind.ASK, why) for why in _against_acting(verdict, target, found, now)),
        *_by_the_switches(frozen),
        *_by_the_limits(policy, target, now, history, breaker),
        *_by_the_record(record, found),
    ]
    reasons += [why for ceiling, why in ceilings if _ORDER[ceiling] < _ORDER[kind]]
    kind = min([kind, *(ceiling for ceiling, _ in ceilings)], key=_ORDER.__getitem__)
    if kind is Kind.ACT:
        reasons.append("No rule of the policy stands against acting alone.")
    approval = found.rules.approval
    asked = kind is Kind.ASK
    return Response(
        kind=kind,
        reasons=tuple(reasons),
        policy_version=policy.version,
        scope=found.scope,
        scope_line=found.line,
        wakes=kind in (Kind.ASK, Kind.PAGE) and found.rules.page.pagerduty,
        approvers=approval.approvers if asked else (),
        deadline=now + timedelta(minutes=approval.wait_minutes) if asked else None,
        page=found.rules.page,
        resolve=found.rules.resolve,
    )


_Ceiling = tuple[Kind, str]


def _by_itself(verdict: Verdict) -> Iterator[_Ceiling]:
    """What has passed is written down; nobody is woken for it."""
    if verdict.action is Action.HOLD and has_passed(verdict):
        yield Kind.RECORD, "It passed by itself: the newest minute is as good as before."


def has_passed(verdict: Verdict) -> bool:
    """Whether nothing but what is over speaks against the deployment."""
    return verdict.passed and not {v.code for v in verdict.vetoes} - PASSING


def _by_the_scope(verdict: Verdict, found: Explanation) -> Iterator[_Ceiling]:
    place = found.scope if found.line is None else f"{found.scope} (line {found.line})"
    automatic = found.rules.automatic
    if automatic is Automatic.NEVER:
        yield Kind.PAGE, f"{place} says automatic: never."
    elif automatic is Automatic.ASK:
        yield Kind.ASK, f"{place} says automatic: ask."
    codes = {veto.code for veto in verdict.vetoes}
    blamed = any(f.counted and f.weight > 0 for f in verdict.findings)
    if verdict.action is Action.HOLD and codes == {NOT_ENOUGH_DATA} and not blamed:
        effect = found.rules.without_data
        yield (
            _EFFECTS[effect],
            f"Nothing but data is lacking, and {place} says without_data: {effect.value}.",
        )


def _by_the_hours(policy: ResponsePolicy, now: datetime) -> Iterator[_Ceiling]:
    quiet = strictest(policy.document.quiet_hours, now)
    if quiet is not None:
        hours, end = quiet
        yield (
            _EFFECTS[hours.effect],
            f"Quiet hours ({hours.says()}) until {end:%Y-%m-%d %H:%M} UTC: {hours.effect.value}.",
        )


def _against_acting(
    verdict: Verdict, target: Workload, found: Explanation, now: datetime
) -> Iterator[str]:
    """Why the verdict itself does not let the server act alone."""
    least = max(AUTOMATIC_CONFIDENCE, found.judging.limits.automatic_confidence)
    if not verdict.confidence >= least:
        yield f"The probability {percent(verdict.confidence)} is below {percent(least)}."
    if not verdict.evidence_complete:
        yield "Evidence that it needs is missing."
    yield from (f"{veto.says.rstrip('.')} ({veto.code})." for veto in verdict.vetoes)
    if verdict.target != target:
        yield f"The verdict is about {verdict.target}, not about {target}."
    if abs(now - verdict.decided_at) > VERDICT_AGE:
        yield f"The verdict of {verdict.decided_at:%H:%M:%S} UTC is too old to act on."
    if found.rules.own_numbers and verdict.policy_version != found.judging.version:
        yield (
            f"It was judged by policy {verdict.policy_version}, and the thresholds of"
            f" {found.scope} make {found.judging.version}."
        )
    if not verdict.automatic:
        yield "By its own rules the verdict is not one to act on without a person."


def _by_the_switches(frozen: Freeze | None) -> Iterator[_Ceiling]:
    if frozen is not None:
        says = frozen.says()
        yield Kind.ASK, f"{says[:1].upper()}{says[1:].rstrip('.')}."


def _by_the_limits(
    policy: ResponsePolicy,
    target: Workload,
    now: datetime,
    history: Collection[PastAct],
    breaker: Breaker,
) -> Iterator[_Ceiling]:
    allowed = may_act(now, target, history, policy.limits, breaker)
    if isinstance(allowed, Stopped):
        end = f", until {allowed.until:%Y-%m-%d %H:%M} UTC" if allowed.until else ""
        yield Kind.ASK, f"Limits: {allowed.reason}{end}."


def _by_the_record(record: ChangeHistory | None, found: Explanation) -> Iterator[_Ceiling]:
    limits = found.judging.limits
    if record is None or record.judged < limits.judged_outcomes:
        return
    bound = cp_lower(min(record.right, record.judged), record.judged)
    if bound < limits.right_share:
        yield (
            Kind.ASK,
            f"Over all services {record.right} of {record.judged} automatic decisions were right;"
            f" the share is surely above {bound:.2f} only, limit {limits.right_share:.2f}.",
        )
