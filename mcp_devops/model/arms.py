"""A request series in a few numbers: what a reader compares, without judging it."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from mcp_devops.model.evidence import Arm, RequestSeries
from mcp_devops.model.record import Record
from mcp_devops.model.window import Windows
from mcp_devops.text.people import percent


class ArmSummary(Record):
    """One arm in numbers."""

    source: str | None = None
    """The system that answered."""
    arm: Arm
    """baseline, after, new or control."""
    requests: float | None
    """Requests in the window; null: the source has none, which is not zero."""
    errors: float | None
    """Failed requests among them."""
    error_rate: float | None
    """errors / requests."""
    p99_ms: float | None
    """Median over the buckets of the 99th percentile, milliseconds."""
    slow_share: float | None
    """Share of requests slower than slow_threshold_ms."""
    buckets: int
    """Whole buckets in the window."""
    buckets_with_data: int
    """Buckets that hold a number."""
    note: str | None = None
    """A limit of the data."""


def summarise(series: RequestSeries, windows: Windows | None = None) -> ArmSummary:
    """Add up one arm; values that are missing stay missing.

    Args:
        series: The arm.
        windows: Those of a series that has none of its own. A baseline counts only inside its
            window: the series goes on to the deployment, so that what began in between can be
            seen.
    """
    windows = series.windows or windows
    buckets = series.buckets
    if windows is not None and series.arm is Arm.BASELINE:
        buckets = tuple(b for b in buckets if windows.baseline.contains(b.start))
    known = [b for b in buckets if b.requests is not None]
    counted = [b for b in known if b.errors is not None]
    timed = [b for b in known if b.slow is not None]
    p99 = [b.p99_ms for b in buckets if b.p99_ms is not None]
    return ArmSummary(
        source=series.source,
        arm=series.arm,
        requests=_total(b.requests for b in known),
        errors=_total(b.errors for b in counted),
        error_rate=_share((b.errors, b.requests) for b in counted),
        p99_ms=round(median(p99), 1) if p99 else None,
        slow_share=_share((b.slow, b.requests) for b in timed),
        buckets=len(buckets),
        buckets_with_data=len(known),
        note=series.note,
    )


def _total(values: Iterable[float | None]) -> float | None:
    numbers = [v or 0.0 for v in values]
    return round(sum(numbers), 1) if numbers else None


def _share(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """Part by whole, over the buckets that know both."""
    known = [(part or 0.0, whole or 0.0) for part, whole in pairs]
    whole = sum(w for _, w in known)
    return round(sum(p for p, _ in known) / whole, 5) if whole else None


def headline(service: str, arms: dict[Arm, ArmSummary]) -> str:
    """The comparison in one sentence, with the arms that tell most."""
    first, second = Arm.BASELINE, Arm.AFTER
    names = ("before", "after")
    if arms.get(Arm.NEW) and arms[Arm.NEW].requests and arms.get(Arm.CONTROL):
        first, second, names = Arm.CONTROL, Arm.NEW, ("old revision", "new revision")
    a, b = arms.get(first), arms.get(second)

    def rate(arm: ArmSummary | None) -> str:
        return percent(arm.error_rate) if arm and arm.error_rate is not None else "no data"

    def p99(arm: ArmSummary | None) -> str:
        return f"{arm.p99_ms:.0f} ms" if arm and arm.p99_ms is not None else "no data"

    return (
        f"{service}: errors {rate(a)} ({names[0]}) -> {rate(b)} ({names[1]});"
        f" p99 {p99(a)} -> {p99(b)}."
    )
