from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp import Client
from mcp import types as t

from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.server.http import GracefulServer, http_app
from mcp_devops.server.protocol import build_server
from mcp_devops.server.settings import HttpSettings
from mcp_devops.server.updates import Updates
from mcp_devops.settings import ServerSettings
from tests.support.toy import ToyClient, toy

WAYS = [(where, mode) for where in ("memory", "http") for mode in ("auto", "legacy")]


class World:
    """A toy house behind a real server; clients connect in memory or over a real port."""

    def __init__(self, state_dir: Path, where: str, mode: str) -> None:
        self.state_dir = state_dir
        self.where = where
        self.mode = mode
        self.house = ToyClient()
        self.gateway: Gateway
        self.answers: list[t.ElicitResult] = []
        self.asked: list[str] = []
        self.url = ""

    def settings(self) -> ServerSettings:
        return ServerSettings(state_dir=self.state_dir, allow_writes=("house",))

    async def answer(self, context: Any, params: Any) -> t.ElicitResult:
        self.asked.append(params.message)
        return self.answers.pop(0)

    @asynccontextmanager
    async def connected(
        self, *, can_ask: bool = True, http: HttpSettings | None = None, **options: Any
    ) -> AsyncIterator[Client]:
        callback = self.answer if can_ask else None
        async with (
            self.served(http) as target,
            Client(target, mode=self.mode, elicitation_callback=callback, **options) as client,
        ):
            yield client

    @asynccontextmanager
    async def served(self, http: HttpSettings | None = None) -> AsyncIterator[Any]:
        async with open_gateway(
            self.settings(), channel=self.where, integrations=[toy(self.house)]
        ) as gateway:
            self.gateway = gateway
            updates = Updates(gateway)
            async with updates.running():
                if self.where == "memory":
                    yield build_server(gateway, updates, "memory")
                    return
                async with listening(gateway, updates, http or HttpSettings()) as url:
                    self.url = url
                    yield f"{url}/mcp"


@asynccontextmanager
async def listening(
    gateway: Gateway, updates: Updates, settings: HttpSettings
) -> AsyncIterator[str]:
    """Serve on a free port of the loopback, in this loop."""
    app = http_app(gateway, updates, settings, "127.0.0.1", 0)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=2
    )
    server = GracefulServer(config, updates)
    running = asyncio.create_task(server._serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


@pytest.fixture(params=WAYS, ids="-".join)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, *request.param)
