"""Channels that fail: the run goes on, what is owed is sent later, and nobody is paged twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcp_devops.journal.database import open_database
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.responder.telling import outbox as module
from mcp_devops.responder.telling.outbox import Outbox, Owed, Result
from tests.support.channels import Shift, response, shift, until
from tests.support.moved_clock import Hands
from tests.support.postgres import postgres, postgres_url
from tests.support.slack import APP

__all__ = ["postgres", "postgres_url"]


async def all_is(it: Shift, *statuses: str) -> dict[str, str]:
    """What is owed, once everything of it stands so."""
    async with asyncio.timeout(30):
        while True:
            owed = await it.owed()
            if owed and set(owed.values()) <= set(statuses):
                return owed
            await asyncio.sleep(0.05)


async def test_what_pagerduty_does_not_take_for_minutes_is_paged_later_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        it.channels.pages.faults = ["limited", "limited"]
        approval = await it.asked()
        assert it.channels.pages.pages == 0 and len(it.channels.slack.messages) == 2
        assert "PagerDuty: RATE_LIMITED" in await it.timeline()
        assert "The page is tried again." in await it.timeline()
        for _ in range(2):
            it.clock.move(60)
            await until(lambda: not it.channels.pages.faults or it.channels.pages.pages)
        await all_is(it, "told")
        timeline = await it.timeline()
        assert (await it.desk.get(approval.id)).status == "pending", "it waited all the time"
    assert it.channels.pages.pages == 1 and len(it.channels.mail.taken) == 2
    assert "PagerDuty has taken the page at attempt" in timeline


async def test_a_page_that_was_taken_without_an_answer_pages_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        it.channels.pages.faults = ["taken_then_silent"]
        await it.asked()
        it.clock.move(60)
        await all_is(it, "told")
    assert it.channels.pages.pages == 1 and len(it.channels.pages.events) == 2


async def test_a_mail_server_that_is_down_gets_each_mail_later_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        it.channels.mail.mail = ["421 4.3.2 busy"] * 2
        await it.asked()
        assert "e-mail: UPSTREAM_UNAVAILABLE" in await it.timeline()
        it.clock.move(61)
        await all_is(it, "told")
        mails = [m for _, m in it.channels.mail.taken]
    assert len(mails) == 2 and len({str(m["Message-ID"]) for m in mails}) == 2
    assert any("meant for" in m.as_string() for m in mails)


async def test_a_slack_that_is_down_gets_the_root_first_and_then_the_question_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        it.channels.slack.faults["chat.postMessage"] = ["channel_not_found", 500]
        approval = await it.asked()
        assert it.channels.slack.messages == {}
        it.clock.move(30)
        await all_is(it, "told", "failed")
        (question,) = it.channels.slack.messages.values()
        timeline = await it.timeline()
    assert approval.id in str(question) and "thread_ts" not in question
    assert "The incident's message is given up." in timeline, "its channel does not exist"


async def test_a_question_that_was_answered_before_slack_came_back_is_not_asked_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        it.channels.slack.faults["chat.postMessage"] = [500]
        it.channels.mail.mail = ["421 4.3.2 busy"] * 2
        approval = await it.asked()
        it.clock.move(601)
        await it.people.settled(await it.desk.get(approval.id))
        owed = await all_is(it, "told", "dropped")
    assert owed[f"Slack:inc:question:{approval.id}"] == "dropped"
    assert owed[f"e-mail:inc:question:{approval.id}"] == "dropped"
    assert approval.id not in str(it.channels.slack.messages)


async def test_nobody_is_woken_late_for_what_has_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        it.channels.pages.faults = ["limited"] * 9
        await it.people.page(it.incident_id, response(), "It fails.", "Look.")
        await it.is_now(IncidentStatus.RECOVERED)
        it.channels.pages.faults = []
        closing = asyncio.create_task(it.people.close(it.incident_id, response(), recovered=True))
        it.clock.move(60)
        await closing
        await all_is(it, "told", "dropped")
    assert it.channels.pages.pages == 0


async def test_a_page_that_is_refused_for_good_is_not_repeated_and_the_rest_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        it.channels.pages.faults = ["400"]
        await it.people.page(it.incident_id, response(), "It fails.", "Look.")
        await it.people.page(it.incident_id, response(), "It fails.", "Look.")
        timeline = await it.timeline()
    assert it.channels.pages.events == [] and len(it.channels.mail.taken) == 1
    assert timeline.count("could not tell everybody: PagerDuty: INVALID_ARGUMENTS") == 1
    assert "The page is given up." in timeline


async def test_a_step_that_is_repeated_after_a_crash_says_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        approval = await it.asked()
        await it.people.ask(approval, response(), it.incident_id, "It fails.")
        await it.people.close(it.incident_id, response(), recovered=False)
        await it.people.close(it.incident_id, response(), recovered=False)
        await all_is(it, "told")
    assert it.channels.pages.pages == len(it.channels.pages.events) == 1
    assert len(it.channels.mail.taken) == 3
    posted = it.channels.slack.said("chat.postMessage")
    assert [("Timeline" in m["text"]) for m in posted] == [False, False, True]
    assert posted[2]["thread_ts"] and "reply_broadcast" not in posted[2]


def owed(name: str, channel: str = "Slack") -> Owed:
    return Owed(key=name, incident_id="inc-0a1b2c3d", channel=channel, body={"say": "page"})


class Sent:
    """What was delivered, by whom, and how it is reported."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.reports: list[tuple[str, bool]] = []

    async def deliver(self, one: Owed) -> Result:
        self.keys.append(one.key)
        await self.open.wait()
        return Result.TOLD

    async def report(self, one: Owed, problem: str, final: bool) -> None:
        self.reports.append((problem, final))


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    if request.param == "sqlite":
        return tmp_path / "state.db"
    from mcp_devops.journal.place import PostgresUrl

    return PostgresUrl(request.getfixturevalue("postgres_url"))


