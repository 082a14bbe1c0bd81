"""Counters and histograms, computed as Prometheus computes them; the functions by name. Pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from itertools import pairwise

Points = list[tuple[float, float]]
"""(second, value) inside a window, oldest first."""


def increase(points: Points, start: float, end: float) -> float | None:
    """Growth of a counter in a window, extrapolated to its edges as Prometheus does.

    Args:
        points: (second, value) inside the window, oldest first.
        start: The window's first second.
        end: Its last.

    Returns:
        None with fewer than two points.
    """
    if len(points) < 2:
        return None
    growth = points[-1][1] - points[0][1]
    for (_, before), (_, after) in pairwise(points):
        if after < before:
            growth += before
    sampled = points[-1][0] - points[0][0]
    to_start, to_end = points[0][0] - start, end - points[-1][0]
    between = sampled / (len(points) - 1)
    if growth > 0 and points[0][1] >= 0:
        # A counter was zero at some moment; nothing is added for the time before it.
        to_start = min(to_start, sampled * points[0][1] / growth)
    limit = between * 1.1
    whole = sampled
    whole += to_start if to_start < limit else between / 2
    whole += to_end if to_end < limit else between / 2
    return growth * whole / sampled


def rate(points: Points, start: float, end: float) -> float | None:
    """`increase` by the second."""
    grown = increase(points, start, end)
    return None if grown is None else grown / (end - start)


def count(points: Points, start: float, end: float) -> float | None:
    """How many samples there are."""
    return float(len(points)) if points else None


def quantile(share: float, buckets: list[tuple[float, float]]) -> float:
    """A quantile of a classic histogram: (upper edge, cumulative count); NaN where it is empty."""
    buckets = sorted(buckets)
    if len(buckets) < 2 or not math.isinf(buckets[-1][0]) or buckets[-1][1] <= 0:
        return math.nan
    counts: list[float] = []
    for _, count in buckets:
        counts.append(max(count, counts[-1] if counts else 0.0))
    rank = share * counts[-1]
    place = next(i for i, count in enumerate(counts) if count >= rank)
    if place == len(buckets) - 1:
        return buckets[-2][0]
    below = counts[place - 1] if place else 0.0
    floor = buckets[place - 1][0] if place else 0.0
    return floor + (buckets[place][0] - floor) * (rank - below) / (counts[place] - below)


def divide(a: float, b: float) -> float:
    """A division that gives infinity or NaN where Prometheus does."""
    if b:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)


OVER_TIME: Mapping[str, Callable[[Points, float, float], float | None]] = {
    "increase": increase,
    "rate": rate,
    "count_over_time": count,
}
AGGREGATIONS: Mapping[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "max": max,
    "min": min,
    "avg": lambda values: math.fsum(values) / len(values),
    "count": lambda values: float(len(values)),
}
OPERATIONS: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divide,
}
