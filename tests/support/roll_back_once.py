"""Rolls one judged incident back, approved by its own caller: a process that a test may kill."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mcp_devops.gateway.asking import PersonAnswer, Question
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.context import Caller


async def yes(question: Question) -> PersonAnswer:
    """Approve."""
    return PersonAnswer(approved=True)


async def main(state_dir: str, incident_id: str, namespace: str) -> None:
    """Call incident_roll_back once."""
    settings = ServerSettings(state_dir=Path(state_dir), allow_writes=(namespace,))
    async with open_gateway(settings, channel="test") as gateway:
        caller = Caller("victim", "test")
        await gateway.call("incident_roll_back", {"incident_id": incident_id}, caller, ask=yes)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
