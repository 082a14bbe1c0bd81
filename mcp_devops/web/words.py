"""Moments, rates and states as the pages say them; nothing that is missing reads as a number."""

from __future__ import annotations

from datetime import UTC, datetime

from mcp_devops.model.evidence import Arm, PodCause
from mcp_devops.model.incident import Incident, IncidentStatus
from mcp_devops.model.verdict import Action, Cause
from mcp_devops.text.people import percent

NO_DATA = "no data"

ARMS = {
    Arm.BASELINE: "before, whole service",
    Arm.AFTER: "after, whole service",
    Arm.CONTROL: "after, old revision",
    Arm.NEW: "after, new revision",
}
CAUSES = {
    Cause.NEW_CODE: "The new revision",
    Cause.INFRASTRUCTURE: "Infrastructure: nodes, capacity, configuration",
    Cause.UPSTREAM: "A dependency",
    Cause.NONE: "Nothing is wrong",
    Cause.UNKNOWN: "Unknown",
}
ACTIONS = {
    Action.ROLL_BACK: "Roll back",
    Action.FIX_FORWARD: "Fix forward",
    Action.HOLD: "Hold, look first",
    Action.NONE: "No action",
}
_BY_ACTION = {
    Action.ROLL_BACK: ("Roll back: not done yet", "bad"),
    Action.FIX_FORWARD: ("Fix forward", "warn"),
    Action.HOLD: ("Hold: look before acting", "warn"),
    Action.NONE: ("No action needed", "good"),
}
_BY_STATUS = {
    IncidentStatus.INVESTIGATING: ("Investigating", "warn"),
    IncidentStatus.DECIDED: ("Judged", "warn"),
    IncidentStatus.AWAITING_APPROVAL: ("Waiting for a person's yes", "warn"),
    IncidentStatus.ROLLING_BACK: ("Rolling back now", "warn"),
    IncidentStatus.VERIFYING: ("Rolled back, watching", "warn"),
    IncidentStatus.RECOVERED: ("Recovered", "good"),
    IncidentStatus.NOT_RECOVERED: ("Not recovered", "bad"),
    IncidentStatus.UNKNOWN: ("Outcome unknown", "bad"),
    IncidentStatus.CLOSED: ("Closed", "good"),
}
MARKS = {"good": "✓", "warn": "!", "bad": "✕"}
"""Beside every colour, so that no state is told by colour alone."""


def state_of(incident: Incident) -> tuple[str, str]:
    """Where it stands in two or three words, and its tone: good, warn or bad."""
    judged = incident.verdict
    if judged is not None and incident.status in (IncidentStatus.DECIDED, IncidentStatus.CLOSED):
        return _BY_ACTION[judged.action]
    return _BY_STATUS[incident.status]


def clock(moment: datetime) -> str:
    """14:03:07, in UTC."""
    return f"{moment.astimezone(UTC):%H:%M:%S}"


def day(moment: datetime) -> str:
    """2026-03-01, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def full(moment: datetime) -> str:
    """2026-03-01 14:03:07 UTC."""
    return f"{day(moment)} {clock(moment)} UTC"


def iso(moment: datetime) -> str:
    """RFC 3339, for machines."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def rate(share: float | None) -> str:
    """A share of failed requests; null is no data, never zero."""
    return NO_DATA if share is None else percent(share)


def millis(value: float | None) -> str:
    """A duration in milliseconds; null is no data."""
    if value is None:
        return NO_DATA
    return f"{value:,.0f} ms" if value >= 10 or value == int(value) else f"{value:,.1f} ms"


def count(value: float | None) -> str:
    """A number of requests; null is no data. Counters are extrapolated, so it is rounded."""
    return NO_DATA if value is None else f"{value:,.0f}"


def trouble(cause: PodCause) -> str:
    """Why pods fail."""
    return cause.value.replace("_", " ")
