"""Incidents on PostgreSQL: the whole way from the first look to the end, seen by every replica."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcp_devops.errors import NotFound
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.bundle import Selection, write_bundle
from mcp_devops.journal.bundle_check import verify_bundle
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.journal import Journal
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.target import Workload
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import SystemClock
from tests.rooms.incidents.conftest import Desk, yes
from tests.rooms.journal.test_bundle import read, records
from tests.support.postgres import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

CART = Workload(namespace="shop", name="cart")


async def test_an_incident_goes_its_whole_way_on_a_shared_database(
    desk: Desk, postgres_url: str, tmp_path: Path
) -> None:
    async with desk.playing("error-spike", database_url=postgres_url) as duty:
        incident_id, decided = await duty.decided()
        assert decided["action"] == "roll_back"
        done = await duty.call("incident_roll_back", ask=yes, incident_id=incident_id)
        assert done.data is not None, done.text
        again = await duty.call("incident_get", incident_id=incident_id)
        assert again.data is not None and "recovered" in again.text
        assert (await duty.gateway.journal.verify()).ok

        database = await duty.gateway.services.get(Database)
        bundle = tmp_path / "bundle.zip"
        await write_bundle(
            database,
            bundle,
            Selection(incident=incident_id),
            redactor=Redactor(()),
            now=SystemClock().now(),
            version="0",
        )
    report = verify_bundle(bundle)
    assert report.ok and report.unproven == (), report.problems
    files = read(bundle)
    (action,) = records(files["actions.jsonl"])
    assert action["approved_by"] and action["finished"]["status"] == "done"
    assert action["verdict_seq"] in [v["seq"] for v in records(files["verdicts.jsonl"])]
    (evidence,) = records(files["evidence.jsonl"])
    assert evidence["evidence"]["change"] is not None


async def test_every_replica_sees_what_another_did(postgres_url: str) -> None:
    clock = SystemClock()
    async with open_database(postgres_url) as one, open_database(postgres_url) as two:
        here, there = (
            IncidentStore(db, Journal(db, Redactor(()), clock.now), clock) for db in (one, two)
        )
        opened = await here.open(CART, "ann")
        found = await there.find_open(CART)
        assert found is not None and found.incident.id == opened.incident.id
        moves = there.changes(opened.incident.id)
        move = asyncio.ensure_future(anext(moves))
        moved = found.incident.model_copy(update={"status": IncidentStatus.DECIDED})
        while not move.done():
            await here.save(found.model_copy(update={"incident": moved}), "judged", "engine")
            await asyncio.wait([move], timeout=0.3)
        assert await move is IncidentStatus.DECIDED
        await moves.aclose()
        assert [i.id for i in await there.all(open_only=True)] == [opened.incident.id]
        assert await there.judged_bad(CART) == ()
        with pytest.raises(NotFound):
            await there.get("inc-none")
