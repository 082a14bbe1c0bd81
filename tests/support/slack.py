"""A Slack on loopback: Web API, Socket Mode and answer addresses, with their failures."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from aiohttp import WSMsgType, web

from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.settings import SlackSettings
from tests.support.pagerduty import NOW, SteppedClock

BOT = "xoxb-1111111111-botbotbotbot"
APP = "xapp-1-A0001-appappappapp"
SIGNING = "8f742231b10e8888abcd99yyyzzz85a5"
CHANNEL = "C0INCIDENT"
Json = dict[str, Any]


@dataclass
class FakeSlack:
    """What it holds and was asked; `faults` are played first, a method's own before any's."""

    faults: dict[str, list[Any]] = field(default_factory=dict)
    calls: list[tuple[str, Json]] = field(default_factory=list)
    messages: dict[str, Json] = field(default_factory=dict)
    """ts -> body."""
    thread: list[Json] = field(default_factory=list)
    """What conversations.replies gives."""
    members: set[str] = field(default_factory=lambda: {CHANNEL})
    answers: list[Json] = field(default_factory=list)
    answer_status: int = 200
    used: dict[str, int] = field(default_factory=dict)
    """How often an answer address was used; Slack takes five answers."""
    reactions: dict[str, list[Json]] = field(default_factory=dict)
    """ts -> reactions, for conversations.replies where `thread` is empty."""
    emails: dict[str, str] = field(default_factory=dict)
    """Confirmed addresses by user id."""
    teams: dict[str, str] = field(default_factory=dict)
    """Workspaces by user id, where it is not T1."""
    bots: set[str] = field(default_factory=set)
    """User ids of apps."""
    socket_url: str = ""
    """In place of its own."""
    greet: bool = True
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    acks: list[str] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at each acknowledgement and each connection."""
    url: str = ""

    def said(self, method: str) -> list[Json]:
        """The bodies of the calls of one method."""
        return [body for name, body in self.calls if name == method]

    async def api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        raw = await request.post()
        body: Json = dict(raw) if raw else json.loads(await request.text() or "{}")
        self.calls.append((method, body))
        fault = self.faults[method].pop(0) if self.faults.get(method) else None
        if isinstance(fault, int):
            headers = {"Retry-After": "3"} if fault == 429 else {}
            return web.Response(status=fault, text="<html>", headers=headers)
        if fault == "silent":
            await asyncio.sleep(30)
        if isinstance(fault, str):
            return web.json_response({"ok": False, "error": fault})
        if isinstance(fault, dict):
            return web.json_response(fault)
        want = APP if method == "apps.connections.open" else BOT
        if request.headers.get("Authorization") != f"Bearer {want}":
            return web.json_response({"ok": False, "error": "invalid_auth"})
        return web.json_response(self._answer(method, body))

    def _answer(self, method: str, body: Json) -> Json:
        if method == "auth.test":
            return {"ok": True, "user": "mcp-devops", "user_id": "UBOT", "team": "Acme",
                    "team_id": "T1"}  # fmt: skip
        if method == "apps.connections.open":
            return {"ok": True, "url": self.socket_url or self.url.replace("http", "ws") + "/link"}
        if method == "users.info":
            profile = {"display_name": "Ann\u202e <!here>"}
            email = self.emails.get(body["user"])
            told: Json = {"is_email_confirmed": True} if email else {}
            profile |= {"email": email} if email else {}
            told |= {"team_id": self.teams.get(body["user"], "T1")}
            told |= {"is_bot": body["user"] in self.bots}
            return {"ok": True, "user": {"id": body["user"], "profile": profile, **told}}
        if method == "conversations.replies":
            start = int(body.get("cursor", 0))
            thread = self.thread or self._thread(body["ts"])
            if not thread:
                return {"ok": False, "error": "thread_not_found"}
            after = str(start + 2) if start + 2 < len(thread) else ""
            page = thread[start : start + 2]
            meta = {"next_cursor": after}
            return {"ok": True, "messages": page, "response_metadata": meta}
        if body["channel"] not in self.members:
            return {"ok": False, "error": "channel_not_found"}
        if wrong := wrong_with(body):
            return {"ok": False, "error": wrong}
        if body.get("thread_ts", next(iter(self.messages), "")) not in self.messages and (
            "thread_ts" in body
        ):
            return {"ok": False, "error": "thread_not_found"}
        if method == "chat.update":
            if body["ts"] not in self.messages:
                return {"ok": False, "error": "message_not_found"}
            self.messages[body["ts"]] = body
            return {"ok": True, "channel": body["channel"], "ts": body["ts"]}
        ts = f"1772334720.{len(self.messages):06d}"
        self.messages[ts] = body
        return {"ok": True, "channel": body["channel"], "ts": ts}

    def _thread(self, ts: str) -> list[Json]:
        """A message of ours with its reactions, and what stands under it."""
        if ts not in self.messages:
            return []
        root = {"ts": ts, "user": "UBOT", "text": "", "reactions": self.reactions.get(ts, [])}
        under = [
            {"ts": at, "user": "UBOT", "bot_id": "B1", "thread_ts": ts, "text": m["text"]}
            for at, m in self.messages.items()
            if m.get("thread_ts") == ts
        ]
        return [root, *under]

    def find(self, word: str) -> tuple[str, Json] | None:
        """The newest message that holds this word, and its ts."""
        held = [(ts, m) for ts, m in self.messages.items() if word in json.dumps(m)]
        return held[-1] if held else None

    async def response_url(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        self.used[name] = self.used.get(name, 0) + 1
        if self.used[name] > 5:
            return web.Response(status=404, text="used_url")
        self.answers.append(await request.json())
        return web.Response(status=self.answer_status, text="ok")

    async def link(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        if self.greet:
            await socket.send_json({"type": "hello", "num_connections": 1})
        self.heard.set()
        async for frame in socket:
            if frame.type is WSMsgType.TEXT:
                self.acks.append(json.loads(frame.data)["envelope_id"])
                self.heard.set()
        return socket

    async def connections(self, count: int) -> web.WebSocketResponse:
        """The newest connection, once there were `count`."""
        await self._until(lambda: len(self.sockets) >= count)
        return self.sockets[-1]

    async def acknowledged(self, *names: str) -> None:
        """Return once these envelopes were acknowledged."""
        await self._until(lambda: set(names) <= set(self.acks))

    async def _until(self, done: Any) -> None:
        async with asyncio.timeout(20):
            while not done():
                self.heard.clear()
                if not done():
                    await self.heard.wait()


def wrong_with(body: Json) -> str:
    """Slack's word for what is wrong with a message, by its published limits."""
    blocks = body.get("blocks", [])
    if not body.get("text"):
        return "no_text"
    if len(blocks) > 50:
        return "invalid_blocks"
    if chars(blocks) > 13_200:
        return "msg_blocks_too_long"
    if body.get("reply_broadcast") and "thread_ts" not in body:
        return "invalid_arguments"
    return "invalid_blocks" if any(not _fits(b) for b in blocks) else ""


def _fits(block: Json) -> bool:
    kind = block["type"]
    if kind == "header":
        return 0 < len(block["text"]["text"]) <= 150 and block["text"]["type"] == "plain_text"
    if kind == "section":
        given = block.get("fields", [])
        text = block.get("text", {"text": "x"})["text"]
        return (
            0 < len(text) <= 3000
            and len(given) <= 10
            and all(len(f["text"]) <= 2000 for f in given)
        )
    if kind == "context":
        return len(block["elements"]) <= 10
    buttons = block["elements"]
    names = {e["action_id"] for e in buttons}
    return (
        kind == "actions" and 0 < len(names) == len(buttons) <= 25 and all(map(_is_button, buttons))
    )


def _is_button(e: Json) -> bool:
    confirm = e.get("confirm")
    limits = {"title": 100, "text": 300, "confirm": 30, "deny": 30}
    return (
        e["text"]["type"] == "plain_text"
        and 0 < len(e["text"]["text"]) <= 75
        and len(e["value"]) <= 2000
        and len(e["action_id"]) <= 255
        and e.get("style", "primary") in ("primary", "danger")
        and (confirm is None or all(0 < len(confirm[k]["text"]) <= n for k, n in limits.items()))
    )


def chars(value: Any) -> int:
    """Characters of every string in it."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(chars, value.values()))
    return sum(map(chars, value)) if isinstance(value, list) else 0


@asynccontextmanager
async def slack(
    faults: dict[str, list[Any]] | None = None,
    clock: SteppedClock | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[SlackClient, FakeSlack, SteppedClock]]:
    """A client of a Slack that fails in these ways first."""
    clock = clock or SteppedClock()
    fake = FakeSlack(faults or {})
    async with slack_server(fake):
        given = SlackSettings.load(**(connection(fake) | {"app_token": APP} | settings))
        client = SlackClient(given, clock, pause=clock.pause, jitter=lambda: 0.5)
        try:
            yield client, fake, clock
        finally:
            await client.close()


def connection(fake: FakeSlack) -> dict[str, str]:
    """The settings that lead to it, without a way for answers."""
    return {
        "bot_token": BOT,
        "channel": CHANNEL,
        "api_url": f"{fake.url}/api",
        "response_host": urlsplit(fake.url).netloc,
    }


@asynccontextmanager
async def slack_server(fake: FakeSlack) -> AsyncIterator[None]:
    """Serve it on loopback."""
    app = web.Application()
    app.router.add_post("/api/{method}", fake.api)
    app.router.add_post("/answers/{id}", fake.response_url)
    app.router.add_get("/link", fake.link)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    fake.url = f"http://127.0.0.1:{port}"
    try:
        yield
    finally:
        await runner.cleanup()


def click(**changes: Any) -> Json:
    """A block_actions payload, as the published examples have them."""
    payload = {
        "type": "block_actions",
        "user": {"id": "U0ANN", "username": "ann", "name": "ann", "team_id": "T1"},
        "team": {"id": "T1", "domain": "acme"},
        "container": {"type": "message", "message_ts": "1772334720.000000", "channel_id": CHANNEL},
        "channel": {"id": CHANNEL, "name": "incidents"},
        "message": {"type": "message", "ts": "1772334720.000000", "text": "Approve?"},
        "trigger_id": "1.2.abc",
        "response_url": "https://hooks.slack.com/actions/T1/1/secretsecret",
        "actions": [
            {
                "type": "button",
                "action_id": "mcp_devops_approve",
                "block_id": "mcp_devops_decision",
                "value": "apr-0011223344:0123456789abcdef",
                "action_ts": "1772334725.123456",
            }
        ],
    }
    return payload | changes


def command(text: str = "status", **changes: str) -> dict[str, str]:
    """A slash command's fields."""
    return {
        "command": "/mcp-devops",
        "text": text,
        "user_id": "U0ANN",
        "user_name": "ann",
        "team_id": "T1",
        "channel_id": CHANNEL,
        "trigger_id": "13345224609.738474920.8088930838d88f008e0",
        "response_url": "https://hooks.slack.com/commands/T1/1/secretsecret",
    } | changes


def body_of(payload: Json) -> bytes:
    """A click as HTTP carries it."""
    return urlencode({"payload": json.dumps(payload)}).encode()


def signed(body: bytes, secret: str = SIGNING, stamp: str | None = None) -> dict[str, str]:
    """Slack's headers over a body."""
    stamp = stamp if stamp is not None else str(int(NOW.timestamp()))
    base = b"v0:" + stamp.encode() + b":" + body
    made = hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={made}"}
