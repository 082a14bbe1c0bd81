from __future__ import annotations

import asyncio
import json

import pytest

from mcp_devops.errors import NotFound, OutcomeUnknown, UpstreamUnavailable
from mcp_devops.gateway import opening
from mcp_devops.gateway.asking import AnswerLater, PersonAnswer, Question
from mcp_devops.gateway.door import CallRecord, Gateway
from mcp_devops.gateway.ledger import MARGIN_S
from mcp_devops.journal.entry import EntryKind
from tests.rooms.gateway.conftest import CALLER, Opened
from tests.support.moved_clock import Hands
from tests.support.toy import SECRET, ToyClient, toy
from tests.support.waiting import until


async def yes(question: Question) -> PersonAnswer:
    return PersonAnswer(approved=True, note="go ahead")


async def started(door: Gateway) -> int:
    return len((await door.journal.list(kind=EntryKind.ACTION_STARTED)).entries)


async def test_a_read_answers_with_data_and_text_and_is_recorded_before_and_after(
    door: Gateway,
) -> None:
    reply = await door.call("toy_get_lamp", {"lamp": "hall"}, CALLER)
    assert reply.data == {"headline": "hall is at 1.", "lamp": "hall", "level": 1}
    assert "hall is at 1." in reply.text
    entries = (await door.journal.list(call_id=reply.call_id)).entries
    assert [e.kind for e in entries] == [EntryKind.CALL_STARTED, EntryKind.CALL_FINISHED]
    assert entries[0].body["arguments"] == {"lamp": "hall"}
    assert entries[0].actor == "alice (test, pytest 1)"
    assert entries[1].body["outcome"] == "ok"


async def test_unknown_arguments_are_refused_with_the_accepted_names(door: Gateway) -> None:
    reply = await door.call("toy_get_lamp", {"lamp": "hall", "lmap": SECRET}, CALLER)
    assert reply.error is not None
    assert reply.error["code"] == "INVALID_ARGUMENTS"
    assert "lmap" in reply.text and "lamp, response_format" in reply.text
    assert SECRET not in json.dumps(reply.error)


async def test_an_unknown_tool_is_a_protocol_error_with_near_names(door: Gateway) -> None:
    with pytest.raises(NotFound) as raised:
        await door.call("toy_get_lamps", {}, CALLER)
    assert "toy_get_lamp" in raised.value.details["near"]


async def test_anticipated_failures_keep_their_code_and_next_move(
    door: Gateway, opened: Opened
) -> None:
    reply = await door.call("toy_get_lamp", {"lamp": "attic"}, CALLER)
    assert reply.error is not None and reply.error["code"] == "NOT_FOUND"
    assert reply.error["fix"] == "Known: hall, stairs."
    opened.client.fail_with = UpstreamUnavailable(
        "The house is dark.", fix="Wait.", upstream=f"fuse blown password={SECRET}"
    )
    reply = await door.call("toy_get_lamp", {"lamp": "hall"}, CALLER)
    assert reply.error is not None and reply.error["retryable"] is True
    assert "fuse blown" in reply.error["upstream"] and SECRET not in reply.text


