"""Who may answer: one list, stored with the question, checked for every channel in one place."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mcp_devops.errors import PermissionDenied
from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus, Terms
from mcp_devops.gateway.asking import PersonAnswer, Question
from mcp_devops.gateway.door import Gateway
from mcp_devops.journal.entry import EntryKind
from mcp_devops.toolkit.context import Caller
from mcp_devops.toolkit.local_user import local_user
from tests.rooms.gateway.conftest import Opened
from tests.rooms.gateway.test_approvals import RESTART
from tests.rooms.gateway.test_replicas import plan
from tests.support.postgres import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

LIST = Terms(("ann", "bob"))


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    if request.param == "sqlite":
        return Opened(tmp_path)
    return Opened(tmp_path, request.getfixturevalue("postgres_url"))


def desk_of(door: Gateway, terms: Terms = LIST) -> ApprovalDesk:
    desk = door.consent.desk
    desk.terms_of = lambda _: terms
    return desk


async def yes(desk: ApprovalDesk, approval: Approval, who: str, **more: object) -> Approval:
    answer = {"channel": "terminal", **more}
    return await desk.answer(approval.id, ApprovalStatus.APPROVED, who=who, **answer)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [ApprovalStatus.APPROVED, ApprovalStatus.DENIED])
@pytest.mark.parametrize("channel", ["terminal", "slack", "elicitation"])
async def test_whoever_is_not_on_the_list_is_refused_and_it_is_written_down(
    door: Gateway, channel: str, status: ApprovalStatus
) -> None:
    desk = desk_of(door)
    approval = await desk.request(plan(), "responder")
    with pytest.raises(PermissionDenied) as refused:
        await desk.answer(approval.id, status, who="eve", channel=channel)
    assert "ann, bob" in refused.value.fix
    assert (await desk.get(approval.id)).status is ApprovalStatus.PENDING
    assert (await desk.get(approval.id)).approvers == ("ann", "bob")
    (entry,) = [e async for e in door.journal.stream() if e.actor == "eve"]
    assert entry.kind is EntryKind.NOTE and entry.body["approval_id"] == approval.id
    assert (entry.body["channel"], entry.body["status"]) == (channel, status.value)
    assert (await yes(desk, approval, "bob")).answered_by == "bob"
    assert (await door.journal.verify()).ok


async def test_a_name_that_no_channel_vouches_for_opens_nothing(door: Gateway) -> None:
    desk = desk_of(door)
    approval = await desk.request(plan(), "responder")
    with pytest.raises(PermissionDenied):
        await yes(desk, approval, "ann", vouched={"U0EVE"})
    answered = await yes(desk, approval, "eve, who says to be eve", vouched={"bob"})
    assert answered.status is ApprovalStatus.APPROVED


async def test_without_a_list_everybody_who_reaches_a_channel_may_answer(door: Gateway) -> None:
    desk = door.consent.desk
    approval = await desk.request(plan(), "responder")
    assert approval.approvers == ()
    assert (await yes(desk, approval, "eve", vouched=())).answered_by == "eve"


async def test_no_list_holds_for_the_policy(door: Gateway) -> None:
    desk = desk_of(door)
    approval = await desk.request(plan(), "responder")
    await yes(desk, approval, "policy 1", channel="policy")
    assert (await desk.request(plan(), "responder")).status is ApprovalStatus.APPROVED


async def test_a_question_that_waits_is_narrowed_and_never_widened(opened: Opened) -> None:
    async with opened.door() as free, opened.door() as watching:
        desk = desk_of(watching, Terms(("ann",), wait_s=60))
        first = await free.consent.desk.request(plan(), "alice")
        narrowed = await desk.request(plan(), "responder")
        assert narrowed.id == first.id and narrowed.approvers == ("ann",)
        assert narrowed.expires_at < first.expires_at
        again = await free.consent.desk.request(plan(), "alice")
        assert again == await free.consent.desk.get(first.id) == narrowed
        desk.terms_of = lambda _: Terms(("bob",))
        other = await desk.request(plan(), "responder")
        assert other.approvers == ("bob",) and other.expires_at == narrowed.expires_at


async def test_a_yes_that_no_list_was_asked_of_is_none_where_there_is_one(opened: Opened) -> None:
    async with opened.door() as free, opened.door() as watching:
        approval = await free.consent.desk.request(plan(), "alice")
        await yes(free.consent.desk, approval, "eve")
        desk = desk_of(watching)
        asked = await desk.request(plan(), "responder")
        assert asked.id != approval.id and asked.status is ApprovalStatus.PENDING
        await yes(desk, asked, "ann")
        assert (await desk.request(plan(), "responder")).status is ApprovalStatus.APPROVED


async def test_a_policys_wait_is_the_approvals_own_end_and_never_longer_than_the_desks(
    door: Gateway,
) -> None:
    desk = desk_of(door, Terms(wait_s=90))
    short = await desk.request(plan(), "responder")
    desk.terms_of = lambda _: Terms(wait_s=99_999)
    long = await desk.request(plan(uid="u2"), "responder")
    lasts = [(a.expires_at - a.requested_at).total_seconds() for a in (short, long)]
    assert lasts == [90, 600]


@pytest.mark.parametrize(
    ("caller", "asked"),
    [
        (Caller("ann", "http", "pytest", proven=True), True),
        (Caller("ann", "http", "pytest"), False),
        (Caller("eve", "stdio", "pytest", proven=True), False),
    ],
    ids=["on the list", "a name without proof", "not on the list"],
)
async def test_a_dialog_opens_only_for_those_whose_answer_counts(
    door: Gateway, opened: Opened, caller: Caller, asked: bool
) -> None:
    desk_of(door)
    questions: list[str] = []

    async def agree(question: Question) -> PersonAnswer:
        questions.append(question.message)
        return PersonAnswer(approved=True)

    reply = await door.call(RESTART[0], RESTART[1], caller, ask=agree)
    assert (opened.client.switched == ["hall"]) is asked and len(questions) == asked
    if asked:
        assert "Who may answer: ann, bob" in questions[0]
    else:
        assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"
        assert "One of ann, bob runs `mcp-devops approve" in reply.error["fix"]


async def test_two_at_once_of_whom_one_is_on_the_list_are_one_answer(door: Gateway) -> None:
    desk = desk_of(door)
    approval = await desk.request(plan(), "responder")
    found = await asyncio.gather(
        *(yes(desk, approval, who) for who in ("eve", "ann")), return_exceptions=True
    )
    kept = await desk.get(approval.id)
    assert kept.answered_by == "ann" and sum(isinstance(f, Approval) for f in found) == 1


def test_the_local_user_is_the_systems_and_not_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pwd

    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "ann")
    assert local_user() == pwd.getpwuid(os.getuid()).pw_name


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_123_456)
    assert local_user() == "uid 4123456"
