"""MCP Inspector's command line against the real server: both eras, both transports, exit codes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.clients.processes import SCENARIO, TOKEN, Done, run
from tests.support.process import command, environment

pytestmark = pytest.mark.client

ERAS = ("legacy", "modern")
INVESTIGATE = ("--tool-name", "incident_investigate", "--tool-args-json")
METHODS: Mapping[str, tuple[str, ...]] = {
    "tools/list": (),
    "tools/call": (*INVESTIGATE, json.dumps({"workload": "payments"})),
    "resources/list": (),
    "prompts/list": (),
}
OK, FAILED, NO_AUTH, UNREACHABLE, TOOL_ERROR = 0, 1, 3, 4, 5


class Inspector:
    """The command, with what every call needs."""

    def __init__(self, entry: Path, environment: Mapping[str, str], cwd: Path) -> None:
        self.start: list[str | Path] = [
            "node",
            entry,
            "--cli",
            "--format",
            "json",
            "--connect-timeout",
            "60000",
        ]
        self.environment = environment
        self.cwd = cwd

    def stdio(self, era: str, state_dir: Path, method: str, *options: str) -> Done:
        server = command("--scenario", SCENARIO, "--allow-writes", "shop", state_dir=state_dir)
        given = [*self.start, "--protocol-era", era, *server, "--method", method, *options]
        return run(given, {**environment(state_dir), **self._own()}, self.cwd)

    def http(self, era: str, url: str, method: str, *options: str, token: str = TOKEN) -> Done:
        header = ("--header", f"Authorization: Bearer {token}") if token else ()
        given = [*self.start, "--protocol-era", era, url, "--stored-auth-only", *header]
        return run([*given, "--method", method, *options], self.environment, self.cwd)

    def _own(self) -> Mapping[str, str]:
        return {name: self.environment[name] for name in ("PATH", "HOME")}


@pytest.fixture
def inspect(inspector: Path, node_environment: Mapping[str, str], tmp_path: Path) -> Inspector:
    return Inspector(inspector, node_environment, tmp_path)


def read(done: Done) -> dict[str, Any]:
    """The result on standard output."""
    assert done.code == OK, str(done)
    told: dict[str, Any] = json.loads(done.out)
    result: dict[str, Any] = told.get("result", told)
    return result


def names(result: Mapping[str, Sequence[Mapping[str, Any]]], kind: str) -> set[str]:
    return {str(item["name"]) for item in result[kind]}


def assert_is_this_server(answers: Mapping[str, dict[str, Any]], *, writes: bool) -> None:
    """The four answers hold what the server is known to offer."""
    tools = names(answers["tools/list"], "tools")
    assert {"incident_investigate", "incident_decide"} <= tools
    assert ("incident_roll_back" in tools) is writes
    found = answers["tools/call"]["structuredContent"]
    assert found["target"]["name"] == "payments" and found["incident_id"].startswith("inc-")
    uris = {resource["uri"] for resource in answers["resources/list"]["resources"]}
    assert "policy://decision" in uris
    assert {"rollback-decision", "incident-report"} <= names(answers["prompts/list"], "prompts")


@pytest.mark.parametrize("era", ERAS)
def test_a_server_started_over_stdio_lists_and_answers(
    inspect: Inspector, era: str, tmp_path: Path
) -> None:
    def ask(number: int, method: str) -> dict[str, Any]:
        state_dir = tmp_path / str(number)
        state_dir.mkdir()
        return read(inspect.stdio(era, state_dir, method, *METHODS[method]))

    with ThreadPoolExecutor(len(METHODS)) as pool:
        answers = dict(zip(METHODS, pool.map(ask, range(len(METHODS)), METHODS), strict=True))
    assert_is_this_server(answers, writes=True)


@pytest.mark.parametrize("era", ERAS)
def test_a_server_behind_a_token_lists_and_answers_over_http(
    inspect: Inspector, era: str, guarded_server: str
) -> None:
    answers = {m: read(inspect.http(era, guarded_server, m, *o)) for m, o in METHODS.items()}
    assert_is_this_server(answers, writes=True)


@pytest.mark.parametrize("token", ["", "not-the-token-at-all"], ids=["none", "wrong"])
def test_without_the_right_token_the_client_is_told_to_authenticate(
    inspect: Inspector, guarded_server: str, token: str
) -> None:
    done = inspect.http("legacy", guarded_server, "tools/list", token=token)
    assert done.code == NO_AUTH, str(done)
    assert TOKEN not in done.out + done.err


@pytest.mark.parametrize("era", ERAS)
def test_a_failed_call_is_a_tools_error_with_its_next_move(
    inspect: Inspector, era: str, guarded_server: str
) -> None:
    arguments = json.dumps({"workload": "no-such-thing"})
    done = inspect.http(era, guarded_server, "tools/call", *INVESTIGATE, arguments)
    assert done.code == TOOL_ERROR, str(done)
    assert "NOT_FOUND" in done.out and "no-such-thing" in done.out


@pytest.mark.parametrize("era", ERAS)
def test_an_unknown_argument_is_refused_with_the_accepted_ones(
    inspect: Inspector, era: str, guarded_server: str
) -> None:
    arguments = json.dumps({"workload": "payments", "namspace": "shop"})
    done = inspect.http(era, guarded_server, "tools/call", *INVESTIGATE, arguments)
    assert done.code == TOOL_ERROR, str(done)
    assert "INVALID_ARGUMENTS" in done.out and "namespace" in done.out


def test_unknown_tools_and_resources_and_dead_addresses_have_their_own_exit_codes(
    inspect: Inspector, guarded_server: str
) -> None:
    unknown_tool = inspect.http(
        "legacy", guarded_server, "tools/call", "--tool-name", "no_such_tool"
    )
    unknown_resource = inspect.http(
        "legacy", guarded_server, "resources/read", "--uri", "policy://no-such-policy"
    )
    nobody = inspect.http("legacy", "http://127.0.0.1:9/mcp", "tools/list")
    codes = (unknown_tool.code, unknown_resource.code, nobody.code)
    assert codes == (TOOL_ERROR, FAILED, UNREACHABLE), (unknown_tool, unknown_resource, nobody)
