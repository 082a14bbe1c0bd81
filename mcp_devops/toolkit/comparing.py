"""What every `<source>_compare_windows` tool shares: arguments, windows, subject, answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field

from mcp_devops.errors import NoData
from mcp_devops.model.arms import ArmSummary, headline, summarise
from mcp_devops.model.evidence import RequestSeries
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.window import Window, WindowRule, Windows
from mcp_devops.settings import IntegrationSettings
from mcp_devops.toolkit.answer import Answer, ResponseFormat


class WindowSettings(IntegrationSettings):
    """Settings of a source that is compared in windows; each table has its own values."""

    baseline_s: float = Field(1800, ge=60, le=86_400)
    """Length of the baseline in seconds; 30 minutes by requirement A2."""
    buffer_s: float = Field(600, ge=0, le=86_400)
    """Seconds between the baseline's end and the deployment; 10 minutes by requirement A2."""
    grace_s: float = Field(0, ge=0, le=3600)
    """Seconds ignored after the deployment; more than 0 for sources that lag."""
    step_s: float = Field(60, ge=5, le=3600)
    """Bucket length in seconds."""

    @property
    def rule(self) -> WindowRule:
        """The window rule that these settings give."""
        return WindowRule(
            baseline_s=self.baseline_s,
            buffer_s=self.buffer_s,
            grace_s=self.grace_s,
            step_s=self.step_s,
        )


@dataclass(frozen=True)
class VersionedService:
    """Whose requests are looked at, where a source tells versions apart by a tag.

    Attributes:
        service: The service's name, as the source's tags give it.
        environment: The environment tag's value; None: the settings' own, or all.
        new: Version or release of the judged revision; None: versions are not split.
        old: Version or release before it.
    """

    service: str
    environment: str | None = None
    new: str | None = None
    old: str | None = None


@dataclass(frozen=True)
class RequestComparison:
    """The series of one service, and the windows they lie in."""

    windows: Windows
    series: tuple[RequestSeries, ...]


class WindowOverrides(Record):
    """What one call changes of a source's own windows."""

    baseline_minutes: float | None = Field(None, ge=1, le=1440)
    """Length of the baseline; default 30."""
    buffer_minutes: float | None = Field(None, ge=0, le=1440)
    """Gap between the baseline's end and the deployment; default 10."""
    step_s: float | None = Field(None, ge=5, le=3600)
    """Bucket length in seconds; default 60."""

    def rule(self, default: WindowRule) -> WindowRule:
        """The default with what these arguments change."""
        changes = {
            "baseline_s": None if self.baseline_minutes is None else self.baseline_minutes * 60,
            "buffer_s": None if self.buffer_minutes is None else self.buffer_minutes * 60,
            "step_s": self.step_s,
        }
        return default.model_copy(update={k: v for k, v in changes.items() if v is not None})


class WindowChoice(WindowOverrides):
    """Which windows to compare."""

    service: str = Field(min_length=1, max_length=253)
    """Service name as the source gives it; usually the workload's name."""
    deployed_at: Moment
    """When the deployment began, RFC 3339 with a zone; kubernetes_get_rollout tells it."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """detailed adds every bucket and query."""


class WindowComparison(Answer):
    """Before against after, and new against old where both served."""

    windows: Windows
    """Where the windows lie."""
    step_s: float
    """Bucket length in seconds."""
    arms: tuple[ArmSummary, ...]
    """One line an arm."""
    slow_threshold_ms: float | None = None
    """Histogram edge at or above the baseline's p99."""
    series: tuple[RequestSeries, ...] = ()
    """Every bucket, with the queries; only in the detailed format."""


def before(windows: Windows) -> Window:
    """The baseline and the buffer behind it: what began in the buffer is not the deployment's."""
    return Window(start=windows.baseline.start, end=windows.deployed_at)


def too_early(deployed_at: datetime, rule: WindowRule) -> NoData:
    """The error for a deployment that is not one whole bucket old."""
    ready = deployed_at + timedelta(seconds=rule.grace_s + rule.step_s)
    ignored = f" and {rule.grace_s:g} s of lag" if rule.grace_s else ""
    return NoData(
        f"Not one whole bucket of {rule.step_s:g} s{ignored} has passed since the deployment.",
        fix=f"Ask again after {ready:%H:%M:%S} UTC, or with a smaller step_s.",
    )


def compared(
    service: str,
    windows: Windows,
    series: Sequence[RequestSeries],
    response_format: ResponseFormat,
) -> WindowComparison:
    """The answer of a comparison; every bucket only where it was asked for."""
    summaries = {s.arm: summarise(s, windows) for s in series}
    return WindowComparison(
        headline=headline(service, summaries),
        windows=windows,
        step_s=series[0].step_s,
        arms=tuple(summaries.values()),
        slow_threshold_ms=series[0].slow_threshold_ms,
        series=tuple(series) if response_format is ResponseFormat.DETAILED else (),
    )
