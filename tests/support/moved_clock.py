"""The real clock, moved by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

from mcp_devops.toolkit.clock import SystemClock


class Hands:
    """Goes on by itself, and jumps as far as a test moves it."""

    def __init__(self) -> None:
        self.offset = timedelta()
        self._real = SystemClock()

    def now(self) -> datetime:
        return self._real.now() + self.offset

    def monotonic(self) -> float:
        return self._real.monotonic() + self.offset.total_seconds()

    def move(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)
