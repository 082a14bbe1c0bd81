from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_devops.errors import DevOpsError, NotFound
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.interactions import Interaction
from mcp_devops.integrations.slack.records import Click, Command
from mcp_devops.integrations.slack.socket_mode import SocketModeClient
from tests.support.slack import click, command, slack


class Taken:
    """What was handed over."""

    def __init__(self) -> None:
        self.all: list[Interaction] = []
        self.news = asyncio.Event()
        self.problem: Exception | None = None

    async def __call__(self, interaction: Interaction) -> None:
        self.all.append(interaction)
        self.news.set()
        if self.problem:
            raise self.problem

    async def count(self, number: int) -> None:
        async with asyncio.timeout(20):
            while len(self.all) < number:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def listening(client: SlackClient, taken: Taken) -> AsyncIterator[SocketModeClient]:
    socket = SocketModeClient(client, taken)
    running = asyncio.create_task(socket.run())
    try:
        yield socket
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()


def envelope(name: str, payload: Any, kind: str = "interactive") -> dict[str, Any]:
    return {"type": kind, "envelope_id": name, "payload": payload, "accepts_response_payload": True}


def clicked_at(ts: str) -> dict[str, Any]:
    payload = click()
    payload["actions"][0]["action_ts"] = ts
    return payload


async def test_clicks_and_commands_are_acknowledged_and_handed_over() -> None:
    taken = Taken()
    async with slack() as (client, fake, _), listening(client, taken) as socket:
        link = await fake.connections(1)
        await socket.connected.wait()
        await link.send_json(envelope("e1", click()))
        await link.send_json(envelope("e2", command("approve apr-1"), "slash_commands"))
        await fake.acknowledged("e1", "e2")
        await taken.count(2)
    assert isinstance(taken.all[0], Click) and isinstance(taken.all[1], Command)


async def test_a_repeated_envelope_is_acknowledged_again_and_handled_once() -> None:
    taken = Taken()
    async with slack() as (client, fake, _), listening(client, taken):
        link = await fake.connections(1)
        await link.send_json(envelope("e1", click()))
        await link.send_json(envelope("e1", click()) | {"retry_attempt": 1})
        await link.send_json(envelope("e2", click()))
        await link.send_json(envelope("e3", clicked_at("1772334799.1")))
        await fake.acknowledged("e1", "e2", "e3")
        await taken.count(2)
    assert fake.acks.count("e1") == 2 and len(taken.all) == 2


async def test_a_slow_handler_delays_no_acknowledgement() -> None:
    holding = asyncio.Event()

    async def slow(_: Interaction) -> None:
        await holding.wait()

    taken = Taken()
    async with slack() as (client, fake, _):
        socket = SocketModeClient(client, slow)
        running = asyncio.create_task(socket.run())
        link = await fake.connections(1)
        for number in range(60):
            await link.send_json(envelope(f"e{number}", clicked_at(f"1772334799.{number}")))
        await fake.acknowledged(*(f"e{n}" for n in range(60)))
        holding.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert taken.all == []


async def test_junk_and_foreign_envelopes_are_acknowledged_and_passed_over() -> None:
    taken = Taken()
    async with slack() as (client, fake, _), listening(client, taken):
        link = await fake.connections(1)
        await link.send_str("not json")
        await link.send_str("[1]")
        await link.send_str("[" * 100_000)
        await link.send_bytes(b"\x00")
        await link.send_json({"type": "interactive", "payload": click()})
        await link.send_json(envelope("bad id!", click()))
        await link.send_json(envelope("e1", [1]))
        await link.send_json(envelope("e2", {}, "slash_commands"))
        await link.send_json(envelope("e3", [1], "slash_commands"))
        await link.send_json(envelope("e4", {"event": {}}, "events_api"))
        await link.send_json(envelope("e5", click()))
        await taken.count(1)
    assert fake.acks == ["e1", "e2", "e3", "e4", "e5"] and len(taken.all) == 1


async def test_a_handlers_refusal_does_not_end_the_listening() -> None:
    taken = Taken()
    taken.problem = NotFound("There is no approval.", fix="-")
    async with slack() as (client, fake, _), listening(client, taken):
        link = await fake.connections(1)
        await link.send_json(envelope("e1", click()))
        await taken.count(1)
        await link.send_json(envelope("e2", clicked_at("2.0")))
        await taken.count(2)


