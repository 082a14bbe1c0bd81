"""The audit bundle as an auditor gets it, and every command over a shared PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest

from mcp_devops.errors import CredentialsRejected, InvalidArguments, NotConfigured, NotFound
from mcp_devops.gateway.approvals import ApprovalDesk, ApprovalStatus
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.settings import ServerSettings
from tests.rooms.cli.conftest import Terminal
from tests.rooms.cli.test_auditing import tamper
from tests.rooms.cli.test_commands import process
from tests.support.postgres import PASSWORD, PostgresServer, postgres, postgres_url

__all__ = ["postgres", "postgres_url"]


@pytest.fixture
def kept(terminal: Terminal) -> Terminal:
    """A terminal over an incident in which a person approved a plan."""

    async def fill(database: Database, journal: Journal, desk: ApprovalDesk) -> None:
        verdict = {"id": "v-1", "action": "roll_back", "headline": "token=hunter2-x9"}
        await journal.append(
            EntryKind.DECISION,
            actor="engine",
            subject="Deployment shop/cart",
            incident_id="inc-1",
            body={"verdict": verdict},
        )

    terminal.within(fill)
    assert terminal.here("approve", terminal.asked().id, "--yes").exit_code == 0
    return terminal


def fingerprint(output: str) -> str:
    found = re.search("Fingerprint: ([0-9a-f]{64})", output)
    assert found is not None, output
    return found[1]


def test_a_bundle_is_made_and_verified_offline(kept: Terminal, tmp_path: Path) -> None:
    bundle = tmp_path / "b.zip"
    made = kept.here("audit", "export", "--soc2", "--incident", "inc-1", "-o", str(bundle))
    assert made.exit_code == 0 and made.stdout == "", made.output
    assert "3 entries written" in made.stderr and "All 3 entries" in made.stderr
    with zipfile.ZipFile(bundle) as archive:
        (approval,) = map(json.loads, archive.read("approvals.jsonl").splitlines())
        assert b"hunter2" not in archive.read("verdicts.jsonl")
    assert approval["answers"][0]["channel"] == "terminal"
    # Without any state beside it.
    checked = kept.run("audit", "verify", "--bundle", str(bundle))
    assert checked.exit_code == 0 and "All 3 entries of the bundle" in checked.output
    assert "Only --fingerprint can show" in checked.output
    told = fingerprint(made.stderr)
    assert fingerprint(checked.output) == told
    again = kept.run("audit", "verify", "--bundle", str(bundle), "--fingerprint", told)
    assert again.exit_code == 0 and "Only --fingerprint" not in again.output


def test_the_journal_remembers_the_fingerprint_of_each_bundle(
    kept: Terminal, tmp_path: Path
) -> None:
    made = kept.here("audit", "export", "--soc2", "-o", str(tmp_path / "b.zip"))
    note = json.loads(kept.here("audit", "show", "4").output)
    assert note["subject"] == "audit bundle"
    assert note["body"]["fingerprint"] == fingerprint(made.stderr)
    assert kept.here("audit", "verify").exit_code == 0


def test_a_changed_bundle_is_an_exit_code_that_a_script_can_test(
    kept: Terminal, tmp_path: Path
) -> None:
    bundle = tmp_path / "b.zip"
    kept.here("audit", "export", "--soc2", "-o", str(bundle))
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content.replace(b"engine", b"nobody"))
    broken = kept.run("audit", "verify", "--bundle", str(bundle))
    assert broken.exit_code == 1 and "not as it was made" in broken.output
    assert "also:" in broken.output
    done = process(kept.state_dir, "audit", "verify", "--bundle", str(bundle))
    assert done.returncode == 1 and done.stderr == ""
    done = process(kept.state_dir, "audit", "verify", "--bundle", str(tmp_path / "none.zip"))
    assert done.returncode == 2 and "cannot be read" in done.stderr


def test_a_bundle_of_a_broken_journal_is_written_and_says_so(
    kept: Terminal, tmp_path: Path
) -> None:
    tamper(kept, "UPDATE entries SET actor = 'mallory' WHERE seq = 2")
    bundle = tmp_path / "b.zip"
    made = kept.here("audit", "export", "--soc2", "-o", str(bundle))
    assert made.exit_code == 1 and "Entry 2" in made.stderr and bundle.exists()
    checked = kept.run("audit", "verify", "--bundle", str(bundle))
    assert checked.exit_code == 1 and "The journal itself was broken" in checked.output


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("-o", "b.zip", "--kind", "note"),
        ("-o", "b.zip", "--format", "csv"),
        ("-o", "b.zip", "--incident", "inc-1", "--since", "2026-01-01"),
        ("-o", "no/such/folder/b.zip"),
    ],
)
def test_what_makes_no_whole_bundle_is_refused(kept: Terminal, wrong: tuple[str, ...]) -> None:
    result = kept.here("audit", "export", "--soc2", *wrong)
    assert isinstance(result.exception, InvalidArguments)
    assert not Path("b.zip").exists()


def test_an_incident_that_nobody_knows_is_told(kept: Terminal) -> None:
    result = kept.here("audit", "export", "--soc2", "--incident", "inc-9", "-o", "b.zip")
    assert isinstance(result.exception, NotFound)


def test_a_fingerprint_without_a_bundle_is_refused(kept: Terminal) -> None:
    result = kept.here("audit", "verify", "--fingerprint", "0" * 64)
    assert isinstance(result.exception, InvalidArguments)


@pytest.fixture
def shared(terminal: Terminal, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal whose state is on PostgreSQL."""
    monkeypatch.setenv("MCP_DEVOPS_DATABASE_URL", postgres_url)
    return terminal


