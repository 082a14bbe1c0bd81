"""Web applications on loopback ports of their own, inside this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette

START_S = 10.0
"""Seconds an application may take to listen."""


class _Quiet(uvicorn.Server):
    """Leaves signals to the program that it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


@asynccontextmanager
async def listening(app: Starlette) -> AsyncIterator[str]:
    """Serve an application on a free port of 127.0.0.1; gives its address, http://127.0.0.1:PORT.

    Raises:
        OSError: There is no free port.
    """
    # Bound here, so that the address is known before anything is started.
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = _Quiet(
        uvicorn.Config(
            app,
            log_config=None,  # its default writes to stdout, which is the protocol's
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.gather(running, return_exceptions=True)
        bound.close()
