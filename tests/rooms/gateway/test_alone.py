"""How often a policy says yes to agents by itself: the limits are one for all, on all replicas."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mcp_devops.gateway.acts import acts_in, breaker_in, set_breaker_in
from mcp_devops.gateway.approvals import ApprovalStatus
from mcp_devops.gateway.door import Gateway
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.target import Workload
from mcp_devops.responder.history import claim_act
from mcp_devops.response_policy.limits import Allowed, Limits
from tests.rooms.gateway.conftest import CALLER, Opened
from tests.support.postgres import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

ALONE = {"automatic_namespaces": ("house",)}
LAMPS = tuple(f"lamp-{n}" for n in range(12))


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Doors over a file, and over a PostgreSQL database; every verdict would be automatic."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    made = Opened(tmp_path, url)
    made.client.lamps = dict.fromkeys(LAMPS, 1)
    made.client.confidence, made.client.automatic = 0.93, True
    return made


async def test_agents_and_unattended_runs_on_two_replicas_cannot_pass_the_limit_together(
    opened: Opened,
) -> None:
    async with AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(opened.door(**ALONE)) for _ in range(2)]
        calls = [
            doors[n % 2].call("toy_restart_lamp", {"lamp": lamp}, CALLER)
            for n, lamp in enumerate(LAMPS)
        ]
        claims = [claimed(doors[n % 2], f"inc-{n}") for n in range(12)]
        found = await asyncio.gather(*calls, *claims)
        taken = sum(isinstance(f, Allowed) for f in found)
        assert len(opened.client.switched) + taken == Limits().rollbacks_per_hour
        database = await doors[0].services.get(Database)
        assert (await database.read(breaker_in)).is_open
        assert len(await database.read(lambda c: acts_in(c, None))) == Limits().rollbacks_per_hour


async def claimed(door: Gateway, incident: str) -> object:
    return await claim_act(
        await door.services.get(Database),
        await door.services.get(Journal),
        now=door.clock.now(),
        target=Workload(namespace="shop", name=incident),
        incident_id=incident,
        limits=Limits(),
    )


async def test_with_the_breaker_open_an_agent_needs_a_person_who_may_still_say_yes(
    opened: Opened,
) -> None:
    restart = ("toy_restart_lamp", {"lamp": LAMPS[0]}, CALLER)
    async with opened.door(**ALONE) as door:
        database, journal = await door.services.get(Database), await door.services.get(Journal)
        now = door.clock.now()
        await database.run(
            lambda c: set_breaker_in(c, journal, is_open=True, now=now, who="ann", reason="storm")
        )
        reply = await door.call(*restart)
        assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"
        (waiting,) = await door.consent.desk.waiting()
        notes = [e async for e in journal.stream() if e.kind is EntryKind.NOTE]
        assert any("the breaker is open (storm)" in str(e.body.get("what")) for e in notes)
        assert opened.client.switched == []
        await door.consent.desk.answer(
            waiting.id, ApprovalStatus.APPROVED, who="ann", channel="terminal"
        )
        assert not (await door.call(*restart)).failed
    assert opened.client.switched == [LAMPS[0]]


async def test_a_flapping_workload_is_restarted_for_an_agent_once_and_then_a_person_is_asked(
    opened: Opened,
) -> None:
    async with opened.door(**ALONE) as door:
        first = await door.call("toy_restart_lamp", {"lamp": LAMPS[0]}, CALLER)
        again = await door.call("toy_restart_lamp", {"lamp": LAMPS[0]}, CALLER)
        other = await door.call("toy_restart_lamp", {"lamp": LAMPS[1]}, CALLER)
    assert not first.failed and not other.failed
    assert again.error is not None and again.error["code"] == "APPROVAL_REQUIRED"
    assert opened.client.switched == [LAMPS[0], LAMPS[1]]


async def test_the_limits_are_those_of_the_teams_policy(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nlimits: {rollbacks_per_hour: 0}\n", encoding="utf-8")
    monkeypatch.setenv("MCP_DEVOPS_RESPONSE__POLICY_FILE", str(file))
    async with opened.door(**ALONE) as door:
        reply = await door.call("toy_restart_lamp", {"lamp": LAMPS[0]}, CALLER)
    assert reply.failed and opened.client.switched == []


SCOPES = {
    "scope": ("defaults: {automatic: ask}", "defaults (line 2) says automatic: ask"),
    "hours": (
        "defaults: {automatic: verdict}\n"
        "quiet_hours: [{from: '00:00', to: '24:00', timezone: UTC, effect: ask}]",
        "quiet hours",
    ),
}


@pytest.mark.parametrize("name", SCOPES)
async def test_where_the_team_wants_a_person_no_setting_approves_an_agent(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    policy, says = SCOPES[name]
    file = tmp_path / "policy.yaml"
    file.write_text(f"version: 1\n{policy}\n", encoding="utf-8")
    monkeypatch.setenv("MCP_DEVOPS_RESPONSE__POLICY_FILE", str(file))
    async with opened.door(**ALONE) as door:
        reply = await door.call("toy_restart_lamp", {"lamp": LAMPS[0]}, CALLER)
        notes = [e.body["what"] async for e in door.journal.stream() if e.kind is EntryKind.NOTE]
    assert reply.error is not None and reply.error["code"] == "APPROVAL_REQUIRED"
    assert not opened.client.switched
    assert any(says in note for note in notes)


async def test_where_the_team_lets_the_verdict_act_an_agent_is_approved(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\ndefaults: {automatic: verdict}\n", encoding="utf-8")
    monkeypatch.setenv("MCP_DEVOPS_RESPONSE__POLICY_FILE", str(file))
    async with opened.door(**ALONE) as door:
        await door.call("toy_restart_lamp", {"lamp": LAMPS[0]}, CALLER)
    assert opened.client.switched
