"""Mails as they go out: threaded by incident, text with a plain HTML twin. Pure."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mcp_devops.integrations.email.records import Attachment, Mail, MailSeverity
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.incident import Incident, IncidentStatus
from mcp_devops.text.clean import clean
from mcp_devops.text.people import percent

if TYPE_CHECKING:
    from email.message import EmailMessage

SUBJECT_CHARS = 150
BODY_CHARS = 50_000
"""Characters of the text; the incident's page has the rest."""
NEWEST_ENTRIES = 30


def one_line(text: str, max_chars: int = SUBJECT_CHARS) -> str:
    """Text fit for a header: one line, no control characters, bounded."""
    line = " ".join(clean(text).split())
    line = "".join(c for c in line if c.isprintable())
    return line if len(line) <= max_chars else line[: max_chars - 3] + "..."


def message_id(incident_id: str, key: str, domain: str) -> str:
    """The same for the same incident and key; the first mail's is the thread's root."""
    part = f".{hashlib.sha256(key.encode()).hexdigest()[:16]}" if key else ""
    return f"<mcp-devops.{incident_id}{part}@{domain}>"


def compose(mail: Mail, sender: str, recipients: Sequence[str], at: datetime) -> EmailMessage:
    """The mail, ready to send.

    Args:
        mail: What it says.
        sender: A plain address, as the settings check it.
        recipients: Plain addresses.
        at: When.
    """
    from email.message import EmailMessage
    from email.policy import SMTP
    from email.utils import format_datetime

    domain = sender.rpartition("@")[2]
    # Not every server takes eight bits; seven are taken everywhere.
    made = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    made["Subject"] = one_line(mail.subject) or f"Incident {mail.incident_id}"
    made["From"] = sender
    made["To"] = ", ".join(recipients)
    made["Date"] = format_datetime(at)
    made["Message-ID"] = message_id(mail.incident_id, mail.key, domain)
    if mail.key:
        root = message_id(mail.incident_id, "", domain)
        made["In-Reply-To"] = root
        made["References"] = root
    # Vacation notes must not answer, and filters may know it by this.
    made["Auto-Submitted"] = "auto-generated"
    made["X-MCP-DevOps-Incident"] = mail.incident_id
    if mail.severity is MailSeverity.CRITICAL:
        made["Importance"] = "high"
    paragraphs = _paragraphs(mail.lines)
    made.set_content("\n\n".join([*paragraphs, *([mail.link] if mail.link else [])]) + "\n")
    made.add_alternative(_html(paragraphs, mail.link), subtype="html")
    for file in mail.attachments:
        main, _, sub = file.media_type.partition("/")
        made.add_attachment(file.content, maintype=main, subtype=sub, filename=file.name)
    return made


def _paragraphs(lines: Sequence[str]) -> list[str]:
    kept: list[str] = []
    room = BODY_CHARS
    for number, line in enumerate(lines):
        tidy = clean(line).replace("\r", "")
        if len(tidy) > room:
            kept.append(f"[{len(lines) - number} more paragraphs are in the incident's record]")
            break
        room -= len(tidy)
        kept.append(tidy)
    return kept


def _html(paragraphs: Sequence[str], link: str | None) -> str:
    shown = [f"<p>{html.escape(p).replace(chr(10), '<br>')}</p>" for p in paragraphs]
    if link:
        shown.append(f'<p><a href="{html.escape(link)}">Open the incident</a></p>')
    return f"<!doctype html>\n<html><body>\n{chr(10).join(shown)}\n</body></html>\n"


def _utc(at: datetime, form: str = "%H:%M:%S") -> str:
    return f"{at.astimezone(UTC):{form}}"


