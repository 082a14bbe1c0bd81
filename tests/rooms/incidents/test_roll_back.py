from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from mcp_devops.gateway.approvals import ApprovalDesk, ApprovalStatus
from mcp_devops.gateway.asking import PersonAnswer, Question
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.entry import EntryKind
from mcp_devops.model.incident import IncidentStatus
from tests.rooms.incidents.conftest import Desk, yes

FAST = {"MCP_DEVOPS_INCIDENT__VERIFY_WINDOW_S": "10", "MCP_DEVOPS_INCIDENT__STEADY_S": "3"}


async def test_an_approved_rollback_is_verified_and_done_once(desk: Desk) -> None:
    async with desk.playing("error-spike", variables=FAST) as duty:
        incident, _ = await duty.decided()
        done = await duty.call("incident_roll_back", ask=yes, incident_id=incident)
        again = await duty.call("incident_roll_back", ask=yes, incident_id=incident)
        told = await duty.call("incident_get", incident_id=incident)
        actions = (await duty.gateway.journal.list(kind=EntryKind.ACTION_STARTED)).entries
        report = await duty.gateway.journal.verify()
    assert done.data is not None, done.text
    assert done.data["status"] == "recovered" and done.data["template_restored"] is True
    assert done.data["verification"]["error_rate_after"] < 0.005
    assert done.data["approved_by"] == "ann"
    assert again.data is not None and "not done again" in again.data["headline"]
    assert len(actions) == 1
    assert told.data is not None and told.data["incident"]["status"] == "recovered"
    assert report.ok


async def test_the_person_reads_what_why_and_what_changes_before_saying_yes(desk: Desk) -> None:
    asked: list[str] = []

    async def no(question: Question) -> PersonAnswer:
        asked.append(question.message)
        return PersonAnswer(approved=False)

    async with desk.playing("error-spike") as duty:
        incident, _ = await duty.decided()
        refused = await duty.call("incident_roll_back", ask=no, incident_id=incident)
    assert refused.error is not None and refused.error["code"] == "APPROVAL_DENIED"
    assert "revision 2" in asked[0] and "image" in asked[0] and "requests fail" in asked[0]


async def test_the_policy_alone_may_approve_where_it_is_allowed_to(desk: Desk) -> None:
    async with desk.playing("crash-loop", variables=FAST, automatic_namespaces=("shop",)) as duty:
        incident, _ = await duty.decided()
        done = await duty.call("incident_roll_back", incident_id=incident)
    assert done.data is not None, done.text
    assert done.data["approved_by"] == "policy" and done.data["status"] == "recovered"


