from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.gateway.asking import Ask, PersonAnswer, Question
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.gateway.reply import Reply
from mcp_devops.scenarios.serving import connect, replayed
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.context import Caller

CALLER = Caller("ann", "test")


async def yes(question: Question) -> PersonAnswer:
    return PersonAnswer(approved=True)


class Duty:
    """One person on duty, with the real tools over a replayed incident."""

    def __init__(self, gateway: Gateway, workload: str) -> None:
        self.gateway = gateway
        self.workload = workload

    async def call(self, name: str, /, ask: Ask | None = None, **arguments: Any) -> Reply:
        return await self.gateway.call(name, arguments, CALLER, ask=ask)

    async def investigate(self, **more: Any) -> dict[str, Any]:
        reply = await self.call(
            "incident_investigate", namespace="shop", workload=self.workload, **more
        )
        assert reply.data is not None, reply.text
        return reply.data

    async def decided(self) -> tuple[str, dict[str, Any]]:
        found = await self.investigate()
        reply = await self.call("incident_decide", incident_id=found["incident_id"])
        assert reply.data is not None, reply.text
        return found["incident_id"], reply.data


class Desk:
    """Opens replayed incidents, with settings of the test's choice."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = monkeypatch

    @asynccontextmanager
    async def playing(
        self, name: str, *, variables: dict[str, str] | None = None, **options: Any
    ) -> AsyncIterator[Duty]:
        for variable in [v for v in os.environ if v.startswith("MCP_DEVOPS_")]:
            self._patch.delenv(variable)
        async with replayed(name) as (world, cluster, token, metrics):
            environment: dict[str, str] = {}
            about = world.scenario.about
            connect(environment, self.folder, world.scenario, cluster, token, metrics)
            for variable, value in {**environment, **(variables or {})}.items():
                self._patch.setenv(variable, value)
            settings = ServerSettings(
                state_dir=self.folder / "state", **{"allow_writes": ("shop",), **options}
            )
            async with open_gateway(settings, channel="test", clock=world.clock) as gateway:
                yield Duty(gateway, about.workload)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)