@pytest.mark.parametrize("reason", ["refresh_requested", "warning"])
async def test_when_slack_asks_for_a_new_connection_there_is_one(reason: str) -> None:
    taken = Taken()
    async with slack() as (client, fake, clock), listening(client, taken) as socket:
        link = await fake.connections(1)
        await socket.connected.wait()
        clock.move(600)
        await link.send_json({"type": "disconnect", "reason": reason})
        link = await fake.connections(2)
        await link.send_json(envelope("e1", click()))
        await taken.count(1)
    assert clock.paused == [] and len(fake.said("apps.connections.open")) == 2


async def test_refreshes_in_a_circle_are_slowed_down() -> None:
    async with slack() as (client, fake, clock), listening(client, Taken()):
        for number in range(1, 4):
            link = await fake.connections(number)
            await link.send_json({"type": "disconnect", "reason": "refresh_requested"})
        await fake.connections(4)
    assert clock.paused[:3] == [0.75, 1.5, 3.0]


async def test_a_lost_connection_is_made_anew() -> None:
    taken = Taken()
    async with slack() as (client, fake, clock), listening(client, taken) as socket:
        link = await fake.connections(1)
        await socket.connected.wait()
        await link.close()
        link = await fake.connections(2)
        await link.send_json(envelope("e1", click()))
        await taken.count(1)
        assert socket.problem is None and socket.connected.is_set()
    assert clock.paused == [0.75]


async def test_failures_to_connect_are_repeated_with_growing_pauses() -> None:
    faults: dict[str, list[Any]] = {"apps.connections.open": [429] * 4}
    taken = Taken()
    async with slack(faults, deadline_s=2.5) as (client, fake, clock), listening(client, taken):
        await fake.connections(1)
    assert clock.paused == [0.75, 1.5, 3.0, 6.0]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("invalid_auth", "CREDENTIALS_REJECTED"),
        ({"ok": False, "error": "missing_scope", "needed": "connections:write"},
         "PERMISSION_DENIED"),
    ],
)  # fmt: skip
async def test_what_waiting_does_not_mend_ends_it(fault: Any, code: str) -> None:
    async with slack({"apps.connections.open": [fault]}) as (client, _, _):
        socket = SocketModeClient(client, Taken())
        with pytest.raises(DevOpsError) as raised:
            await socket.run()
    assert raised.value.code == code and socket.problem is raised.value


async def test_without_an_app_token_it_says_so() -> None:
    async with slack(app_token=None) as (client, fake, _):
        with pytest.raises(DevOpsError) as raised:
            await SocketModeClient(client, Taken()).run()
    assert raised.value.code == "NOT_CONFIGURED" and fake.calls == []


async def test_a_link_that_was_switched_off_ends_it() -> None:
    async with slack() as (client, fake, _):
        running = asyncio.create_task(SocketModeClient(client, Taken()).run())
        link = await fake.connections(1)
        await link.send_json({"type": "disconnect", "reason": "link_disabled"})
        with pytest.raises(DevOpsError) as raised:
            await running
    assert raised.value.code == "NOT_CONFIGURED"


@pytest.mark.parametrize(
    "url",
    [
        "wss://evil.example/link?ticket=t1cket", "ws://wss.slack.com/?ticket=t1cket",
        "https://wss.slack.com/?ticket=t1cket", "wss://slack.com.evil.example/?ticket=t1cket",
        "wss://wss.slack.com@evil.example/?ticket=t1cket", "wss://[t1cket", "nothing",
    ],
)  # fmt: skip
async def test_a_socket_elsewhere_is_never_opened(url: str) -> None:
    async with slack() as (client, fake, clock):
        fake.socket_url = url
        socket = SocketModeClient(client, Taken())
        running = asyncio.create_task(socket.run())
        async with asyncio.timeout(20):
            while len(clock.paused) < 2:
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert fake.sockets == [] and socket.problem is not None
    assert "t1cket" not in str(socket.problem) and not socket.connected.is_set()


async def test_a_socket_that_nobody_serves_is_tried_again_without_naming_its_ticket() -> None:
    async with slack() as (client, fake, clock):
        fake.socket_url = "ws://127.0.0.1:9/?ticket=t1cket"
        socket = SocketModeClient(client, Taken())
        running = asyncio.create_task(socket.run())
        async with asyncio.timeout(20):
            while len(clock.paused) < 2:
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert socket.problem and "t1cket" not in str(socket.problem)
    assert socket.problem.__cause__ is None
