"""Claude Code itself: it connects, takes our settings and plugin, and plays whole incidents.

No key is needed: a scripted model on loopback stands in for the real one.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.text.secrets import Redactor
from tests.clients.model_stub import ScriptedModel, ToolResult, ToolUse, Turn, scripted
from tests.clients.processes import ROOT, SCENARIO, TOKEN, Done, client_environment, run
from tests.support.process import command, environment

pytestmark = pytest.mark.client

CONFIG = ROOT / "claude_config"
PLUGIN = CONFIG / "marketplace" / "incident-response"
RESULT_LIMIT = 49_000
"""Characters of a result that Claude Code still shows its model whole."""
OWN, FROM_PLUGIN = "mcp__incident__", "mcp__plugin_incident-response_incident__"
QUIET = {
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "MCP_TIMEOUT": "60000",
}


@dataclass(frozen=True)
class Claude:
    """The command with a home, a project folder and a server state of its own."""

    program: Path
    home: Path
    project: Path
    state_dir: Path

    def server(self, *options: str) -> list[str]:
        return command("--scenario", SCENARIO, *options, state_dir=self.state_dir)

    def __call__(self, *arguments: str | Path, **variables: str) -> Done:
        given = client_environment(self.home) | QUIET | variables
        return run([self.program, *arguments], given, self.project)

    def play(self, model: ScriptedModel, *options: str | Path, **variables: str) -> str:
        """One conversation without a person, to its last words."""
        done = self(
            *("-p", "go", "--output-format", "stream-json", "--verbose", *options),
            ANTHROPIC_BASE_URL=model.url,
            ANTHROPIC_API_KEY="dummy",
            **variables,
        )
        lines = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
        last = next((line for line in reversed(lines) if line.get("type") == "result"), None)
        assert done.code == 0 and last is not None, str(done)
        return str(last["result"])

    def with_server(self, *options: str) -> Sequence[str | Path]:
        """Options that give it our `.mcp.json`, with a server that plays a recording."""
        entry = json.loads((CONFIG / ".mcp.json").read_text("utf-8"))["mcpServers"]["incident"]
        first, *rest = self.server(*options)
        more = {"KUBECONFIG": environment(self.state_dir)["KUBECONFIG"]}
        entry |= {"command": first, "args": rest, "env": entry["env"] | more}
        file = self.project / "mcp.json"
        file.write_text(json.dumps({"mcpServers": {"incident": entry}}), encoding="utf-8")
        return ("--mcp-config", file, "--strict-mcp-config")


@pytest.fixture
def claude_code(claude: Path, tmp_path: Path) -> Claude:
    folders = [tmp_path / name for name in ("home", "project", "state")]
    for folder in folders:
        folder.mkdir()
    return Claude(claude, *folders)


def call(name: str, arguments: Mapping[str, Any] | None = None) -> Turn:
    return lambda results: ToolUse(name, arguments or {})


def with_incident(name: str, **more: Any) -> Turn:
    """Call a tool on the incident that the first result told of."""
    return lambda results: ToolUse(name, {"incident_id": results[0].json()["incident_id"], **more})


def say(text: str) -> Turn:
    return lambda results: text


def triage(prefix: str, *more: Turn) -> Sequence[Turn]:
    """Investigate, decide, and what comes then."""
    investigate = call(f"{prefix}incident_investigate", {"workload": "payments"})
    return (investigate, with_incident(f"{prefix}incident_decide"), *more)


def assert_fit_for_a_model(result: ToolResult) -> None:
    assert not result.failed, result.text
    assert len(result.text) < RESULT_LIMIT
    assert Redactor().text(result.text) == result.text, "something is left to redact"


def test_it_connects_over_stdio_and_over_http_with_a_token(
    claude_code: Claude, guarded_server: str
) -> None:
    claude_code("mcp", "add", "incident", "--", *claude_code.server())
    header = ("--header", f"Authorization: Bearer {TOKEN}")
    claude_code("mcp", "add", "--transport", "http", "shared", guarded_server, *header)
    claude_code("mcp", "add", "--transport", "http", "stranger", guarded_server)
    listed = claude_code("mcp", "list")
    for name in ("incident", "shared"):
        assert re.search(rf"^{name}: .*Connected$", listed.out, re.M), str(listed)
    assert not re.search(r"^stranger: .*Connected$", listed.out, re.M), "a token was not asked for"


def test_plugin_and_marketplace_are_valid_to_the_letter(claude_code: Claude) -> None:
    for folder in (PLUGIN, CONFIG / "marketplace"):
        done = claude_code("plugin", "validate", folder, "--strict")
        assert done.code == 0, str(done)


def test_the_plugin_installs_from_the_marketplace_with_all_its_parts(claude_code: Claude) -> None:
    added = claude_code("plugin", "marketplace", "add", CONFIG / "marketplace")
    assert added.code == 0, str(added)
    done = claude_code("plugin", "install", "incident-response@incident-tools")
    assert done.code == 0, str(done)
    details = claude_code("plugin", "details", "incident-response")
    assert details.code == 0, str(details)
    for part in ("triage-incident", "incident-investigator", "PreToolUse", "incident"):
        assert part in details.out, str(details)


def test_a_whole_read_only_triage_shows_the_model_a_verdict_and_no_secret(
    claude_code: Claude,
) -> None:
    with scripted(*triage(OWN, say("The verdict is roll_back."))) as model:
        said = claude_code.play(
            model,
            *claude_code.with_server(),
            *("--settings", CONFIG / "settings.read-only.json"),
        )
    assert said == "The verdict is roll_back."
    investigation, decision = model.results
    assert_fit_for_a_model(investigation)
    assert_fit_for_a_model(decision)
    found, verdict = investigation.json(), decision.json()
    assert found["target"]["name"] == "payments" and found["differences"]
    assert verdict["action"] == "roll_back" and verdict["incident_id"] == found["incident_id"]
    assert verdict["confidence"] > 0.8 and verdict["findings"] and verdict["headline"]


def test_read_only_settings_take_the_change_tools_away(claude_code: Claude) -> None:
    act = with_incident(f"{OWN}incident_roll_back")
    with scripted(*triage(OWN, act, say("done"))) as model:
        claude_code.play(
            model,
            *claude_code.with_server("--allow-writes", "shop"),
            *("--settings", CONFIG / "settings.read-only.json"),
        )
    assert f"{OWN}incident_investigate" in model.offered
    refused = model.results[2]
    assert refused.failed and "roll" in refused.text
    assert _status(claude_code) == "decided"


def test_on_call_settings_let_nothing_change_without_a_person(claude_code: Claude) -> None:
    act = with_incident(f"{OWN}incident_roll_back")
    with scripted(*triage(OWN, act, say("done"))) as model:
        claude_code.play(
            model,
            *claude_code.with_server("--allow-writes", "shop"),
            *("--settings", CONFIG / "settings.on-call.json"),
        )
    assert model.results[2].failed
    assert _status(claude_code) == "decided"


def test_even_an_allow_rule_does_not_spare_the_question_a_change_tool_demands(
    claude_code: Claude,
) -> None:
    act = with_incident(f"{OWN}incident_roll_back")
    with scripted(*triage(OWN, act, say("done"))) as model:
        claude_code.play(
            model,
            *claude_code.with_server("--allow-writes", "shop"),
            *("--allowedTools", OWN.rstrip("_")),
        )
    assert model.results[2].failed
    assert _status(claude_code) == "decided"


@pytest.mark.parametrize(
    ("name", "arguments", "guard", "reason"),
    [
        ("incident_roll_back", {"incident_id": "inc-00000000"}, "deny", "INCIDENT_GUARD"),
        ("incident_roll_back", {"incident_id": "the newest"}, "", "incident_decide"),
        (
            "kubernetes_restart_rollout",
            {"namespace": "prod", "workload": "payments", "from_revision": 2},
            "",
            "not open for changes, only: shop",
        ),
    ],
    ids=["switched off", "no incident", "closed namespace"],
)
def test_the_installed_plugins_guard_stops_a_change_and_tells_the_model_why(
    claude_code: Claude, name: str, arguments: dict[str, Any], guard: str, reason: str
) -> None:
    _install_playing_plugin(claude_code)
    act = call(FROM_PLUGIN + name, arguments)
    with scripted(*triage(FROM_PLUGIN, act, say("done"))) as model:
        claude_code.play(model, "--allowedTools", FROM_PLUGIN.rstrip("_"), INCIDENT_GUARD=guard)
    assert_fit_for_a_model(model.results[0])
    denied = model.results[2]
    assert denied.failed and reason in denied.text, denied.text


def test_verify_says_what_works_and_fails_where_something_is_missing(
    claude: Path, tmp_path: Path
) -> None:
    server = str(Path(sys.executable).with_name("mcp-devops"))
    given = client_environment(tmp_path) | {"MCP_DEVOPS": server, "CLAUDE": str(claude)}
    good = run([CONFIG / "verify.sh"], given, tmp_path)
    assert good.code == 0 and "FAIL" not in good.out, str(good)
    assert good.out.count("\nok ") >= 6 and "is connected" in good.out
    bad = run([CONFIG / "verify.sh"], given | {"CLAUDE": "no-such-claude"}, tmp_path)
    assert bad.code == 1 and "FAIL  claude is not on the PATH" in bad.out, str(bad)
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


def _install_playing_plugin(claude_code: Claude) -> None:
    """Install a copy of the plugin whose server plays a recording."""
    market = claude_code.project / "marketplace"
    shutil.copytree(CONFIG / "marketplace", market, ignore=shutil.ignore_patterns("*cache*"))
    file = market / PLUGIN.name / ".claude-plugin" / "plugin.json"
    manifest = json.loads(file.read_text("utf-8"))
    first, *rest = claude_code.server()
    more = {"KUBECONFIG": environment(claude_code.state_dir)["KUBECONFIG"]}
    entry = manifest["mcpServers"]["incident"]
    entry |= {"command": first, "args": rest, "env": entry["env"] | more}
    file.write_text(json.dumps(manifest), encoding="utf-8")
    claude_code("plugin", "marketplace", "add", market)
    plugin = "incident-response@incident-tools"
    done = claude_code("plugin", "install", plugin, "--config", "allow_writes=shop")
    assert done.code == 0, str(done)


def _status(claude_code: Claude) -> str:
    """How the incident stands in the server's own record."""
    with closing(sqlite3.connect(claude_code.state_dir / "state.db")) as database:
        database.row_factory = sqlite3.Row
        row = database.execute("SELECT * FROM incidents").fetchone()
    return str(row["status"])
