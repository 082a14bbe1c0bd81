"""What `claude_config/` names must exist, what it guards must be guarded, whatever tools come."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mcp_devops import __version__
from mcp_devops.catalog import discover
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.risk import Risk

CONFIG = Path(__file__).parents[2] / "claude_config"
MARKETPLACE = CONFIG / "marketplace"
PLUGIN = MARKETPLACE / "incident-response"
GUARD = PLUGIN / "hooks" / "guard.py"
TOOLS = {spec.name: spec for integration in discover() for spec in integration.tools}
READS = {name for name, spec in TOOLS.items() if spec.risk is Risk.READ}
CHANGES = set(TOOLS) - READS
OWN, FROM_PLUGIN = "mcp__incident__", "mcp__plugin_incident-response_incident__"
FILES = sorted(
    p for p in CONFIG.rglob("*") if p.is_file() and "cache" not in str(p.relative_to(CONFIG))
)
TEXTS = {p.relative_to(CONFIG).as_posix(): p.read_text(encoding="utf-8") for p in FILES}
MACHINE = re.compile(r"/(?:root|work|home/\w|Users/\w|tmp|opt|mnt|private)\b|[A-Z]:\\\\|file://")


def parsed(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(TEXTS[name])
    return data


def front_matter(name: str) -> dict[str, str]:
    """The fields at the head of a skill or an agent."""
    head = TEXTS[name].split("---")[1]
    return dict(line.split(": ", 1) for line in head.strip().splitlines())


def own(names: set[str]) -> set[str]:
    return {OWN + name for name in names}


@pytest.mark.parametrize("name", [n for n in TEXTS if n.endswith(".json")])
def test_each_json_file_is_json(name: str) -> None:
    assert parsed(name)


@pytest.mark.parametrize("name", TEXTS)
def test_each_tool_that_is_named_exists(name: str) -> None:
    systems = {spec.system for spec in TOOLS.values()}
    assert set(re.findall(r"incident__([a-z]\w+)", TEXTS[name])) <= set(TOOLS)
    fields = {"incident_id"}
    quoted = set(re.findall(r"`([a-z]+_[a-z_]+)`", TEXTS[name]))
    assert {w for w in quoted if w.split("_")[0] in systems} - fields <= set(TOOLS)


@pytest.mark.parametrize("name", TEXTS)
def test_tools_have_the_prefix_that_clients_give_them(name: str) -> None:
    prefixes = set(re.findall(r"\bmcp__[a-z_-]*?incident__(?=[a-z])", TEXTS[name]))
    assert prefixes <= {FROM_PLUGIN if name.startswith("marketplace") else OWN}


@pytest.mark.parametrize("name", TEXTS)
def test_no_file_names_a_machine(name: str) -> None:
    text = re.sub(r"/path/to/[\w-]+", "", TEXTS[name])
    assert not MACHINE.search(text)


def test_read_only_settings_allow_every_read_and_deny_every_change() -> None:
    rules = parsed("settings.read-only.json")["permissions"]
    assert set(rules["allow"]) == own(READS)
    assert own(CHANGES) <= set(rules["deny"])


def test_on_call_settings_allow_every_read_and_ask_for_every_change() -> None:
    rules = parsed("settings.on-call.json")["permissions"]
    assert set(rules["allow"]) == own(READS)
    assert set(rules["ask"]) == own(CHANGES)


@pytest.mark.parametrize("name", ["settings.read-only.json", "settings.on-call.json"])
def test_no_settings_let_the_agent_approve_or_change_behind_the_servers_back(name: str) -> None:
    rules = parsed(name)["permissions"]
    assert {"Bash(mcp-devops approve:*)", "Bash(kubectl rollout undo:*)"} <= set(rules["deny"])
    assert not any(rule.startswith("Bash") for rule in rules["allow"])


def test_clients_wait_longer_for_a_change_than_the_server_lets_it_take() -> None:
    longest = ServerSettings.model_fields["change_deadline_s"].default * 1000
    servers = parsed(".mcp.json")["mcpServers"]
    plugin = parsed("marketplace/incident-response/.claude-plugin/plugin.json")["mcpServers"]
    assert all(entry["timeout"] > longest for entry in (*servers.values(), *plugin.values()))
    assert set(servers) == {"incident", "incident-http"} and set(plugin) == {"incident"}


def test_the_marketplace_offers_the_plugin_in_the_packages_version() -> None:
    market = parsed("marketplace/.claude-plugin/marketplace.json")
    manifest = parsed("marketplace/incident-response/.claude-plugin/plugin.json")
    (offered,) = market["plugins"]
    assert offered["name"] == manifest["name"] == PLUGIN.name
    assert (MARKETPLACE / offered["source"]).resolve() == PLUGIN.resolve()
    assert manifest["version"] == __version__


def test_the_skill_and_the_agent_may_use_every_read_and_no_change() -> None:
    skill = front_matter("marketplace/incident-response/skills/triage-incident/SKILL.md")
    agent = front_matter("marketplace/incident-response/agents/incident-investigator.md")
    expected = {FROM_PLUGIN + name for name in READS}
    assert set(skill["allowed-tools"].split()) == expected
    assert set(agent["tools"].split(", ")) == expected


def test_the_hook_is_asked_about_changes_and_nothing_else() -> None:
    (hook,) = parsed("marketplace/incident-response/hooks/hooks.json")["hooks"]["PreToolUse"]
    matcher = re.compile(hook["matcher"])
    for prefix in (OWN, FROM_PLUGIN):
        matched = {name for name in TOOLS if matcher.fullmatch(prefix + name)}
        assert matched == CHANGES


def guard(text: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the hook as Claude Code does."""
    return subprocess.run(
        [sys.executable, "-I", str(GUARD)],
        input=text,
        env={"PATH": os.environ["PATH"], **(environ or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def decision(
    tool: str, arguments: dict[str, Any], environ: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """What the guard says: the word, or nothing, and the reason."""
    event = {"hook_event_name": "PreToolUse", "tool_name": tool, "tool_input": arguments}
    done = guard(json.dumps(event), environ)
    assert done.returncode == 0 and not done.stderr
    if not done.stdout:
        return "", ""
    said = json.loads(done.stdout)["hookSpecificOutput"]
    assert said["hookEventName"] == "PreToolUse"
    return said["permissionDecision"], said["permissionDecisionReason"]


SHOP = {"MCP_DEVOPS_ALLOW_WRITES": "shop,team-*"}
INCIDENT = {"incident_id": "inc-0a1b2c3d"}
RESTART = {"namespace": "shop", "workload": "checkout", "from_revision": 7}


@pytest.mark.parametrize("prefix", [OWN, FROM_PLUGIN])
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_switched_off_the_guard_denies_every_change(name: str, prefix: str) -> None:
    word, reason = decision(prefix + name, {**INCIDENT, **RESTART}, {"INCIDENT_GUARD": "deny"})
    assert word == "deny" and "INCIDENT_GUARD" in reason


@pytest.mark.parametrize("name", sorted(READS))
def test_the_guard_has_nothing_to_say_about_reads(name: str) -> None:
    assert decision(OWN + name, {}, {"INCIDENT_GUARD": "deny"}) == ("", "")


@pytest.mark.parametrize(
    ("name", "arguments", "environ", "reason"),
    [
        ("incident_roll_back", {}, SHOP, "incident_decide"),
        ("incident_roll_back", {"incident_id": "inc-1; rm"}, SHOP, "incident_decide"),
        ("incident_roll_back", {"incident_id": None}, SHOP, "incident_decide"),
        ("kubernetes_restart_rollout", RESTART, {}, "read-only"),
        ("kubernetes_restart_rollout", RESTART | {"namespace": "prod"}, SHOP, "shop, team-*"),
        ("kubernetes_restart_rollout", RESTART | {"namespace": None}, SHOP, "its namespace"),
        ("kubernetes_restart_rollout", RESTART | {"from_revision": None}, SHOP, "from_revision"),
        ("kubernetes_restart_rollout", RESTART | {"from_revision": True}, SHOP, "from_revision"),
        ("kubernetes_pause_rollout", {"workload": "checkout"}, SHOP, "its namespace"),
        ("kubernetes_roll_back", RESTART, SHOP, "incident_roll_back"),
    ],
)
def test_the_guard_denies_what_the_arguments_alone_show_to_be_wrong(
    name: str, arguments: dict[str, Any], environ: dict[str, str], reason: str
) -> None:
    word, why = decision(OWN + name, arguments, environ)
    assert word == "deny" and reason in why


@pytest.mark.parametrize(
    ("name", "arguments", "environ"),
    [
        ("incident_roll_back", INCIDENT | {"despite_verdict": "we know better"}, SHOP),
        ("kubernetes_restart_rollout", RESTART | {"context": "other"}, SHOP),
        ("kubernetes_roll_back", RESTART, SHOP | {"INCIDENT_GUARD": "ask"}),
    ],
)
def test_the_guard_asks_a_person_about_the_unusual(
    name: str, arguments: dict[str, Any], environ: dict[str, str]
) -> None:
    assert decision(OWN + name, arguments, environ)[0] == "ask"


@pytest.mark.parametrize(
    ("name", "arguments", "environ"),
    [
        ("incident_roll_back", INCIDENT, {}),
        ("kubernetes_restart_rollout", RESTART, SHOP),
        ("kubernetes_restart_rollout", RESTART | {"namespace": "team-a"}, SHOP),
        ("kubernetes_pause_rollout", RESTART, SHOP),
    ],
)
def test_the_guard_leaves_the_rest_to_the_other_gates_and_allows_nothing(
    name: str, arguments: dict[str, Any], environ: dict[str, str]
) -> None:
    assert decision(OWN + name, arguments, environ) == ("", "")


def test_the_plugins_own_setting_counts_before_the_variable() -> None:
    environ = {**SHOP, "CLAUDE_PLUGIN_OPTION_ALLOW_WRITES": "stage"}
    assert decision(FROM_PLUGIN + "kubernetes_restart_rollout", RESTART, environ)[0] == "deny"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tool_name": 3}', "null", "not json"])
def test_input_that_cannot_be_read_is_blocked(text: str) -> None:
    done = guard(text)
    assert done.returncode == 2 and done.stderr and not done.stdout


def test_verify_is_a_script_that_bash_accepts_and_may_be_run() -> None:
    script = CONFIG / "verify.sh"
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert os.access(script, os.X_OK)


def test_verify_says_in_one_line_that_the_server_is_missing(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "MCP_DEVOPS": "no-such-server", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [str(CONFIG / "verify.sh")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL  mcp-devops is not on the PATH")
    assert not list(tmp_path.iterdir())
