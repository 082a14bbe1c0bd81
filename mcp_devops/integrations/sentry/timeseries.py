"""Sentry's two forms of a time series, read into buckets. Pure; junk is no bucket, never zero."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_devops.integrations.sentry.foreign import listed, number, record

UNITS_MS: Mapping[str, float] = {
    "nanosecond": 1e-6,
    "microsecond": 1e-3,
    "millisecond": 1.0,
    "second": 1000.0,
    "minute": 60_000.0,
}
"""Milliseconds in the units that a duration may come in."""
FIRST_S, LAST_S = 0.0, 1e11
"""Seconds since 1970 that a bucket may begin at; what lies outside is junk."""


@dataclass(frozen=True)
class Axis:
    """One series of an answer.

    Attributes:
        points: Complete buckets: start in epoch seconds, value.
        interval_s: Bucket length as the answer shows it; None: it cannot be told.
        unit_ms: Milliseconds in the value's unit, where it is a duration.
        guessed: Whether Sentry calls a value extrapolated from few samples.
    """

    points: Mapping[float, float] = field(default_factory=dict)
    interval_s: float | None = None
    unit_ms: float = 1.0
    guessed: bool = False


def read_timeseries(body: Any) -> dict[str, Axis]:
    """The series of an events-timeseries answer, by their axis.

    Times are milliseconds. The bucket length is the distance of the times, which the answer's own
    `meta.interval` must agree with, in milliseconds or seconds.
    """
    found: dict[str, Axis] = {}
    for series in listed(record(body).get("timeSeries")):
        axis = series.get("yAxis")
        if not isinstance(axis, str) or axis in found:
            continue
        meta = record(series.get("meta"))
        points: dict[float, float] = {}
        starts: list[float] = []
        guessed = False
        for row in listed(series.get("values")):
            start, value = number(row.get("timestamp")), number(row.get("value"))
            if start is None or not FIRST_S <= start / 1000 <= LAST_S:
                continue
            starts.append(start / 1000)
            if value is not None and value >= 0 and row.get("incomplete") is False:
                points[start / 1000] = value
                guessed = guessed or row.get("confidence") == "low"
        found[axis] = Axis(
            points=points,
            interval_s=_interval(starts, number(meta.get("interval"))),
            unit_ms=_unit(meta.get("valueUnit")),
            guessed=guessed,
        )
    return found


def read_stats(body: Any, axes: Sequence[str]) -> dict[str, Axis]:
    """The series of an events-stats answer, by their axis.

    Times are seconds; an empty bucket has no row, which is a count of zero: Sentry fills only
    what it has searched. It says neither its bucket length nor what is incomplete.
    """
    data = record(body)
    by_axis = {axes[0]: data} if len(axes) == 1 else {a: record(data.get(a)) for a in axes}
    found: dict[str, Axis] = {}
    for axis, series in by_axis.items():
        rows = series.get("data")
        if not isinstance(rows, list):
            continue
        points: dict[float, float] = {}
        starts: list[float] = []
        for row in rows:
            if not (isinstance(row, list | tuple) and len(row) == 2):
                continue
            start = number(row[0])
            if start is None or not FIRST_S <= start <= LAST_S or not isinstance(row[1], list):
                continue
            starts.append(start)
            value = 0.0 if not row[1] else number(record(row[1][0]).get("count"))
            if value is not None and value >= 0:
                points[start] = value
        units = record(record(series.get("meta")).get("units"))
        found[axis] = Axis(points, _interval(starts, None), _unit(next(iter(units.values()), None)))
    return found


def _unit(said: object) -> float:
    return UNITS_MS.get(said, 1.0) if isinstance(said, str) else 1.0


def _interval(starts: list[float], said: float | None) -> float | None:
    """Seconds between the buckets; None where the answer contradicts itself or has one bucket."""
    ordered = sorted(set(starts))
    gaps = {round(b - a, 3) for a, b in itertools.pairwise(ordered)}
    if not gaps:
        return said / 1000 if said else None
    gap = min(gaps)
    if gap <= 0 or (said is not None and said not in (gap, gap * 1000)):
        return None
    return gap