async def test_without_a_verdict_nothing_is_rolled_back(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        found = await duty.investigate()
        reply = await duty.call("incident_roll_back", ask=yes, incident_id=found["incident_id"])
    assert reply.error is not None and reply.error["code"] == "PRECONDITION_FAILED"
    assert "incident_decide" in reply.error["fix"]


async def test_a_hold_is_not_rolled_back_unless_a_person_decides_otherwise_and_is_asked(
    desk: Desk,
) -> None:
    asked: list[str] = []

    async def no(question: Question) -> PersonAnswer:
        asked.append(question.message)
        return PersonAnswer(approved=False)

    async with desk.playing("upstream-outage", automatic_namespaces=("shop",)) as duty:
        incident, verdict = await duty.decided()
        refused = await duty.call("incident_roll_back", ask=yes, incident_id=incident)
        asking = await duty.call(
            "incident_roll_back",
            ask=no,
            incident_id=incident,
            despite_verdict="the bank says it was us",
        )
    assert verdict["action"] == "hold_for_review"
    assert refused.error is not None and refused.error["code"] == "PRECONDITION_FAILED"
    assert asking.error is not None and asking.error["code"] == "APPROVAL_DENIED"
    assert "the bank says it was us" in asked[0]


async def test_old_evidence_is_too_old_to_act_on(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        incident, _ = await duty.decided()
        store = await duty.gateway.services.get(IncidentStore)
        stored = await store.get(incident)
        assert stored.context is not None
        old = stored.context.model_copy(
            update={"collected_at": stored.context.collected_at - timedelta(minutes=11)}
        )
        await store.save(stored.model_copy(update={"context": old}), "aged", "test")
        reply = await duty.call("incident_roll_back", ask=yes, incident_id=incident)
        judged = await duty.call("incident_decide", incident_id=incident)
    assert reply.error is not None and reply.error["code"] == "PRECONDITION_FAILED"
    assert "too old" in reply.text
    assert judged.data is not None and "investigate again" in judged.data["headline"]


async def test_a_rollout_that_moved_since_it_was_judged_is_refused(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        incident, _ = await duty.decided()
        store = await duty.gateway.services.get(IncidentStore)
        stored = await store.get(incident)
        assert stored.context is not None and stored.context.change is not None
        judged = stored.context.change.revision.model_copy(update={"template_hash": "0" * 64})
        change = stored.context.change.model_copy(update={"revision": judged})
        moved = stored.context.model_copy(update={"change": change})
        await store.save(stored.model_copy(update={"context": moved}), "moved", "test")
        reply = await duty.call("incident_roll_back", ask=yes, incident_id=incident)
    assert reply.error is not None and reply.error["code"] == "PRECONDITION_FAILED"


async def test_what_was_judged_bad_once_is_no_target_later(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        incident, _ = await duty.decided()
        store = await duty.gateway.services.get(IncidentStore)
        stored = await store.get(incident)
        assert stored.context is not None and stored.context.change is not None
        bad = await store.judged_bad(stored.incident.target)
        assert bad == (stored.context.change.revision.template_hash,)


async def test_metrics_that_die_after_the_rollback_leave_the_outcome_unknown(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mcp_devops.integrations.prometheus.client import PrometheusClient

    short = {**FAST, "MCP_DEVOPS_INCIDENT__VERIFY_DEADLINE_S": "150"}
    async with desk.playing("error-spike", variables=short) as duty:
        incident, _ = await duty.decided()
        prometheus = await duty.gateway.services.get(PrometheusClient)
        await prometheus.close()
        prometheus.settings = prometheus.settings.model_copy(update={"url": "http://127.0.0.1:9"})
        done = await duty.call("incident_roll_back", ask=yes, incident_id=incident)
    assert done.data is not None, done.text
    assert done.data["status"] == "unknown" and "UNKNOWN" in done.data["headline"]


async def test_a_waiting_incident_tells_a_watcher_when_it_moves(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        incident, _ = await duty.decided()
        store = await duty.gateway.services.get(IncidentStore)
        changes = store.changes(incident)
        following = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        await duty.investigate()
        async with asyncio.timeout(10):
            assert await following is IncidentStatus.INVESTIGATING
        await changes.aclose()


async def test_lists_come_in_pages_newest_first(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        store = await duty.gateway.services.get(IncidentStore)
        found = await duty.investigate()
        target = (await store.get(found["incident_id"])).incident.target
        for _ in range(4):
            await store.open(target, "test")
        first = await duty.call("incident_list", limit=3)
        assert first.data is not None
        second = await duty.call("incident_list", limit=3, cursor=first.data["next_cursor"])
        foreign = await duty.call("incident_list", limit=2, cursor=first.data["next_cursor"])
    assert second.data is not None and "next_cursor" not in second.data
    ids = [i["id"] for i in (*first.data["incidents"], *second.data["incidents"])]
    assert len(set(ids)) == 5 and ids[-1] == found["incident_id"]
    assert foreign.error is not None and foreign.error["code"] == "INVALID_ARGUMENTS"


def _times(reply: Any) -> list[datetime]:
    return [datetime.fromisoformat(t["at"]) for t in reply.data["incident"]["timeline"]]


async def test_an_incident_is_told_whole_on_request(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        incident, _ = await duty.decided()
        short = await duty.call("incident_get", incident_id=incident)
        whole = await duty.call("incident_get", incident_id=incident, response_format="detailed")
    assert short.data is not None and whole.data is not None
    assert "journal" not in short.data
    kinds = [line["kind"] for line in whole.data["journal"]]
    assert kinds.count("decision") == 1 and "incident_changed" in kinds
    assert whole.data["evidence"]["change"]["revision"]["number"] == 2
    assert _times(whole) == sorted(_times(whole))


async def test_a_person_who_was_asked_on_fresh_evidence_may_take_as_long_as_the_question_is_open(
    desk: Desk,
) -> None:
    async with desk.playing(
        "crash-loop", variables=FAST, approval_channels=("terminal",), automatic_namespaces=("*",)
    ) as duty:
        incident, _ = await duty.decided()
        asking = await duty.call("incident_roll_back", incident_id=incident)
        assert asking.error is not None and asking.error["code"] == "APPROVAL_REQUIRED"
        store = await duty.gateway.services.get(IncidentStore)
        stored = await store.get(incident)
        assert stored.context is not None
        old = stored.context.model_copy(
            update={"collected_at": stored.context.collected_at - timedelta(minutes=11)}
        )
        await store.save(stored.model_copy(update={"context": old}), "aged", "test")
        approvals = await duty.gateway.services.get(ApprovalDesk)
        await approvals.answer(
            asking.error["details"]["approval_id"],
            ApprovalStatus.APPROVED,
            who="ann",
            channel="terminal",
        )
        done = await duty.call("incident_roll_back", incident_id=incident)
    assert done.data is not None, done.text
    assert done.data["approved_by"] == "ann" and done.data["status"] == "recovered"
