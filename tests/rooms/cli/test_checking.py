from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from mcp_devops.catalog import build_catalog
from mcp_devops.gateway.approvals import ApprovalDesk
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.risk import Risk
from tests.rooms.cli.conftest import Terminal
from tests.rooms.cli.test_commands import process
from tests.support.cluster import AVAILABLE, WHY_NOT, connected, fresh_namespace
from tests.support.process import environment

SECRET = "hunter2-" + "q9Z8" * 8


def lines(output: str) -> dict[str, str]:
    """Doctor's lines by what they are about; the last of each."""
    found: dict[str, str] = {}
    for line in output.split("\n"):
        state, _, rest = line.partition(" ")
        if state in ("ok", "off", "BAD", "note"):
            what, _, says = rest.strip().partition(" ")
            found[what] = f"{state} {says.strip()}"
    return found


# --- rbac


def documents(terminal: Terminal, *arguments: str) -> list[dict[str, Any]]:
    result = terminal.run("rbac", *arguments)
    assert result.exit_code == 0, result.output
    return list(yaml.safe_load_all(result.output))


def verbs(found: list[dict[str, Any]]) -> set[str]:
    return {v for d in found for rule in d.get("rules", ()) for v in rule["verbs"]}


def test_the_printed_role_only_reads(terminal: Terminal) -> None:
    found = documents(terminal)
    assert [d["kind"] for d in found][:3] == ["ServiceAccount", "Role", "RoleBinding"]
    assert verbs(found) <= {"get", "list", "watch"}
    assert found[0]["metadata"] == {"name": "mcp-devops", "namespace": "default"}


def test_with_writes_it_may_patch_and_nothing_is_granted_by_a_star(terminal: Terminal) -> None:
    found = documents(terminal, "--writes")
    assert "patch" in verbs(found) and not verbs(found) & {"*", "create", "escalate", "bind"}
    rules = [rule for d in found for rule in d.get("rules", ())]
    assert not any("*" in r["resources"] + r["apiGroups"] for r in rules)
    assert not any("secrets" in r["resources"] for r in rules)


