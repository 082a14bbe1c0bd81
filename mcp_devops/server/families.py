"""Prometheus' families from plain counts. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import inf

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

Labels = tuple[str, ...]


class Buckets:
    """Observations sorted into buckets.

    Args:
        bounds: Upper bounds, ascending; what is above the last is kept too.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, inf)
        self._counts = [0] * len(self._bounds)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Sort one in."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def add(self, bound: float, count: int) -> None:
        """Sort in what was counted up to a bound before, without its sum."""
        self._counts[bisect_left(self._bounds, bound)] += count

    def cumulative(self) -> list[tuple[str, float]]:
        """How many lie at or below each bound."""
        found, count = [], 0
        for bound, here in zip(self._bounds, self._counts, strict=True):
            count += here
            found.append(("+Inf" if bound == inf else repr(float(bound)), float(count)))
        return found


def gauge(
    name: str, says: str, values: Mapping[Labels, float], labels: Labels = ()
) -> GaugeMetricFamily:
    """Values that go up and down."""
    family = GaugeMetricFamily(name, says, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def counter(
    name: str, says: str, values: Mapping[Labels, float], labels: Labels = ()
) -> CounterMetricFamily:
    """Values that only grow; Prometheus sees them as `<name>_total`."""
    family = CounterMetricFamily(name, says, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def histogram(
    name: str, says: str, values: Mapping[Labels, Buckets], labels: Labels = ()
) -> HistogramMetricFamily:
    """Observations in buckets."""
    family = HistogramMetricFamily(name, says, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, buckets=value.cumulative(), sum_value=value.total)
    return family
