"""Serves one client over standard input and output, and stops cleanly however it is told to."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import types as t
from mcp.server.stdio import stdio_server

from mcp_devops.server.listing import remember, remembered, wire
from mcp_devops.server.protocol import server_over, tools_of
from mcp_devops.server.rooms import DeferredRooms, Rooms, open_rooms
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.clock import Clock

log = logging.getLogger(__name__)


async def serve_stdio(settings: ServerSettings, clock: Clock | None = None) -> int:
    """Serve until the client closes its end, or SIGTERM or SIGINT arrives.

    Children (credential plug-ins) cannot reach the protocol's pipes: while serving, descriptors 0
    and 1 point elsewhere, and plug-ins get an empty input of their own.

    Returns:
        The exit code: 0 after the client closed, 128 + n after signal n. After a signal the task
        that reads standard input is left behind, since nothing can wake its thread: end the
        process without waiting for it (`run_and_exit` in the command line does).
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()

    def tell(number: int) -> None:
        if not told.done():
            told.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number)

    listed = remembered(settings, os.environ) or []
    rooms: DeferredRooms = DeferredRooms(lambda: _opened(settings, clock, listed, rooms))
    try:
        if not listed:
            await rooms.get()
        server = server_over(rooms, settings, "stdio", listed)

        async def speak() -> None:
            async with stdio_server() as (read, write):
                await server.run(read, write, server.create_initialization_options())

        speaking = asyncio.create_task(speak())
        ends: set[asyncio.Future[Any]] = {speaking, told}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if speaking.done():
            speaking.result()
            return 0
        log.warning("stopping on signal %d", told.result())
        return 128 + told.result()
    finally:
        await rooms.close()


@asynccontextmanager
async def _opened(
    settings: ServerSettings,
    clock: Clock | None,
    listed: list[t.Tool],
    deferred: DeferredRooms,
) -> AsyncIterator[Rooms]:
    """Open the rooms, and correct the list that was told before if it is not theirs."""
    async with open_rooms(settings, "stdio", clock) as rooms:
        tools = tools_of(rooms.gateway)
        if wire(tools) != wire(listed):
            deferred.corrected = bool(listed)
            listed[:] = tools
            remember(settings, os.environ, tools)
            await rooms.updates.tools_changed()
        yield rooms
