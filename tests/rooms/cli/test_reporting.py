from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_devops.errors import InvalidArguments, NotFound
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.target import Workload
from mcp_devops.settings import ServerSettings
from tests.rooms.cli.conftest import Terminal
from tests.support.process import environment


@pytest.fixture
def kept(terminal: Terminal) -> tuple[Terminal, str]:
    """A terminal with one incident in its state file, and the incident's id."""

    async def fill() -> str:
        settings = ServerSettings(state_dir=terminal.state_dir)
        async with open_gateway(settings, channel="test") as gateway:
            store = await gateway.services.get(IncidentStore)
            old = await store.open(Workload(namespace="shop", name="old"), "ann")
            closed = old.incident.model_copy(update={"status": IncidentStatus.CLOSED})
            await store.save(old.model_copy(update={"incident": closed}), "closed", "ann")
            opened = await store.open(Workload(namespace="shop", name="[b]cart"), "ann")
            return opened.incident.id

    return terminal, asyncio.run(fill())


def test_incidents_are_listed_newest_first(kept: tuple[Terminal, str]) -> None:
    terminal, incident = kept
    lines = terminal.here("incident", "list").output.strip().split("\n")
    assert len(lines) == 3 and lines[1].startswith(incident)
    assert "Deployment shop/[b]cart" in lines[1] and "investigating" in lines[1]
    opened = terminal.here("incident", "list", "--open").output.strip().split("\n")
    assert len(opened) == 2
    assert len(terminal.here("incident", "list", "--limit", "1").output.split("\n")) == 3


def test_without_incidents_the_list_says_so(terminal: Terminal) -> None:
    assert "There is no incident yet." in terminal.here("incident", "list").output
    assert "No incident is open." in terminal.here("incident", "list", "--open").output


@pytest.mark.parametrize(
    ("command", "suffix", "begins"),
    [("page", ".html", "<!doctype html>"), ("postmortem", ".md", "# Postmortem draft")],
)
def test_the_file_is_written_and_its_path_is_all_that_is_said(
    kept: tuple[Terminal, str], tmp_path: Path, command: str, suffix: str, begins: str
) -> None:
    terminal, incident = kept
    result = terminal.here("incident", command, incident)
    path = tmp_path / f"{incident}{suffix}"
    assert (result.exit_code, result.output) == (0, f"{path}\n")
    text = path.read_text(encoding="utf-8")
    assert text.startswith(begins) and incident in text
    named = tmp_path / "named"
    assert terminal.here("incident", command, incident, "-o", str(named)).output == f"{named}\n"
    assert named.is_file()


def test_the_page_proves_the_whole_journal(kept: tuple[Terminal, str], tmp_path: Path) -> None:
    terminal, incident = kept
    terminal.here("incident", "page", incident)
    assert "✓ Whole: All" in (tmp_path / f"{incident}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["page", "postmortem"])
def test_an_unknown_incident_and_a_bad_place_are_refused(
    kept: tuple[Terminal, str], command: str
) -> None:
    terminal, incident = kept
    unknown = terminal.here("incident", command, "../../etc/passwd")
    assert isinstance(unknown.exception, NotFound) and incident in unknown.exception.fix
    placed = terminal.here("incident", command, incident, "-o", "no/such/folder/x")
    assert isinstance(placed.exception, InvalidArguments)
    assert "no/such/folder/x" in placed.exception.what


@pytest.mark.parametrize(("browser", "opened"), [("touch", True), ("false", False)])
def test_the_page_is_shown_in_the_persons_browser(
    kept: tuple[Terminal, str], tmp_path: Path, browser: str, opened: bool
) -> None:
    terminal, incident = kept
    script = tmp_path / "browser.sh"
    mark = tmp_path / "shown"
    does = f'echo "$1" > {mark}' if browser == "touch" else "exit 1"
    script.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    script.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-m", "mcp_devops", "incident", "page", incident, "--open",
         "--state-dir", str(terminal.state_dir)],
        env=environment(tmp_path, BROWSER=str(script), PATH=os.environ["PATH"], DISPLAY=""),
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == f"{tmp_path / incident}.html\n"
    if opened:
        assert mark.read_text(encoding="utf-8").startswith("file://")
    else:
        assert "open" in done.stderr and "yourself" in done.stderr
