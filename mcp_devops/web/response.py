"""The parts of the page about what was done: approval, verification, timeline, journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mcp_devops.incidents.account import Account, Consent, Happening, Proof, Sort
from mcp_devops.text.people import duration
from mcp_devops.web import words
from mcp_devops.web.html import Child, Html, el

FIRST, NEWEST = 15, 85
"""Timeline lines that are kept of a long one."""

ANSWERS = {
    "approved": ("✓ approved", "good"),
    "used": ("✓ approved", "good"),
    "denied": ("✕ denied", "bad"),
    "dismissed": ("✕ closed without an answer", "warn"),
    "expired": ("✕ expired, which is a no", "warn"),
    "pending": ("… no answer is recorded", "warn"),
}
KEY = frozenset({Sort.DEPLOYMENT, Sort.VERDICT, Sort.APPROVAL, Sort.ACTION})


def response_part(account: Account) -> Child:
    """The plan, who said yes, and whether it helped."""
    return [
        _plan(account),
        _consents(account.consents),
        _verification(account),
        _judged(account),
    ]


def _plan(account: Account) -> Child:
    plan = account.plan
    if plan is None:
        return el("p", "Nothing was changed: no plan of this incident was carried out.")
    steps = None
    if plan.from_revision is not None:
        steps = f"revision {plan.from_revision} → template of revision {plan.to_revision}"
    return [
        el("h3", "The change"),
        el("p", plan.summary),
        pairs(
            ("from, to", steps),
            ("live again since", words.full(account.rolled_back_at)
             if account.rolled_back_at else None),
            ("plan", el("code", plan.digest[:12])),
        ),
        el("ul", [el("li", "! ", w) for w in plan.warnings]) if plan.warnings else None,
    ]  # fmt: skip


def pairs(*rows: tuple[str, Child]) -> Child:
    """Names and values; rows without a value are left out."""
    cells = [[el("dt", name), el("dd", value)] for name, value in rows if value is not None]
    return el("dl", cells, class_="pairs") if cells else None


def _consents(consents: Sequence[Consent]) -> Child:
    if not consents:
        return [el("h3", "Approval"), el("p", "None was asked for.")]
    return [el("h3", "Approval"), [_consent(c) for c in consents[-20:]]]


def _consent(asked: Consent) -> Html:
    said, tone = ANSWERS.get(asked.status, (asked.status, "warn"))
    after = (asked.answered_at - asked.asked_at).total_seconds() if asked.answered_at else None
    return el(
        "div",
        el("strong", said),
        f" by {asked.answered_by}" if asked.answered_by else None,
        f", through {asked.channel}" if asked.channel else None,
        pairs(
            ("asked for", asked.summary or None),
            ("asked by", f"{asked.asked_by}, {words.full(asked.asked_at)}"),
            ("answered", f"{words.full(asked.answered_at)}, after {duration(after)}"
             if asked.answered_at and after is not None else None),
            ("note", asked.note),
            ("approval, plan", [el("code", asked.id), " ", el("code", asked.plan_digest[:12])]),
        ),
        class_=f"note tone-{tone}",
    )  # fmt: skip


def _verification(account: Account) -> Child:
    checked = account.incident.verification
    title = el("h3", "Did it help?")
    if checked is None:
        said = "Not verified yet." if account.plan else "Nothing was done that could be verified."
        return [title, el("p", said)]
    tone, mark = {"recovered": ("good", "✓"), "not_recovered": ("bad", "✕")}.get(
        checked.outcome, ("bad", "?")
    )
    return [
        title,
        el(
            "div",
            el("strong", f"{mark} {checked.outcome.replace('_', ' ')}"),
            el("p", checked.says),
            pairs(
                ("template", "the wanted one, read back" if checked.template_restored
                 else "NOT the wanted one"),
                ("pods", checked.pods),
                ("error rate", f"{words.rate(checked.error_rate_before)} →"
                 f" {words.rate(checked.error_rate_after)}"),
                ("checked", f"{words.full(checked.checked_at)}, {duration(checked.took_s)} after"
                 " the change"),
            ),
            class_=f"note tone-{tone}",
        ),
    ]  # fmt: skip


def _judged(account: Account) -> Child:
    judged = account.judged
    title = el("h3", "Was the decision right?")
    if judged is None:
        if account.incident.verdict is None:
            return None
        command = f"mcp-devops outcome {account.incident.id} right|wrong"
        return [title, el("p", "Nobody has judged it yet: ", el("code", command))]
    mark, said, tone = ("✓", "right", "good") if judged.was_right else ("✕", "wrong", "bad")
    return [
        title,
        el(
            "div",
            el("strong", f"{mark} judged {said}"),
            f" by {judged.by_whom}, {words.full(judged.at)}",
            el("p", judged.note) if judged.note else None,
            class_=f"note tone-{tone}",
        ),
    ]


def timeline_part(happenings: Sequence[Happening], opened_at: datetime) -> Child:
    """What happened, oldest first, with who and when."""
    left = len(happenings) - FIRST - NEWEST
    shown = list(happenings) if left <= 0 else [*happenings[:FIRST], *happenings[-NEWEST:]]
    items: list[Child] = [_line(h, opened_at) for h in shown]
    if left > 0:
        items.insert(FIRST, el("li", f"{left} lines between are left out; the journal has them."))
    if not items:
        return el("p", "Nothing has happened yet that is recorded.")
    days = sorted({words.day(h.at) for h in happenings})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else ""
    return [
        el("p", f"UTC, {span}. Counted from the opening of the incident.", class_="small dim"),
        el("ol", items, class_="rows"),
    ]


def _line(one: Happening, opened_at: datetime) -> Html:
    away = (one.at - opened_at).total_seconds()
    off = f"{'+' if away >= 0 else '−'}{duration(away)}" if abs(away) >= 1 else "0 s"
    return el(
        "li",
        el("time", words.clock(one.at), el("span", off, class_="off"), datetime=words.iso(one.at)),
        el(
            "div",
            el("span", one.sort.value, class_="tag"),
            el("span", one.what, class_="what"),
            el("div", one.who, class_="who") if one.who else None,
        ),
        class_="line key" if one.sort in KEY else "line",
    )


def proof_part(proof: Proof, incident_id: str) -> Child:
    """What the journal holds, and how to check it."""
    if proof.changed:
        numbers = ", ".join(map(str, proof.changed[:20]))
        own = el(
            "div", el("strong", "✕ The record was altered: "),
            f"entries {numbers} do not give their own hash.", class_="note tone-bad",
        )  # fmt: skip
    else:
        own = el("p", f"{_entries(proof)} about this incident, each gives its own hash.")
    chain = proof.chain
    if chain is None:
        walked: Child = "The chain between the entries was not walked for this page."
    else:
        walked = f"{'✓ Whole' if chain.ok else '✕ BROKEN'}: {chain.says}"
    return [
        own,
        el("p", walked),
        pairs(("newest entry of the journal", el("code", proof.head) if proof.head else None)),
        el(
            "p", "Check it: ", el("code", "mcp-devops audit verify"), ", read it: ",
            el("code", f"mcp-devops audit list --incident {incident_id}"),
            class_="small dim",
        ),
    ]  # fmt: skip


def _entries(proof: Proof) -> str:
    said = f"{proof.entries} entries" if proof.entries != 1 else "1 entry"
    return said if proof.all_of_them else f"The newest {said}"
