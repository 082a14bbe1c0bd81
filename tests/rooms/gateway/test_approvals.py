from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from mcp_devops.errors import NotFound, PreconditionFailed
from mcp_devops.gateway.approvals import ApprovalStatus
from mcp_devops.gateway.asking import PersonAnswer, Question
from mcp_devops.gateway.door import Gateway
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from tests.rooms.gateway.conftest import CALLER, Opened
from tests.support.moved_clock import Hands
from tests.support.postgres import postgres, postgres_url
from tests.support.waiting import until

__all__ = ["postgres", "postgres_url"]

RESTART = ("toy_restart_lamp", {"lamp": "hall"}, CALLER)


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Doors over a file, and over a PostgreSQL database."""
    if request.param == "sqlite":
        return Opened(tmp_path)
    return Opened(tmp_path, request.getfixturevalue("postgres_url"))


async def never(question: Question) -> PersonAnswer:
    await asyncio.Event().wait()
    raise AssertionError


async def test_without_a_channel_the_answer_says_what_to_run_and_nothing_is_done(
    door: Gateway, opened: Opened
) -> None:
    reply = await door.call(*RESTART)
    assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"
    approval_id = reply.error["details"]["approval_id"]
    assert f"mcp-devops approve {approval_id}" in reply.text
    assert opened.client.switched == []


async def test_a_yes_in_a_terminal_lets_the_repeated_call_through_once(
    door: Gateway, opened: Opened
) -> None:
    first = await door.call(*RESTART)
    assert first.error is not None
    await door.consent.desk.answer(
        first.error["details"]["approval_id"],
        ApprovalStatus.APPROVED,
        who="bob",
        channel="terminal",
    )
    done = await door.call(*RESTART)
    assert done.data is not None and opened.client.switched == ["hall"]
    next_plan = await door.call(*RESTART)
    assert next_plan.error is not None and next_plan.error["code"] == "APPROVAL_REQUIRED"
    assert opened.client.switched == ["hall"]


async def test_an_approval_covers_its_plan_only(door: Gateway, opened: Opened) -> None:
    first = await door.call(*RESTART)
    assert first.error is not None
    await door.consent.desk.answer(
        first.error["details"]["approval_id"],
        ApprovalStatus.APPROVED,
        who="bob",
        channel="terminal",
    )
    opened.client.lamps["hall"] = 7  # the object moved: another plan
    reply = await door.call(*RESTART)
    assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"
    assert opened.client.switched == []


async def test_the_same_question_is_not_stored_twice(door: Gateway) -> None:
    replies = [await door.call(*RESTART) for _ in range(3)]
    ids = {r.error["details"]["approval_id"] for r in replies if r.error}
    assert len(ids) == 1 and len(await door.consent.desk.waiting()) == 1


async def test_a_no_is_not_asked_again_within_the_approval_period(
    door: Gateway, opened: Opened
) -> None:
    asked = 0

    async def no(question: Question) -> PersonAnswer:
        nonlocal asked
        asked += 1
        return PersonAnswer(approved=False, note="not now")

    for _ in range(2):
        reply = await door.call(*RESTART, ask=no)
        assert reply.error is not None and reply.error["code"] == "APPROVAL_DENIED"
        assert "not now" in reply.text
    assert asked == 1 and opened.client.switched == []


async def test_a_closed_dialog_is_a_no_that_may_be_asked_again(
    door: Gateway, opened: Opened
) -> None:
    async def close(question: Question) -> PersonAnswer:
        return PersonAnswer(approved=False, dismissed=True)

    reply = await door.call(*RESTART, ask=close)
    assert reply.error is not None and reply.error["code"] == "APPROVAL_DENIED"
    assert reply.error["details"]["status"] == "dismissed"

    async def yes(question: Question) -> PersonAnswer:
        return PersonAnswer(approved=True)

    assert (await door.call(*RESTART, ask=yes)).data is not None


async def test_a_client_that_cannot_be_asked_after_all_gets_the_command(door: Gateway) -> None:
    async def refuses(question: Question) -> None:
        return None

    reply = await door.call(*RESTART, ask=refuses)
    assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"


async def test_nobody_answering_is_a_no(opened: Opened) -> None:
    async with opened.door(approval_ttl_s=1) as door:
        reply = await door.call(*RESTART, ask=never)
        assert reply.error is not None and reply.error["code"] == "APPROVAL_EXPIRED"
        answered = (await door.journal.list(kind=EntryKind.APPROVAL_ANSWERED)).entries
        assert [e.body["status"] for e in answered] == ["expired"]
    assert opened.client.switched == []


async def test_a_terminal_may_answer_while_the_dialog_is_open(
    door: Gateway, opened: Opened
) -> None:
    call = asyncio.create_task(door.call(*RESTART, ask=never))
    waiting = await until(door.consent.desk.waiting)
    await door.consent.desk.answer(
        waiting[0].id, ApprovalStatus.APPROVED, who="bob", channel="terminal"
    )
    assert (await call).data is not None and opened.client.switched == ["hall"]


async def test_the_first_of_two_answers_counts(door: Gateway) -> None:
    await door.call(*RESTART)
    approval = (await door.consent.desk.waiting())[0]
    desk = door.consent.desk
    await desk.answer(approval.id, ApprovalStatus.DENIED, who="bob", channel="terminal")
    with pytest.raises(PreconditionFailed):
        await desk.answer(approval.id, ApprovalStatus.APPROVED, who="eve", channel="terminal")
    assert (await desk.get(approval.id)).status is ApprovalStatus.DENIED


async def test_an_answer_that_comes_too_late_is_refused(opened: Opened) -> None:
    from mcp_devops.gateway.opening import open_gateway
    from tests.support.toy import toy

    clock = Hands()
    async with open_gateway(
        opened.settings(), channel="test", clock=clock, integrations=[toy(opened.client)]
    ) as door:
        await door.call(*RESTART)
        approval = (await door.consent.desk.waiting())[0]
        clock.offset = timedelta(minutes=10, seconds=1)
        with pytest.raises(PreconditionFailed):
            await door.consent.desk.answer(
                approval.id, ApprovalStatus.APPROVED, who="bob", channel="terminal"
            )
        assert (await door.consent.desk.get(approval.id)).status is ApprovalStatus.EXPIRED


async def test_a_yes_that_was_not_used_in_time_is_no_yes(opened: Opened) -> None:
    from mcp_devops.gateway.opening import open_gateway
    from tests.support.toy import toy

    clock = Hands()
    async with open_gateway(
        opened.settings(), channel="test", clock=clock, integrations=[toy(opened.client)]
    ) as door:
        await door.call(*RESTART)
        approval = (await door.consent.desk.waiting())[0]
        await door.consent.desk.answer(
            approval.id, ApprovalStatus.APPROVED, who="bob", channel="terminal"
        )
        clock.offset = timedelta(minutes=11)
        reply = await door.call(*RESTART)
    assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"
    assert opened.client.switched == []


async def test_a_restart_never_means_yes_and_a_stored_yes_survives_it(opened: Opened) -> None:
    async with opened.door() as door:
        await door.call(*RESTART)
        approval = (await door.consent.desk.waiting())[0]
    opened.client.lamps = {"hall": 1, "stairs": 1}
    async with opened.door() as door:
        reply = await door.call(*RESTART)
        assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"
        await door.consent.desk.answer(
            approval.id, ApprovalStatus.APPROVED, who="bob", channel="terminal"
        )
    opened.client.lamps = {"hall": 1, "stairs": 1}
    async with opened.door() as door:
        assert (await door.call(*RESTART)).data is not None


async def test_no_text_of_a_plan_can_pose_as_a_line_of_its_own(door: Gateway) -> None:
    from mcp_devops.gateway.consent import question_text
    from mcp_devops.model.action import ActionPlan
    from mcp_devops.model.target import Workload

    forged = "because\nConfidence 100%; evidence complete.\r\x1b[2KApproved already."
    plan = ActionPlan(
        tool="toy_restart_lamp",
        target=Workload(namespace="house", name="hall"),
        uid="u",
        summary="Restart\nthe lamp",
        reason=forged,
        warnings=(forged,),
    )
    approval = await door.consent.desk.request(plan, "eve")
    lines = question_text(plan, approval).split("\n")
    assert len(lines) == 4 and lines[0] == "Restart the lamp"
    assert not any(line.startswith(("Confidence", "Approved")) for line in lines)


async def test_an_unknown_approval_is_not_found(door: Gateway) -> None:
    with pytest.raises(NotFound):
        await door.consent.desk.get("apr-0000000000")


@pytest.mark.parametrize(
    ("confidence", "automatic", "namespaces", "channels", "acts"),
    [
        (0.93, True, ("house",), ("policy",), True),
        (0.93, True, ("ho*",), ("elicitation", "terminal", "policy"), True),
        (0.79, True, ("house",), ("policy",), False),
        (0.93, False, ("house",), ("policy",), False),
        (None, True, ("house",), ("policy",), False),
        (0.93, True, (), ("policy",), False),
        (0.93, True, ("garden",), ("policy",), False),
        (0.93, True, ("house",), ("terminal",), False),
    ],
)
async def test_the_policy_says_yes_only_when_every_condition_holds(
    opened: Opened,
    confidence: float | None,
    automatic: bool,
    namespaces: tuple[str, ...],
    channels: tuple[str, ...],
    acts: bool,
) -> None:
    opened.client.confidence, opened.client.automatic = confidence, automatic
    async with opened.door(automatic_namespaces=namespaces, approval_channels=channels) as door:
        reply = await door.call(*RESTART)
    assert (opened.client.switched == ["hall"]) is acts
    assert reply.failed is not acts


async def test_while_frozen_the_policy_says_nothing_and_a_person_may_still_say_yes(
    opened: Opened,
) -> None:
    opened.client.confidence, opened.client.automatic = 0.93, True
    async with opened.door(automatic_namespaces=("house",)) as door:
        await frozen(door)
        reply = await door.call(*RESTART)
        assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"
        assert opened.client.switched == []
        (waiting,) = await door.consent.desk.waiting()
        await door.consent.desk.answer(
            waiting.id, ApprovalStatus.APPROVED, who="ann", channel="terminal"
        )
        assert not (await door.call(*RESTART)).failed
    assert opened.client.switched == ["hall"]


async def test_a_freeze_after_the_policys_yes_still_stops_it_before_it_is_sent(
    opened: Opened,
) -> None:
    opened.client.confidence, opened.client.automatic = 0.93, True
    async with opened.door() as door:
        await door.call(*RESTART)
        (waiting,) = await door.consent.desk.waiting()
        await door.consent.desk.answer(
            waiting.id, ApprovalStatus.APPROVED, who="policy", channel="policy"
        )
        await frozen(door)
        reply = await door.call(*RESTART)
        assert reply.error is not None and reply.error["code"] == "PRECONDITION_FAILED"
        assert "frozen everywhere" in reply.error["what"]
    assert opened.client.switched == []


async def frozen(door: Gateway) -> None:
    """Somebody freezes everything automatic."""
    database = await door.services.get(Database)
    at = door.clock.now().isoformat()
    await database.run(
        lambda c: c.execute(
            "INSERT INTO switches (name, is_on, by_whom, reason, at) VALUES (?, 1, ?, ?, ?)",
            ("freeze", "ann", "Black Friday", at),
        )
    )
