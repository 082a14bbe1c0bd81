from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.slack.polling import answers_in, look, watch
from mcp_devops.integrations.slack.records import Decision, MessageRef
from tests.support.pagerduty import NOW
from tests.support.slack import CHANNEL, slack

Q = "1772334720.000000"
QUESTION = MessageRef(channel=CHANNEL, ts=Q)
APPROVAL = "apr-0011223344"


def question(*reactions: tuple[str, list[str]]) -> dict[str, Any]:
    shown = [{"name": name, "users": users, "count": len(users)} for name, users in reactions]
    return {"ts": Q, "user": "UBOT", "bot_id": "B1", "text": "Approve?", "reactions": shown}


def reply(text: Any, user: Any = "UANN", ts: str = "1772334730.000001", **more: Any) -> Any:
    return {"ts": ts, "thread_ts": Q, "user": user, "text": text} | more


def said(*messages: Any) -> list[tuple[str, str]]:
    return [(s.decision.value, s.user_id) for s in answers_in(messages, Q, APPROVAL, "UBOT")]


def test_reactions_are_answers_and_a_rejection_comes_first() -> None:
    assert said(
        question(
            ("white_check_mark::skin-tone-2", ["UANN", "UBOT"]), ("x", ["UBOB"]), ("+1", ["UCY"])
        )
    ) == [("reject", "UBOB"), ("approve", "UANN")]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("approve", "approve"), ("Reject!", "reject"), ("Deny", "reject"),
        ("`approve apr-0011223344`", "approve"),
        ("  APPROVE.  ", "approve"), ("reject apr-0011223344", "reject"),
        ("approve apr-9", None), ("do not approve", None), ("approve? no", None),
        ("I would approve", None), ("approved", None), ("", None), (None, None),
        ("approve " * 50, None), ("approve\nreject", None),
    ],
)  # fmt: skip
def test_a_reply_counts_only_if_it_says_nothing_else(text: Any, answer: str | None) -> None:
    assert said(question(), reply(text)) == ([(answer, "UANN")] if answer else [])


def test_a_bare_word_counts_in_the_questions_own_thread_only() -> None:
    assert said(reply("approve", thread_ts="1.1")) == []
    assert said(reply(f"approve {APPROVAL}", thread_ts="1.1")) == [("approve", "UANN")]


@pytest.mark.parametrize(
    "more", [{"bot_id": "B2"}, {"subtype": "bot_message"}, {"user": "UBOT"}, {"user": None},
             {"user": "<@U1>"}],
)  # fmt: skip
def test_bots_do_not_answer(more: dict[str, Any]) -> None:
    assert said(question(), reply("approve", **more)) == []


def test_reactions_on_other_messages_do_not_count() -> None:
    other = reply("hm", reactions=[{"name": "white_check_mark", "users": ["UANN"]}])
    assert said(question(), other) == []


JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["ts", "user", "text", "reactions", "thread_ts", "bot_id", "subtype"])


@given(st.lists(st.dictionaries(KEYS, JSON | st.just(Q) | st.just("approve")) | JSON, max_size=5))
def test_junk_in_a_thread_is_passed_over(messages: list[Any]) -> None:
    for spoken in answers_in(messages, Q, APPROVAL, "UBOT"):
        assert spoken.user_id and spoken.approval_id == APPROVAL


async def test_every_page_of_a_thread_is_read() -> None:
    async with slack() as (client, fake, _):
        talk = [reply("hm", ts=f"1772334730.{n:06d}") for n in range(5)]
        fake.thread = [question(("x", ["UBOB"])), *talk, reply("approve", ts="1772334799.1")]
        found = await look(client, QUESTION, APPROVAL)
        await look(client, QUESTION, APPROVAL)
    assert [s.decision for s in found] == [Decision.REJECT, Decision.APPROVE]
    assert found[0].by == "reaction" and found[1].by == "reply"
    assert len(fake.said("auth.test")) == 1


async def test_a_thread_without_an_end_is_read_so_far_only() -> None:
    async with slack() as (client, fake, _):
        fake.thread = [question(), *[reply("hm", ts=f"2.{n}") for n in range(40)]]
        assert await look(client, QUESTION, APPROVAL) == ()
    assert len(fake.said("conversations.replies")) == 5


async def test_watching_tells_each_answer_once_until_the_time_is_over() -> None:
    async with slack({"conversations.replies": [429]}, deadline_s=2.5) as (client, fake, clock):
        fake.thread = [question(("white_check_mark", ["UANN"]))]
        told = []
        async for answer in watch(client, QUESTION, APPROVAL, until=NOW + timedelta(seconds=30)):
            told.append(answer.user_id)
            fake.thread = [question(("white_check_mark", ["UANN", "UBOB"]))]
    assert told == ["UANN", "UBOB"] and clock.paused == [3.0] * 10


async def test_a_thread_that_could_never_be_read_is_not_silence() -> None:
    faults: dict[str, list[Any]] = {"conversations.replies": [429] * 99}
    async with slack(faults, deadline_s=2.5) as (client, _, _):
        with pytest.raises(DevOpsError) as raised:
            async for _ in watch(client, QUESTION, APPROVAL, until=NOW + timedelta(seconds=9)):
                pass
    assert raised.value.code == "RATE_LIMITED"


async def test_a_missing_scope_is_said_at_once() -> None:
    word = {"ok": False, "error": "missing_scope", "needed": "channels:history"}
    async with slack({"conversations.replies": [word]}) as (client, _, _):
        with pytest.raises(DevOpsError) as raised:
            async for _ in watch(client, QUESTION, APPROVAL, until=NOW + timedelta(seconds=9)):
                pass
    assert raised.value.code == "PERMISSION_DENIED" and "channels:history" in str(raised.value)
