"""Starting to watch a cluster that does not answer: it is said, and a signal is obeyed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcp_devops.errors import UpstreamTimeout
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.responder import service
from mcp_devops.settings import ServerSettings
from tests.support.kubernetes_api import Asked, Reply, serving, write_kubeconfig
from tests.support.waiting import until


@asynccontextmanager
async def silent_cluster(folder: Path) -> AsyncIterator[list[Asked]]:
    """A cluster that takes every request and answers none; what it was asked."""
    asked: list[Asked] = []

    def says_nothing(request: Asked) -> Reply:
        asked.append(request)
        return Reply(silent=True)

    async with serving(says_nothing) as api:
        write_kubeconfig(folder, api.url)
        yield asked


async def test_a_cluster_that_does_not_answer_is_said_and_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LISTED_S", 0.2)
    async with silent_cluster(tmp_path):
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        settings = ServerSettings(state_dir=tmp_path / "state")
        with pytest.raises(ExceptionGroup) as caught:
            async with (
                open_gateway(settings, channel="test") as gateway,
                service.watching(gateway, ("shop",)),
            ):
                pass
    assert caught.group_contains(UpstreamTimeout)


async def test_a_signal_before_it_watches_ends_it_in_order(tmp_path: Path) -> None:
    async with silent_cluster(tmp_path) as asked:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MCP_DEVOPS_")}
        environment["KUBECONFIG"] = str(tmp_path / "kubeconfig")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mcp_devops", "watch", "-n", "shop"),
            *("--state-dir", str(tmp_path / "state")),
            env=environment,
            stderr=asyncio.subprocess.PIPE,
        )
        try:

            async def listing() -> bool:
                return bool(asked)

            await until(listing, 60)
            process.terminate()
            async with asyncio.timeout(20):
                _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, said.decode()
    assert b"Traceback" not in said and b"stopped before it watched" in said
