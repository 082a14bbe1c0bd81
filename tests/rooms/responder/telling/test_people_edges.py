"""Whose words do not count, whom a mail did not reach, and what a page tells at night."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_devops.errors import CredentialsRejected
from mcp_devops.gateway.approvals import Approval, ApprovalStatus
from mcp_devops.integrations.slack.records import Decision, Spoken
from mcp_devops.model.change import ChangeArea
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.responder.response import Kind
from mcp_devops.response_policy.policy import Page, Severity
from tests.rooms.responder.telling.test_people import pressed, told
from tests.support import evidence as ev
from tests.support.channels import ANN, ANYBODY, Shift, response, shift, until
from tests.support.pagerduty import plan
from tests.support.slack import APP


async def reacted(it: Shift, approval: Approval, user: str) -> ApprovalStatus:
    """Somebody reacts with a check mark under the question."""
    question = await it.people.question_in_slack(approval.id)
    assert question is not None
    spoken = Spoken(
        decision=Decision.APPROVE, approval_id=approval.id, user_id=user, by="reaction", ts="1.0"
    )
    await it.people.spoken(spoken, question)
    return (await it.desk.get(approval.id)).status


@pytest.mark.parametrize("policy", [ANYBODY, ANN], ids=["no list", "on the list"])
async def test_a_reaction_of_another_workspace_in_a_shared_channel_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    async with shift(tmp_path, monkeypatch, policy) as it:
        it.channels.slack.teams["U0ANN"] = "T2"
        assert await reacted(it, await it.asked(), "U0ANN") is ApprovalStatus.PENDING
        assert it.channels.slack.find("another workspace")


async def test_a_reaction_of_an_app_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        it.channels.slack.bots.add("U0ZAPIER")
        assert await reacted(it, await it.asked(), "U0ZAPIER") is ApprovalStatus.PENDING
        assert it.channels.slack.find("An app cannot answer")


@pytest.mark.parametrize(
    ("policy", "status"), [(ANYBODY, ApprovalStatus.PENDING), (ANN, ApprovalStatus.APPROVED)]
)
async def test_where_slack_does_not_tell_the_workspace_only_those_on_a_list_can_react(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, status: ApprovalStatus
) -> None:
    async with shift(tmp_path, monkeypatch, policy) as it:
        it.channels.slack.faults["users.info"] = ["missing_scope"]
        assert await reacted(it, await it.asked(), "U0ANN") is status


async def test_who_is_listed_by_id_needs_no_look_at_addresses_which_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = "version: 1\ndefaults: {approval: {approvers: [U0ANN, bob@example.com]}}\n"
    async with shift(tmp_path, monkeypatch, both, app_token=APP) as it:
        approval = await it.asked()
        it.channels.slack.faults["users.info"] = ["account_inactive"]
        await it.people.answered(pressed(it, approval))
        assert (await it.desk.get(approval.id)).status is ApprovalStatus.APPROVED


async def test_a_click_that_could_not_be_recorded_says_so_to_the_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        approval = await it.asked()
        it.channels.slack.faults["auth.test"] = ["account_inactive"]
        with pytest.raises(CredentialsRejected):
            await it.people.answered(pressed(it, approval))
        says = await told(it)
        assert (await it.desk.get(approval.id)).status is ApprovalStatus.PENDING
    assert "could not be recorded (CREDENTIALS_REJECTED). Please answer again." in says


async def test_whom_the_mail_server_refuses_is_named_in_the_timeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(email=("gone@example.com",))
    async with shift(tmp_path, monkeypatch) as it:
        it.channels.mail.rcpt["gone@example.com"] = ["550 5.1.1 no such user"]
        await it.people.page(it.incident_id, response(page=page), "It fails.", "Look.")
        ((to, _),) = it.channels.mail.taken
        timeline = await it.timeline()
    assert to == ["ann@example.com"]
    assert "the mail went without gone@example.com: the mail server refused them" in timeline


@pytest.mark.parametrize(
    ("severity", "importance"), [(Severity.WARNING, None), (Severity.CRITICAL, "high")]
)
async def test_the_question_goes_by_mail_as_urgently_as_the_incident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, severity: Severity, importance: str | None
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        approval = await it.desk.request(plan(incident_id=it.incident_id), "responder")
        quiet = response(page=Page(severity=severity))
        await it.people.ask(approval, quiet, it.incident_id, "It fails.")
        await until(lambda: len(it.channels.mail.taken) == 2)
        assert [m["Importance"] for _, m in it.channels.mail.taken] == [importance] * 2


async def test_a_page_tells_what_was_deployed_what_it_changed_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        stored = await it.store.get(it.incident_id)
        seen = ev.context(
            judged=ev.change(ChangeArea.IMAGE), missing=(ev.missing("datadog", needed=False),)
        )
        await it.store.save(stored.model_copy(update={"context": seen}), "seen", "responder")
        await it.people.page(it.incident_id, response(), "It fails.", "Look.")
        details = it.channels.pages.events[0]["payload"]["custom_details"]
        root = next(iter(it.channels.slack.messages))
        await until(lambda: it.channels.slack.find("What was seen"))
        found = it.channels.slack.find("What was seen")
    assert found is not None and found[1]["thread_ts"] == root
    assert "containers[checkout].image" in json.dumps(found[1]["blocks"])
    assert details["incident"] == it.incident_id
    report = details["report"]
    assert report["deployed"].startswith(f"revision {ev.change().revision.number} at ")
    assert report["images"] == list(ev.change().revision.images)
    assert "containers[checkout].image" in json.dumps(report["changed"])
    assert report["missing_evidence"][0].startswith("datadog: ")


OWN = ("SLACK__CHANNEL", "EMAIL__TO")


async def test_the_policys_channel_and_addresses_suffice_where_the_server_has_none_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(slack_channel="#shop", email=("shop@example.com",))
    async with shift(tmp_path, monkeypatch, without=OWN) as it:
        it.channels.slack.members = {"#shop"}
        await it.people.page(it.incident_id, response(page=page), "It fails.", "Look.")
        ((to, _),) = it.channels.mail.taken
        (posted,) = it.channels.slack.said("chat.postMessage")
    assert to == ["shop@example.com"] and posted["channel"] == "#shop"


async def test_a_channel_without_anybody_to_tell_is_left_out_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, without=OWN) as it:
        await it.people.page(it.incident_id, response(), "It fails.", "Look.")
        await it.people.close(it.incident_id, response(), recovered=False)
        assert set((await it.owed()).values()) == {"told"} and it.channels.pages.pages == 1
        assert "could not tell" not in await it.timeline()


RULE = "defaults (line 2) says automatic: ask."


async def test_a_page_begins_with_what_is_wrong_not_with_a_rule_of_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        told = response(reasons=("The verdict is to roll back.", RULE))
        await it.people.page(it.incident_id, told, RULE, "Look.")
        await it.people.page(it.incident_id, told, "not_recovered: errors stayed.", "Look.")
        first, second = [e["payload"]["summary"] for e in it.channels.pages.events]
        subjects = [str(m["Subject"]) for _, m in it.channels.mail.taken]
    wrong = "shop/checkout: Revision 7 fails 12% of requests; revision 6 failed none."
    assert first == f"{wrong} {RULE}" and subjects[0].startswith(f"[critical] {wrong}")
    assert second == "shop/checkout: not_recovered: errors stayed."


async def test_while_a_question_is_open_every_channel_says_that_it_waits_and_until_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, ANN, app_token=APP) as it:
        await it.is_now(IncidentStatus.DECIDED)
        approval = await it.asked()
        root = next(iter(it.channels.slack.messages))
        assert "WAITING FOR A PERSON" in json.dumps(it.channels.slack.messages[root])
        details = it.channels.pages.events[0]["payload"]["custom_details"]
        assert (details["status"], details["approval"]) == ("awaiting_approval", approval.id)
        until_when = f"{approval.expires_at:%H:%M:%S} UTC"
        assert until_when in details["do_next"] and "No answer is a no" in details["do_next"]
        await it.people.answered(pressed(it, approval))
        await it.people.settled(await it.desk.get(approval.id))
        await until(lambda: "WAITING" not in json.dumps(it.channels.slack.messages[root]))


@pytest.mark.parametrize(
    ("status", "says", "mail", "head"),
    [
        (
            "denied",
            "was denied by ann through terminal (ann)",
            "Denied by ann: nothing was",
            "denied",
        ),
        ("expired", "nobody answered apr-", "Nobody answered in time: nothing was", "NOBODY"),
    ],
)
async def test_question_and_answer_are_in_the_timeline_once_and_the_last_mail_says_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, says: str, mail: str, head: str
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        approval = await it.asked()
        if status == "denied":
            await it.desk.answer(approval.id, ApprovalStatus.DENIED, who="ann", channel="terminal")
        else:
            it.clock.move(601)
        await it.is_now(IncidentStatus.DECIDED)
        for _ in range(2):
            await it.people.settled(await it.desk.get(approval.id))
        await it.people.close(it.incident_id, response(), recovered=False)
        timeline = await it.timeline()
        await until(lambda: any(mail in m.as_string() for _, m in it.channels.mail.taken))
        last = it.channels.mail.taken[-1][1]
        shown = it.channels.slack.find("Timeline of")
        root = it.channels.slack.find(f"shop/checkout: {head}")
    assert root is not None and "nothing was changed" in root[1]["text"]
    assert timeline.count(f"a person is asked, until {approval.expires_at:%H:%M:%S} UTC") == 1
    assert timeline.count(says) == 1
    assert shown is not None and says[:12] in json.dumps(shown)
    assert "The page stays open." in " ".join(last.as_string().split())


ALONE = {"kind": Kind.ACT, "wakes": False}


async def test_a_rollback_that_was_done_alone_and_did_not_help_wakes_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        why = "not_recovered: errors stayed."
        await it.people.page(it.incident_id, response(**ALONE), why, "Look.")
        assert it.channels.pages.pages == 1


async def test_what_a_limit_or_a_freeze_stops_at_the_last_moment_wakes_a_person_and_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        approval = await it.desk.request(plan(incident_id=it.incident_id), "responder")
        why = "A limit stops it: the breaker is open."
        await it.people.ask(approval, response(**ALONE), it.incident_id, why)
        (event,) = it.channels.pages.events
    assert "the breaker is open" in event["payload"]["summary"]


async def test_where_the_policy_wants_no_alert_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        quiet = response(page=Page(pagerduty=False), **ALONE)
        await it.people.page(it.incident_id, quiet, "not_recovered: errors stayed.", "Look.")
        assert it.channels.pages.pages == 0 and len(it.channels.mail.taken) == 1
