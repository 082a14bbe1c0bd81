"""A subscriber of the real server hears of the rollout (a Kubernetes watch) and of the incident."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp import types as t

from tests.scenarios.test_played import call, server

DEPLOYMENT = "kubernetes://-/shop/Deployment/payments"


async def yes(context: Any, params: Any) -> t.ElicitResult:
    return t.ElicitResult(action="accept", content={"approve": True})


async def rolled_back(client: Client, incident: str) -> None:
    await call(client, "incident_decide", incident_id=incident)
    await call(client, "incident_roll_back", incident_id=incident)


async def opened(client: Client) -> str:
    found = await call(client, "incident_investigate", namespace="shop", workload="payments")
    return str(found["incident_id"])


async def test_a_listening_client_hears_of_rollout_and_incident(tmp_path: Path) -> None:
    heard: set[str] = set()
    async with Client(server("error-spike", tmp_path), elicitation_callback=yes) as client:
        listed = {str(r.uri) for r in (await client.list_resources()).resources}
        incident = await opened(client)
        wanted = [DEPLOYMENT, f"incident://{incident}"]
        async with client.listen(resource_subscriptions=wanted) as stream:
            acting = asyncio.create_task(rolled_back(client, incident))
            async with asyncio.timeout(60):
                async for event in stream:
                    heard.add(event.uri)  # type: ignore[union-attr]
                    if heard == set(wanted):
                        break
            await acting
        now = await client.read_resource(DEPLOYMENT)
    assert any(uri.endswith("/shop/Deployment/payments") for uri in listed)
    content = now.contents[0]
    assert isinstance(content, t.TextResourceContents) and '"rollout"' in content.text


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_an_older_client_hears_the_same_until_it_unsubscribes(tmp_path: Path) -> None:
    heard: set[str] = set()
    both = asyncio.Event()

    async def on_message(message: Any) -> None:
        if isinstance(message, t.ResourceUpdatedNotification):
            heard.add(str(message.params.uri))
            if len(heard) == 2:
                both.set()

    async with Client(
        server("error-spike", tmp_path),
        mode="legacy",
        elicitation_callback=yes,
        message_handler=on_message,
    ) as client:
        incident = await opened(client)
        wanted = {DEPLOYMENT, f"incident://{incident}"}
        for uri in sorted(wanted):
            await client.subscribe_resource(uri)
        await rolled_back(client, incident)
        async with asyncio.timeout(30):
            await both.wait()
        for uri in sorted(wanted):
            await client.unsubscribe_resource(uri)
    assert heard == wanted
