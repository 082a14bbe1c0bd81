"""A question to people and its answers, over loopback Slack, PagerDuty and mail."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.errors import UpstreamUnavailable
from mcp_devops.gateway.approvals import ApprovalStatus
from mcp_devops.integrations.slack.approvals import button_value
from mcp_devops.integrations.slack.interactions import parse_command, parse_payload
from mcp_devops.integrations.slack.records import Decision, Spoken
from mcp_devops.journal.entry import EntryKind
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.responder.telling.channels import MOST_PAGE_BYTES, Front
from mcp_devops.response_policy.policy import Page
from mcp_devops.web.routes import page_file
from tests.support.channels import ANN, Shift, response, shift, until
from tests.support.slack import APP, CHANNEL, SIGNING, click, command


def pressed(it: Shift, approval: Any, **changes: Any) -> Any:
    """A click on Approve, as Slack sends it."""
    value = button_value(approval.id, approval.digest)
    action = {"action_id": "mcp_devops_approve", "value": value, "action_ts": "1.5"}
    payload = click(actions=[action], response_url=f"{it.channels.slack.url}/answers/1")
    return parse_payload(payload | changes)


def typed(it: Shift, text: str) -> Any:
    return parse_command(command(text, response_url=f"{it.channels.slack.url}/answers/2"))


async def told(it: Shift, count: int = 1) -> str:
    """What the person who answered is told."""
    answers = it.channels.slack.answers
    await until(lambda: len(answers) >= count)
    return str(answers[count - 1]["text"])


def buttons(message: dict[str, Any]) -> list[str]:
    blocks = [b for b in message["blocks"] if b["type"] == "actions"]
    return [e["action_id"] for b in blocks for e in b["elements"]]


async def test_a_question_goes_everywhere_at_once_and_into_the_incidents_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        approval = await it.asked()
        (root_ts, root), (_, question) = it.channels.slack.messages.items()
    assert "thread_ts" not in root and it.incident_id in json.dumps(root)
    assert question["thread_ts"] == root_ts and question["reply_broadcast"] is True
    assert buttons(question) == ["mcp_devops_approve", "mcp_devops_reject"]
    assert it.channels.pages.pages == 1
    subjects = sorted(str(m["Subject"]).strip() for _, m in it.channels.mail.taken)
    assert subjects[0].startswith("[approval needed]") and "It fails." in subjects[1]
    assert f"mcp-devops approve {approval.id}" in str(it.channels.pages.events[0])


async def test_a_click_of_an_approver_is_recorded_shown_and_acknowledged_in_pagerduty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, ANN, app_token=APP) as it:
        approval = await it.asked()
        await it.people.answered(pressed(it, approval))
        said = await told(it)
        settled = await it.desk.get(approval.id)
        await it.people.settled(settled)
        await it.people.settled(settled)
        await until(lambda: set(it.channels.pages.alerts.values()) == {"acknowledged"})
        await until(lambda: it.channels.slack.find("APPROVED"))
        async with asyncio.timeout(30):
            while "owed" in (await it.owed()).values():
                await asyncio.sleep(0.02)
        timeline = await it.timeline()
        edited = it.channels.slack.said("chat.update")
    assert len(it.channels.pages.events) == 2
    assert said == "Recorded: approved." and settled.answered_by == "ann (U0ANN)"
    assert (settled.status, settled.channel) == (ApprovalStatus.APPROVED, "slack")
    assert ["APPROVED" in e["text"] for e in edited] == [True, False] and not buttons(edited[0])
    assert edited[0]["text"].startswith("APPROVED by ann (U0ANN) at ")
    assert "ann (U0ANN) handles it" in timeline


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"user": {"id": "U0EVE", "username": "U0ANN", "team_id": "T1"}}, "not on the list"),
        ({"user": {"id": "U0ANN", "username": "ann", "team_id": "T2"}}, "another workspace"),
        ({"team": {"id": "T2"}}, "another workspace"),
    ],
    ids=["stranger with an approver's name", "guest of a shared channel", "another team"],
)
async def test_whoever_may_not_answer_is_told_so_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str
) -> None:
    async with shift(tmp_path, monkeypatch, ANN, app_token=APP) as it:
        approval = await it.asked()
        await it.people.answered(pressed(it, approval, **changes))
        assert says in await told(it)
        assert (await it.desk.get(approval.id)).status is ApprovalStatus.PENDING
        notes = [e for e in await it.entries() if e.kind is EntryKind.NOTE]
    refused = [e.body for e in notes if "not on the list" in str(e.body.get("what"))]
    assert len(refused) == (1 if says == "not on the list" else 0)


async def test_two_who_click_at_once_are_one_answer_and_the_second_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        approval = await it.asked()
        bob = pressed(it, approval, user={"id": "U0BOB", "username": "bob", "team_id": "T1"})
        await asyncio.gather(it.people.answered(pressed(it, approval)), it.people.answered(bob))
        says = sorted([await told(it, 1), await told(it, 2)])
        answered = [e for e in await it.entries() if e.kind is EntryKind.APPROVAL_ANSWERED]
    assert len(answered) == 1
    assert says[0].startswith(f"Approval {approval.id} is approved by ")
    assert "changes nothing" in says[0] and says[1] == "Recorded: approved."


async def test_a_late_click_and_one_on_another_plan_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        approval = await it.asked()
        other = approval.model_copy(update={"digest": "f" * 64})
        await it.people.answered(pressed(it, other))
        assert "another plan" in await told(it, 1)
        it.clock.move(601)
        await it.people.answered(pressed(it, approval))
        assert "is expired already" in await told(it, 2)
        await it.people.settled(await it.desk.get(approval.id))
        await until(lambda: it.channels.slack.said("chat.update"))
        edited = it.channels.slack.said("chat.update")[0]
        owed = await it.owed()
    assert edited["text"].startswith("EXPIRED at ") and not buttons(edited)
    assert not any("acknowledge" in key for key in owed), "nobody handles it"


async def test_an_approver_may_be_named_by_the_address_that_slack_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ANN.replace("U0ANN", "Ann@Example.com")
    async with shift(tmp_path, monkeypatch, listed, app_token=APP) as it:
        approval = await it.asked()
        await it.people.answered(pressed(it, approval))
        assert "not on the list" in await told(it, 1), "Slack has confirmed no address"
    async with shift(tmp_path, monkeypatch, listed, app_token=APP) as it:
        it.channels.slack.emails["U0ANN"] = "ann@example.com"
        again = await it.asked(to_revision=5)
        await it.people.answered(pressed(it, again))
        assert await told(it, 1) == "Recorded: approved."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Roll back shop/checkout"),
        ("status {approval}", "waits until"),
        ("status {incident}", "Revision 7 fails"),
        ("status inc-00000000", "There is no incident"),
        ("approve {approval}", "Recorded: approved."),
        ("deny {approval}", "Recorded: denied."),
        ("approve apr-0000000000", "There is no approval"),
        ("do something", "Known: approve ID"),
    ],
)
async def test_the_slash_command_tells_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        approval = await it.asked()
        line = text.format(approval=approval.id, incident=it.incident_id)
        await it.people.answered(typed(it, line))
        assert says in await told(it)


async def test_where_answers_are_polled_for_the_question_has_no_buttons_and_its_own_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, ANN, signing_secret=SIGNING) as it:
        approval = await it.asked()
        found = it.channels.slack.find("white_check_mark")
        question = await it.people.question_in_slack(approval.id)
        assert found is not None and question is not None and found[0] == question.ts
        spoken = partial(Spoken, approval_id=approval.id, by="reaction", ts="1.0")
        await it.people.spoken(spoken(decision=Decision.REJECT, user_id="U0EVE"), question)
        under = it.channels.slack.find("not on the list")
        await it.people.spoken(spoken(decision=Decision.REJECT, user_id="U0ANN"), question)
        settled = await it.desk.get(approval.id)
    assert buttons(found[1]) == [] and "thread_ts" not in found[1]
    assert under is not None and under[1]["thread_ts"] == question.ts
    assert settled.status is ApprovalStatus.DENIED


async def test_mails_carry_the_page_and_everything_links_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = "https://ops.example.com/devops"
    pages: list[Any] = []
    front = Front(lambda incident_id: page_file(pages[0], incident_id), hears_slack=True)
    async with shift(
        tmp_path, monkeypatch, front=front, public_url=at, signing_secret=SIGNING
    ) as it:
        pages.append(it.gateway)
        await it.asked()
        await it.is_now(IncidentStatus.RECOVERED)
        await it.people.close(it.incident_id, response(), recovered=True)
        await until(lambda: set(it.channels.pages.alerts.values()) == {"resolved"})
        link = f"{at}/incidents/{it.incident_id}"
        root = next(iter(it.channels.slack.messages.values()))
        mails = [m for _, m in it.channels.mail.taken]
    files = {
        str(m["Subject"]).strip().split("]")[0]: [(a.get_filename(), a.get_content()) for a in
                                         m.iter_attachments()]
        for m in mails
    }  # fmt: skip
    assert set(files) == {"[critical", "[approval needed", "[info"}
    assert files["[approval needed"] == []
    for kind in ("[critical", "[info"):
        ((name, content),) = files[kind]
        assert name == f"{it.incident_id}.html"
        assert "shop/checkout" in content and "<!doctype html>" in content[:40].lower()
    assert all(link in m.as_string().replace("=\n", "").replace("\n", "") for m in mails)
    assert it.channels.pages.events[0]["links"][0]["href"] == link
    assert f"<{link}|Open the incident>" in json.dumps(root)
    ids = [str(m["Message-ID"]) for m in mails]
    assert len(set(ids)) == 3, "no mail poses as another"


@pytest.mark.parametrize("trouble", ["large", "fails", "crashes"])
async def test_a_page_that_cannot_go_along_does_not_keep_the_mail_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    async def page_of(incident_id: str) -> bytes:
        if trouble == "fails":
            raise UpstreamUnavailable("The state is away.", fix="Wait.", source="journal")
        return (
            b"x" * (MOST_PAGE_BYTES + 1) if trouble == "large" else bytes([1 // len(trouble[9:])])
        )

    async with shift(tmp_path, monkeypatch, front=Front(page_of)) as it:
        await it.people.page(it.incident_id, response(), "It fails.", "Look.")
        ((_, mail),) = it.channels.mail.taken
    assert list(mail.iter_attachments()) == [] and "It fails." in str(mail["Subject"])


async def test_the_policys_channel_and_addresses_are_told_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(slack_channel="C0SHOPTEAM", email=("shop@example.com",), pagerduty=False)
    async with shift(tmp_path, monkeypatch, app_token=APP) as it:
        it.channels.slack.members = {CHANNEL, "C0SHOPTEAM"}
        policy = response(page=page, wakes=False)
        await it.people.page(it.incident_id, policy, "It fails.", "Look.")
        (posted,) = it.channels.slack.said("chat.postMessage")
        ((to, _),) = it.channels.mail.taken
    assert posted["channel"] == "C0SHOPTEAM" and it.channels.pages.events == []
    assert to == ["ann@example.com", "shop@example.com"]


async def test_without_any_channel_the_timeline_says_that_nobody_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        for name in ("SLACK__CHANNEL", "PAGERDUTY__ROUTING_KEY", "EMAIL__HOST"):
            monkeypatch.delenv(f"MCP_DEVOPS_{name}")
    from mcp_devops.gateway.approvals import ApprovalDesk
    from mcp_devops.gateway.opening import open_gateway
    from mcp_devops.incidents.store import IncidentStore
    from mcp_devops.journal.database import Database

    async with open_gateway(it.gateway.settings, channel="test") as alone:
        store = await alone.services.get(IncidentStore)
        database = await alone.services.get(Database)
        desk = await alone.services.get(ApprovalDesk)
        people = type(it.people)(alone.services, database, store, desk, it.clock)
        async with people.running():
            await people.page(it.incident_id, response(), "It fails.", "Look.")
            await people.close(it.incident_id, response(), recovered=True)
        incident = (await store.get(it.incident_id)).incident
    assert "no channel to people is configured" in incident.timeline[-1].what