async def test_a_bug_is_answered_opaquely_and_logged_under_the_call_id(
    door: Gateway, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    opened.client.fail_with = ZeroDivisionError("inner detail")
    reply = await door.call("toy_get_lamp", {"lamp": "hall"}, CALLER)
    assert reply.error is not None and reply.error["code"] == "INTERNAL"
    assert "inner detail" not in reply.text
    assert reply.call_id in caplog.text and "inner detail" in caplog.text


async def test_secrets_are_masked_in_data_text_and_journal(door: Gateway) -> None:
    reply = await door.call("toy_get_lamp", {"lamp": "secret"}, CALLER)
    await door.call("toy_get_lamp", {"lamp": SECRET}, CALLER)
    assert SECRET not in json.dumps(reply.data) and SECRET not in reply.text
    entries = [e async for e in door.journal.stream()]
    assert SECRET not in "".join(e.model_dump_json() for e in entries)


@pytest.mark.parametrize("response_format", ["concise", "detailed"])
async def test_a_huge_answer_is_cut_to_its_budget_and_says_so(
    door: Gateway, response_format: str
) -> None:
    reply = await door.call(
        "toy_get_lamp", {"lamp": "huge", "response_format": response_format}, CALLER
    )
    assert reply.data is not None
    size = len(json.dumps(reply.data)) + len(reply.text)
    assert size <= 50_000
    assert reply.cut and "Cut to budget" in reply.text
    assert reply.data["notes"][-1].startswith("line 4999")


async def test_a_missing_permission_is_answered_before_anything_runs_with_the_grant(
    door: Gateway, opened: Opened
) -> None:
    opened.client.forbidden = {"get lamps"}
    reply = await door.call("toy_get_lamp", {"lamp": "hall"}, CALLER)
    assert reply.error is not None and reply.error["code"] == "PERMISSION_DENIED"
    assert reply.error["details"]["grants"] == ["grant get lamps"]


async def test_a_read_that_passes_its_deadline_is_said_so(opened: Opened) -> None:
    async with opened.door(read_deadline_s=0.01) as door:
        opened.client.fail_with = None

        async def slow(done: float, total: float, what: str) -> None:
            await asyncio.Event().wait()

        reply = await door.call("toy_get_lamp", {"lamp": "hall"}, CALLER, progress=slow)
    assert reply.error is not None and reply.error["code"] == "UPSTREAM_TIMEOUT"


async def test_a_cancelled_call_is_recorded_as_cancelled(door: Gateway) -> None:
    entered = asyncio.Event()

    async def stuck(done: float, total: float, what: str) -> None:
        entered.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(door.call("toy_get_lamp", {"lamp": "hall"}, CALLER, progress=stuck))
    await entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    newest = (await door.journal.list(kind=EntryKind.CALL_FINISHED)).entries[-1]
    assert newest.body["outcome"] == "cancelled"


async def test_observers_see_tool_outcome_and_seconds(door: Gateway) -> None:
    seen: list[CallRecord] = []
    door.observers.append(seen.append)
    await door.call("toy_get_lamp", {"lamp": "hall"}, CALLER)
    await door.call("toy_get_lamp", {"lamp": "attic"}, CALLER)
    assert [(c.tool, c.outcome) for c in seen] == [
        ("toy_get_lamp", "ok"),
        ("toy_get_lamp", "NOT_FOUND"),
    ]


async def test_a_change_is_refused_where_writes_are_off(opened: Opened) -> None:
    async with opened.door(allow_writes=()) as door:
        reply = await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes)
    assert reply.error is not None and reply.error["code"] == "WRITES_DISABLED"
    assert opened.client.switched == []


async def test_a_change_is_refused_outside_the_allowed_namespaces(opened: Opened) -> None:
    async with opened.door(allow_writes=("garden", "team-*")) as door:
        reply = await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes)
    assert reply.error is not None and reply.error["code"] == "WRITES_DISABLED"
    assert "house" in reply.text and opened.client.switched == []


async def test_permissions_are_checked_before_a_person_is_asked(
    door: Gateway, opened: Opened
) -> None:
    opened.client.forbidden = {"patch lamps"}
    asked: list[Question] = []

    async def ask(question: Question) -> PersonAnswer:
        asked.append(question)
        return PersonAnswer(approved=True)

    reply = await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=ask)
    assert reply.error is not None and reply.error["code"] == "PERMISSION_DENIED"
    assert asked == []


async def test_an_approved_change_runs_once_and_the_record_tells_who_said_yes(
    door: Gateway, opened: Opened
) -> None:
    reply = await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes)
    assert reply.data is not None and reply.data["level"] == 2
    kinds = [e.kind async for e in door.journal.stream(call_id=reply.call_id)]
    assert kinds == [
        EntryKind.CALL_STARTED,
        EntryKind.ACTION_STARTED,
        EntryKind.ACTION_FINISHED,
        EntryKind.CALL_FINISHED,
    ]
    started = (await door.journal.list(kind=EntryKind.ACTION_STARTED)).entries[0]
    assert started.body["approved_by"] == "alice"
    assert opened.client.switched == ["hall"]


async def test_the_same_plan_a_second_time_does_nothing_and_tells_the_outcome(
    door: Gateway, opened: Opened
) -> None:
    await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes)
    opened.client.lamps["hall"] = 1  # the plan is the same again
    reply = await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes)
    assert reply.data is not None and "not done again" in reply.data["headline"]
    assert opened.client.switched == ["hall"]


async def test_two_calls_at_once_of_one_plan_act_once(door: Gateway, opened: Opened) -> None:
    replies = await asyncio.gather(
        *(door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes) for _ in range(4))
    )
    assert opened.client.switched == ["hall"]
    assert sum(1 for r in replies if not r.failed) >= 1
    codes = {r.error["code"] for r in replies if r.error}
    assert codes <= {"PRECONDITION_FAILED", "APPROVAL_DENIED"}