def incident_mail(
    incident: Incident,
    *,
    why: str,
    lead: str = "",
    key: str = "",
    severity: MailSeverity = MailSeverity.CRITICAL,
    do_next: str = "",
    link: str | None = None,
    also_to: tuple[str, ...] = (),
    attachments: tuple[Attachment, ...] = (),
) -> Mail:
    """What a person needs to know of an incident, shortest things first.

    Args:
        incident: As it stands.
        why: Why this mail, in one sentence; the subject.
        lead: What is wrong, where `why` does not say it: then this starts the subject.
        key: Which mail of the incident's thread; empty: its first.
        severity: How bad it is.
        do_next: What the person can do, with the command.
        link: The incident's page.
        also_to: More recipients than the settings'.
        attachments: Files beside it.
    """
    target, verdict = incident.target, incident.verdict
    name = f"{target.namespace}/{target.name}"
    status = incident.status.value.replace("_", " ")
    if incident.status is IncidentStatus.UNKNOWN:
        status = "UNKNOWN: a change was sent and its effect was not seen"
    lines = [why, *([f"Do next: {do_next}"] if do_next else [])]
    where = f"{target}" + (f" in {target.cluster}" if target.cluster else "")
    lines.append(f"Workload: {where}\nIncident: {incident.id}\nStatus: {status}")
    if verdict:
        sure = "" if verdict.evidence_complete else ", some needed evidence is missing"
        lines.append(
            f"{verdict.headline}\nAdvice: {verdict.action.value.replace('_', ' ')}."
            f" Probability that the deployment did it: {percent(verdict.confidence)}{sure}."
        )
        counted = [f"- {f.says}" for f in verdict.findings if f.counted]
        lines += ["\n".join(["Seen:", *counted])] if counted else []
        stopped = [f"- {v.says}" for v in verdict.vetoes]
        lines += ["\n".join(["Why it does not act by itself:", *stopped])] if stopped else []
        lines.append(f"Check next: {verdict.ask_next}")
    else:
        lines.append("No verdict yet.")
    if incident.verification:
        lines.append(f"After the rollback: {incident.verification.says}")
    shown = [f"{_utc(e.at)} {e.what}" for e in incident.timeline[-NEWEST_ENTRIES:]]
    lines += ["\n".join(["Timeline, UTC:", *shown])] if shown else []
    return Mail(
        incident_id=incident.id,
        key=key,
        severity=severity,
        subject=f"[{severity.value}] {name}: {f'{lead} {why}' if lead else why}",
        lines=tuple(lines),
        link=link,
        also_to=also_to,
        attachments=attachments,
    )


def approval_mail(
    plan: ActionPlan,
    *,
    incident_id: str,
    approval_id: str,
    expires_at: datetime,
    severity: MailSeverity = MailSeverity.CRITICAL,
    link: str | None = None,
    also_to: tuple[str, ...] = (),
) -> Mail:
    """Tell that a person is asked. A mail cannot be answered with a yes: it names the command.

    Args:
        plan: What would be done.
        incident_id: Whose thread.
        approval_id: The stored approval.
        expires_at: From then on it is a no.
        severity: How bad it is: the question goes to whom the incident's mail goes.
        link: The incident's page.
        also_to: More recipients than the settings'.
    """
    lines = [
        f"{plan.summary}\nWhere: {plan.target}",
        f"Approve: mcp-devops approve {approval_id}\nReject: mcp-devops deny {approval_id}\n"
        f"Until {_utc(expires_at, '%Y-%m-%d %H:%M:%S')} UTC."
        " No answer means no: nothing is changed.",
    ]
    if plan.reason:
        lines.append(f"Why: {plan.reason}")
    if plan.warnings:
        lines.append("\n".join(["Know first:", *(f"- {w}" for w in plan.warnings)]))
    return Mail(
        incident_id=incident_id,
        key=f"asked-{approval_id}",
        severity=severity,
        subject=f"[approval needed] {plan.target.namespace}/{plan.target.name}: {plan.summary}",
        lines=tuple(lines),
        link=link,
        also_to=also_to,
    )
