"""What is sent to PagerDuty, and what it answers."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from mcp_devops.model.record import Moment, Record


class PageSeverity(StrEnum):
    """How bad it is, in PagerDuty's words. Whether a phone rings is the service's own setting."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Link(Record):
    """A link that PagerDuty shows beside the alert."""

    href: str = Field(pattern=r"^https?://[!-~]+$", max_length=2048)
    """Where it leads."""
    text: str = Field("", max_length=255)
    """What it says."""


class Page(Record):
    """A call for a person, with what is known."""

    summary: str = Field(min_length=1)
    """What is wrong, in one line; more than 1,024 characters are cut."""
    severity: PageSeverity = PageSeverity.CRITICAL
    """How bad it is."""
    source: str = Field(min_length=1)
    """The system that is affected: cluster/namespace/workload."""
    component: str = ""
    """The part of it: the workload's name."""
    dedup_key: str = Field(min_length=1, max_length=255)
    """The same key joins the same open alert, so that a repeated send pages once."""
    details: dict[str, Any] = Field(default_factory=dict)
    """The diagnostic report; shrunk where PagerDuty's size limit asks for it."""
    links: tuple[Link, ...] = Field((), max_length=20)
    """Dashboards, the incident's page, the chat thread."""
    service: str = ""
    """namespace/workload, which chooses the routing key; empty: the default key."""
    at: Moment | None = None
    """When it was seen; null: when PagerDuty gets it."""


class ChangeEvent(Record):
    """A change that is shown on the service's timeline and wakes nobody."""

    summary: str = Field(min_length=1)
    """What changed, in one line; more than 1,024 characters are cut."""
    source: str = Field(min_length=1)
    """Where: cluster/namespace/workload."""
    at: Moment
    """When."""
    details: dict[str, Any] = Field(default_factory=dict)
    """Revisions, images, who."""
    links: tuple[Link, ...] = Field((), max_length=20)
    """Pipeline run, pull request."""
    service: str = ""
    """namespace/workload, which chooses the routing key; empty: the default key."""


class Accepted(Record):
    """PagerDuty took the event. Accepted is not delivered: it works asynchronously."""

    dedup_key: str | None
    """Key of the alert; null for change events."""
    attempts: int
    """Sends that it took."""
    cut: tuple[str, ...] = ()
    """What was shortened to fit, one sentence a place."""
