"""The rooms behind the protocol: opened at once, or on the first request that needs them."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mcp_devops.gateway.door import Gateway
    from mcp_devops.server.updates import Updates
    from mcp_devops.settings import ServerSettings
    from mcp_devops.toolkit.clock import Clock


class Rooms(NamedTuple):
    """An open door, and what tells subscribers of changes behind it."""

    gateway: Gateway
    updates: Updates


@asynccontextmanager
async def open_rooms(
    settings: ServerSettings, channel: str, clock: Clock | None
) -> AsyncIterator[Rooms]:
    """Open everything; the imports, which are most of the work, happen off the loop.

    Raises:
        DevOpsError: Settings are not valid, or the state file cannot be used.
    """
    opening = await asyncio.to_thread(importlib.import_module, "mcp_devops.gateway.opening")
    updating = await asyncio.to_thread(importlib.import_module, "mcp_devops.server.updates")
    async with opening.open_gateway(settings, channel=channel, clock=clock) as gateway:
        updates = updating.Updates(gateway)
        async with updates.running():
            yield Rooms(gateway, updates)


class OpenRooms:
    """Rooms that are open already."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def get(self) -> Rooms:
        """The rooms."""
        return self._rooms


class DeferredRooms:
    """Rooms that one task of its own opens when they are first asked for, and closes at the end."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[Rooms]]) -> None:
        self._opened = opened
        self.corrected = False
        """Whether clients were told a tool list that turned out to be another one."""
        self._ready: asyncio.Future[Rooms] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start opening, if nobody has."""
        if self._owner is None:
            self._owner = asyncio.create_task(self._own())

    async def get(self) -> Rooms:
        """The rooms, once they are open.

        Raises:
            DevOpsError: They cannot be opened; every caller is told.
        """
        self.begin()
        return await asyncio.shield(self._ready)

    async def close(self) -> None:
        """Close what was opened."""
        self._stop.set()
        if self._owner is not None:
            await asyncio.gather(self._owner, return_exceptions=True)
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()  # seen: it was logged where it was raised

    async def _own(self) -> None:
        try:
            async with self._opened() as rooms:
                self._ready.set_result(rooms)
                await self._stop.wait()
        except BaseException as problem:
            if self._ready.done():
                raise
            self._ready.set_exception(problem)
