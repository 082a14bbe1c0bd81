"""What incidents look like in Slack: short, plain, true. Pure: records in, messages out."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_devops.integrations.slack.blocks import (
    Block,
    code,
    context,
    escaped,
    fields,
    foreign,
    header,
    message,
    section,
    utc,
)
from mcp_devops.integrations.slack.records import Message
from mcp_devops.model.incident import OPEN_STATUSES, Incident, IncidentStatus, TimelineEntry
from mcp_devops.model.verdict import Action, Verdict
from mcp_devops.text.people import percent, plural
from mcp_devops.toolkit.report import Report

STATUS_WORDS = {
    IncidentStatus.INVESTIGATING: "looking into it",
    IncidentStatus.DECIDED: "judged, nothing changed yet",
    IncidentStatus.AWAITING_APPROVAL: "WAITING FOR A PERSON",
    IncidentStatus.ROLLING_BACK: "rolling back",
    IncidentStatus.VERIFYING: "rolled back, checking whether it helped",
    IncidentStatus.RECOVERED: "recovered",
    IncidentStatus.NOT_RECOVERED: "NOT RECOVERED: a person is needed",
    IncidentStatus.UNKNOWN: "UNKNOWN: a change was sent and its effect was not seen. Look now.",
    IncidentStatus.CLOSED: "closed",
}
"""Statuses as a tired person reads them."""
ACTION_WORDS = {
    Action.ROLL_BACK: "roll back",
    Action.FIX_FORWARD: "fix forward, not roll back",
    Action.HOLD: "hold: a person should look",
    Action.NONE: "do nothing",
}
MOST_FINDINGS = 5
MOST_ENTRIES = 30
ENTRY_CHARS = 250
LINE_CHARS = 200


def incident_message(
    incident: Incident, *, status: str | None = None, link: str | None = None
) -> Message:
    """The root message of an incident: status, what is seen, what is thought of it.

    Updated in place as the incident moves; its thread holds the rest.

    Args:
        incident: As it stands.
        status: How it stands in words, where its own status says too little.
        link: Page of the incident, http or https.
    """
    target, verdict = incident.target, incident.verdict
    name = f"{target.namespace}/{target.name}"
    status = status or STATUS_WORDS[incident.status]
    blocks: list[Block] = [header(f"{name}: {status}")]
    facts = [("Workload", str(target)), ("Incident", incident.id)]
    if target.cluster:
        facts.append(("Cluster", target.cluster))
    if incident.revision is not None:
        facts.append(("Revision judged", str(incident.revision)))
    facts.append(("Opened", f"{utc(incident.opened_at, '%Y-%m-%d %H:%M:%S')} UTC"))
    if incident.approval_id and incident.status is IncidentStatus.AWAITING_APPROVAL:
        facts.append(("Waits for", incident.approval_id))
    blocks.append(fields(facts))
    blocks += _verdict_blocks(verdict) if verdict else [section("No verdict yet.")]
    if incident.verification:
        blocks.append(section(f"*After the rollback:* {foreign(incident.verification.says)}"))
    if link and link.startswith(("https://", "http://")) and not set(link) & set('<>|" \n'):
        blocks.append(section(f"<{escaped(link, 1000)}|Open the incident>"))
    blocks.append(context(f"Updated {utc(incident.updated_at)} UTC. {_open(incident)}"))
    said = verdict.headline if verdict else "no verdict yet"
    return message(f"{name}: {status}. {' '.join(said.split())}", blocks)


def _open(incident: Incident) -> str:
    return "Still open." if incident.status in OPEN_STATUSES else "Nothing left to do here."


def _verdict_blocks(verdict: Verdict) -> list[Block]:
    sure = "" if verdict.evidence_complete else " Some needed evidence is missing."
    blocks = [
        section(
            f"*{foreign(verdict.headline)}*\n"
            f"Advice: {ACTION_WORDS[verdict.action]}. Probability that the deployment did it:"
            f" {percent(verdict.confidence)}.{sure}"
        )
    ]
    counted = [f for f in verdict.findings if f.counted]
    if counted:
        lines = [f"• {foreign(f.says, 300)}" for f in counted[:MOST_FINDINGS]]
        if len(counted) > MOST_FINDINGS:
            lines.append(f"and {plural(len(counted) - MOST_FINDINGS, 'finding')} more")
        blocks.append(section("\n".join(["*Seen*", *lines])))
    if verdict.vetoes:
        lines = [f"• {foreign(v.says, 300)}" for v in verdict.vetoes[:MOST_FINDINGS]]
        blocks.append(section("\n".join(["*Why it does not act by itself*", *lines])))
    blocks.append(context(f"Check next: {foreign(verdict.ask_next, 300)}"))
    return blocks


def timeline_message(incident: Incident, entries: Sequence[TimelineEntry] | None = None) -> Message:
    """What happened, oldest first; where it does not fit, the newest survive.

    Args:
        incident: Whose timeline.
        entries: Other entries than the incident's own.
    """
    shown = list(incident.timeline if entries is None else entries)
    lines = [
        f"`{utc(e.at)}` {foreign(e.what, ENTRY_CHARS)}"
        + (f" _({foreign(e.who, 60)})_" if e.who else "")
        for e in shown[-MOST_ENTRIES:]
    ]
    kept: list[str] = []
    room = 2800
    for line in reversed(lines):
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    earlier = len(shown) - len(kept)
    if earlier:
        word = "entry" if earlier == 1 else "entries"
        kept.append(f"_{earlier:,} earlier {word} in the incident's record_")
    name = f"{incident.target.namespace}/{incident.target.name}"
    text = "\n".join(reversed(kept)) or "Nothing has happened yet."
    newest = f" Newest: {' '.join(shown[-1].what.split())}" if shown else ""
    return message(
        f"Timeline of {incident.id} ({name}).{newest}",
        [section(f"*Timeline, UTC*\n{text}")],
    )


def report_message(incident: Incident, report: Report) -> Message:
    """What was seen, for the thread: what was rolled out, what it changed, pods, log, gaps.

    Args:
        incident: Whose report.
        report: The lines; foreign text among them is data and stays letters.
    """
    facts = [("Rolled out", report.deployed or ""), ("Images", ", ".join(report.images))]
    if report.revision_before is not None:
        facts.append((f"Images of revision {report.revision_before}", _before(report)))
    if report.managed_by:
        facts.append(("Managed by", report.managed_by))
    blocks = [fields([(name, value) for name, value in facts if value])] if report.deployed else []
    for title, lines in (
        ("What it changed", report.changed),
        ("Not seen", report.missing_evidence),
    ):
        if lines:
            told = "\n".join(f"• {foreign(line, LINE_CHARS)}" for line in lines)
            blocks.append(section(f"*{title}*\n{told}"))
    if report.pods:
        blocks.append(section(f"*Pods:* {foreign(report.pods)}"))
    if report.log_line_of_new_pods:
        blocks.append(section(f"*Log of the new pods*\n{code(report.log_line_of_new_pods, 1000)}"))
    blocks.append(context(f"Collected at {report.collected_at}."))
    name = f"{incident.target.namespace}/{incident.target.name}"
    said = report.pods or report.deployed or "nothing of the rollout"
    return message(f"What was seen of {incident.id} ({name}): {' '.join(said.split())}", blocks)


def _before(report: Report) -> str:
    same = report.images_before == report.images
    return "the same" if same else ", ".join(report.images_before)
