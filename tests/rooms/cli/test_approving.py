from __future__ import annotations

import pytest

from mcp_devops.errors import ApprovalDenied, NotFound, PermissionDenied, PreconditionFailed
from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus, Terms
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.toolkit.local_user import local_user
from tests.rooms.cli.conftest import Terminal, plan
from tests.rooms.cli.test_commands import process


def test_where_nothing_waits_that_is_said(terminal: Terminal) -> None:
    result = terminal.here("approvals")
    assert (result.exit_code, result.output) == (0, "No approval waits.\n")


def test_approvals_that_wait_are_listed_with_the_time_they_have_left(terminal: Terminal) -> None:
    cart, search = terminal.asked("cart", ago_s=300), terminal.asked("search")
    old = terminal.asked("old", ago_s=3600)
    shown = terminal.here("approvals").output
    first, second = (next(ln for ln in shown.split("\n") if a.id in ln) for a in (cart, search))
    assert "Roll cart back from 8 to 7" in first and "agent (stdio)" in first
    assert ("4 min" in first or "5 min" in first) and "search" in second
    assert old.id not in shown, "its time is over"


def test_a_yes_is_asked_to_be_confirmed_and_then_recorded_with_the_persons_name(
    terminal: Terminal,
) -> None:
    waiting = terminal.asked()
    result = terminal.here("approve", waiting.id, "--note", "go ahead", typed="y\n")
    assert result.exit_code == 0
    for fact in ("Roll cart back", "[since 03:00]", "image: v7 -> v8", "INCOMPLETE", waiting.id):
        assert fact in result.output, "the person sees what is approved"
    found = terminal.answered(waiting.id)
    assert found.status is ApprovalStatus.APPROVED
    assert (found.answered_by, found.channel) == (local_user(), "terminal")
    assert found.note == "go ahead"


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_anything_but_a_yes_leaves_the_approval_waiting(terminal: Terminal, typed: str) -> None:
    waiting = terminal.asked()
    result = terminal.here("approve", waiting.id, typed=typed)
    assert result.exit_code == 1
    assert terminal.answered(waiting.id).status is ApprovalStatus.PENDING


def test_a_script_may_say_yes_without_being_asked(terminal: Terminal) -> None:
    waiting = terminal.asked()
    assert terminal.here("approve", waiting.id, "-y").exit_code == 0
    assert terminal.answered(waiting.id).status is ApprovalStatus.APPROVED


def test_a_no_is_recorded_with_its_reason_and_forbids_asking_again(terminal: Terminal) -> None:
    waiting = terminal.asked()
    result = terminal.here("deny", waiting.id, "--note", "freeze until Monday")
    assert (result.exit_code, result.output) == (0, f"Denied {waiting.id}.\n")
    found = terminal.answered(waiting.id)
    assert (found.status, found.note) == (ApprovalStatus.DENIED, "freeze until Monday")
    with pytest.raises(ApprovalDenied):
        terminal.asked()


def test_an_answer_is_in_the_journal(terminal: Terminal) -> None:
    waiting = terminal.asked()
    terminal.here("deny", waiting.id)

    async def kinds(database: Database, journal: Journal, desk: ApprovalDesk) -> list[EntryKind]:
        assert (await journal.verify()).ok
        return [e.kind async for e in journal.stream()]

    assert terminal.within(kinds) == [EntryKind.APPROVAL_REQUESTED, EntryKind.APPROVAL_ANSWERED]


@pytest.mark.parametrize("command", ["approve", "deny"])
def test_an_id_that_does_not_exist_is_refused(terminal: Terminal, command: str) -> None:
    result = terminal.here(command, "apr-ffffffffff")
    assert isinstance(result.exception, NotFound) and "approvals" in result.exception.fix


@pytest.mark.parametrize("command", ["approve", "deny"])
@pytest.mark.parametrize("first", ["approve", "deny"])
def test_only_the_first_answer_counts(terminal: Terminal, first: str, command: str) -> None:
    waiting = terminal.asked()
    yes = {"approve": ("--yes",), "deny": ()}
    terminal.here(first, waiting.id, *yes[first])
    before = terminal.answered(waiting.id)
    result = terminal.here(command, waiting.id, *yes[command])
    assert isinstance(result.exception, PreconditionFailed)
    assert terminal.answered(waiting.id) == before


