"""Slack's and PagerDuty's signed requests over a real socket, up to the incident's record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.applications import Starlette

from mcp_devops.errors import InvalidArguments
from mcp_devops.gateway.approvals import Approval, ApprovalStatus
from mcp_devops.integrations.pagerduty.events import dedup_key, incident_of
from mcp_devops.integrations.pagerduty.webhook import parse
from mcp_devops.integrations.slack.approvals import button_value
from mcp_devops.journal.database import Database
from mcp_devops.responder.settings import HousekeepingSettings
from mcp_devops.scenarios.listening import listening
from mcp_devops.webhooks.routes import MAX_BODY_BYTES, PAGERDUTY_LATE, Hearers, webhook_routes
from mcp_devops.webhooks.settings import WebhookSettings
from tests.support import pagerduty, slack
from tests.support.channels import ANN, Shift, shift, until

SECRET = "whsec-correct-horse"


@asynccontextmanager
async def hearing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, policy: str = ANN, open_: bool = True
) -> AsyncIterator[tuple[Shift, httpx2.AsyncClient]]:
    async def nothing(*given: Any) -> str:
        raise AssertionError("nobody deploys here")

    async with shift(folder, monkeypatch, policy, signing_secret=slack.SIGNING) as it:
        hearers = Hearers(
            nothing,
            nothing,
            it.people.answered,
            slack_secret=slack.SIGNING,
            paged=it.people.heard,
            pagerduty_secret=SECRET if open_ else None,
        )
        database = await it.gateway.services.get(Database)
        routes = webhook_routes(WebhookSettings(), database, it.clock, hearers)
        async with (
            listening(Starlette(routes=routes)) as url,
            httpx2.AsyncClient(base_url=url) as http,
        ):
            yield it, http


def pressed(it: Shift, approval: Approval, who: str = "U0ANN", at: str = "1.5") -> bytes:
    action = {
        "action_id": "mcp_devops_approve",
        "value": button_value(approval.id, approval.digest),
        "action_ts": at,
    }
    return slack.body_of(
        slack.click(
            user={"id": who, "username": "ann", "team_id": "T1"},
            actions=[action],
            response_url=f"{it.channels.slack.url}/answers/1",
        )
    )


def signed(it: Shift, body: bytes, off_s: float = 0, **more: str) -> dict[str, str]:
    stamp = f"{it.clock.now().timestamp() + off_s:.0f}"
    return slack.signed(body, stamp=stamp) | more


async def test_a_signed_click_is_recorded_before_slack_gets_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(tmp_path, monkeypatch) as (it, http):
        approval = await it.asked()
        body = pressed(it, approval)
        answer = await http.post("/webhooks/slack", content=body, headers=signed(it, body))
        settled = await it.desk.get(approval.id)
        replay = await http.post("/webhooks/slack", content=body, headers=signed(it, body))
        await until(lambda: it.channels.slack.answers)
    assert (answer.status_code, answer.content, replay.status_code) == (200, b"", 200)
    assert (settled.status, settled.answered_by) == (ApprovalStatus.APPROVED, "ann (U0ANN)")
    assert len(it.channels.slack.answers) == 1, "a replayed request says nothing"


@pytest.mark.parametrize(
    ("off_s", "headers"),
    [
        (-302, {}),
        (302, {}),
        (0, {"X-Slack-Request-Timestamp": "soon"}),
        (0, {"X-Slack-Request-Timestamp": "9" * 400}),
        (0, {"X-Slack-Signature": "v0=" + "0" * 64}),
        (0, {"X-Slack-Signature": ""}),
    ],
    ids=["stale", "early", "junk time", "endless time", "forged", "unsigned"],
)
async def test_a_click_that_slack_did_not_sign_now_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off_s: float, headers: dict[str, str]
) -> None:
    async with hearing(tmp_path, monkeypatch) as (it, http):
        approval = await it.asked()
        body = pressed(it, approval)
        given = signed(it, body, off_s, **headers)
        answer = await http.post("/webhooks/slack", content=body, headers=given)
        assert (await it.desk.get(approval.id)).status is ApprovalStatus.PENDING
    assert answer.status_code == 401


async def test_two_clicks_at_once_are_one_answer_and_both_people_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ANN.replace("U0ANN", "U0ANN, U0BOB")
    async with hearing(tmp_path, monkeypatch, both) as (it, http):
        approval = await it.asked()
        bodies = [pressed(it, approval), pressed(it, approval, "U0BOB")]
        await asyncio.gather(
            *(http.post("/webhooks/slack", content=b, headers=signed(it, b)) for b in bodies)
        )
        await until(lambda: len(it.channels.slack.answers) == 2)
    says = sorted(a["text"] for a in it.channels.slack.answers)
    assert "changes nothing" in says[0] and says[1] == "Recorded: approved."


async def test_slash_commands_come_the_same_way_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(tmp_path, monkeypatch) as (it, http):
        approval = await it.asked()
        url = f"{it.channels.slack.url}/answers/1"
        for text in ("status", f"approve {approval.id}"):
            # Without a trigger id, so that only the signed request tells them apart.
            form = slack.command(text, response_url=url, trigger_id="")
            body = urlencode(form).encode()
            for _ in range(2):
                given = signed(it, body)
                answer = await http.post("/webhooks/slack", content=body, headers=given)
                assert answer.status_code == 200
        await until(lambda: len(it.channels.slack.answers) == 2)
        settled = await it.desk.get(approval.id)
    assert settled.status is ApprovalStatus.APPROVED


async def test_where_the_app_cannot_be_asked_which_workspace_is_its_own_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(tmp_path, monkeypatch) as (it, http):
        approval = await it.asked()
        it.channels.slack.faults["auth.test"] = ["invalid_auth"]
        body = pressed(it, approval)
        answer = await http.post("/webhooks/slack", content=body, headers=signed(it, body))
        assert (await it.desk.get(approval.id)).status is ApprovalStatus.PENDING
        again = await http.post("/webhooks/slack", content=body, headers=signed(it, body))
        assert (await it.desk.get(approval.id)).status is ApprovalStatus.APPROVED
    assert (answer.status_code, again.status_code) == (503, 200), "Slack shows that it failed"


async def deliver(
    http: httpx2.AsyncClient, told: dict[str, Any], delivery: str = "", secret: str = SECRET
) -> httpx2.Response:
    body = json.dumps(told).encode()
    headers = {"X-PagerDuty-Signature": pagerduty.signed(secret, body), "X-Webhook-Id": delivery}
    return await http.post("/webhooks/pagerduty", content=body, headers=headers)


def about(it: Shift, kind: str, number: int, **changes: Any) -> dict[str, Any]:
    now = it.clock.now().isoformat()
    made = pagerduty.webhook(kind, **{"id": f"01EVENT{number}", "occurred_at": now, **changes})
    made["event"]["data"]["incident_key"] = dedup_key(it.incident_id)
    return made


async def test_what_a_person_does_in_pagerduty_is_in_the_timeline_and_approves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(tmp_path, monkeypatch) as (it, http):
        approval = await it.asked()
        machine = about(it, "incident.triggered", 1, agent=None)
        assert (await deliver(http, machine)).json() == {"status": "nothing to do"}
        kinds = ["acknowledged", "reassigned", "unacknowledged", "resolved", "reopened"]
        for number, kind in enumerate(kinds, 2):
            answer = await deliver(http, about(it, f"incident.{kind}", number))
            assert (answer.status_code, answer.json()) == (202, {"status": "written down"})
        now = it.clock.now().isoformat()
        note = pagerduty.note_webhook("restarting the database", id="01EVENT9", occurred_at=now)
        assert (await deliver(http, note)).json() == {"status": "written down"}
        waits = (await it.desk.get(approval.id)).status
        timeline = await it.timeline()
    lines = [line for line in timeline.split("\n") if "(Ann Example (PagerDuty PUSER01))" in line]
    assert [line.split(" in PagerDuty")[0] for line in lines] == [
        "acknowledged", "reassigned", "taken back to unacknowledged", "resolved", "reopened",
        "a note was written",
    ]  # fmt: skip
    assert '"restarting the database"' in lines[-1] and waits is ApprovalStatus.PENDING


async def test_what_automation_does_and_what_is_of_others_leaves_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(tmp_path, monkeypatch) as (it, http):
        before = await it.timeline()
        now = it.clock.now().isoformat()
        said = [
            (await deliver(http, made)).json()["status"]
            for made in (
                about(it, "incident.acknowledged", 1, agent=None),
                about(it, "incident.resolved", 2, agent={"id": "P1", "type": "service_reference"}),
                pagerduty.webhook("incident.acknowledged", id="01EVENT3", occurred_at=now),
                pagerduty.note_webhook("x", id="01EVENT4", agent=None, occurred_at=now),
                pagerduty.webhook("pagey.ping", id="01EVENT5"),
            )
        ]
        assert await it.timeline() == before
    assert said == ["nothing to do", "nothing to do", "not ours", "nothing to do", "nothing to do"]


async def test_a_delivery_that_is_repeated_or_replayed_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(tmp_path, monkeypatch) as (it, http):
        told = about(it, "incident.acknowledged", 1)
        other = about(it, "incident.acknowledged", 2)
        said = [
            (await deliver(http, told, "d-00000001")).json(),
            (await deliver(http, told, "d-00000001")).json(),
            (await deliver(http, told, "d-00000002")).json(),
            (await deliver(http, other, "d-00000001")).json(),
        ]
        timeline = await it.timeline()
    assert said == [{"status": "written down"}, *[{"status": "known already"}] * 3]
    assert timeline.count("acknowledged in PagerDuty") == 1


async def test_what_is_replayed_after_its_delivery_is_forgotten_is_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = HousekeepingSettings(keep_days=7)
    assert timedelta(days=least.keep_days) > PAGERDUTY_LATE
    with pytest.raises(ValidationError):
        HousekeepingSettings(keep_days=6.9)
    async with hearing(tmp_path, monkeypatch) as (it, http):
        before = await it.timeline()
        old = (it.clock.now() - PAGERDUTY_LATE - timedelta(seconds=1)).isoformat()
        replayed = await deliver(http, about(it, "incident.resolved", 1, occurred_at=old))
        assert await it.timeline() == before
    assert (replayed.status_code, replayed.json()) == (200, {"status": "too late"})


async def test_forged_closed_large_and_unreadable_deliveries_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(tmp_path, monkeypatch) as (it, http):
        forged = await deliver(http, about(it, "incident.acknowledged", 1), secret="another")
        junk = await deliver(http, {"event": {"event_type": "incident.acknowledged"}})
        large = await http.post("/webhooks/pagerduty", content=b"x" * (MAX_BODY_BYTES + 1))
        timeline = await it.timeline()
    async with hearing(tmp_path, monkeypatch, open_=False) as (it, http):
        closed = await deliver(http, about(it, "incident.acknowledged", 1))
    codes = [answer.status_code for answer in (forged, junk, large, closed)]
    assert codes == [401, 400, 413, 404] and "PagerDuty" not in timeline


@given(
    st.dictionaries(
        st.sampled_from(["id", "event_type", "occurred_at", "agent", "data"]),
        st.none()
        | st.text(max_size=20)
        | st.sampled_from(["incident.annotated", "incident.reassigned", "2026-03-01T00:00:00Z"])
        | st.dictionaries(
            st.sampled_from(["id", "type", "summary", "content", "incident", "assignees"]),
            st.none() | st.text(max_size=20) | st.just({"id": "Q1"}) | st.just([{}, 1]),
        ),
    )
)
def test_any_event_is_read_or_refused(event: dict[str, Any]) -> None:
    try:
        found = parse(json.dumps({"event": event}).encode())
    except InvalidArguments as refused:
        assert refused.fix
    else:
        assert found is None or (found.says and "\n" not in found.says)


@pytest.mark.parametrize(
    ("key", "incident_id"),
    [
        ("mcp-devops:inc-0a1b2c3d", "inc-0a1b2c3d"),
        ("another:inc-0a1b2c3d", None),
        ("mcp-devops:", None),
        ("mcp-devops:a:b", None),
        ("", None),
    ],
)
def test_only_our_own_keys_name_an_incident(key: str, incident_id: str | None) -> None:
    assert incident_of(key) == incident_id
