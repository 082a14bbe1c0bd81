"""The one place that reads the clock: everything else is told the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day and a monotonic second count."""

    def now(self) -> datetime:
        """Aware time of day, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Aware time of day, UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()


class ShiftedClock:
    """A clock that runs at the usual pace from another moment: for replayed recordings."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._base = time.monotonic()

    def now(self) -> datetime:
        """The recording's time of day."""
        from datetime import timedelta

        return self._start + timedelta(seconds=time.monotonic() - self._base)

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()
