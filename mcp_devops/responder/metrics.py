"""Serves the numbers and the health of `watch` over HTTP, to whoever can connect.

So no names of workloads, and nothing that came from outside, is in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime

from mcp_devops import __version__
from mcp_devops.errors import DevOpsError, InvalidArguments, PreconditionFailed
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.responder.runs.heartbeat import PACE
from mcp_devops.toolkit.clock import Clock

Render = Callable[[], Awaitable[bytes]]
"""Gives the numbers in Prometheus' text format."""


class Readiness:
    """Whether this process watches: its heartbeat is in the state, and fresh.

    Attributes:
        replica: Name of this process among the replicas; None until it watches.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.replica: str | None = None

    async def problem(self) -> str | None:
        """Why it is not ready; None: it is."""
        replica = self.replica
        if replica is None:
            return "starting"
        try:
            seen = await self._database.read(lambda c: _seen_at(c, replica))
        except DevOpsError as problem:
            return f"the state cannot be read ({problem.code})"
        if seen is None or (self._clock.now() - seen).total_seconds() > PACE.dead_s:
            return f"no heartbeat for {PACE.dead_s:g} s"
        return None


def _seen_at(connection: Connection, replica: str) -> datetime | None:
    row = connection.execute("SELECT seen_at FROM replicas WHERE id = ?", (replica,)).fetchone()
    return None if row is None else datetime.fromisoformat(row["seen_at"])


def parse_address(bind: str) -> tuple[str, int]:
    """Split HOST:PORT, :PORT or PORT; without a host it is 127.0.0.1.

    Raises:
        InvalidArguments: It is neither.
    """
    host, _, port = bind.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise InvalidArguments(
            f"--metrics: {bind!r} is not HOST:PORT.", fix="Example: --metrics 127.0.0.1:9095."
        )
    return host.strip("[]") or "127.0.0.1", int(port)


@asynccontextmanager
async def telling(bind: str, render: Render, readiness: Readiness) -> AsyncIterator[str]:
    """Serve /metrics, /healthz and /readyz while the block runs; gives the address.

    /healthz answers as long as the process does: a database that is down for a while is no reason
    to start it anew. /readyz is 503 until the process watches, and whenever its heartbeat is old.

    Args:
        bind: HOST:PORT; port 0 takes a free one.
        render: Gives the numbers.
        readiness: Tells whether the process watches.

    Raises:
        InvalidArguments: The bind is not HOST:PORT.
        PreconditionFailed: It cannot be listened on.
    """
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    class Quiet(uvicorn.Server):
        """Leaves signals to the program that it is a part of."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    async def metrics(request: Request) -> Response:
        return Response(await render(), media_type="text/plain; version=0.0.4")

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def readyz(request: Request) -> Response:
        problem = await readiness.problem()
        return JSONResponse({"status": problem or "ok"}, 503 if problem else 200)

    routes = {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz}
    app = Starlette(routes=[Route(path, answer) for path, answer in routes.items()])
    bound = _listen(bind)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = Quiet(config)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        host, port = bound.getsockname()[:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.gather(running, return_exceptions=True)
        bound.close()


def _listen(bind: str) -> socket.socket:
    host, port = parse_address(bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as problem:
        raise PreconditionFailed(
            f"--metrics: cannot listen on {bind}: {problem.strerror or problem}.",
            fix="Give an address of this machine and a port that is free.",
        ) from problem
