"""One question to a person: its terms, where it stands, and why it is no yes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mcp_devops.errors import ApprovalDenied, PermissionDenied
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.record import Moment, Record


class ApprovalStatus(StrEnum):
    """Where an approval stands. Only `approved` and unexpired is a yes."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    DISMISSED = "dismissed"
    """The dialog was closed without an answer: a no, but not one that forbids asking again."""
    EXPIRED = "expired"
    USED = "used"


class Approval(Record):
    """One question to a person, and what became of it."""

    id: str
    """apr-<10 hex>."""
    digest: str
    """Digest of the plan that it covers; nothing else."""
    plan: ActionPlan
    """The plan."""
    requested_by: str
    """Who wants it."""
    requested_at: Moment
    """When it was stored."""
    expires_at: Moment
    """From then on it is a no."""
    status: ApprovalStatus
    """Where it stands."""
    answered_by: str | None = None
    """Who answered."""
    answered_at: Moment | None = None
    """When."""
    channel: str | None = None
    """elicitation, terminal or policy."""
    note: str | None = None
    """What the person added."""
    approvers: tuple[str, ...] = ()
    """Who may answer, by what a channel vouches for; empty: whoever reaches a channel."""


@dataclass(frozen=True)
class Terms:
    """On which terms a plan is asked about.

    Attributes:
        approvers: Who may answer; empty: whoever reaches a channel.
        wait_s: Seconds until no answer is a no; None, or more than the desk's own: the desk's.
        person_because: Why only a person may say yes now; empty: the policy may, too.
    """

    approvers: tuple[str, ...] = ()
    wait_s: float | None = None
    person_because: str = ""


POLICY = "policy"
"""The channel of answers that no person gives: a list of persons does not hold for them."""


def from_row(row: Any) -> Approval:
    """An approval as it is stored."""
    fields = {k: row[k] for k in row.keys() if k in Approval.model_fields}  # noqa: SIM118 - a row iterates values
    fields["approvers"] = json.loads(row["approvers"] or "[]")
    return Approval.model_validate(fields | {"plan": ActionPlan.model_validate_json(row["plan"])})


def listed(approvers: tuple[str, ...]) -> str | None:
    """A list as it is stored; None: everybody."""
    return json.dumps(list(approvers)) if approvers else None


def meets(known: Approval, terms: Terms) -> bool:
    """Whether a stored yes was given under a list at least as strict as the one that holds now."""
    if not terms.approvers or known.channel == POLICY:
        return True
    return bool(known.approvers) and set(known.approvers) <= set(terms.approvers)


def not_an_approver(approval: Approval, who: str) -> PermissionDenied:
    """The error for an answer of somebody who is not on the list."""
    named = ", ".join(approval.approvers[:5])
    more = len(approval.approvers) - 5
    return PermissionDenied(
        f"{who} is not on the list of approvers of {approval.plan.target.namespace}/"
        f"{approval.plan.target.name}; approval {approval.id} still waits.",
        fix=f"Let one of them answer: {named}{f' and {more} more' if more > 0 else ''}; or change"
        " approval.approvers of the response policy before the next question.",
        approval_id=approval.id,
        approvers=list(approval.approvers),
    )


def denied(approval: Approval) -> ApprovalDenied:
    """The error for an approval that is not a yes."""
    who = approval.answered_by or "nobody"
    said = f": {approval.note}" if approval.note else ""
    return ApprovalDenied(
        f"Approval {approval.id} is {approval.status.value} (by {who}{said}); nothing was changed.",
        fix=f"Do not ask again for this plan before {approval.expires_at:%H:%M:%S} UTC; talk to"
        " the person, or gather evidence that changes the plan.",
        approval_id=approval.id,
        status=approval.status.value,
    )
