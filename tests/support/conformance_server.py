"""The HTTP server as it is, with the conformance suite's fixtures beside its own tools.

    python -m tests.support.conformance_server STATE_DIR

Listens on a free port of the loopback, tells its address in one line on standard output, and
stops at SIGTERM. Authentication is on. The suite can send no token, so the outermost layer adds
it to every request that has none: all that lies behind is what a client with a token meets.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uvicorn
from mcp import MCPDeprecationWarning
from mcp.server import Server
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_devops.catalog import discover
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.server import http
from mcp_devops.server.protocol import build_server
from mcp_devops.server.settings import HttpSettings
from mcp_devops.server.updates import Updates
from mcp_devops.settings import ServerSettings
from tests.support.conformance_fixtures import install
from tests.support.conformance_integration import INTEGRATION

HOST = "127.0.0.1"


def build_with_fixtures(gateway: Gateway, updates: Updates, channel: str) -> Server[Any]:
    """The server, and the fixtures on it."""
    return install(build_server(gateway, updates, channel), updates)


def with_token(app: ASGIApp, token: str) -> ASGIApp:
    """Add a bearer token to requests without one."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not any(n == b"authorization" for n, _ in scope["headers"]):
            header = (b"authorization", f"Bearer {token}".encode())
            scope = {**scope, "headers": [*scope["headers"], header]}
        await app(scope, receive, send)

    return wrapped


async def serve(state_dir: Path) -> None:
    """Serve until SIGTERM."""
    # The suite asks for sampling and protocol logging, which the newest revision deprecates.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    token = secrets.token_urlsafe(24)
    settings = ServerSettings(state_dir=state_dir, allow_writes=("shop",))
    own = HttpSettings(tokens=SecretStr(f"suite={token}"))
    integrations = [*discover(), INTEGRATION]
    async with open_gateway(settings, channel="http", integrations=integrations) as gateway:
        updates = Updates(gateway)
        async with updates.running():
            with patch.object(http, "build_server", build_with_fixtures):
                app = http.http_app(gateway, updates, own, HOST, 0)
            config = uvicorn.Config(
                with_token(app, token),
                host=HOST,
                port=0,
                log_level="warning",
                timeout_graceful_shutdown=2,
            )
            server = http.GracefulServer(config, updates)
            signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again at the end
            running = asyncio.create_task(server.serve())
            async with asyncio.timeout(20):
                while not server.started:
                    await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            sys.stdout.write(f"http://{HOST}:{port}/mcp\n")
            sys.stdout.flush()
            await running


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state_dir", type=Path)
    asyncio.run(serve(parser.parse_args(arguments).state_dir))


if __name__ == "__main__":
    main()