async def test_of_two_replicas_one_sends_each_message_in_its_order(place: object) -> None:
    sent, clock = Sent(), Hands()
    async with open_database(place) as one, open_database(place) as two:  # type: ignore[arg-type]
        boxes = [Outbox(d, clock, sent.deliver, sent.report) for d in (one, two)]
        names = [f"m{n:02d}" for n in range(12)]
        await boxes[0].put(*[owed(n) for n in names])
        async with boxes[0].running(), boxes[1].running():
            assert await boxes[1].told(names, 30) == {}
    assert sent.keys == names and sent.reports == []


async def test_what_a_killed_process_had_begun_is_sent_by_the_next_one(place: object) -> None:
    sent, clock = Sent(), Hands()
    async with open_database(place) as database:  # type: ignore[arg-type]
        sent.open.clear()
        first = Outbox(database, clock, sent.deliver, sent.report)
        async with first.running():
            await first.put(owed("m1"))
            await until(lambda: sent.keys)
        sent.open.set()
        if database.many_hosts:
            clock.move(module.LEASE.total_seconds())
        second = Outbox(database, clock, sent.deliver, sent.report)
        async with second.running():
            assert await second.told(["m1"], 30) == {}
    assert sent.keys == ["m1", "m1"]


async def test_after_a_day_it_is_given_up_and_what_cannot_be_made_stops_nobody(
    tmp_path: Path,
) -> None:
    from mcp_devops.errors import UpstreamUnavailable

    clock, reports = Hands(), list[tuple[str, str, bool]]()

    async def deliver(one: Owed) -> Result:
        if one.key == "broken":
            raise KeyError(one.key)
        raise UpstreamUnavailable("Down.", fix="Wait.", source="slack")

    async def report(one: Owed, problem: str, final: bool) -> None:
        reports.append((one.key, problem, final))

    async with open_database(tmp_path / "state.db") as database:
        box = Outbox(database, clock, deliver, report)
        async with box.running():
            await box.put(owed("broken", "e-mail"), owed("m1"))
            problems = await box.told(["broken", "m1"], 30)
            assert set(problems) == {"broken", "m1"} and "UPSTREAM_UNAVAILABLE" in problems["m1"]
            clock.move(module.GIVE_UP.total_seconds())
            await until(lambda: ("m1", "Slack: UPSTREAM_UNAVAILABLE: Down.", True) in reports)
    assert ("broken", "e-mail: INTERNAL: it could not be made", True) in reports


async def test_a_channel_that_hangs_does_not_hold_the_run_up(tmp_path: Path) -> None:
    sent, clock = Sent(), Hands()
    sent.open.clear()
    async with open_database(tmp_path / "state.db") as database:
        box = Outbox(database, clock, sent.deliver, sent.report)
        async with box.running():
            await box.put(owed("m1"))
            assert await box.told(["m1"], 0.2) == {"m1": "no answer yet"}


async def test_a_note_and_a_move_at_once_both_stay_in_the_timeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        stale = await it.store.get(it.incident_id)
        await it.store.note(it.incident_id, "acknowledged in PagerDuty", "Ann")
        moved = stale.incident.model_copy(update={"status": IncidentStatus.VERIFYING})
        await it.store.save(stale.model_copy(update={"incident": moved}), "rolled back", "test")
        stored = await it.store.get(it.incident_id)
        missing = await it.store.note("inc-00000000", "x", "y")
        chain = await it.gateway.journal.verify()
    assert stored.incident.status is IncidentStatus.VERIFYING and missing is None and chain.ok
    assert [e.what for e in stored.incident.timeline][-2:] == [
        "acknowledged in PagerDuty",
        "rolled back",
    ]
