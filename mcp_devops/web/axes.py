"""Where a chart's ticks stand: round numbers, round times."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_TIME_STEPS_S = (
    *(5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200),
    *(86_400, 172_800, 604_800),
)


def value_ticks(highest: float, most: int = 5) -> list[float]:
    """Round values from 0 to at least `highest`.

    Args:
        highest: Largest value drawn; not above 0 reads as 1.
        most: Ticks at the most, zero included.
    """
    if not highest > 0 or not math.isfinite(highest):
        highest = 1.0
    rough = highest / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    count = math.ceil(highest / step - 1e-9)
    return [i * step for i in range(count + 1)]


def time_ticks(start: datetime, end: datetime, most: int) -> list[datetime]:
    """Round UTC moments in [start, end], at most `most`."""
    first, last = start.timestamp(), end.timestamp()
    span = max(last - first, 1.0)
    step = next((s for s in _TIME_STEPS_S if span / s <= most), None)
    if step is None:
        step = math.ceil(span / most / 86_400) * 86_400
    ticks: list[datetime] = []
    at = math.ceil(first / step) * step
    while at <= last and len(ticks) < most:
        ticks.append(datetime.fromtimestamp(at, UTC))
        at += step
    return ticks


def time_label(moment: datetime, span_s: float, ticks_round: bool) -> str:
    """A tick's label: with seconds where ticks are no whole minutes, with the day in long spans."""
    if span_s > 20 * 3600:
        return f"{moment:%d %b %H:%M}"
    return f"{moment:%H:%M}" if ticks_round else f"{moment:%H:%M:%S}"
