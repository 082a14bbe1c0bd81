"""Remembers for a while what was handled, so that a repeated delivery is handled once."""

from __future__ import annotations

from mcp_devops.toolkit.clock import Clock

KEPT = 2_000
"""Keys that are remembered at most; a team presses far fewer buttons in ten minutes."""


class Seen:
    """Keys of one process. The store behind it decides: here only needless work is saved."""

    def __init__(self, clock: Clock, keep_s: float = 600.0) -> None:
        self._clock = clock
        self._keep_s = keep_s
        self._until: dict[str, float] = {}

    def first(self, key: str) -> bool:
        """Whether the key is new; from now on it is not, for keep_s seconds."""
        now = self._clock.monotonic()
        # The oldest come first: what is over goes from the front.
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now and len(self._until) < KEPT:
                break
            del self._until[oldest]
        if key in self._until:
            return False
        self._until[key] = now + self._keep_s
        return True
