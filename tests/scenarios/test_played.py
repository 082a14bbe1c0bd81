"""Every scenario through the real server process, over stdio, in both protocol eras."""

import asyncio
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client, StdioServerParameters
from mcp import types as t

from mcp_devops.journal.database import open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.scenarios.recorded import about, folders
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import SystemClock

Mode = Literal["auto", "legacy"]


def server(name: str, state: Path) -> StdioServerParameters:
    arguments = ["-m", "mcp_devops", "serve", "--scenario", name, "--state-dir", str(state)]
    return StdioServerParameters(command=sys.executable, args=[*arguments, "--log-level", "ERROR"])


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    data: dict[str, Any] | None = answer.structured_content
    assert data is not None
    return data


async def kinds(state: Path) -> list[EntryKind]:
    """The journal's kinds, after its chain was checked."""
    async with open_database(state / "state.db") as database:
        journal = Journal(database, Redactor(()), SystemClock().now)
        assert (await journal.verify()).ok
        return [e.kind for e in (await journal.list(limit=500)).entries]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("name", folders())
async def test_a_scenario_ends_as_it_should(name: str, mode: Mode, tmp_path: Path) -> None:
    asked: list[str] = []

    async def yes(context: Any, params: Any) -> t.ElicitResult:
        asked.append(params.message)
        return t.ElicitResult(action="accept", content={"approve": True})

    expected = about(name)
    async with Client(server(name, tmp_path), mode=mode, elicitation_callback=yes) as client:
        place = {"namespace": expected.namespace, "workload": expected.workload}
        found = await call(client, "incident_investigate", **place)
        assert "missing" not in found
        incident = found["incident_id"]
        decision = await call(client, "incident_decide", incident_id=incident)
        assert decision["action"] == expected.expect.action
        reason = {}
        if decision["action"] != "roll_back":
            refused = await client.call_tool("incident_roll_back", {"incident_id": incident})
            assert refused.is_error
            assert asked == []
            reason = {"despite_verdict": "a person wants to see what a rollback would do"}
        done = await call(client, "incident_roll_back", incident_id=incident, **reason)
        assert done["status"] == expected.expect.outcome
        assert done["template_restored"]
        assert len(asked) == 1
        again = await call(client, "incident_get", incident_id=incident)
        assert again["incident"]["status"] == expected.expect.outcome
    assert (await kinds(tmp_path)).count(EntryKind.ACTION_STARTED) == 1


async def test_a_no_changes_nothing(tmp_path: Path) -> None:
    async def no(context: Any, params: Any) -> t.ElicitResult:
        return t.ElicitResult(action="accept", content={"approve": False})

    async with Client(server("crash-loop", tmp_path), elicitation_callback=no) as client:
        found = await call(client, "incident_investigate", namespace="shop", workload="cart")
        incident = {"incident_id": found["incident_id"]}
        await call(client, "incident_decide", **incident)
        refused = await client.call_tool("incident_roll_back", incident)
        assert refused.is_error
        after = await call(client, "incident_investigate", namespace="shop", workload="cart")
        assert after["revision"] == found["revision"]
    assert EntryKind.ACTION_STARTED not in await kinds(tmp_path)


async def command(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mcp_devops", *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["RECOVERED", "whole", "as expected"]),
        (["--deny"], ["APPROVAL_DENIED", "whole", "as expected"]),
        (["--scenario", "upstream-outage"], ["HOLD FOR REVIEW", "as expected"]),
        (["--list"], list(folders())),
    ],
)
async def test_the_demo_tells_its_story(options: list[str], words: list[str]) -> None:
    code, said = await command("demo", *options)
    assert code == 0, said
    for word in words:
        assert word in said


async def test_an_unknown_scenario_names_the_known_ones() -> None:
    for start in (["demo"], ["serve"]):
        code, said = await command(*start, "--scenario", "nothing")
        assert code == 2
        assert "crash-loop" in said
