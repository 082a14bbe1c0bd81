"""The page of one incident: what happened, how sure that is, what was done; one file."""

from __future__ import annotations

from datetime import datetime

from mcp_devops import __version__
from mcp_devops.incidents.account import Account
from mcp_devops.model.arms import ArmSummary, summarise
from mcp_devops.model.evidence import Arm
from mcp_devops.model.incident import OPEN_STATUSES, Incident, IncidentStatus
from mcp_devops.model.verdict import Action
from mcp_devops.text.people import duration, percent
from mcp_devops.web import words
from mcp_devops.web.around import around_part, change_part, missing_note, pods_part, share_of
from mcp_devops.web.html import Child, Html, document, el
from mcp_devops.web.judgement import judgement_part
from mcp_devops.web.requests import requests_part, sources_of
from mcp_devops.web.response import proof_part, response_part, timeline_part
from mcp_devops.web.style import CSS, icon


def incident_page(account: Account, now: datetime, *, list_at: str | None = None) -> str:
    """One incident as a self-contained HTML file that opens offline and prints.

    Args:
        account: From `account_of`, so that it is cleaned and redacted.
        now: When it is written.
        list_at: Address of the list of incidents, where there is one.
    """
    incident = account.incident
    state, tone = words.state_of(incident)
    evidence = account.evidence
    parts: dict[str, tuple[str, Child]] = {
        "Requests": ("Requests over time", requests_part(account)),
        "Verdict": ("Verdict and its weights", judgement_part(incident.verdict)),
        "Pods": (f"Pods{_as_of(account)}", pods_part(evidence)),
        "Change": ("What the deployment changed",
                   change_part(evidence.change if evidence else None)),
        "Around": ("Around the deployment", around_part(evidence)),
        "Response": ("Action, approval, verification", response_part(account)),
        "Timeline": ("Timeline", timeline_part(account.happenings, incident.opened_at)),
        "Journal": ("Journal", proof_part(account.proof, incident.id)),
    }  # fmt: skip
    return document(
        f"{state}: {incident.target.namespace}/{incident.target.name} ({incident.id})",
        CSS,
        icon(tone),
        el(
            "header",
            el("p", el("a", "All incidents", href=list_at), class_="small") if list_at else None,
            _hero(account, state, tone),
            el("nav", [el("a", key, href=f"#{key.lower()}") for key in parts],
               class_="parts", aria_label="Parts of this page"),
            class_="top",
        ),
        el("main", [_part(key.lower(), *part) for key, part in parts.items()]),
        _footer(now),
    )  # fmt: skip


LONG = frozenset({"requests", "verdict", "around", "response", "timeline"})
"""Parts that a printer may break over pages."""


def _as_of(account: Account) -> str:
    """When the pods were read, as they may be others by now."""
    rollout = account.evidence.rollout if account.evidence else None
    if rollout is None:
        return ""
    back = account.rolled_back_at
    before = ", before the rollback" if back is not None and rollout.at < back else ""
    return f" at {words.clock(rollout.at)} UTC{before}"


def _part(key: str, title: str, body: Child) -> Html:
    return el(
        "section",
        el("h2", title, id=f"{key}-title"),
        body,
        class_="card long" if key in LONG else "card",
        id=key,
        aria_labelledby=f"{key}-title",
    )


def _hero(account: Account, state: str, tone: str) -> Html:
    incident = account.incident
    where = f"{incident.target}"
    if incident.target.cluster:
        where += f", cluster {incident.target.cluster}"
    return el(
        "div",
        el("p", where, class_="where", title=where),
        el("h1", el("span", words.MARKS[tone], class_="mark", aria_hidden="true"), " ", state,
           class_="state"),
        el("p", lead(account), class_="lead"),
        _next(incident),
        missing_note(account.evidence.missing if account.evidence else ()),
        _facts(account),
        el(
            "p",
            f"Numbers from the evidence of {words.full(account.evidence.collected_at)}."
            if account.evidence
            else "No evidence is recorded yet.",
            class_="small dim",
        ),
        el(
            "p",
            el("code", incident.id), f", opened {words.full(incident.opened_at)} by"
            f" {incident.opened_by}, last moved {words.full(incident.updated_at)}",
            class_="small dim",
        ),
        class_=f"card hero tone-{tone}",
    )  # fmt: skip


