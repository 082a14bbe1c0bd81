"""What else differs or fails around a deployment: infrastructure, images, issues, dependencies."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from mcp_devops.model.record import Moment, Record


class DriftArea(StrEnum):
    """What part of a service a drift touches."""

    IMAGE = "image"
    CAPACITY = "capacity"
    NETWORK = "network"
    ACCESS = "access"
    DNS = "dns"
    OTHER = "other"


class Drift(Record):
    """One infrastructure resource that is not what its state says: a possible cause."""

    at: Moment
    """When it was seen; the drift itself may be older."""
    address: str
    """The resource."""
    area: DriftArea
    """What part of a service it touches."""
    weight: float = Field(ge=0, le=1)
    """How much it can hurt a service: a seed, not a probability."""
    what: str
    """What differs and why that matters, in one line, secrets masked."""
    where: str | None = None
    """file:line of its declaration."""
    names_service: bool = False
    """Whether its address or its values name the judged service."""


class ImageRisk(Record):
    """Vulnerabilities of the deployed image against those of the image before."""

    image: str
    """The deployed image."""
    previous: str
    """The image before."""
    hold: bool
    """Whether it has a new critical or high one (requirement A10): it must not go on."""
    summary: str
    """The comparison in one sentence."""
    reasons: tuple[str, ...] = ()
    """The vulnerabilities that hold it, worst first."""
    new_by_severity: dict[str, int] = Field(default_factory=dict)
    """New vulnerabilities by severity."""
    limits: tuple[str, ...] = ()
    """Limits of the comparison."""


class ImageDifference(Record):
    """How the deployed image differs from the one before, beside its name."""

    image: str
    """The deployed image."""
    previous: str
    """The image before."""
    summary: str
    """Layers, entry point, user, variables, size, in one sentence."""


class ReleaseIssues(Record):
    """Issues of an error tracker that a release brought."""

    source: str
    """The tracker, and by which way it answered."""
    release: str
    """The release."""
    new: dict[str, int] = Field(default_factory=dict)
    """Issues first seen in it, by level."""
    regressed: dict[str, int] = Field(default_factory=dict)
    """Resolved issues that came back in it, by level."""
    events: int = 0
    """Events of the new and regressed ones."""
    worst: tuple[str, ...] = ()
    """Short ids and culprits of the loudest: data without weight."""

    @property
    def serious(self) -> int:
        """New and regressed issues of level error or fatal."""
        levels = ("error", "fatal")
        return sum(c.get(level, 0) for c in (self.new, self.regressed) for level in levels)


class OutboundCalls(Record):
    """What a service asks of one dependency, as the service itself counts it."""

    dependency: str
    """Whom it calls."""
    baseline_error_rate: float | None
    """Share of failed calls before; null: none were counted."""
    after_error_rate: float | None
    """Share of failed calls after."""
    calls: float
    """Calls in the after window."""
    failed: float
    """Failed ones among them: refused, timed out, answered 5xx. 4xx is the caller's own fault."""
    old_error_rate: float | None = None
    """The old revision's share in the same minutes; null: not told apart, or it made none."""
    new_error_rate: float | None = None
    """The new revision's share."""
    query: str = ""
    """The exact query of the failed calls."""
