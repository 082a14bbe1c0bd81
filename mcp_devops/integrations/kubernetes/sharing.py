"""One reading for all who ask for the same within a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

FRESH_S = 5.0
"""Seconds for which a reading of a workload's surroundings counts as now: many deployments of one
namespace that are looked at in the same minute have the same neighbours."""


@dataclass
class _Reading:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: list[Any] = field(default_factory=list)
    """Nothing, or the one result."""


class Shared:
    """Readings by key. For surroundings only: what is judged itself is always read anew."""

    def __init__(self, fresh_s: float = FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._readings: dict[Hashable, _Reading] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """The result of a reading that is under way or fresh, else of this one.

        Who reads may be cancelled or fail: that is its own fate, and the next one reads. A result
        is given to many, none of whom may change it. It is let go once it is no longer fresh.
        """
        reading = self._readings.setdefault(key, _Reading())
        async with reading.lock:
            if not reading.held:
                reading.held.append(await read())
                asyncio.get_running_loop().call_later(self._fresh_s, self._forget, key, reading)
            found: T = reading.held[0]
            return found

    def _forget(self, key: Hashable, reading: _Reading) -> None:
        # Those who wait for the lock still share it; who comes later reads anew.
        if self._readings.get(key) is reading:
            del self._readings[key]
