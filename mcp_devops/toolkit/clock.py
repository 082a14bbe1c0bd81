"""The one place that reads the clock: everything else is told the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
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
    """A clock that starts at another moment and may be hurried: for replayed recordings.

    Time of day and monotonic seconds stay in step, so that deadlines pass in replayed time.
    """

    def __init__(self, start: datetime, speed: float = 1.0) -> None:
        self._start = start
        self._speed = speed
        self._since = time.monotonic()
        self._passed = 0.0

    @property
    def speed(self) -> float:
        """Seconds that pass on this clock in one second of the machine."""
        return self._speed

    def run_at(self, speed: float) -> None:
        """Change the pace from now on; what has passed stays."""
        self._passed, self._since = self.monotonic(), time.monotonic()
        self._speed = speed

    def now(self) -> datetime:
        """The replayed time of day."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Replayed seconds since the clock was made; they never run backwards."""
        return self._passed + (time.monotonic() - self._since) * self._speed
