"""Two replicas on one PostgreSQL: a rollout has one run, and a dead replica's run is taken over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp_devops.gateway.approvals import ApprovalDesk, ApprovalStatus
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.journal import Journal
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import SystemClock
from tests.rooms.responder.runs.test_death import Watches, watches
from tests.rooms.responder.test_service import ASKING
from tests.support.postgres import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]


@asynccontextmanager
async def replica(it: Watches, url: str, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **it.environment,
        "MCP_DEVOPS_DATABASE_URL": url,
        "MCP_DEVOPS_RESPONSE__REPLICA": name,
    }
    async with it.started(environment, name, it.folder / name) as process:
        yield process


async def rows(database: Database, query: str) -> list[dict[str, Any]]:
    return await database.read(lambda c: [dict(r) for r in c.execute(query).fetchall()])


async def until(
    database: Database, query: str, holds: Callable[[list[dict[str, Any]]], object]
) -> list[dict[str, Any]]:
    async with asyncio.timeout(150):
        while True:
            found = await rows(database, query)
            if holds(found):
                return found
            await asyncio.sleep(0.3)


CART = "SELECT status, replica, body FROM runs WHERE target LIKE '%/cart %'"


async def test_the_living_replica_goes_on_with_what_the_dead_one_began(
    tmp_path: Path, postgres_url: str
) -> None:
    async with watches(tmp_path, ASKING) as it, open_database(postgres_url) as database:
        journal = Journal(database, Redactor(), SystemClock().now)
        desk = ApprovalDesk(database, journal, SystemClock(), 600)
        async with (
            replica(it, postgres_url, "one") as one,
            replica(it, postgres_url, "two") as two,
        ):
            (waiting,) = await until(
                database, "SELECT id FROM approvals WHERE status = 'pending'", bool
            )
            # The question is in the state before anybody hears of it: who answers it by then needs
            # no page.
            await it.until(lambda: it.pages.pages)
            (run,) = await rows(database, CART)
            # Which of them began it is chance.
            {"one": one, "two": two}[str(run["replica"])].kill()
            await desk.answer(waiting["id"], ApprovalStatus.APPROVED, who="ann", channel="terminal")
            (ended,) = await until(
                database, CART, lambda found: "ended_at" in json.loads(found[0]["body"])
            )
        actions = await rows(database, "SELECT status FROM actions")
        chain = await journal.verify()
    assert ended["status"] == "recovered"
    assert [a["status"] for a in actions] == ["done"]
    assert it.pages.pages == 1, "one run, one page, though two replicas watched"
    assert chain.ok
