"""Recorded samples on the scenario's clock: held before the rollback, and gone on after it. Pure.

The recording's rollback came at once; a person takes a minute. Meanwhile every counter goes on
growing as it did in the last recorded minute, over and over, and likewise after the end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mcp_devops.scenarios.packing import Samples

HOLD_S = 60.0
"""Seconds that are repeated while nothing happens."""
GONE_S = 10.0
"""A series without a sample for so long is not repeated: its pod had gone."""


class Tape:
    """The samples of one scenario.

    Args:
        samples: As recorded.
        turn: Recorded second of the rollback.
        end: Recorded second of the end.
        start: Second on the scenario's clock that stands for `turn` until the rollback is made.
    """

    def __init__(self, samples: Sequence[Samples], turn: float, end: float, start: float) -> None:
        self._samples = samples
        self._turn, self._end, self._start = turn, end, start
        self._turned_at: float | None = None
        self._made: tuple[float, list[Samples]] | None = None

    def turn(self, at: float) -> None:
        """Say when the rollback was made, on the scenario's clock."""
        self._turned_at = at
        self._made = None

    def until(self, now: float) -> list[Samples]:
        """Every series up to a moment on the scenario's clock, rounded down to half a second."""
        # Queries come in bursts; within half a second of the clock they share one reading.
        now = int(now * 2) / 2
        if self._made is None or self._made[0] != now:
            found = [self._play(s, now) for s in self._samples]
            self._made = now, [s for s in found if s.times]
        return self._made[1]

    def _play(self, series: Samples, now: float) -> Samples:
        times: list[float] = []
        values: list[float] = []
        split = bisect_right(series.times, self._turn)
        shift = self._start - self._turn
        times += [t + shift for t in series.times[:split]]
        values += series.values[:split]
        held_until = now if self._turned_at is None else min(now, self._turned_at)
        _hold(times, values, self._start, held_until)
        if self._turned_at is None or now <= self._turned_at:
            return Samples(series.labels, times, values)
        grown = values[-1] - series.values[split - 1] if split else 0.0
        shift = self._turned_at - self._turn
        times += [t + shift for t in series.times[split:]]
        values += [v + grown for v in series.values[split:]]
        _hold(times, values, self._end + shift, now)
        last = bisect_right(times, now)
        return Samples(series.labels, times[:last], values[:last])


def _hold(times: list[float], values: list[float], end: float, until: float) -> None:
    """Repeat the growth of the last HOLD_S seconds before `end`, up to `until`."""
    if not times or end - times[-1] > GONE_S:
        return
    begin = end - HOLD_S
    first = max(1, bisect_right(times, begin))
    steps = [
        (times[i] - begin, max(0.0, values[i] - values[i - 1])) for i in range(first, len(times))
    ]
    value, base = values[-1], end
    while steps and base < until:
        for after, growth in steps:
            if base + after > until:
                return
            value += growth
            times.append(base + after)
            values.append(value)
        base += HOLD_S
