"""The second start tells the list of the first at once, and never a wrong one for long."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from mcp import Client, MCPError
from mcp import types as t

from mcp_devops.server.listing import fingerprint, remember, remembered
from mcp_devops.settings import ServerSettings
from tests.support.process import stdio

TOOL = t.Tool(name="toy_get_lamp", description="A lamp.", input_schema={"type": "object"})


async def names(state_dir: Path, *options: str, mode: str = "auto") -> set[str]:
    async with Client(stdio(state_dir, *options), mode=mode) as client:
        return {tool.name for tool in (await client.list_tools()).tools}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_second_start_tells_the_same_list_and_works(tmp_path: Path, mode: str) -> None:
    first = await names(tmp_path)
    kept = (tmp_path / "tools.json").read_text(encoding="utf-8")
    async with Client(stdio(tmp_path), mode=mode) as client:
        second = {tool.name for tool in (await client.list_tools()).tools}
        called = await client.call_tool("incident_list", {})
        prompts = (await client.list_prompts()).prompts
    assert first == second and not called.is_error and len(prompts) == 3
    assert (tmp_path / "tools.json").read_text(encoding="utf-8") == kept


async def test_a_client_that_calls_before_it_lists_is_served(tmp_path: Path) -> None:
    await names(tmp_path)
    async with Client(stdio(tmp_path)) as client:
        called = await client.call_tool("incident_list", {})
    assert called.structured_content is not None


async def test_other_settings_are_another_list(tmp_path: Path) -> None:
    reads = await names(tmp_path)
    assert "incident_roll_back" in await names(tmp_path, "--allow-writes", "shop")
    assert await names(tmp_path) == reads


async def test_a_list_that_is_not_true_any_more_is_corrected_and_told(tmp_path: Path) -> None:
    await names(tmp_path)
    path = tmp_path / "tools.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["tools"] = stored["tools"][:3]
    path.write_text(json.dumps(stored), encoding="utf-8")
    async with Client(stdio(tmp_path)) as client, client.listen(tools_list_changed=True) as stream:
        async with asyncio.timeout(20):
            async for event in stream:
                assert type(event).__name__ == "ToolsListChanged"
                break
        assert len((await client.list_tools()).tools) > 3
    assert len(json.loads(path.read_text(encoding="utf-8"))["tools"]) > 3


async def test_a_state_file_that_broke_since_is_said_to_who_calls(tmp_path: Path) -> None:
    await names(tmp_path)
    for end in ("", "-wal", "-shm"):
        (tmp_path / f"state.db{end}").unlink(missing_ok=True)
    (tmp_path / "state.db").write_bytes(b"this is no database" * 100)
    async with Client(stdio(tmp_path)) as client:
        await client.list_tools()
        with pytest.raises(MCPError) as told:
            await client.call_tool("incident_list", {})
    assert "[UNSUPPORTED]" in str(told.value) or "[UPSTREAM_UNAVAILABLE]" in str(told.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fingerprint": 1}', '{"tools": [{}]}'])
def test_a_damaged_memory_is_no_memory(tmp_path: Path, content: str) -> None:
    settings = ServerSettings(state_dir=tmp_path)
    assert remembered(settings, os.environ) is None
    (tmp_path / "tools.json").write_text(content, encoding="utf-8")
    assert remembered(settings, os.environ) is None


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    settings = ServerSettings(state_dir=tmp_path)
    remember(settings, os.environ, [TOOL])
    assert remembered(settings, os.environ) == [TOOL]
    assert list(tmp_path.iterdir()) == [tmp_path / "tools.json"]


def test_a_directory_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    remember(ServerSettings(state_dir=tmp_path / "not" / "there"), os.environ, [TOOL])


def test_everything_that_decides_the_list_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServerSettings(state_dir=tmp_path)
    kubeconfig = tmp_path / "kubeconfig"
    base = {"HOME": "/h", "KUBECONFIG": str(kubeconfig)}
    seen = {fingerprint(settings, base)}
    seen.add(fingerprint(settings, {**base, "MCP_DEVOPS_PROMETHEUS__URL": "http://p"}))
    seen.add(fingerprint(settings, {**base, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}))
    seen.add(fingerprint(settings.model_copy(update={"allow_writes": ("shop",)}), base))
    kubeconfig.touch()
    seen.add(fingerprint(settings, base))
    config = tmp_path / "mcp-devops.toml"
    config.write_text('[prometheus]\nurl = "http://p"\n', encoding="utf-8")
    monkeypatch.setenv("MCP_DEVOPS_CONFIG", str(config))
    seen.add(fingerprint(settings, base))
    assert len(seen) == 6
    assert fingerprint(settings, {**base, "UNRELATED": "x"}) in seen
