"""Engines for tests: a loopback one that answers as recorded, one that fails, and the real one."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.settings import DockerSettings
from mcp_devops.scenarios.listening import listening
from mcp_devops.toolkit.clock import ShiftedClock, SystemClock
from mcp_devops.toolkit.context import Caller, ToolContext
from tests.support.kubernetes_api import NoServices

FIXTURES = Path(__file__).parents[2] / "fixtures" / "docker"
NOW = datetime(2026, 11, 20, 14, 20, tzinfo=UTC)
AVAILABLE = bool(os.environ.get("TEST_CLUSTER") and os.environ.get("DOCKER_HOST"))
"""Whether the variables of the real engine are set."""
WHY_NOT = "needs the test cluster: TEST_CLUSTER and DOCKER_HOST are not set"

Handler = Callable[[Request], Awaitable[Response]]


def recorded(case: str) -> dict[str, Any]:
    """The answers of a case, by path."""
    text = (FIXTURES / case / "answers.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def frame(stream: int, payload: bytes) -> bytes:
    """One frame as the engine writes it."""
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def replay(answers: dict[str, Any], asked: list[Request] | None = None) -> Handler:
    """Answer as recorded; paths that were not recorded are not found."""

    async def answer(request: Request) -> Response:
        if asked is not None:
            asked.append(request)
        path = request.url.path
        if path.startswith("/v1."):
            path = "/" + path.split("/", 2)[2]
        found = answers.get(path)
        if found is None:
            return JSONResponse({"message": f"page not found: {path}"}, 404)
        if "base64" in found:
            return Response(base64.b64decode(found["base64"]), found["status"])
        return JSONResponse(found["json"], found["status"])

    return answer


@asynccontextmanager
async def serving(handler: Handler, **settings: Any) -> AsyncIterator[DockerClient]:
    """A client of a loopback engine."""
    app = Starlette(routes=[Route("/{path:path}", handler)])
    async with listening(app) as url:
        client = DockerClient(DockerSettings(host=url, **settings), ShiftedClock(NOW))
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def engine(case: str, **settings: Any) -> AsyncIterator[DockerClient]:
    """A client of an engine that answers as recorded."""
    async with serving(replay(recorded(case)), **settings) as client:
        yield client


def fault(kind: str) -> Handler:
    """Fails in a named way on everything but the version."""
    statuses = {
        "400": 400, "401": 401, "403": 403, "409": 409, "429": 429, "500": 500, "501": 501,
    }  # fmt: skip

    async def answer(request: Request) -> Response:
        if request.url.path == "/version":
            return JSONResponse(recorded("legacy_build")["/version"]["json"])
        if kind == "html":
            return HTMLResponse("<html>gateway</html>")
        if kind == "slow":
            await asyncio.sleep(30)
        if kind == "too new":
            return JSONResponse({"message": "client version 1.41 is too new. Maximum"}, 400)
        headers = {"Retry-After": "7"} if kind == "429" else {}
        return JSONResponse({"message": "it went wrong"}, statuses[kind], headers)

    return answer


@asynccontextmanager
async def raw_engine(*replies: bytes) -> AsyncIterator[str]:
    """A TCP address that answers each request with the next bytes and closes; then with none."""
    left = list(replies)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if left else b"")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def context_for(client: DockerClient) -> ToolContext[DockerClient]:
    """What a tool is handed."""
    return ToolContext(
        client=client,
        services=NoServices(),
        clock=client.clock,
        caller=Caller("t", "test"),
        call_id="1",
    )


@asynccontextmanager
async def real_engine(**settings: Any) -> AsyncIterator[DockerClient]:
    """A client of the real engine."""
    client = DockerClient(DockerSettings(**settings), SystemClock())
    try:
        yield client
    finally:
        await client.close()


async def docker(*args: str, given: bytes = b"", check: bool = True) -> str:
    """Run the docker command; gives its output."""
    program = shutil.which("docker")
    assert program, "the docker command is not on the PATH"
    done = await anyio.run_process(
        [program, *args],
        input=given,
        check=check,
        stderr=subprocess.STDOUT,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    return done.stdout.decode("utf-8", "replace")


@asynccontextmanager
async def built(dockerfile: str) -> AsyncIterator[str]:
    """An image built from a Dockerfile without a context, removed at the end."""
    name = f"mcpd-{uuid.uuid4().hex[:8]}:1"
    await docker("build", "-q", "-t", name, "-", given=dockerfile.encode())
    try:
        yield name
    finally:
        with anyio.CancelScope(shield=True):
            await docker("rmi", "-f", name)


@asynccontextmanager
async def ran(*options: str, script: str, image: str = "test/base:1") -> AsyncIterator[str]:
    """A container without network that ran a script to its end, removed at the end."""
    name = f"mcpd-{uuid.uuid4().hex[:8]}"
    base = ("run", "--network", "none", "--name", name, "--entrypoint", "/bin/sh", *options)
    try:
        await docker(*base, image, "-c", script, check=False)
        yield name
    finally:
        with anyio.CancelScope(shield=True):
            await docker("rm", "-f", name)
