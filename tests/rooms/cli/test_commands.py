"""What every command has in common, and the command as a process."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_devops import __version__
from mcp_devops.cli.main import main
from mcp_devops.cli.serving import configure_logging, server_settings
from tests.rooms.cli.conftest import Terminal
from tests.support.process import environment

COMMANDS = [
    *("serve", "demo", "doctor", "rbac", "settings", "tools", "approvals", "approve", "deny"),
    *("audit", "audit list", "audit show", "audit verify", "audit export"),
]


def process(state_dir: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """The installed command as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "mcp_devops", *arguments],
        env=environment(state_dir),
        cwd=state_dir,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(terminal: Terminal, command: str) -> None:
    result = terminal.run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Usage: mcp-devops {command}" in result.output
    described = result.output.split("\n\n")[1].strip()
    assert described.endswith(".") or "." in described


def test_the_list_of_commands_names_all_of_them(terminal: Terminal) -> None:
    shown = terminal.run("--help").output
    assert all(f"  {c.split()[0]} " in shown for c in COMMANDS)


def test_without_a_command_the_help_is_shown(terminal: Terminal) -> None:
    for arguments in ((), ("audit",)):
        result = terminal.run(*arguments)
        assert "Usage:" in result.output and result.exit_code == 2


def test_the_version_is_told(terminal: Terminal) -> None:
    result = terminal.run("--version")
    assert (result.exit_code, result.output) == (0, f"{__version__}\n")


@pytest.mark.parametrize("arguments", [("serv",), ("serve", "--htpp", "x"), ("audit", "lst")])
def test_an_unknown_command_or_option_is_a_usage_error(
    terminal: Terminal, arguments: tuple[str, ...]
) -> None:
    result = terminal.run(*arguments)
    assert result.exit_code == 2 and "No such" in result.output


def test_as_a_process_an_anticipated_failure_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = process(tmp_path, "approve", "apr-0000000000", "--yes", "--state-dir", str(tmp_path))
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().split("\n")
    assert line.startswith("mcp-devops: [NOT_FOUND]") and "apr-0000000000" in line
    assert "mcp-devops approvals" in line


def test_as_a_process_it_tells_its_version(tmp_path: Path) -> None:
    done = process(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "example.com:80"])
def test_a_public_address_without_authentication_is_refused(tmp_path: Path, bind: str) -> None:
    done = process(tmp_path, "serve", "--http", bind, "--state-dir", str(tmp_path / "s"))
    assert done.returncode == 2 and done.stdout == ""
    assert "[NOT_CONFIGURED]" in done.stderr and "MCP_DEVOPS_HTTP__TOKENS" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists(), "nothing is opened before the refusal"


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, bind: str) -> None:
    done = process(tmp_path, "serve", f"--http={bind}", "--state-dir", str(tmp_path / "s"))
    assert done.returncode == 2 and "[INVALID_ARGUMENTS]" in done.stderr
    assert "Traceback" not in done.stderr


def test_served_over_standard_input_it_ends_with_its_client(tmp_path: Path) -> None:
    done = process(tmp_path, "serve", "--state-dir", str(tmp_path / "s"))
    assert (done.returncode, done.stdout) == (0, "")


def test_a_bad_setting_stops_a_process_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "mcp-devops.toml").write_text("[server]\nallow_write = 'shop'\n", encoding="utf-8")
    done = process(tmp_path, "tools")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "allow_write" in done.stderr and len(done.stderr.strip().split("\n")) == 1


def test_options_may_be_repeated_or_separated_by_commas(terminal: Terminal) -> None:
    found = server_settings(["shop, team-*", "x"], ["shop"], ["incident,kubernetes"], None)
    assert found.allow_writes == ("shop", "team-*", "x")
    assert found.automatic_namespaces == ("shop",)
    assert found.toolsets == ("incident", "kubernetes")


def test_an_option_that_is_not_given_leaves_the_variable_in_force(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_ALLOW_WRITES", "shop")
    monkeypatch.setenv("MCP_DEVOPS_LOG_LEVEL", "ERROR")
    found = server_settings([], [], [], None)
    assert (found.allow_writes, found.log_level) == (("shop",), "ERROR")
    assert server_settings(["x"], [], [], None, "DEBUG").log_level == "DEBUG"


def test_the_log_goes_to_standard_error_with_times_in_utc(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import logging

    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    try:
        configure_logging("INFO")
        logging.getLogger("test").info("hello")
        logging.getLogger("httpx2").info("GET https://user:secret@example.com")
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        logging.getLogger("httpx2").setLevel(logging.NOTSET)
    shown = capsys.readouterr()
    assert shown.out == "" and "INFO test: hello" in shown.err
    assert "secret" not in shown.err


def test_the_entry_point_turns_an_anticipated_failure_into_one_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    thresholds = gc.get_threshold()
    monkeypatch.setattr(sys, "argv", ["mcp-devops", "tools", "--toolsets", "nothing"])
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        gc.set_threshold(*thresholds)
    shown = capsys.readouterr()
    assert ended.value.code == 2 and shown.out == ""
    assert shown.err.startswith("mcp-devops: [INVALID_ARGUMENTS]") and shown.err.count("\n") == 1