@pytest.mark.parametrize("options", [(), ("--writes",)])
def test_the_printed_role_holds_exactly_what_the_tools_declare(
    terminal: Terminal, options: tuple[str, ...]
) -> None:
    granted = {
        (verb, resource, group)
        for d in documents(terminal, *options)
        for rule in d.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    specs = [s for m in build_catalog(ServerSettings()).members for s in m.integration.tools]
    declared = {
        (n.verb, n.resource, n.group)
        for s in specs
        if options or s.risk is Risk.READ
        for n in s.needs
    }
    assert granted == declared


def test_several_namespaces_get_a_role_each_and_one_account(terminal: Terminal) -> None:
    found = documents(terminal, "-n", "shop", "-n", "pay", "--name", "eyes")
    roles = [d["metadata"] for d in found if d["kind"] == "Role"]
    assert roles == [{"name": "eyes", "namespace": n} for n in ("shop", "pay")]
    accounts = [d["metadata"] for d in found if d["kind"] == "ServiceAccount"]
    assert accounts == [{"name": "eyes", "namespace": "shop"}]
    moved = documents(terminal, "-n", "shop", "--account-namespace", "ops")
    assert moved[0]["metadata"]["namespace"] == "ops"
    assert moved[2]["subjects"][0]["namespace"] == "ops"


def test_a_user_is_bound_without_an_account(terminal: Terminal) -> None:
    found = documents(terminal, "--user", "ann@example.com")
    assert not [d for d in found if d["kind"] == "ServiceAccount"]
    subjects = [s for d in found for s in d.get("subjects", ())]
    assert subjects and all((s["kind"], s["name"]) == ("User", "ann@example.com") for s in subjects)


@pytest.mark.cluster
@pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
@pytest.mark.parametrize(
    "options", [(), ("--writes",), ("--user", "ann: x"), ("--writes", "-n", "default")]
)
async def test_a_real_api_server_takes_the_printed_manifests(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with connected() as admin, fresh_namespace(await admin.cluster()) as namespace:
        printed = await asyncio.to_thread(process, tmp_path, "rbac", "-n", namespace, *options)
        assert printed.returncode == 0, printed.stderr
        applied = await anyio.run_process(
            ["kubectl", "apply", "--dry-run=server", "-f", "-"],
            input=printed.stdout.encode(),
            env=os.environ,
            check=False,
        )
    said = applied.stdout.decode()
    assert applied.returncode == 0, applied.stderr.decode()
    count = len(list(yaml.safe_load_all(printed.stdout)))
    assert said.count("(server dry run)") == count


# --- settings, tools


def test_every_setting_is_shown_with_its_variable_value_and_meaning(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_ALLOW_WRITES", "shop,team-[a-z]*")
    shown = terminal.run("settings").output
    # A long meaning goes on in the next line.
    lines = [line for line in shown.split("\n") if line.startswith("MCP_DEVOPS_")]
    rows = {line.split()[0]: line for line in lines}
    assert "shop,team-[a-z]*" in rows["MCP_DEVOPS_ALLOW_WRITES"]
    assert " - " in rows["MCP_DEVOPS_PROMETHEUS__URL"]
    assert {"MCP_DEVOPS_KUBERNETES__KUBECONFIG", "MCP_DEVOPS_HTTP__TOKENS"} <= set(rows)
    assert all(len(row.split()) > 2 for row in rows.values()), "each has a meaning"


def test_secrets_are_never_shown(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("HTTP__TOKENS", "PROMETHEUS__BEARER_TOKEN", "REQUEST_STATE_KEY")
    for name in secrets:
        monkeypatch.setenv(f"MCP_DEVOPS_{name}", SECRET)
    for command in ("settings", "tools"):
        result = terminal.run(command)
        assert result.exit_code == 0 and SECRET not in result.output
    shown = terminal.run("settings").output
    assert shown.count("(set, hidden)") == len(secrets)


def test_the_tools_are_listed_with_what_is_off_and_why(terminal: Terminal) -> None:
    shown = terminal.run("tools").output
    rows = {line.split()[0]: line for line in shown.split("\n") if line.strip()}
    assert "read" in rows["incident_investigate"] and "off:" not in rows["incident_investigate"]
    assert "off: writes are off (--allow-writes)" in rows["incident_roll_back"]
    assert "off: " in rows["prometheus_compare_windows"], "no address is set"
    allowed = terminal.run("tools", "--allow-writes", "shop").output
    assert "writes are off" not in allowed
    narrow = terminal.run("tools", "--toolsets", "incident").output
    assert "its tool set is not among --toolsets" in narrow


# --- doctor


def test_an_unreachable_cluster_is_bad_with_a_next_move(terminal: Terminal) -> None:
    result = terminal.here("doctor")
    found = lines(result.output)
    assert result.exit_code == 1
    assert found["kubernetes"].startswith("BAD ")
    after = result.output.split("kubernetes", 1)[1].split("\n")[1]
    assert after.startswith(" ") and after.strip(), "the fix stands below it"
    assert found["journal"].startswith("ok ") and "state.db" in found["journal"]
    assert found["prometheus"].startswith("off ") and "PROMETHEUS" in found["prometheus"].upper()
    assert "read-only" in found["writes"] and "a person" in found["automatic"]
    assert found["config"] == "note no mcp-devops.toml"


def test_switches_are_told(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_DEVOPS_AUTOMATIC_NAMESPACES", "test-*")
    found = lines(terminal.here("doctor", "--allow-writes", "shop").output)
    assert found["writes"] == "note allowed in shop"
    assert found["automatic"] == "note policy may approve in test-*"
    assert found["channels"] == "note elicitation, terminal, policy"
    read_only = lines(terminal.here("doctor").output)["tools"]
    assert read_only != found["tools"]


def test_a_tool_set_that_is_not_wanted_is_off(terminal: Terminal) -> None:
    result = terminal.here("doctor", "--toolsets", "incident")
    assert lines(result.output)["kubernetes"].startswith("off ")
    assert result.exit_code == 0, "nothing that is wanted is broken"


def test_a_mistyped_variable_is_reported(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_ALOW_WRITES", SECRET)
    result = terminal.here("doctor", "--toolsets", "incident")
    assert result.exit_code == 1
    assert "BAD" in result.output and "MCP_DEVOPS_ALOW_WRITES" in result.output
    assert SECRET not in result.output


def test_a_mistyped_table_is_reported_and_the_file_in_force_named(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "mcp-devops.toml").write_text("[kubernets]\n", encoding="utf-8")
    result = terminal.here("doctor", "--toolsets", "incident")
    assert result.exit_code == 1
    assert "mcp-devops.toml" in result.output.split("\n")[0]
    assert lines(result.output)["config"].startswith("BAD [kubernets]")
    assert "kubernetes" in result.output and "prometheus" in result.output


def test_settings_of_an_integration_that_do_not_fit_are_one_bad_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_KUBERNETES__REQUEST_TIMEOUT_S", SECRET)
    result = terminal.here("doctor")
    assert result.exit_code == 1 and "request_timeout_s" in lines(result.output)["start"]
    assert SECRET not in result.output


def test_a_change_without_an_outcome_is_reported_with_where_to_look(terminal: Terminal) -> None:
    async def crash(database: Database, journal: Journal, desk: ApprovalDesk) -> None:
        await journal.append(
            EntryKind.ACTION_STARTED, actor="a", subject="x", body={}, call_id="call-1"
        )

    terminal.within(crash)
    result = terminal.here("doctor", "--toolsets", "incident")
    assert result.exit_code == 1
    assert "1 change(s) were started" in result.output and "audit show 1" in result.output


def test_a_broken_journal_is_reported(terminal: Terminal) -> None:
    terminal.asked()
    with sqlite3.connect(terminal.state_dir / "state.db") as connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE entries SET actor = 'mallory' WHERE seq = 1")
    connection.close()
    result = terminal.here("doctor", "--toolsets", "incident")
    assert result.exit_code == 1 and "BAD" in result.output and "Entry 1" in result.output


def test_a_settings_file_that_is_gone_is_a_bad_line_not_a_crash(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_CONFIG", str(tmp_path / "gone.toml"))
    result = process(tmp_path, "doctor", "--state-dir", str(tmp_path / "s"))
    assert result.returncode in (1, 2) and "Traceback" not in result.stderr


@pytest.mark.cluster
@pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
async def test_on_a_real_cluster_an_administrator_is_ready_and_a_viewer_is_told_what_lacks(
    tmp_path: Path,
) -> None:
    async def doctor(variable: str) -> tuple[int, dict[str, str]]:
        done = await anyio.run_process(
            [
                *(sys.executable, "-m", "mcp_devops", "doctor", "-n", "shop"),
                *("--allow-writes", "shop", "--state-dir", str(tmp_path / variable)),
            ],
            env=environment(tmp_path, KUBECONFIG=os.environ[variable], COLUMNS="400"),
            cwd=tmp_path,
            check=False,
        )
        return done.returncode, lines(done.stdout.decode())

    code, found = await doctor("KUBECONFIG")
    assert code == 0 and found["kubernetes"].startswith("ok ")
    assert found["permission"].startswith("ok ")
    code, found = await doctor("TEST_CLUSTER_VIEWER_KUBECONFIG")
    assert code == 1 and found["kubernetes"].startswith("ok ")
    assert found["permission"].startswith(("BAD ", "note "))