async def test_a_client_that_hangs_up_does_not_leave_a_change_half_done(
    door: Gateway, opened: Opened
) -> None:
    opened.client.hold = release = asyncio.Event()
    call = asyncio.create_task(door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes))
    await until(lambda: started(door))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    release.set()
    await door.drain(5)
    finished = (await door.journal.list(kind=EntryKind.ACTION_FINISHED)).entries
    assert [e.body["status"] for e in finished] == ["done"]
    assert opened.client.switched == ["hall"]


async def test_a_change_without_an_answer_is_recorded_as_unknown_and_may_be_planned_anew(
    door: Gateway, opened: Opened
) -> None:
    opened.client.fail_with = OutcomeUnknown("Sent, no answer.", fix="Look.")
    reply = await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes)
    assert reply.error is not None and reply.error["code"] == "OUTCOME_UNKNOWN"
    finished = (await door.journal.list(kind=EntryKind.ACTION_FINISHED)).entries
    assert finished[-1].body["status"] == "unknown"
    opened.client.fail_with = None
    again = await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes)
    assert again.data is not None and opened.client.switched == ["hall"]


async def test_a_question_that_goes_out_with_the_result_leaves_the_approval_waiting(
    door: Gateway,
) -> None:
    async def later(question: Question) -> PersonAnswer:
        raise AnswerLater(question.key)

    with pytest.raises(AnswerLater) as raised:
        await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=later)
    waiting = await door.consent.desk.waiting()
    assert [a.id for a in waiting] == [raised.value.payload]


async def test_a_stop_waits_for_a_change_under_way(opened: Opened) -> None:
    opened.client.hold = release = asyncio.Event()
    async with opened.door() as door:
        call = asyncio.create_task(door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes))
        await until(lambda: started(door))
        release.set()
    assert (await call).data is not None
    async with opened.door() as door:
        kinds = [e.kind async for e in door.journal.stream()]
    assert kinds.index(EntryKind.ACTION_FINISHED) < kinds.index(EntryKind.SERVER_STOPPED)


async def test_a_stop_waits_until_every_change_is_written_down_and_answered(opened: Opened) -> None:
    opened.client.hold = release = asyncio.Event()
    lamps = [f"lamp-{number}" for number in range(12)]
    opened.client.lamps = dict.fromkeys(lamps, 1)
    async with opened.door() as door:
        calls = [
            asyncio.create_task(door.call("toy_restart_lamp", {"lamp": lamp}, CALLER, ask=yes))
            for lamp in lamps
        ]

        async def all_started() -> bool:
            begun = (await door.journal.list(kind=EntryKind.ACTION_STARTED)).entries
            return len(begun) == len(lamps)

        await until(all_started)
        release.set()
    replies = await asyncio.gather(*calls)
    assert all(reply.data is not None for reply in replies), [reply.text for reply in replies]
    async with opened.door() as door:
        ended = (await door.journal.list(kind=EntryKind.CALL_FINISHED)).entries
    assert [entry.body["outcome"] for entry in ended] == ["ok"] * len(lamps)


async def test_what_a_stop_cannot_wait_for_goes_on_later_and_nobody_is_asked_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "DRAIN_S", 0.05)
    opened.client.hold = asyncio.Event()
    async with opened.door() as door:
        call = asyncio.create_task(door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes))
        await until(lambda: started(door))
    with pytest.raises(asyncio.CancelledError):
        await call
    opened.client = ToyClient()
    async with opened.door() as door:
        reply = await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER)
        begun = (await door.journal.list(kind=EntryKind.ACTION_STARTED)).entries
        asked = (await door.journal.list(kind=EntryKind.APPROVAL_REQUESTED)).entries
        sound = await door.journal.verify()
    assert reply.data is not None and opened.client.switched == ["hall"]
    assert len(asked) == 1 and len({e.body["approval_id"] for e in begun}) == 1
    assert sound.ok


async def test_what_was_begun_longer_ago_than_a_change_may_take_is_asked_about_anew(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "DRAIN_S", 0.05)
    opened.client.hold = asyncio.Event()
    async with opened.door() as door:
        call = asyncio.create_task(door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER, ask=yes))
        await until(lambda: started(door))
    with pytest.raises(asyncio.CancelledError):
        await call
    opened.client = ToyClient()
    clock = Hands()
    clock.move(opened.settings().change_deadline_s + MARGIN_S)
    async with opening.open_gateway(
        opened.settings(), channel="test", clock=clock, integrations=[toy(opened.client)]
    ) as door:
        reply = await door.call("toy_restart_lamp", {"lamp": "hall"}, CALLER)
    assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"
    assert opened.client.switched == []