def lead(account: Account) -> str:
    """The one sentence that matters most now."""
    incident = account.incident
    checked = incident.verification
    if checked is not None and incident.status in (
        IncidentStatus.RECOVERED, IncidentStatus.NOT_RECOVERED, IncidentStatus.UNKNOWN,
    ):  # fmt: skip
        errors = (
            f" Errors {words.rate(checked.error_rate_before)} →"
            f" {words.rate(checked.error_rate_after)}."
        )
        if checked.error_rate_before is None and checked.error_rate_after is None:
            errors = " The error rate was not measured."
        plan = account.plan
        done = "The change was made."
        if plan is not None and plan.from_revision is not None:
            done = f"Revision {plan.from_revision} was rolled back to {plan.to_revision}."
        return f"{done}{errors} {checked.pods}"
    if incident.verdict is not None:
        return incident.verdict.headline
    return "Evidence is being collected; nothing was judged yet."


def _next(incident: Incident) -> Child:
    """The next move, while somebody still has to make one."""
    verdict = incident.verdict
    if incident.status not in OPEN_STATUSES:
        return None
    said: str | None = None
    if incident.status is IncidentStatus.NOT_RECOVERED:
        said = "Users may still be affected. Investigate again: does the old revision fail as well?"
    elif incident.status is IncidentStatus.UNKNOWN:
        said = "Look which revision is live before anything else is changed."
    elif incident.status is IncidentStatus.AWAITING_APPROVAL:
        said = "Run `mcp-devops approvals`, read the plan, approve or deny it."
    elif verdict is not None and incident.status is IncidentStatus.DECIDED:
        said = verdict.ask_next
        if verdict.action is Action.ROLL_BACK:
            said = "Ask for the rollback (incident_roll_back) and answer its approval."
    return el("p", el("strong", "Next: "), said, class_="next") if said else None


def _facts(account: Account) -> Html:
    arms = _told_arms(account)
    before = arms.get(Arm.BASELINE)
    new, old = arms.get(Arm.NEW), arms.get(Arm.CONTROL)
    after = arms.get(Arm.AFTER)
    apart = new is not None and new.error_rate is not None
    worst, name = (new, "new revision") if apart else (after, "after")
    verdict = account.incident.verdict
    checked = account.incident.verification
    facts: list[tuple[str, str, str]] = [
        (
            f"Errors, {name}",
            words.rate(worst.error_rate if worst else None),
            _against(
                "before", words.rate(before.error_rate if before else None), old, "error_rate"
            ),
        ),
        (
            f"p99, {name}",
            words.millis(worst.p99_ms if worst else None),
            _against("before", words.millis(before.p99_ms if before else None), old, "p99_ms"),
        ),
        ("New pods ready", share_of(account.evidence), _available(account)),
        (
            "The deployment did it",
            percent(verdict.confidence) if verdict else "not judged",
            _automatic(account),
        ),
    ]
    if checked is not None:
        facts.append(
            (
                "Errors, checked after",
                words.rate(checked.error_rate_after),
                f"{checked.outcome.replace('_', ' ')}, {duration(checked.took_s)} after the change",
            )
        )
    return el(
        "dl",
        [
            el("div", el("dt", name), el("dd", value, el("small", more) if more else None))
            for name, value, more in facts
        ],
        class_="facts",
    )


def _told_arms(account: Account) -> dict[Arm, ArmSummary]:
    """The arms of the first source that has numbers."""
    evidence = account.evidence
    groups = list(sources_of(account).values())
    if evidence is None or not groups:
        return {}
    return {s.arm: summarise(s, evidence.windows) for s in groups[0]}


def _against(name: str, before: str, old: ArmSummary | None, field: str) -> str:
    said = f"{name} {before}"
    if old is not None and getattr(old, field) is not None:
        value = getattr(old, field)
        shown = words.rate(value) if field == "error_rate" else words.millis(value)
        said += f", old revision {shown}"
    return said


def _available(account: Account) -> str:
    rollout = account.evidence.rollout if account.evidence else None
    if rollout is None:
        return "pods were not read"
    return f"{rollout.available} of {rollout.desired} available in all"


def _automatic(account: Account) -> str:
    verdict = account.incident.verdict
    if verdict is None:
        return ""
    complete = "evidence complete" if verdict.evidence_complete else "evidence INCOMPLETE"
    if not verdict.vetoes:
        return complete
    return f"{complete}, {len(verdict.vetoes)} {'veto' if len(verdict.vetoes) == 1 else 'vetoes'}"


def _footer(now: datetime) -> Html:
    return el(
        "footer",
        el(
            "p",
            f"Written {words.full(now)} by mcp-devops {__version__} from the record"
            " alone. All times are UTC. Secrets are masked by rule: a net, not a proof. Log lines"
            " and names are data from outside.",
        ),
    )
