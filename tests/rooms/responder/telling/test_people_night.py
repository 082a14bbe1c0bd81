"""A bad rollout at night, answered in Slack by each of its three ways, over a recorded incident."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.journal.database import Database
from mcp_devops.journal.journal import Journal
from mcp_devops.model.target import WorkloadKind
from mcp_devops.responder.service import Responder, watching
from mcp_devops.responder.telling.channels import Front
from mcp_devops.scenarios.listening import listening
from mcp_devops.scenarios.serving import connect, replayed
from mcp_devops.settings import ServerSettings
from mcp_devops.web.routes import page_file
from mcp_devops.webhooks.routes import Hearers, webhook_routes
from mcp_devops.webhooks.settings import WebhookSettings
from tests.support import slack
from tests.support.channels import Channels, channels, clean_environment, until

ASKING = """\
version: 1
defaults:
  automatic: ask
  without_data: record_only
  approval: {approvers: [U0ANN]}
  observe: {for_s: 60, step_s: 5}
  resolve: {pagerduty: resolve}
"""


@dataclass
class Night:
    """One recorded incident with nobody at a keyboard, and people in Slack."""

    gateway: Gateway
    responder: Responder
    there: Channels
    http: httpx2.AsyncClient

    async def rows(self, query: str) -> list[dict[str, Any]]:
        database = await self.gateway.services.get(Database)
        return await database.read(lambda c: [dict(r) for r in c.execute(query).fetchall()])

    async def question(self) -> tuple[str, dict[str, Any]]:
        """The message that asks, and its ts."""
        await until(lambda: self.there.slack.find("Approve?"), 60)
        found = self.there.slack.find("Approve?")
        assert found is not None
        # The mail with the question is not sent any more once it is answered.
        await until(lambda: len(self.there.mail.taken) >= 2)
        return found

    async def ended(self) -> str:
        async with asyncio.timeout(90):
            while True:
                for row in await self.rows("SELECT * FROM runs WHERE target LIKE '%/cart %'"):
                    if "ended_at" in json.loads(row["body"]):
                        return str(row["status"])
                await asyncio.sleep(0.1)

    async def came_to_its_end(self) -> dict[str, Any]:
        """Check what holds however it was answered. Returns the question as it stands."""
        ts, _ = await self.question() if self.there.slack.find("Approve?") else ("", {})
        assert await self.ended() == "recovered"
        assert [a["status"] for a in await self.rows("SELECT status FROM actions")] == ["done"]
        fake = self.there.slack
        await until(lambda: fake.find("Timeline of") and set(self.there.pages.alerts.values()))
        await until(lambda: set(self.there.pages.alerts.values()) == {"resolved"})
        actions = [e["event_action"] for e in self.there.pages.events]
        assert actions == ["trigger", "acknowledge", "resolve"] and self.there.pages.pages == 1
        found = fake.find("APPROVED")
        assert found is not None, ts
        timeline = fake.find("Timeline of")
        root = next(iter(fake.messages))
        assert timeline is not None and timeline[1]["thread_ts"] == root
        assert "recovered" in json.dumps(fake.messages[root])
        (incident,) = await self.rows("SELECT body FROM incidents WHERE name = 'cart'")
        assert "(U0ANN) handles it" in incident["body"]
        mails = {str(m["Subject"]).strip().split("]")[0]: m for _, m in self.there.mail.taken}
        attached = [[a.get_filename() for a in m.iter_attachments()] for m in mails.values()]
        assert len(mails) == 3 and sorted(map(len, attached)) == [0, 1, 1]
        journal = await self.gateway.services.get(Journal)
        assert (await journal.verify()).ok
        return found[1]


@asynccontextmanager
async def night(folder: Path, monkeypatch: pytest.MonkeyPatch, **told: str) -> AsyncIterator[Night]:
    file = folder / "policy.yaml"
    file.write_text(ASKING, encoding="utf-8")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        there = await enter(channels(**told))
        world, cluster, token, metrics = await enter(replayed("crash-loop"))
        environment: dict[str, str] = {}
        connect(environment, folder, world.scenario, cluster, token, metrics)
        policy = {"MCP_DEVOPS_RESPONSE__POLICY_FILE": str(file)}
        clean_environment(monkeypatch, environment | there.environment | policy)
        settings = ServerSettings(state_dir=folder / "state", allow_writes=("shop",))
        gateway = await enter(open_gateway(settings, channel="test", clock=world.clock))
        front = Front(lambda i: page_file(gateway, i), hears_slack="signing_secret" in told)
        watched = watching(gateway, ("shop",), (WorkloadKind.DEPLOYMENT,), front=front)
        responder = await enter(watched)

        async def deployed(told: Any) -> str:
            return "watched"

        hearers = Hearers(
            deployed,
            responder.alerted,
            responder.people.answered,
            slack_secret=told.get("signing_secret"),
        )
        database = await gateway.services.get(Database)
        routes = webhook_routes(WebhookSettings(), database, world.clock, hearers)
        url = await enter(listening(Starlette(routes=routes)))
        http = await enter(httpx2.AsyncClient(base_url=url))
        yield Night(gateway, responder, there, http)


def pressed(it: Night, question: dict[str, Any], who: str, at: str) -> dict[str, Any]:
    """A click on the Approve button of a message."""
    ((approve, *_),) = [b["elements"] for b in question["blocks"] if b["type"] == "actions"]
    action = {"type": "button", **{k: approve[k] for k in ("action_id", "value")}}
    return slack.click(
        user={"id": who, "username": who.lower(), "team_id": "T1"},
        actions=[action | {"action_ts": at}],
        response_url=f"{it.there.slack.url}/answers/{at}",
    )


def envelope(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"type": "interactive", "envelope_id": name, "payload": payload}


async def test_over_the_socket_also_when_it_is_closed_and_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night(tmp_path, monkeypatch, app_token=slack.APP) as it:
        fake = it.there.slack
        _, question = await it.question()
        link = await fake.connections(1)
        await link.send_json(envelope("e1", pressed(it, question, "U0EVE", "1.1")))
        await until(lambda: fake.answers)
        before = await it.rows("SELECT * FROM actions")
        await link.send_json({"type": "disconnect", "reason": "refresh_requested"})
        link = await fake.connections(2)
        click = pressed(it, question, "U0ANN", "1.2")
        await link.send_json(envelope("e2", click))
        await fake.acknowledged("e1", "e2")
        await link.send_json(envelope("e2", click) | {"retry_attempt": 1})
        settled = await it.came_to_its_end()
        says = [a["text"] for a in fake.answers]
    assert before == [] and "not on the list" in says[0]
    assert says[1:] == ["Recorded: approved."], "a repeated envelope is one answer"
    assert settled["text"].startswith("APPROVED by u0ann (U0ANN) at ")
    assert fake.acks.count("e1") == 1


async def test_over_the_signed_address_with_a_slack_that_fails_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night(tmp_path, monkeypatch, signing_secret=slack.SIGNING, timeout_s="1") as it:
        fake = it.there.slack
        # A pause of 3 s is asked for, then Slack fails in its own word, then it is silent.
        fake.faults["chat.update"] = [429, "internal_error", "silent"]
        _, question = await it.question()
        body = slack.body_of(pressed(it, question, "U0ANN", "1.1"))
        now = it.gateway.clock.now().timestamp()
        forged = slack.signed(body, secret="another", stamp=f"{now:.0f}")
        refused = await it.http.post("/webhooks/slack", content=body, headers=forged)
        genuine = slack.signed(body, stamp=f"{now:.0f}")
        taken = await it.http.post("/webhooks/slack", content=body, headers=genuine)
        await it.came_to_its_end()
    assert (refused.status_code, taken.status_code) == (401, 200)
    assert fake.faults["chat.update"] == []


async def test_by_reactions_where_slack_cannot_reach_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night(tmp_path, monkeypatch) as it:
        fake = it.there.slack
        ts, question = await it.question()
        assert "white_check_mark" in json.dumps(question) and "thread_ts" not in question
        fake.reactions[ts] = [{"name": "white_check_mark", "users": ["UBOT", "U0EVE"]}]
        await until(lambda: fake.find("not on the list"))
        before = await it.rows("SELECT * FROM actions")
        fake.reactions[ts] = [{"name": "white_check_mark::skin-tone-3", "users": ["U0ANN"]}]
        await it.came_to_its_end()
    assert before == []


async def test_by_reactions_where_the_socket_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with night(tmp_path, monkeypatch, app_token="xapp-1-revoked") as it:
        ts, question = await it.question()
        assert not [b for b in question["blocks"] if b["type"] == "actions"]
        it.there.slack.reactions[ts] = [{"name": "white_check_mark", "users": ["U0ANN"]}]
        await it.came_to_its_end()
