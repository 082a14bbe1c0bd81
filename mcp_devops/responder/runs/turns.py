"""Who goes next where only so many may at once: trouble before calm, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

AHEAD_S = 60.0
"""Seconds of waiting that trouble is worth: whoever is calm for so long goes before new trouble."""


@dataclass(eq=False)
class _Waiting:
    since: float
    urgent: Callable[[], bool]
    called: asyncio.Future[None]

    def place(self) -> float:
        """The least goes next."""
        return self.since - (AHEAD_S if self.urgent() else 0.0)


class Turns:
    """So many turns at once."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: list[_Waiting] = []

    @asynccontextmanager
    async def turn(self, urgent: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for a turn, and have it for as long as the block runs.

        Args:
            urgent: Whether there is trouble; asked anew whenever a turn is given.
        """
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._wait(urgent)
        try:
            yield
        finally:
            self._free += 1
            self._give()

    async def _wait(self, urgent: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        mine = _Waiting(loop.time(), urgent, loop.create_future())
        self._waiting.append(mine)
        try:
            await mine.called
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            else:
                # It was given to us in the moment in which we went.
                self._free += 1
                self._give()
            raise

    def _give(self) -> None:
        while self._free and self._waiting:
            mine = min(self._waiting, key=_Waiting.place)
            self._waiting.remove(mine)
            if not mine.called.done():
                self._free -= 1
                mine.called.set_result(None)
