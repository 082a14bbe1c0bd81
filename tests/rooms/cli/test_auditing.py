from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from pathlib import Path

import pytest

from mcp_devops.errors import DevOpsError, InvalidArguments, NotFound
from mcp_devops.gateway.approvals import ApprovalDesk
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind, hash_of
from mcp_devops.journal.journal import Journal
from tests.rooms.cli.conftest import Terminal
from tests.rooms.cli.test_commands import process


@pytest.fixture
def kept(terminal: Terminal) -> Terminal:
    """A terminal whose journal has five entries."""

    async def fill(database: Database, journal: Journal, desk: ApprovalDesk) -> None:
        for number in (1, 2):
            call = {"actor": "ann (stdio)", "subject": "kubernetes_tail_logs"}
            call |= {"call_id": f"call-{number}", "incident_id": f"inc-{number}"}
            await journal.append(EntryKind.CALL_STARTED, body={"arguments": {}}, **call)
            outcome = {"outcome": "ok" if number == 1 else "NOT_FOUND"}
            await journal.append(EntryKind.CALL_FINISHED, body=outcome, **call)
        note = {"what": "=cmd() [bold]x[/] žluť"}
        await journal.append(EntryKind.NOTE, actor="bob", subject="shop/cart", body=note)

    terminal.within(fill)
    return terminal


def test_the_newest_entries_are_shown_oldest_of_them_first(kept: Terminal) -> None:
    shown = kept.here("audit", "list", "--limit", "3").output.strip().split("\n")
    assert [line.split()[0] for line in shown] == ["seq", "3", "4", "5"]
    assert "kubernetes_tail_logs: NOT_FOUND" in shown[2]
    assert "shop/cart: =cmd() [bold]x[/] žluť" in shown[3] and "bob" in shown[3]


def test_an_empty_journal_is_an_empty_list(terminal: Terminal) -> None:
    result = terminal.here("audit", "list")
    assert result.exit_code == 0 and result.output.strip().startswith("seq")
    assert terminal.here("audit", "verify").exit_code == 0


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        (("--incident", "inc-2"), [3, 4]),
        (("--kind", "note"), [5]),
        (("--incident", "inc-1", "--kind", "call_started"), [1]),
        (("--since", "2000-01-01"), [1, 2, 3, 4, 5]),
        (("--until", "2000-01-01T00:00:00Z"), []),
        (("--since", "2100-01-01T00:00:00+02:00"), []),
        (("--incident", "nobody's"), []),
    ],
)
def test_filters_narrow_the_list_and_the_export_alike(
    kept: Terminal, filters: tuple[str, ...], numbers: list[int]
) -> None:
    listed = kept.here("audit", "list", *filters).output.strip().split("\n")[1:]
    assert [int(line.split()[0]) for line in listed] == numbers
    exported = kept.here("audit", "export", *filters).output.splitlines()
    assert [json.loads(line)["seq"] for line in exported] == numbers


@pytest.mark.parametrize("command", ["list", "export"])
def test_a_kind_that_does_not_exist_is_refused_with_the_known_ones(
    kept: Terminal, command: str
) -> None:
    result = kept.here("audit", command, "--kind", "notes")
    assert isinstance(result.exception, InvalidArguments)
    assert "call_started" in result.exception.fix and "note" in result.exception.fix


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01", ""])
def test_a_time_that_is_none_is_a_usage_error(kept: Terminal, moment: str) -> None:
    result = kept.here("audit", "list", "--since", moment)
    assert result.exit_code == 2 and not isinstance(result.exception, ValueError)


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
def test_a_limit_out_of_bounds_is_a_usage_error(kept: Terminal, limit: str) -> None:
    assert kept.here("audit", "list", "--limit", limit).exit_code == 2


def test_one_entry_is_shown_whole_as_json(kept: Terminal) -> None:
    entry = json.loads(kept.here("audit", "show", "5").output)
    assert entry["seq"] == 5 and entry["kind"] == "note"
    assert entry["body"] == {"what": "=cmd() [bold]x[/] žluť"}
    assert re.fullmatch("[0-9a-f]{64}", entry["hash"])


def test_an_entry_that_does_not_exist_is_refused(kept: Terminal) -> None:
    for number in ("6", "0"):
        assert isinstance(kept.here("audit", "show", number).exception, NotFound)


