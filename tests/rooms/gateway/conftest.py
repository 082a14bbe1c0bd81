from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.context import Caller
from tests.support.toy import ToyClient, toy

CALLER = Caller("alice", "test", "pytest 1")


class Opened:
    """Opens doors over one toy and one state directory, with settings of the test's choice."""

    def __init__(self, state_dir: Path, database_url: str | None = None) -> None:
        self.state_dir = state_dir
        self.database_url = database_url
        self.client = ToyClient()

    def settings(self, **options: Any) -> ServerSettings:
        return ServerSettings(
            state_dir=self.state_dir,
            database_url=self.database_url,
            **{"allow_writes": ("house",), **options},
        )

    def door(self, **options: Any) -> Any:
        return open_gateway(
            self.settings(**options), channel="test", integrations=[toy(self.client)]
        )


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    return Opened(tmp_path)


@pytest.fixture
async def door(opened: Opened) -> AsyncIterator[Gateway]:
    async with opened.door() as gateway:
        yield gateway
