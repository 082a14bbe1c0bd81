from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_devops.journal.entry import EntryKind
from tests.rooms.server.test_stdio import kinds
from tests.support.process import command, environment
from tests.support.waiting import until

TOKEN = "a-token-for-the-test-" + "b2C3" * 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def serving(state_dir: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The real server over HTTP, once it answers."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *command("--http", f"127.0.0.1:{port}", state_dir=state_dir),
        env=environment(state_dir, MCP_DEVOPS_HTTP__TOKENS=f"ann={TOKEN}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx2.AsyncClient() as web:

            async def healthy() -> bool:
                try:
                    answer = await web.get(f"http://127.0.0.1:{port}/healthz")
                except httpx2.TransportError:
                    return False
                return answer.status_code == 200

            await until(healthy, 40)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_it_stops_at_once_while_a_client_listens_and_closes_its_journal(
    tmp_path: Path, number: int
) -> None:
    async with (
        serving(tmp_path) as (process, url),
        httpx2.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}, timeout=60) as web,
        Client(streamable_http_client(f"{url}/mcp", http_client=web)) as client,
    ):
        names = {tool.name for tool in (await client.list_tools()).tools}
        async with client.listen(resources_list_changed=True) as stream:
            process.send_signal(number)
            async with asyncio.timeout(15):
                async for _ in stream:
                    raise AssertionError("nothing was opened")
                assert await process.wait() == 0
    assert "incident_investigate" in names
    assert (await kinds(tmp_path))[-1] is EntryKind.SERVER_STOPPED


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "example.invalid:80", "nonsense"])
async def test_a_bind_that_is_open_to_all_or_none_ends_with_a_readable_line(
    tmp_path: Path, bind: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mcp_devops", "serve", "--http", bind),
        *("--state-dir", str(tmp_path)),
        env={**environment(tmp_path), "HOME": os.environ["HOME"]},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.decode().startswith("mcp-devops: [") and "Traceback" not in said.decode()
