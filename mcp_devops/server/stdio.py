"""Serves one client over standard input and output, and stops cleanly however it is told to."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from typing import Any

from mcp.server.stdio import stdio_server

from mcp_devops.gateway.opening import open_gateway
from mcp_devops.server.protocol import build_server
from mcp_devops.server.updates import Updates
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

    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            open_gateway(settings, channel="stdio", clock=clock)
        )
        updates = Updates(gateway)
        await stack.enter_async_context(updates.running())
        server = build_server(gateway, updates, "stdio")

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
