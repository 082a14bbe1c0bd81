from __future__ import annotations

import getpass
import json

import pytest

from mcp_devops.errors import InvalidArguments
from mcp_devops.gateway.approvals import ApprovalDesk
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.responder.history import claim_act
from mcp_devops.response_policy.limits import Limits
from mcp_devops.toolkit.clock import SystemClock
from tests.rooms.cli.conftest import Terminal
from tests.support.response import CART


def test_where_nothing_is_frozen_that_is_said(terminal: Terminal) -> None:
    assert terminal.here("freeze", "--status").output == "Nothing is frozen.\n"


def test_a_freeze_is_shown_to_everybody_until_it_is_lifted(terminal: Terminal) -> None:
    made = terminal.here("freeze", "--reason", "Black Friday")
    assert made.exit_code == 0
    assert made.output.startswith(f"Frozen everywhere by {getpass.getuser()} since ")
    assert "Black Friday" in terminal.here("freeze", "--status").output
    lifted = terminal.here("unfreeze")
    assert lifted.exit_code == 0 and lifted.output.startswith("Lifted: frozen everywhere")
    again = terminal.here("unfreeze")
    assert (again.exit_code, again.output) == (1, "There is no such freeze.\n")


def test_a_freeze_of_a_pattern_may_end_by_itself(terminal: Terminal) -> None:
    terminal.here("freeze", "--reason", "x", "-n", "team-*", "--for", "1h30m")
    shown = terminal.here("freeze", "--status").output
    assert "Frozen in team-*" in shown and " min left)" in shown
    other = terminal.here("unfreeze")
    assert other.exit_code == 1 and "Still frozen in team-*" in other.output
    assert terminal.here("unfreeze", "--all").exit_code == 0


def test_programs_are_answered_in_json(terminal: Terminal) -> None:
    made = json.loads(terminal.here("freeze", "--reason", "x", "-n", "shop", "--json").output)
    assert (made["pattern"], made["reason"]) == ("shop", "x")
    found = json.loads(terminal.here("freeze", "--status", "--json").output)
    assert [f["pattern"] for f in found["freezes"]] == ["shop"]
    assert found["breaker"]["is_open"] is False
    lifted = json.loads(terminal.here("unfreeze", "-n", "shop", "--json").output)
    assert len(lifted["lifted"]) == 1 and lifted["left"] == []


@pytest.mark.parametrize("length", ["2", "soon", "0h", "31d", "-1h", "2h soon", "1.5h", "١h"])
def test_a_length_that_is_none_is_refused(terminal: Terminal, length: str) -> None:
    result = terminal.here("freeze", "--reason", "x", "--for", length)
    assert isinstance(result.exception, InvalidArguments)
    assert terminal.here("freeze", "--status").output == "Nothing is frozen.\n"


def test_a_freeze_without_a_reason_is_refused(terminal: Terminal) -> None:
    assert isinstance(terminal.here("freeze").exception, InvalidArguments)


def test_escapes_in_a_reason_do_not_reach_the_terminal(terminal: Terminal) -> None:
    terminal.here("freeze", "--reason", "\x1b[2Jgone")
    assert "\x1b" not in terminal.here("freeze", "--status").output


def test_an_open_breaker_is_shown_and_closed_by_a_person(terminal: Terminal) -> None:
    async def storm(database: Database, journal: Journal, desk: ApprovalDesk) -> None:
        now, limits = SystemClock().now(), Limits(rollbacks_per_hour=1)
        await claim_act(database, journal, now=now, target=CART, incident_id="inc-1", limits=limits)

    terminal.within(storm)
    shown = terminal.here("freeze", "--status").output
    assert "The breaker is open since" in shown and "1 automatic rollback" in shown
    closed = terminal.here("unfreeze", "--breaker", "--reason", "one bad base image")
    assert closed.exit_code == 0 and "closed" in closed.output
    assert terminal.here("freeze", "--status").output == "Nothing is frozen.\n"

    async def notes(database: Database, journal: Journal, desk: ApprovalDesk) -> list[str]:
        return [str(e.body["what"]) async for e in journal.stream(kind=EntryKind.NOTE)]

    assert terminal.within(notes)[-1] == "breaker closed: one bad base image"
