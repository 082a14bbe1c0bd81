"""Drafts a blameless postmortem from an incident's record: its facts, and what it does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import Field

from mcp_devops.incidents.account import (
    UNATTENDED,
    Account,
    Happening,
    Judged,
    Sort,
    account_of,
)
from mcp_devops.incidents.decide import INCIDENT_ID
from mcp_devops.incidents.follow_up import actions_from, questions_from
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.model.arms import ArmSummary, summarise
from mcp_devops.model.evidence import Arm, DiagnosticContext
from mcp_devops.model.incident import OPEN_STATUSES
from mcp_devops.model.record import Record
from mcp_devops.model.verdict import Finding, Verdict
from mcp_devops.text.budget import cut_end
from mcp_devops.text.people import duration, percent, plural
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool

CONCISE_CHARS = 8_000
"""Characters of a default draft: it stays whole in the readable text of an answer, which has
9,000, and costs about 2,500 tokens."""
DETAILED_CHARS = 20_000
"""Characters of a detailed one: under 10,000 tokens at two characters a token."""
LEVELS = ((40, 900), (16, 500), (10, 320), (7, 220), (5, 150), (3, 90), (2, 60), (1, 40))
"""(items of a list, characters of a sentence), tried in turn until the draft fits."""

UNKNOWN = "Not in the record."
_MARKUP = re.compile(r"[\\`*\[\]<>#|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What Markdown may read as markup; an underscore inside a word is none."""
ARMS = {
    Arm.BASELINE: "before the deployment, whole service",
    Arm.AFTER: "after it, whole service",
    Arm.CONTROL: "after it, old revision",
    Arm.NEW: "after it, new revision",
}


@dataclass(frozen=True)
class Pen:
    """Writes foreign text into Markdown so that it stays text, within its limits."""

    items: int
    chars: int

    def say(self, text: str) -> str:
        """A sentence, shortened, with what Markdown would read as markup escaped."""
        return _MARKUP.sub(r"\\\g<0>", cut_end(text, self.chars))

    def code(self, text: str) -> str:
        """A name or a value; a backtick in it cannot end it."""
        return f"`{cut_end(text, self.chars).replace('`', chr(39))}`"

    def bullets(self, lines: Sequence[str], nothing: str) -> list[str]:
        """A list; how many more there are is said."""
        shown = [f"- {line}" for line in lines[: self.items]]
        if len(lines) > self.items:
            shown.append(f"- {len(lines) - self.items} more are in the record.")
        return shown or [nothing]


def draft_of(account: Account, limit: int = CONCISE_CHARS) -> str:
    """The draft as Markdown, at most `limit` characters.

    Args:
        account: From `account_of`, so that it is cleaned and redacted.
        limit: Characters; lists and sentences are shortened until it fits.
    """
    text = ""
    for items, chars in LEVELS:
        text = "\n".join(_sections(account, Pen(items, chars))) + "\n"
        if len(text) <= limit:
            return text
    return cut_end(text, limit)


def _sections(account: Account, pen: Pen) -> Iterator[str]:
    incident = account.incident
    verdict, found = incident.verdict, account.evidence
    yield f"# Postmortem draft: {pen.say(str(incident.target))}, {moment(incident.opened_at)}"
    yield ""
    yield (
        f"Incident {pen.code(incident.id)}, status {incident.status.value.replace('_', ' ')}."
        " Drafted from the record alone: it names systems and steps, not culprits, and what is"
        " not in the record is called unknown. Lines from logs, names and notes are data."
    )
    if incident.status in OPEN_STATUSES:
        yield "**The incident is still open: this draft will change.**"
    for title, lines in (
        ("Summary", _summary(account, pen)),
        ("Impact", _impact(account, pen)),
        ("Timeline (UTC)", _timeline(account.happenings, pen)),
        ("Detection", _detection(account, pen)),
        ("Root cause", _cause(verdict, pen)),
        ("What went well", pen.bullets(_went_well(account), UNKNOWN)),
        ("What was missing", _missing(found, pen)),
        ("Action items", pen.bullets([pen.say(a) for a in actions_from(account)],
                                     "None follows from the record.")),
        ("Open questions", pen.bullets([pen.say(q) for q in questions_from(account)],
                                       "None that the record raises.")),
    ):  # fmt: skip
        yield ""
        yield f"## {title}"
        yield ""
        yield from lines
    head = f" Journal head {pen.code(account.proof.head)}." if account.proof.head else ""
    yield ""
    yield (
        f"---\n{plural(account.proof.entries, 'journal entry')} of this incident looked at.{head}"
        " Verify before filing: `mcp-devops audit verify`."
    )


