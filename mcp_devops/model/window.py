"""Which minutes are compared with which, around a deployment."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field, model_validator

from mcp_devops.model.record import Moment, Record


class Window(Record):
    """A half-open stretch of time [start, end)."""

    start: Moment
    """First instant inside."""
    end: Moment
    """First instant after."""

    @model_validator(mode="after")
    def _forwards(self) -> Window:
        if self.end <= self.start:
            raise ValueError("a window ends after it starts")
        return self

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end - self.start).total_seconds()

    def contains(self, moment: datetime) -> bool:
        """Whether the moment lies inside."""
        return self.start <= moment < self.end


class WindowRule(Record):
    """How a source's windows lie around a deployment (requirement A2)."""

    baseline_s: float = Field(1800, ge=60, le=86_400)
    """Length of the baseline in seconds; 30 minutes by default."""
    buffer_s: float = Field(600, ge=0, le=86_400)
    """Seconds between the baseline's end and the deployment; 10 minutes by default."""
    grace_s: float = Field(0, ge=0, le=3600)
    """Seconds after the deployment that are ignored; 180 for sources that lag, like Sentry."""
    step_s: float = Field(60, ge=5, le=3600)
    """Bucket length in seconds."""
    min_baseline_buckets: int = Field(5, ge=1, le=1000)
    """Fewer whole baseline buckets than this with data is "no baseline" (seed, decision.md 1)."""


class Windows(Record):
    """The two windows that are compared. Neither straddles the deployment."""

    deployed_at: Moment
    """When the change began to roll out."""
    baseline: Window
    """Before, with a buffer."""
    after: Window
    """From the end of the grace to the newest whole bucket."""

    @model_validator(mode="after")
    def _apart(self) -> Windows:
        if self.baseline.end > self.deployed_at or self.after.start < self.deployed_at:
            raise ValueError("a window that straddles the deployment compares nothing")
        return self


def windows_around(deployed_at: datetime, now: datetime, rule: WindowRule) -> Windows | None:
    """Lay a rule's windows around a deployment.

    The after window ends at the last whole step counted from its start, so that no bucket is
    half full.

    Returns:
        The windows, or None while not even one whole step has passed since the grace.
    """
    start = deployed_at + timedelta(seconds=rule.grace_s)
    steps = int((now - start).total_seconds() // rule.step_s)
    if steps < 1:
        return None
    baseline_end = deployed_at - timedelta(seconds=rule.buffer_s)
    return Windows(
        deployed_at=deployed_at,
        baseline=Window(start=baseline_end - timedelta(seconds=rule.baseline_s), end=baseline_end),
        after=Window(start=start, end=start + timedelta(seconds=steps * rule.step_s)),
    )