def test_an_answer_after_the_time_is_over_is_refused(terminal: Terminal) -> None:
    late = terminal.asked(ago_s=601)
    result = terminal.here("approve", late.id, "--yes")
    assert isinstance(result.exception, PreconditionFailed)
    assert terminal.answered(late.id).status is ApprovalStatus.EXPIRED


def test_a_name_with_brackets_is_shown_as_it_stands(terminal: Terminal) -> None:
    waiting = terminal.asked(summary="Roll back [bold]cart[/bold] [/]")
    assert "[bold]cart[/bold] [/]" in terminal.here("approvals").output
    assert "[bold]cart[/bold] [/]" in terminal.here("approve", waiting.id, typed="n\n").output


def test_escapes_in_a_plan_do_not_reach_the_terminal(terminal: Terminal) -> None:
    waiting = terminal.asked(summary="Roll back \x1b[2J\x1b]0;owned\x07cart", reason="\x1b[31mred")
    for shown in (
        terminal.here("approvals").output,
        terminal.here("approve", waiting.id, typed="n\n").output,
    ):
        assert "\x1b" not in shown and "\x07" not in shown


def test_as_processes_a_plan_is_approved_once_and_the_second_answer_exits_with_2(
    terminal: Terminal,
) -> None:
    waiting = terminal.asked()
    state = ("--state-dir", str(terminal.state_dir))
    yes = process(terminal.state_dir, "approve", waiting.id, *state, typed="y\n")
    assert yes.returncode == 0 and "It counts once" in yes.stdout
    again = process(terminal.state_dir, "deny", waiting.id, *state)
    assert again.returncode == 2 and again.stdout == ""
    assert again.stderr.startswith("mcp-devops: [PRECONDITION_FAILED]")
    assert "approved" in again.stderr and "Traceback" not in again.stderr


def test_a_yes_of_a_terminal_is_spent_by_the_server_for_this_plan_only(terminal: Terminal) -> None:
    waiting = terminal.asked()
    terminal.here("approve", waiting.id, "--yes")

    async def spend(database: Database, journal: Journal, desk: ApprovalDesk) -> Approval:
        other = plan("search").digest
        with pytest.raises(ApprovalDenied):
            await database.run(lambda c: desk.use_in(c, waiting.id, other))
        return await database.run(lambda c: desk.use_in(c, waiting.id, plan("cart").digest))

    assert terminal.within(spend).id == waiting.id
    assert terminal.answered(waiting.id).status is ApprovalStatus.USED


def test_who_is_not_on_the_list_is_refused_and_says_what_they_like_in_vain(
    terminal: Terminal,
) -> None:
    waiting = listed(terminal, "ann")
    for words in (("approve", waiting.id, "-y"), ("deny", waiting.id)):
        result = terminal.here(*words, "--as", "ann")
        assert isinstance(result.exception, PermissionDenied)
        assert "ann" in result.exception.fix
    assert terminal.answered(waiting.id).status is ApprovalStatus.PENDING

    async def refused(database: Database, journal: Journal, desk: ApprovalDesk) -> list[str]:
        return [e.actor async for e in journal.stream() if e.kind is EntryKind.NOTE]

    assert terminal.within(refused) == [f"{local_user()}, who says to be ann"] * 2


def test_who_is_on_the_list_is_recorded_with_the_name_they_give(terminal: Terminal) -> None:
    waiting = listed(terminal, local_user())
    result = terminal.here("approve", waiting.id, "-y", "--as", "Ann\x1b[2J of the night shift")
    assert f"Who may answer: {local_user()}" in result.output
    found = terminal.answered(waiting.id)
    assert found.answered_by == f"{local_user()}, who says to be Ann of the night shift"


def listed(terminal: Terminal, *approvers: str) -> Approval:
    """An approval that a watching server asked for, with its policy's list."""

    async def ask(database: Database, journal: Journal, desk: ApprovalDesk) -> Approval:
        desk.terms_of = lambda _: Terms(approvers)
        return await desk.request(plan("cart"), "responder")

    return terminal.within(ask)
