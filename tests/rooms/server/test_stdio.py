from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from mcp import Client

from mcp_devops.journal.database import open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import SystemClock
from tests.support.process import command, environment, stdio

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


async def kinds(state_dir: Path) -> list[EntryKind]:
    async with open_database(state_dir / "state.db") as database:
        journal = Journal(database, Redactor(), SystemClock().now)
        assert (await journal.verify()).ok
        return [e.kind async for e in journal.stream()]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_real_process_lists_its_tools_and_answers(tmp_path: Path, mode: str) -> None:
    async with Client(stdio(tmp_path), mode=mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        listed = await client.call_tool("incident_list", {})
    assert {"incident_investigate", "incident_decide", "kubernetes_tail_logs"} <= names
    assert "incident_roll_back" not in names, "a read-only server offers no change"
    assert listed.structured_content is not None and listed.structured_content["total"] == 0


async def test_change_tools_are_offered_where_writes_are_on(tmp_path: Path) -> None:
    async with Client(stdio(tmp_path, "--allow-writes", "shop")) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert {"incident_roll_back", "kubernetes_roll_back"} <= names


async def test_an_unreachable_cluster_is_missing_evidence_and_a_clear_error(
    tmp_path: Path,
) -> None:
    async with Client(stdio(tmp_path)) as client:
        pods = await client.call_tool("kubernetes_describe_pods", {"workload": "checkout"})
    assert pods.is_error
    assert pods.meta is not None
    assert pods.meta["mcp-devops/error"]["code"] == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
async def test_a_signal_stops_it_with_the_journal_closed(
    tmp_path: Path, number: int, code: int
) -> None:
    process = await _started(tmp_path)
    process.send_signal(number)
    async with asyncio.timeout(20):
        assert await process.wait() == code
    assert (await kinds(tmp_path))[-1] is EntryKind.SERVER_STOPPED


async def test_the_end_of_input_stops_it_with_exit_code_zero(tmp_path: Path) -> None:
    process = await _started(tmp_path)
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(20):
        assert await process.wait() == 0
    assert (await kinds(tmp_path))[-1] is EntryKind.SERVER_STOPPED


async def test_killed_outright_the_journal_is_whole_and_shows_the_missing_stop(
    tmp_path: Path,
) -> None:
    process = await _started(tmp_path)
    process.kill()
    await process.wait()
    assert (await kinds(tmp_path))[-1] is EntryKind.SERVER_STARTED


async def test_what_is_not_the_protocol_does_not_stop_it(tmp_path: Path) -> None:
    process = await _started(tmp_path)
    assert process.stdin is not None and process.stdout is not None
    for junk in (
        b"\n",
        b"not json\n",
        b'{"jsonrpc": "2.0"}\n',
        b"\xff\xfe\x00\n",
        b"[" * 2000 + b"\n",
    ):
        process.stdin.write(junk)
    ping = {"jsonrpc": "2.0", "id": 77, "method": "ping"}
    process.stdin.write(json.dumps(ping).encode() + b"\n")
    async with asyncio.timeout(20):
        while True:
            line = json.loads(await process.stdout.readline())
            if line.get("id") == 77:
                break
    assert line["result"] == {}
    process.stdin.close()
    await process.wait()


async def _started(state_dir: Path) -> asyncio.subprocess.Process:
    """A process that has answered its handshake."""
    process = await asyncio.create_subprocess_exec(
        *command(state_dir=state_dir),
        env=environment(state_dir),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
    async with asyncio.timeout(30):
        answer = json.loads(await process.stdout.readline())
    assert answer["result"]["serverInfo"]["name"] == "mcp-devops"
    return process
