"""Slack, PagerDuty and a mail server on loopback at once, and people told through them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from mcp_devops.gateway.approvals import Approval, ApprovalDesk
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import Entry
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.responder.response import Kind, Response
from mcp_devops.responder.telling.channels import Front
from mcp_devops.responder.telling.people import People
from mcp_devops.response_policy.policy import Page, Resolve
from mcp_devops.scenarios.listening import listening
from mcp_devops.settings import ServerSettings
from tests.support.moved_clock import Hands
from tests.support.pagerduty import KEY, TARGET, FakePagerDuty, plan, verdict
from tests.support.slack import FakeSlack, connection, slack_server
from tests.support.smtp import FakeMail, mail_server

ANYBODY = "version: 1\n"
ANN = """version: 1
defaults:
  approval: {approvers: [U0ANN]}
"""


@dataclass
class Channels:
    """The three stand-ins, and the settings that lead to them."""

    slack: FakeSlack = field(default_factory=FakeSlack)
    pages: FakePagerDuty = field(default_factory=FakePagerDuty)
    mail: FakeMail = field(default_factory=FakeMail)
    environment: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def channels(**slack: str) -> AsyncIterator[Channels]:
    """Serve them; `slack` are more of its settings: app_token, signing_secret."""
    it = Channels()
    routes = [
        Route("/v2/enqueue", it.pages.enqueue, methods=["POST"]),
        Route("/v2/change/enqueue", it.pages.change, methods=["POST"]),
    ]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(slack_server(it.slack))
        await stack.enter_async_context(mail_server(it.mail))
        pagerduty = await stack.enter_async_context(listening(Starlette(routes=routes)))
        told = connection(it.slack) | {"spacing_s": "0", "poll_s": "1"} | slack
        it.environment = {f"MCP_DEVOPS_SLACK__{k.upper()}": v for k, v in told.items()} | {
            "MCP_DEVOPS_PAGERDUTY__URL": pagerduty,
            "MCP_DEVOPS_PAGERDUTY__ROUTING_KEY": KEY,
            "MCP_DEVOPS_PAGERDUTY__DEADLINE_S": "2",
            "MCP_DEVOPS_EMAIL__HOST": "127.0.0.1",
            "MCP_DEVOPS_EMAIL__PORT": str(it.mail.port),
            "MCP_DEVOPS_EMAIL__TLS": "none",
            "MCP_DEVOPS_EMAIL__SENDER": "devops@example.com",
            "MCP_DEVOPS_EMAIL__TO": "ann@example.com",
            "MCP_DEVOPS_EMAIL__DEADLINE_S": "2",
        }
        yield it


def clean_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Only these of our variables."""
    for variable in [v for v in os.environ if v.startswith("MCP_DEVOPS_")]:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)


def response(**changes: Any) -> Response:
    """What the policy says: ask."""
    fields: dict[str, Any] = {
        "kind": Kind.ASK,
        "reasons": ("The verdict is to roll back.",),
        "policy_version": "1",
        "scope": "defaults",
        "scope_line": None,
        "wakes": True,
        "page": Page(),
        "resolve": Resolve(pagerduty="resolve"),
    }
    return Response(**(fields | changes))


@dataclass
class Shift:
    """People who are told, with an incident to tell of."""

    people: People
    channels: Channels
    gateway: Gateway
    clock: Hands
    store: IncidentStore
    desk: ApprovalDesk
    incident_id: str

    async def asked(self, **changes: Any) -> Approval:
        """A question, asked through every channel."""
        wanted = plan(incident_id=self.incident_id, **changes)
        approval = await self.desk.request(wanted, "responder")
        await self.people.ask(approval, response(), self.incident_id, "It fails.")
        return approval

    async def timeline(self) -> str:
        incident = (await self.store.get(self.incident_id)).incident
        return "\n".join(f"{e.what} ({e.who})" for e in incident.timeline)

    async def is_now(self, status: IncidentStatus) -> None:
        stored = await self.store.get(self.incident_id)
        moved = stored.incident.model_copy(update={"status": status})
        await self.store.save(stored.model_copy(update={"incident": moved}), "moved", "test")

    async def entries(self) -> list[Entry]:
        return [e async for e in self.gateway.journal.stream()]

    async def owed(self) -> dict[str, str]:
        database = await self.gateway.services.get(Database)
        rows = await database.read(lambda c: c.execute("SELECT * FROM outbox").fetchall())
        return {str(r["key"]).replace(self.incident_id, "inc"): str(r["status"]) for r in rows}


async def until(holds: Callable[[], Any], seconds: float = 30) -> None:
    """Return once it holds."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def shift(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: str = ANYBODY,
    front: Front | None = None,
    public_url: str | None = None,
    without: tuple[str, ...] = (),
    **slack: str,
) -> AsyncIterator[Shift]:
    """People behind real clients, a real desk and the three stand-ins.

    `without` are variables that are left unset: SLACK__CHANNEL.
    """
    file = folder / "policy.yaml"
    file.write_text(policy, encoding="utf-8")
    clock = Hands()
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(channels(**slack))
        unset = {f"MCP_DEVOPS_{name}" for name in without}
        given = {k: v for k, v in there.environment.items() if k not in unset}
        clean_environment(monkeypatch, given)
        monkeypatch.setenv("MCP_DEVOPS_RESPONSE__POLICY_FILE", str(file))
        settings = ServerSettings(state_dir=folder / "state", allow_writes=("shop",))
        gateway = await stack.enter_async_context(
            open_gateway(settings, channel="test", clock=clock)
        )
        get = gateway.services.get
        store, desk = await get(IncidentStore), await get(ApprovalDesk)
        database = await get(Database)
        people = People(gateway.services, database, store, desk, clock, front, public_url)
        opened = await store.open(TARGET, "responder")
        judged = opened.incident.model_copy(update={"verdict": verdict(), "revision": 7})
        await store.save(opened.model_copy(update={"incident": judged}), "judged", "responder")
        await stack.enter_async_context(people.running())
        yield Shift(people, there, gateway, clock, store, desk, opened.incident.id)