def hidden(text: str) -> bool:
    return PASSWORD not in text and quote(PASSWORD, safe="") not in text


async def _ask(url: str) -> str:
    from datetime import UTC, datetime

    from mcp_devops.text.secrets import Redactor
    from mcp_devops.toolkit.clock import ShiftedClock
    from tests.rooms.cli.conftest import plan

    async with open_database(url) as database:
        clock = ShiftedClock(datetime.now(UTC))
        desk = ApprovalDesk(database, Journal(database, Redactor(()), clock.now), clock, 600)
        return (await desk.request(plan("cart"), "agent")).id


async def _status(url: str, approval_id: str) -> ApprovalStatus:
    from mcp_devops.text.secrets import Redactor
    from mcp_devops.toolkit.clock import SystemClock

    async with open_database(url) as database:
        clock = SystemClock()
        desk = ApprovalDesk(database, Journal(database, Redactor(()), clock.now), clock, 600)
        return (await desk.get(approval_id)).status


def test_all_commands_use_the_shared_database(
    shared: Terminal, postgres_url: str, tmp_path: Path
) -> None:
    import asyncio

    approval = asyncio.run(_ask(postgres_url))
    assert approval in shared.here("approvals").output
    assert shared.here("approve", approval, "--yes").exit_code == 0
    assert asyncio.run(_status(postgres_url, approval)) is ApprovalStatus.APPROVED
    listed = shared.here("audit", "list").output
    assert "approval_requested" in listed and "approval_answered" in listed
    assert json.loads(shared.here("audit", "show", "2").output)["seq"] == 2
    assert len(shared.here("audit", "export").stdout.splitlines()) == 2
    assert shared.here("audit", "verify").exit_code == 0
    bundle = tmp_path / "b.zip"
    assert shared.here("audit", "export", "--soc2", "-o", str(bundle)).exit_code == 0
    assert shared.run("audit", "verify", "--bundle", str(bundle)).exit_code == 0
    assert not (shared.state_dir / "state.db").exists()
    with zipfile.ZipFile(bundle) as archive:
        assert all(hidden(archive.read(name).decode()) for name in archive.namelist())


def test_tampering_with_the_shared_database_is_found(
    shared: Terminal, postgres: PostgresServer, postgres_url: str
) -> None:
    import asyncio

    asyncio.run(_ask(postgres_url))
    postgres.admin(
        "ALTER TABLE mcp_devops.entries DISABLE TRIGGER ALL",
        "UPDATE mcp_devops.entries SET actor = 'mallory' WHERE seq = 1",
        database=postgres_url.rpartition("/")[2],
    )
    result = shared.here("audit", "verify")
    assert result.exit_code == 1 and "Entry 1" in result.output


def test_settings_and_doctor_show_where_but_no_password(shared: Terminal) -> None:
    shown = shared.run("settings").output
    assert "MCP_DEVOPS_DATABASE_URL" in shown and "(set, hidden)" in shown and hidden(shown)
    looked = shared.here("doctor", "--toolsets", "incident").output
    assert "postgresql://keeper@127.0.0.1" in looked and hidden(looked)


def test_a_wrong_password_or_url_is_one_line_without_it(
    shared: Terminal, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_DATABASE_URL", postgres_url.replace("@127", "x@127"))
    result = shared.here("audit", "list")
    assert isinstance(result.exception, CredentialsRejected) and hidden(str(result.exception))
    monkeypatch.setenv("MCP_DEVOPS_DATABASE_URL", "mysql://ann:s3same@h/d")
    result = shared.here("audit", "list")
    assert isinstance(result.exception, NotConfigured) and "s3same" not in str(result.exception)
    looked = shared.here("doctor", "--toolsets", "incident")
    assert looked.exit_code == 1 and "s3same" not in looked.output
    assert hidden(repr(ServerSettings(database_url=postgres_url)))


def test_a_demo_never_writes_to_the_shared_database(
    shared: Terminal, postgres: PostgresServer, postgres_url: str
) -> None:
    assert shared.run("demo").exit_code == 0
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'mcp_devops'"
    assert postgres.admin(tables, database=postgres_url.rpartition("/")[2]) == [(0,)]


def test_psycopg_is_imported_only_where_a_url_is_set(kept: Terminal, tmp_path: Path) -> None:
    code = (
        "import sys; from mcp_devops.cli.main import app; sys.argv = ['x', 'audit', 'verify',"
        f" '--state-dir', {str(kept.state_dir)!r}]\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "assert not any(m.startswith('psycopg') for m in sys.modules)"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
