"""The question to a person, its buttons, and what it looks like once answered. Pure."""

from __future__ import annotations

import re
from datetime import datetime

from mcp_devops.integrations.slack.blocks import (
    Block,
    button,
    context,
    escaped,
    foreign,
    header,
    message,
    plain,
    section,
    utc,
)
from mcp_devops.integrations.slack.records import Decision, Message
from mcp_devops.model.action import ActionPlan
from mcp_devops.text.people import duration, percent

APPROVE_ID = "mcp_devops_approve"
REJECT_ID = "mcp_devops_reject"
BLOCK_ID = "mcp_devops_decision"
ACTIONS = {APPROVE_ID: Decision.APPROVE, REJECT_ID: Decision.REJECT}
"""What our buttons mean."""
DIGEST_CHARS = 16
"""Characters of the plan's digest that a button carries: 64 bits, enough to see another plan."""
APPROVAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VALUE = re.compile(rf"({APPROVAL_ID.pattern}):([0-9a-f]{{8,64}})")
MOST_DIFFERENCES = 8


def button_value(approval_id: str, plan_digest: str) -> str:
    """What a button carries: the approval, and which plan it was asked for.

    Raises:
        ValueError: The id or the digest is not of the form that comes back readable.
    """
    value = f"{approval_id}:{plan_digest[:DIGEST_CHARS]}"
    if not _VALUE.fullmatch(value):
        raise ValueError("an approval id and a hexadecimal digest are needed")
    return value


def read_value(value: str) -> tuple[str, str] | None:
    """The approval id and the digest's first characters; None: not one of our values."""
    match = _VALUE.fullmatch(value)
    return (match[1], match[2]) if match else None


def approval_message(
    plan: ActionPlan,
    *,
    approval_id: str,
    plan_digest: str,
    expires_at: datetime,
    now: datetime,
    buttons: bool = True,
) -> Message:
    """Ask a person. No answer is a no.

    Args:
        plan: What would be done.
        approval_id: The stored approval.
        plan_digest: The plan's whole digest, hexadecimal.
        expires_at: From then on it is a no.
        now: The present.
        buttons: False where answers are polled for: then reactions and replies are asked for.
    """
    left = duration(max((expires_at - now).total_seconds(), 0))
    until = f"{utc(expires_at)} UTC"
    blocks = [header(f"Approve? {' '.join(plan.summary.split())}"), *plan_blocks(plan)]
    if buttons:
        value = button_value(approval_id, plan_digest)
        blocks.append(
            {
                "type": "actions",
                "block_id": BLOCK_ID,
                "elements": [
                    button("Approve", APPROVE_ID, value, "primary", _confirm(plan)),
                    button("Reject", REJECT_ID, value, "danger", None),
                ],
            }
        )
    else:
        blocks.append(
            section(
                "React with :white_check_mark: to approve or :x: to reject, or reply"
                f" `approve {escaped(approval_id, 64)}` or `reject {escaped(approval_id, 64)}`."
            )
        )
    blocks.append(
        context(
            f"Until {until} ({left}). No answer means no: nothing is changed, the page stays open."
            f" {foreign(approval_id, 64)}, plan {escaped(plan_digest[:DIGEST_CHARS])}"
        )
    )
    return message(
        f"Approval needed until {until}: {' '.join(plan.summary.split())} ({plan.target})", blocks
    )


def decided_message(
    plan: ActionPlan, *, approval_id: str, outcome: str, who: str, at: datetime
) -> Message:
    """The same question once it is settled: no buttons, who, when.

    Args:
        plan: What was asked for.
        approval_id: The approval.
        outcome: approved, denied, expired, used, ... in the approval's own words.
        who: Who answered; "nobody" where the time ran out.
        at: When.
    """
    word = outcome.strip().upper() or "SETTLED"
    by = f"by {foreign(who, 80)} " if who and who != "nobody" else ""
    told = " Nobody answered: nothing was changed." if word == "EXPIRED" else ""
    summary = " ".join(plan.summary.split())
    told_by = f"by {who} " if by else ""
    return message(
        f"{word} {told_by}at {utc(at)} UTC: {summary} ({plan.target})",
        [
            header(f"{word}: {summary}"),
            section(f"{foreign(word, 40)} {by}at {utc(at)} UTC.{told}"),
            context(f"{foreign(str(plan.target), 200)}, {foreign(approval_id, 64)}"),
        ],
    )


def plan_blocks(plan: ActionPlan) -> list[Block]:
    """What will be done to what, why, and what to know first."""
    lines = [f"*Where:* {foreign(str(plan.target), 300)}"]
    if plan.target.cluster:
        lines.append(f"*Cluster:* {foreign(plan.target.cluster, 200)}")
    if plan.to_revision is not None:
        live = plan.from_revision if plan.from_revision is not None else "unknown"
        lines.append(f"*Revision:* {live} → {plan.to_revision}")
    if plan.reason:
        lines.append(f"*Why:* {foreign(plan.reason, 600)}")
    if plan.confidence is not None:
        sure = "" if plan.evidence_complete else ", some needed evidence is missing"
        lines.append(f"*Probability that the deployment did it:* {percent(plan.confidence)}{sure}")
    blocks = [section("\n".join(lines))]
    if plan.warnings:
        shown = [f"• {foreign(w, 300)}" for w in plan.warnings[:6]]
        blocks.append(section("\n".join(["*Know first*", *shown])))
    if plan.differences:
        shown = [
            f"• {foreign(d.path, 120)}: {_value(d.before)} → {_value(d.after)}"
            for d in plan.differences[:MOST_DIFFERENCES]
        ]
        if len(plan.differences) > MOST_DIFFERENCES:
            shown.append(f"and {len(plan.differences) - MOST_DIFFERENCES} more")
        blocks.append(section("\n".join(["*What changes*", *shown])))
    return blocks


def _value(value: str | None) -> str:
    return "(absent)" if value is None else f"`{foreign(value, 100) or ' '}`"


def _confirm(plan: ActionPlan) -> Block:
    """A second look before a yes: one wrong tap on a telephone must not roll anything back."""
    return {
        "title": plain("Really do it?", 100),
        "text": plain(f"{plan.summary} ({plan.target})", 300),
        "confirm": plain("Do it", 30),
        "deny": plain("Go back", 30),
        "style": "danger",
    }
