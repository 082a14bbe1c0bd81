"""Who lives and who is dead, on a real PostgreSQL that goes away and comes back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcp_devops.errors import PreconditionFailed, UpstreamUnavailable
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database, open_database
from mcp_devops.responder.runs.durable import Runs, runs_url
from mcp_devops.responder.runs.heartbeat import Heartbeat, Lease, Pace, claim, let_go
from mcp_devops.response_policy.policy import Observe
from mcp_devops.toolkit.clock import SystemClock
from tests.rooms.responder.runs.test_death import watches
from tests.rooms.responder.runs.test_replicas import replica, rows
from tests.rooms.responder.test_beside_http import free_port, until_up
from tests.rooms.responder.test_service import ASKING
from tests.support.postgres import PostgresServer, postgres, postgres_url
from tests.support.waiting import until

__all__ = ["postgres", "postgres_url"]

QUICK = Pace(beat_s=0.05, fence_s=3.0, dead_s=0.6)
"""Dead soon, and fenced late: what one test is about does not end another's."""
STOLEN = "UPDATE replicas SET started_at = 'another life' WHERE id = ?"


def heartbeat(database: Database, name: str, pace: Pace = QUICK, owner: str = "") -> Heartbeat:
    return Heartbeat(database, SystemClock(), name, alone=False, pace=pace, owner=owner)


