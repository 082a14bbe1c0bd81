"""How long to wait before another attempt, the same for every channel to people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Pause = Callable[[float], Awaitable[None]]
"""Waits so many seconds."""
Jitter = Callable[[], float]
"""A number from 0 to 1."""


def wait_s(
    attempt: int, first_s: float, longest_s: float, jitter: Jitter, asked_s: object = None
) -> float:
    """Seconds to wait after an attempt: doubled each time, half fixed and half random.

    Many replicas must not come back in the same second.

    Args:
        attempt: The attempt that failed, from 1 on.
        first_s: Longest wait after the first one.
        longest_s: What doubling ends at.
        jitter: The random half.
        asked_s: Seconds that the other side asked for, if it did; the wait is not shorter.
    """
    base: float = min(first_s * 2 ** (attempt - 1), longest_s)
    asked = float(asked_s) if isinstance(asked_s, int | float) else 0.0
    return max(asked, base / 2 + base / 2 * jitter())
