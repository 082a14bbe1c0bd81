"""An incident: one bad deployment, from the first look to the end."""

from __future__ import annotations

from enum import StrEnum

from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Verdict


class IncidentStatus(StrEnum):
    """Where an incident stands."""

    INVESTIGATING = "investigating"
    DECIDED = "decided"
    AWAITING_APPROVAL = "awaiting_approval"
    ROLLING_BACK = "rolling_back"
    VERIFYING = "verifying"
    RECOVERED = "recovered"
    NOT_RECOVERED = "not_recovered"
    UNKNOWN = "unknown"
    """A change was sent and its effect could not be seen."""
    CLOSED = "closed"


OPEN_STATUSES = frozenset(
    {
        IncidentStatus.INVESTIGATING,
        IncidentStatus.DECIDED,
        IncidentStatus.AWAITING_APPROVAL,
        IncidentStatus.ROLLING_BACK,
        IncidentStatus.VERIFYING,
        IncidentStatus.NOT_RECOVERED,
        IncidentStatus.UNKNOWN,
    }
)
"""Statuses in which somebody still has to look."""


class TimelineEntry(Record):
    """One thing that happened."""

    at: Moment
    """When."""
    what: str
    """What, in one line."""
    who: str = ""
    """The person, client or component."""


class Verification(Record):
    """Whether a rollback helped, and how that was seen."""

    outcome: str
    """recovered, not_recovered or unknown."""
    checked_at: Moment
    """When the last look was taken."""
    took_s: float
    """Seconds from the change to this outcome."""
    template_restored: bool
    """Whether the live template equals the one that was to be restored."""
    pods: str
    """What the pods look like, in one sentence."""
    error_rate_before: float | None = None
    """Share of failed requests before the change; null: no metric source."""
    error_rate_after: float | None = None
    """Share of failed requests after it; null: not seen."""
    says: str
    """One sentence for a person."""


class Incident(Record):
    """One incident as it stands. Every version of it is in the journal."""

    id: str
    """inc-<8 hex>."""
    target: Workload
    """What it is about."""
    status: IncidentStatus
    """Where it stands."""
    opened_at: Moment
    """When it was opened."""
    updated_at: Moment
    """When it last moved."""
    opened_by: str
    """Who opened it."""
    revision: int | None = None
    """The revision that was judged."""
    verdict: Verdict | None = None
    """The newest verdict."""
    plan_digest: str | None = None
    """Digest of the rollback plan that was run or waits."""
    approval_id: str | None = None
    """The approval that the plan waits for, or was run under."""
    verification: Verification | None = None
    """Whether the rollback helped."""
    timeline: tuple[TimelineEntry, ...] = ()
    """What happened, oldest first."""