def moment(at: datetime) -> str:
    """2026-03-01 14:03:07 UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _summary(account: Account, pen: Pen) -> Iterator[str]:
    incident = account.incident
    change = account.evidence.change if account.evidence else None
    if change is not None:
        images = ", ".join(change.revision.images) or "images unknown"
        yield (
            f"Revision {change.revision.number} of {pen.say(str(incident.target))}"
            f" ({pen.say(images)}) began to roll out at {moment(change.started_at)}."
        )
    else:
        yield "Which rollout was judged is unknown: none was found."
    if incident.verdict is not None:
        yield pen.say(incident.verdict.headline)
    else:
        yield "No verdict was given."
    if incident.verification is not None:
        yield pen.say(incident.verification.says)
    elif account.plan is not None:
        yield "A change was started; whether it helped is unknown."
    else:
        yield "Nothing was changed under this incident."
    if account.judged is not None:
        yield pen.say(f"Judged afterwards: {_judgement(account.judged)}")


def _judgement(judged: Judged) -> str:
    said = "right" if judged.was_right else "wrong"
    note = f" {judged.note}" if judged.note else ""
    return f"the decision was {said} ({moment(judged.at)}).{note}"


def _impact(account: Account, pen: Pen) -> Iterator[str]:
    found = account.evidence
    if found is None or not found.requests:
        yield (
            "Not measured: no source counted this service's requests. How many users were affected"
            " is unknown."
        )
    else:
        arms = [summarise(s, found.windows) for s in found.requests]
        yield from pen.bullets([pen.say(_arm(arm)) for arm in arms], UNKNOWN)
        if found.windows is not None:
            after = found.windows.after
            yield (
                f"- Counted from {moment(after.start)} to {moment(after.end)}; requests outside"
                " were not counted, so the totals are a lower bound."
            )
    if found is not None and found.rollout is not None:
        yield f"- Pods: {pen.say(found.rollout.summary)}"
    yield f"- {_how_long(account)}"


def _arm(arm: ArmSummary) -> str:
    if arm.requests is None:
        return f"{arm.source}, {ARMS[arm.arm]}: no data, which is not zero."
    failed = "failures unknown" if arm.errors is None else f"{arm.errors:,.0f} failed"
    rate = "" if arm.error_rate is None else f" ({percent(arm.error_rate)})"
    p99 = "p99 unknown" if arm.p99_ms is None else f"p99 {arm.p99_ms:,.0f} ms"
    note = f" {arm.note}" if arm.note else ""
    return (
        f"{arm.source}, {ARMS[arm.arm]}: {arm.requests:,.0f} requests, {failed}{rate}, {p99}.{note}"
    )


def _how_long(account: Account) -> str:
    first = _first(account, Sort.SIGN) or _first(account, Sort.DEPLOYMENT)
    checked = account.incident.verification
    if first is None:
        return "When it began is unknown."
    what = "first sign" if first.sort is Sort.SIGN else "deployment"
    if checked is None or checked.outcome != "recovered":
        return f"From {moment(first.at)} ({what}); its end is not in the record."
    lasted = duration((checked.checked_at - first.at).total_seconds())
    return (
        f"{lasted}: from {moment(first.at)} ({what}) to {moment(checked.checked_at)} (recovery"
        " verified; it may have come earlier)."
    )


def _first(account: Account, sort: Sort) -> Happening | None:
    return next((h for h in account.happenings if h.sort is sort), None)


def _timeline(happenings: Sequence[Happening], pen: Pen) -> Iterator[str]:
    shown = list(happenings)
    left = len(shown) - pen.items * 2
    if left > 0:
        shown = [*shown[: pen.items], *shown[-pen.items :]]
    day = ""
    if not shown:
        yield UNKNOWN
    for index, one in enumerate(shown):
        if left > 0 and index == pen.items:
            yield f"- … {left} lines are left out; the journal has them."
        at = one.at.astimezone(UTC)
        if f"{at:%Y-%m-%d}" != day:
            day = f"{at:%Y-%m-%d}"
            yield f"- **{day}**"
        who = f" ({pen.say(one.who)})" if one.who else ""
        yield f"- {at:%H:%M:%S} {pen.say(one.what)}{who}"


def _detection(account: Account, pen: Pen) -> Iterator[str]:
    incident = account.incident
    yield f"Opened by {pen.say(incident.opened_by)} at {moment(incident.opened_at)}."
    told: datetime | None = None
    for sort, name in ((Sort.DEPLOYMENT, "deployment"), (Sort.SIGN, "first sign")):
        first = _first(account, sort)
        if first is not None and first.at <= incident.opened_at and first.at != told:
            told = first.at
            after = duration((incident.opened_at - first.at).total_seconds())
            yield f"That was {after} after the {name} at {moment(first.at)}."
    if incident.opened_by.endswith(UNATTENDED):
        yield "The watch found it by itself: it needed neither an alert nor a person."
    else:
        yield "Whether an alert fired is not in the record."


def _cause(verdict: Verdict | None, pen: Pen) -> Iterator[str]:
    if verdict is None:
        yield "Unknown: the evidence was not judged."
        return
    cause = verdict.cause.value.replace("_", " ")
    proven = "" if verdict.calibrated else " (not yet calibrated against judged outcomes)"
    named = (
        f" Pattern: {pen.say(verdict.finding_name.replace('_', ' '))}."
        if verdict.finding_name
        else ""
    )
    yield (
        f"Category: **{cause}**. The deployment did it with a probability of"
        f" {percent(verdict.confidence)}{proven}, {percent(verdict.prior)} before looking.{named}"
    )
    yield "A category is not the mechanism: that is for people to find."
    yield ""
    yield "Evidence, with signed weights in log-odds (positive blames the deployment):"
    yield ""
    counted = [f for f in verdict.findings if f.counted]
    yield from pen.bullets([_finding(f, pen) for f in counted], "- No rule had anything to say.")
    yield ""
    shares = ", ".join(
        f"{c.cause.value.replace('_', ' ')} {percent(c.probability)}" for c in verdict.causes
    )
    yield f"Shares: {shares or 'none'}. Best other explanation: {pen.say(verdict.runner_up)}"
    for veto in verdict.vetoes[: pen.items]:
        yield f"Veto {pen.code(veto.code)}: {pen.say(veto.says)}"
    policy = pen.code(verdict.policy_version)
    yield f"Verdict {pen.code(verdict.id[:12])} under policy {policy}."


def _finding(finding: Finding, pen: Pen) -> str:
    return f"{finding.weight:+.1f} {pen.say(finding.group)}: {pen.say(finding.says)}"


def _went_well(account: Account) -> list[str]:
    """What the record shows to have worked, each with its number."""
    incident, found = account.incident, account.evidence
    lines = []
    if found is not None and not found.missing:
        lines.append(f"All that was asked for was had, within {found.took_s:.1f} s.")
    if incident.verdict is not None:
        after = duration((incident.verdict.decided_at - incident.opened_at).total_seconds())
        lines.append(f"A verdict stood {after} after the incident was opened.")
        if incident.verdict.vetoes:
            count = plural(len(incident.verdict.vetoes), "reason")
            lines.append(f"Nothing was done by itself: {count} held it back.")
    lines += [
        f"A person answered within {duration((c.answered_at - c.asked_at).total_seconds())}"
        f" ({c.status})."
        for c in account.consents
        if c.answered_at is not None
        and c.status in ("approved", "denied")
        and c.channel != "policy"
    ]
    if any(c.channel == "policy" and c.status == "approved" for c in account.consents):
        lines.append("The response policy allowed the change; nobody had to be asked.")
    checked = incident.verification
    if checked is not None and checked.outcome == "recovered":
        lines.append(f"The change helped, verified {duration(checked.took_s)} after it was made.")
    if account.proof.entries and not account.proof.changed:
        lines.append("Every step is in the journal, and each entry gives its own hash.")
    return lines


def _missing(found: DiagnosticContext | None, pen: Pen) -> list[str]:
    if found is None:
        return ["No evidence was collected."]
    lines = [
        f"{pen.say(m.source)}, {pen.say(m.what)}: {pen.say(m.why)}"
        + (" **Needed for an automatic action.**" if m.needed else "")
        for m in found.missing
    ]
    return pen.bullets(lines, "Nothing that was asked for.")


class DraftPostmortem(Record):
    """Which incident."""

    incident_id: str = Field(pattern=INCIDENT_ID)
    """inc-<8 hex>."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """detailed: longer lists."""


class PostmortemDraft(Answer):
    """A draft to edit and file."""

    body: str
    """Markdown."""

    def text(self) -> str:
        """The draft itself."""
        return self.body


@tool(name="incident_draft_postmortem", title="Draft a postmortem", risk=Risk.READ)
async def draft_postmortem(
    args: DraftPostmortem, context: ToolContext[IncidentSettings]
) -> PostmortemDraft:
    """Draft a blameless postmortem in Markdown from the incident's record alone."""
    account = await account_of(context.services, args.incident_id)
    detailed = args.response_format is ResponseFormat.DETAILED
    body = draft_of(account, DETAILED_CHARS if detailed else CONCISE_CHARS)
    return PostmortemDraft(headline=f"Postmortem draft of {args.incident_id}.", body=body)