def test_a_whole_journal_verifies_and_tells_its_head(kept: Terminal) -> None:
    result = kept.here("audit", "verify")
    assert result.exit_code == 0 and "All 5 entries" in result.output
    assert re.search("Head: 5:[0-9a-f]{64} ", result.output)


def head(terminal: Terminal) -> str:
    found = re.search("Head: ([0-9]+:[0-9a-f]{64})", terminal.here("audit", "verify").output)
    assert found is not None
    return found[1]


def tamper(terminal: Terminal, *statements: str) -> None:
    """As somebody with the file would: around the tables' own guards."""
    with sqlite3.connect(terminal.state_dir / "state.db") as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_an_anchor_written_down_earlier_verifies(kept: Terminal) -> None:
    anchor = head(kept)
    kept.asked()
    result = kept.here("audit", "verify", "--anchor", anchor)
    assert result.exit_code == 0 and "anchor" in result.output


def test_a_changed_entry_is_found(kept: Terminal) -> None:
    tamper(kept, "UPDATE entries SET actor = 'mallory' WHERE seq = 3")
    result = kept.here("audit", "verify")
    assert result.exit_code == 1
    assert "Entry 3" in result.output and "Head:" not in result.output


def test_a_removed_entry_is_found(kept: Terminal) -> None:
    tamper(kept, "DELETE FROM entries WHERE seq = 2")
    assert kept.here("audit", "verify").exit_code == 1


def test_a_cut_off_end_is_found_only_with_the_anchor(kept: Terminal) -> None:
    anchor = head(kept)
    tamper(kept, "DELETE FROM entries WHERE seq > 3")
    assert kept.here("audit", "verify").exit_code == 0
    result = kept.here("audit", "verify", "--anchor", anchor)
    assert result.exit_code == 1 and "Entry 4" in result.output


def test_an_anchor_that_is_none_is_refused(kept: Terminal) -> None:
    for anchor in ("5", "5:abc", "x:" + "0" * 64, ""):
        result = kept.here("audit", "verify", "--anchor", anchor)
        assert isinstance(result.exception, InvalidArguments), anchor


def test_json_lines_can_be_verified_again_outside(kept: Terminal) -> None:
    lines = kept.here("audit", "export").output.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [r["seq"] for r in rows] == [1, 2, 3, 4, 5]
    assert all(hash_of(row) == row["hash"] for row in rows)
    assert [r["prev_hash"] for r in rows[1:]] == [r["hash"] for r in rows[:-1]]


def test_csv_is_readable_and_holds_no_formula(kept: Terminal) -> None:
    text = kept.here("audit", "export", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["seq"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert json.loads(rows[4]["body"]) == {"what": "=cmd() [bold]x[/] žluť"}
    assert not any(c.startswith(("=", "+", "-", "@")) for row in rows for c in row.values())


@pytest.mark.parametrize(("form", "lines"), [("jsonl", 5), ("csv", 6)])
def test_an_export_goes_into_a_file(kept: Terminal, tmp_path: Path, form: str, lines: int) -> None:
    target = tmp_path / "out"
    result = kept.here("audit", "export", "--format", form, "-o", str(target))
    assert result.exit_code == 0 and result.stdout == ""
    assert f"{lines} lines written" in result.stderr
    assert target.read_text(encoding="utf-8") == kept.here(
        "audit", "export", "--format", form
    ).stdout.replace("\r\n", "\n")


def test_a_file_that_cannot_be_written_is_refused(kept: Terminal, tmp_path: Path) -> None:
    for target in (tmp_path / "no" / "such" / "folder", tmp_path):
        result = kept.here("audit", "export", "-o", str(target))
        assert isinstance(result.exception, DevOpsError), target


def test_a_format_that_does_not_exist_is_a_usage_error(kept: Terminal) -> None:
    assert kept.here("audit", "export", "--format", "xml").exit_code == 2


def test_as_a_process_tampering_is_an_exit_code_a_script_can_test(kept: Terminal) -> None:
    state = ("--state-dir", str(kept.state_dir))
    assert process(kept.state_dir, "audit", "verify", *state).returncode == 0
    tamper(kept, "UPDATE entries SET subject = 'x' WHERE seq = 1")
    broken = process(kept.state_dir, "audit", "verify", *state)
    assert broken.returncode == 1 and "Entry 1" in broken.stdout and broken.stderr == ""


def test_as_a_process_an_export_can_be_piped_on(kept: Terminal) -> None:
    done = process(kept.state_dir, "audit", "export", "--state-dir", str(kept.state_dir))
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 5 and done.stderr == ""
