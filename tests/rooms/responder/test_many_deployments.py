"""Two hundred deployments roll out at once: every one has its run, and the bad ones are found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.rolling import Server, watching
from tests.support.many_deployments import Remote, many_deployments

COUNT, BAD = 200, 10
DECIDED = (
    "SELECT DISTINCT subject FROM entries WHERE kind = 'decision'"
    ' AND body LIKE \'%"action":"roll_back"%\''
)

ENDED = "SELECT target, status FROM runs WHERE body <> '{}'"


async def until(holds: Callable[[], object], seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.5)


def names(server: Server, query: str, column: str) -> list[str]:
    """Names of the workloads in a column such as `Deployment team-1/svc-007`, sorted."""
    return names_of(server.rows(query), column)


def names_of(rows: list[dict[str, Any]], column: str) -> list[str]:
    return sorted(str(row[column]).split("/")[-1].split(" ")[0] for row in rows)


def begun(server: Server, count: int) -> bool:
    """Whether so many runs have begun."""
    return len(server.rows("SELECT id FROM runs")) >= count


async def test_every_one_of_two_hundred_rollouts_has_one_run_and_every_bad_one_is_found(
    tmp_path: Path,
) -> None:
    async with (
        many_deployments(COUNT, within_s=12, bad=BAD) as world,
        watching(world, tmp_path, step_s=600) as server,
    ):
        await world.control("begin")
        for fifth, breaks in enumerate(("drop", "expire", "drop", "expire"), 1):
            # In the middle of the rollouts, with changes in every gap.
            await until(partial(begun, server, COUNT * fifth // 5))
            await world.control(breaks)
        await until(lambda: len(server.rows("SELECT id FROM runs")) >= COUNT)
        await until(lambda: len(server.rows(DECIDED)) >= BAD)
        runs = server.rows("SELECT id, target FROM runs")
        decided = names(server, DECIDED, "subject")
        # On a slow machine healthy ones end meanwhile.
        await until(lambda: set(decided) <= set(names(server, ENDED, "target")))
        ended = [r for r in server.rows(ENDED) if names_of([r], "target")[0] in decided]
        state = await world.control("state")
    wanted = sorted(r["uid"] for r in state["rollouts"])
    assert sorted(run["id"].removeprefix("run-")[:36] for run in runs) == wanted
    bad = {r["name"] for r in state["rollouts"] if r["kind"] != "healthy"}
    assert set(decided) == bad and len(bad) == BAD
    assert {r["name"]: r["rolled_back"] for r in state["rollouts"] if r["rolled_back"]} == (
        dict.fromkeys(bad, 1)
    ), "each bad one is rolled back once, and no other"
    assert {run["status"] for run in ended} == {"recovered"}, json.dumps(ended)
    assert state["requests"]["watch deployments"] > 4, "the watches were closed in the middle"


async def test_what_rolled_out_while_nobody_watched_is_found_by_the_next_watch(
    tmp_path: Path,
) -> None:
    async with many_deployments(20, within_s=1, bad=0, namespaces=2) as world:
        async with watching(world, tmp_path, step_s=600):
            pass
        await world.control("begin")
        await all_rolled_out(world)
        async with watching(world, tmp_path, step_s=600) as server:
            await until(lambda: len(server.rows("SELECT id FROM runs")) >= 20)
            runs = server.rows("SELECT id FROM runs")
    assert len(runs) == 20


async def all_rolled_out(world: Remote) -> None:
    async with asyncio.timeout(30):
        while any(r["at"] is None for r in (await world.control("state"))["rollouts"]):
            await asyncio.sleep(0.2)