@asynccontextmanager
async def beating(
    one: Heartbeat, recover: Callable[[str], Awaitable[None]]
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(one.keep(recover))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def nothing(name: str) -> None:
    """Nobody is expected to die."""


async def names(database: Database) -> set[str]:
    return {r["id"] for r in await rows(database, "SELECT id FROM replicas")}


async def beats_again(database: Database) -> None:
    """Until the one that lives has said so anew."""
    (seen,) = await rows(database, "SELECT seen_at FROM replicas")

    async def newer() -> bool:
        (now,) = await rows(database, "SELECT seen_at FROM replicas")
        return bool(now["seen_at"] > seen["seen_at"])

    await until(newer)


async def test_whoever_dies_between_taking_a_name_and_its_runs_leaves_them_to_the_next(
    postgres_url: str,
) -> None:
    recovered: list[str] = []
    hangs = asyncio.Event()

    async def dies(name: str) -> None:
        hangs.set()
        await asyncio.Event().wait()

    async def recovers(name: str) -> None:
        recovered.append(name)

    async with open_database(postgres_url) as database:
        await heartbeat(database, "dead").claim()
        first, second = heartbeat(database, "one"), heartbeat(database, "two")
        await first.claim()
        async with beating(first, dies):
            await hangs.wait()
            assert "dead" in await names(database), "the row stays until the runs are in hand"
        await second.claim()
        async with beating(second, recovers):

            async def all_gone() -> bool:
                return await names(database) == {"two"}

            await until(all_gone)
    assert sorted(recovered) == ["dead", "one"], "each name was recovered once"


async def begun_by(database: Database, *owners: str) -> None:
    def write(connection: Connection) -> None:
        for owner in owners:
            connection.execute(
                "INSERT INTO actions (digest, tool, status, started_at, owner)"
                " VALUES (?, 'incident_roll_back', 'started', '2026-01-01', ?)",
                (f"plan of {owner}", owner),
            )

    await database.run(write)


async def test_what_a_dead_process_had_begun_is_nobodys_once_its_name_is_taken(
    postgres_url: str,
) -> None:
    dead, living = "7:abc@there/pid:[1]", "7:def@here/pid:[1]"
    async with open_database(postgres_url) as database:
        await begun_by(database, dead, living)
        await heartbeat(database, "dead", owner=dead).claim()
        one = heartbeat(database, "one", owner=living)
        await one.claim()
        async with beating(one, nothing):

            async def all_gone() -> bool:
                return await names(database) == {"one"}

            await until(all_gone)
        owners = await rows(database, "SELECT owner FROM actions ORDER BY owner")
        kept = await rows(database, "SELECT name FROM bookmarks WHERE name LIKE 'owner:%'")
    assert [r["owner"] for r in owners] == [living, f"gone:{dead}"]
    assert [r["name"] for r in kept] == ["owner:one"]


async def test_what_the_last_life_of_a_name_had_begun_is_nobodys_in_the_next(
    postgres_url: str,
) -> None:
    before = "7:abc@there/pid:[1]"
    async with open_database(postgres_url) as database:
        await begun_by(database, before)
        first = heartbeat(database, "pod-0", owner=before)
        await first.claim()
        await first.leave()
        await heartbeat(database, "pod-0", owner="7:def@there/pid:[2]").claim()
        owners = await rows(database, "SELECT owner FROM actions")
    assert [r["owner"] for r in owners] == [f"gone:{before}"]


async def test_a_recovery_that_fails_is_tried_again_when_the_lease_runs_out(
    postgres_url: str,
) -> None:
    tries: list[str] = []

    async def recovers(name: str) -> None:
        tries.append(name)
        if len(tries) == 1:
            raise UpstreamUnavailable("Not now.", fix="Wait.")

    async with open_database(postgres_url) as database:
        await heartbeat(database, "dead").claim()
        one = heartbeat(database, "one")
        await one.claim()
        async with beating(one, recovers):

            async def gone() -> bool:
                return await names(database) == {"one"}

            await until(gone)
    assert tries == ["dead", "dead"]


async def test_of_many_who_see_a_dead_one_one_takes_it(postgres_url: str) -> None:
    recovered: list[str] = []

    async def recovers(name: str) -> None:
        recovered.append(name)

    async with open_database(postgres_url) as one, open_database(postgres_url) as two:
        await heartbeat(one, "dead").claim()
        lives = [heartbeat(one, "a"), heartbeat(two, "b"), heartbeat(two, "c")]
        for life in lives:
            await life.claim()
        async with (
            beating(lives[0], recovers),
            beating(lives[1], recovers),
            beating(lives[2], recovers),
        ):

            async def gone() -> bool:
                return "dead" not in await names(one)

            await until(gone)
    assert recovered == ["dead"]


async def test_a_lease_that_ran_out_deletes_nothing(postgres_url: str) -> None:
    now = SystemClock().now()
    async with open_database(postgres_url) as database:
        await database.run(partial(claim, replica="dead", now=now, old=now))
        await database.run(partial(let_go, lease=Lease("dead", "an older stamp")))
        assert await names(database) == {"dead"}


async def test_a_database_that_starts_anew_costs_beats_and_not_the_life(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_database(postgres_url) as database:
        one = heartbeat(database, "one", Pace(beat_s=0.05, fence_s=60, dead_s=90))
        await one.claim()
        async with beating(one, nothing) as task:
            await asyncio.to_thread(postgres.stop)

            async def missed() -> bool:
                return "no heartbeat for" in caplog.text

            await until(missed)
            await asyncio.to_thread(postgres.start)
            await beats_again(database)
            assert not task.done()


async def test_a_silence_that_others_will_take_for_death_ends_the_life(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with open_database(postgres_url) as database:
        one = heartbeat(database, "one", Pace(beat_s=0.05, fence_s=0.5, dead_s=5))
        await one.claim()
        async with beating(one, nothing) as task:
            await asyncio.to_thread(postgres.stop)
            with pytest.raises(UpstreamUnavailable, match="so that nothing is done twice"):
                await asyncio.wait_for(task, 20)
        await one.leave()
        await asyncio.to_thread(postgres.start)


async def test_alone_on_a_machine_a_silence_is_only_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import sqlite3

    async with open_database(tmp_path / "state.db") as database:
        pace = Pace(beat_s=0.05, fence_s=0.1, dead_s=5)
        one = Heartbeat(database, SystemClock(), "local", alone=True, pace=pace)
        await one.claim()
        async with beating(one, nothing) as task:
            other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")

            async def told() -> bool:
                return caplog.text.count("no heartbeat for") > 4

            await until(told)
            other.close()
            await beats_again(database)
            assert not task.done()


async def test_whose_name_was_taken_stops_its_runs_and_ends_the_block(
    postgres_url: str, tmp_path: Path
) -> None:
    steps: Any = None
    fenced: list[str] = []
    async with open_database(postgres_url) as database:
        runs = Runs(
            steps,
            database,
            SystemClock(),
            runs_url(tmp_path),
            "one",
            pace=QUICK,
            on_fenced=lambda: fenced.append("ends"),
        )
        with pytest.raises(PreconditionFailed, match="was taken for dead"):
            async with runs.running(lambda _: Observe()):
                await database.run(lambda c: c.execute(STOLEN, ("one",)).rowcount)
                await asyncio.Event().wait()
        left = await rows(database, "SELECT started_at FROM replicas")
    assert fenced == ["ends"]
    assert left == [{"started_at": "another life"}], "the other life is left alone"
    task = asyncio.current_task()
    assert task is not None and not task.cancelling()


async def test_a_watch_whose_runs_were_taken_over_exits_with_a_readable_line(
    tmp_path: Path, postgres_url: str
) -> None:
    async with watches(tmp_path, ASKING) as it, open_database(postgres_url) as database:
        async with replica(it, postgres_url, "one") as process:
            log = tmp_path / "one.log"
            await it.until(lambda: "watching shop as one" in log.read_text(encoding="utf-8"))
            await database.run(lambda c: c.execute(STOLEN, ("one",)).rowcount)
            code = await asyncio.wait_for(process.wait(), 60)
        said = log.read_text(encoding="utf-8")
    assert code == 1
    assert "\n[PRECONDITION_FAILED] This process was taken for dead" in said, said[-2000:]
    assert "Traceback" not in said


async def test_a_server_that_watches_exits_too(tmp_path: Path, postgres_url: str) -> None:
    async with watches(tmp_path, ASKING) as it, open_database(postgres_url) as database:
        port = free_port()
        environment = {
            **it.environment,
            "MCP_DEVOPS_RESPONSE__POLICY_FILE": str(tmp_path / "policy.yaml"),
            "MCP_DEVOPS_DATABASE_URL": postgres_url,
            "MCP_DEVOPS_RESPONSE__REPLICA": "one",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mcp_devops", "serve", "--http", f"127.0.0.1:{port}"),
            *("--watch", "shop", "--state-dir", str(it.state)),
            env=environment,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                await until_up(http)
            await database.run(lambda c: c.execute(STOLEN, ("one",)).rowcount)
            _, said = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode not in (0, None)
    assert b"\nmcp-devops: [PRECONDITION_FAILED] This process was taken for dead" in said, said[
        -2000:
    ]
