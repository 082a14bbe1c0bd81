from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_devops.errors import InvalidArguments, NotConfigured
from tests.rooms.cli.conftest import Terminal
from tests.support.response import ALONE

TEAM = (
    ALONE
    + """scopes:
  - name: payment
    match: {namespaces: [shop], services: ["pay*"]}
    automatic: never
    page: {slack_channel: "#pay", severity: warning}
    thresholds: {latency: {slo_ms: 300}, errors: {floor: 0.01}}
"""
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(TEAM, encoding="utf-8")
    return path


def test_the_example_passes_its_own_check(terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(terminal.run("policy", "example").output, encoding="utf-8")
    result = terminal.run("policy", "check", str(path))
    assert result.exit_code == 0
    assert "is valid: version " in result.output and "3 scopes, 1 period" in result.output


def test_a_wrong_file_fails_the_check_with_every_line(terminal: Terminal, file: Path) -> None:
    file.write_text("version: 1\nscops: []\nlimits: {breaker: x}\n", encoding="utf-8")
    result = terminal.run("policy", "check", str(file))
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [line.split(" ")[0] for line in lines] == [f"{file}:2:1:", f"{file}:3:10:"]
    found = json.loads(terminal.run("policy", "check", str(file), "--json").output)
    assert found == {"valid": False, "problems": lines}


def test_a_valid_file_is_told_to_programs_too(terminal: Terminal, file: Path) -> None:
    found = json.loads(terminal.run("policy", "check", str(file), "--json").output)
    assert (found["valid"], found["scopes"], len(found["version"])) == (True, 1, 12)


def test_a_file_that_is_not_there_is_said(terminal: Terminal, tmp_path: Path) -> None:
    result = terminal.run("policy", "check", str(tmp_path / "none.yaml"))
    assert isinstance(result.exception, InvalidArguments)


def test_thresholds_are_checked_over_the_servers_own_decision_policy(
    terminal: Terminal, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "decision.toml"
    own.write_text("[limits]\nautomatic_confidence = 0.95\n", encoding="utf-8")
    monkeypatch.setenv("MCP_DEVOPS_POLICY_FILE", str(own))
    lower = "version: 1\ndefaults: {thresholds: {limits: {automatic_confidence: 0.9}}}\n"
    file.write_text(lower, encoding="utf-8")
    assert "0.95 to 0.999" in terminal.run("policy", "check", str(file)).output


def test_without_a_file_it_explains_that_a_person_is_asked(terminal: Terminal) -> None:
    shown = terminal.here("policy", "explain", "shop/cart").output
    assert "defaults (no policy file), policy built in" in shown
    assert "would now lead to: ask" in shown and "thresholds: as the decision policy" in shown


def test_it_explains_which_scope_applies_and_what_would_happen_now(
    terminal: Terminal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_RESPONSE__POLICY_FILE", str(file))
    shown = terminal.here("policy", "explain", "shop/payment").output
    for part in (
        f"payment ({file}:4)", "namespace shop, service pay*", "automatic: never", "#pay",
        "errors.floor=0.01, latency.slo_ms=300", "lead to: page_only", "told (warning)",
    ):  # fmt: skip
        assert part in shown, shown
    cart = terminal.here("policy", "explain", "shop/cart").output
    assert "passed over: payment (line 4): service cart is not pay*" in cart
    assert "lead to: act" in cart
    assert "MCP_DEVOPS_ALLOW_WRITES does not name shop" in cart, "the server forbids it still"


def test_the_servers_own_settings_are_not_mentioned_where_they_allow_it(
    terminal: Terminal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_ALLOW_WRITES", "shop")
    monkeypatch.setenv("MCP_DEVOPS_PAGERDUTY__ROUTING_KEY", "k" * 32)
    shown = terminal.here("policy", "explain", "shop/cart", "--file", str(file)).output
    assert "lead to: act" in shown and "But by" not in shown


def test_whom_the_policy_names_and_nothing_here_reaches_is_told(
    terminal: Terminal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(
        "version: 1\ndefaults:\n  approval: {wait_minutes: 30, approvers: [U012ABCDEF, ann]}\n"
        '  page: {slack_channel: "#shop", email: [shop@example.com]}\n',
        encoding="utf-8",
    )
    shown = terminal.here("policy", "explain", "shop/cart", "--file", str(file)).output
    for says in (
        "MCP_DEVOPS_APPROVAL_TTL_S ends a question after 10 min, whatever wait_minutes says (30).",
        "Slack is not set up, so U012ABCDEF cannot answer.",
        "PagerDuty is not set up (MCP_DEVOPS_PAGERDUTY__ROUTING_KEY): no alert.",
        "Slack is not set up (MCP_DEVOPS_SLACK__BOT_TOKEN): no message.",
        "No mail server is set up (MCP_DEVOPS_EMAIL__HOST and SENDER): no mail.",
        "Nobody at all is told.",
    ):
        assert f"But by the server's settings as seen here: {says}" in shown
    monkeypatch.setenv("MCP_DEVOPS_SLACK__BOT_TOKEN", "xoxb-1")
    shown = terminal.here("policy", "explain", "shop/cart", "--file", str(file)).output
    assert "Nobody" not in shown and "cannot answer" not in shown


def test_a_setting_that_passes_the_file_by_is_told(
    terminal: Terminal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_AUTOMATIC_NAMESPACES", "shop")
    shown = terminal.here("policy", "explain", "shop/cart", "--file", str(file)).output
    assert "MCP_DEVOPS_AUTOMATIC_NAMESPACES names shop" in shown
    monkeypatch.setenv("MCP_DEVOPS_APPROVAL_CHANNELS", "terminal")
    shown = terminal.here("policy", "explain", "shop/cart", "--file", str(file)).output
    assert "AUTOMATIC_NAMESPACES" not in shown


def test_a_freeze_shows_in_the_explanation(terminal: Terminal, file: Path) -> None:
    terminal.here("freeze", "--reason", "Black Friday", "-n", "shop")
    result = terminal.here("policy", "explain", "shop/cart", "--file", str(file), "--json")
    found = json.loads(result.output)
    assert (found["scope"], found["line"], found["now"]["kind"]) == ("defaults", 2, "ask")
    assert any("Black Friday" in reason for reason in found["now"]["reasons"])


@pytest.mark.parametrize("workload", ["cart", "shop/", "/cart", "a/b/c"])
def test_what_names_no_workload_is_refused(terminal: Terminal, workload: str) -> None:
    assert isinstance(terminal.here("policy", "explain", workload).exception, InvalidArguments)


def test_a_wrong_file_explains_nothing(terminal: Terminal, file: Path) -> None:
    file.write_text("version: 2\n", encoding="utf-8")
    result = terminal.here("policy", "explain", "shop/cart", "--file", str(file))
    assert isinstance(result.exception, NotConfigured)
    assert f"{file}:1:1: version" in str(result.exception)
