"""200 deployments roll out within a minute, ten of them bad: what becomes of them.

The world is a process of its own (tests/support/many_deployments.py), the server is the real
command. Beside it, a bare client reads the same watch and does nothing else: what hearing costs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from mcp_devops.integrations.kubernetes.revisions import template_hash
from tests.benchmarks.measure import Result, Row, scratch
from tests.support.kubernetes_api import write_kubeconfig
from tests.support.many_deployments import Remote, many_deployments

COUNT, WITHIN_S, BAD = 200, 60.0, 10
LATEST_S = 240.0
"""Seconds after the first rollout in which every bad one must be answered."""
CALM_S = 30.0
"""Seconds that the server is watched on after the last rollout, at the least."""
TARGET_S = 45.0
"""Seconds from a bad rollout to its recovery: what the incidents' benchmark asks for."""
POLICY = """\
version: 1
defaults:
  automatic: verdict
  without_data: record_only
  observe: {for_s: 300, step_s: %d, baseline_minutes: 5, buffer_minutes: 0}
limits: {rollbacks_per_hour: 100, rollbacks_per_service_per_day: 24, cooldown_minutes: 0}
"""


@dataclass
class Server:
    """The command as a process."""

    process: asyncio.subprocess.Process
    state: Path
    log: Path

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """Highest resident size so far, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        (line,) = (x for x in status.splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def rows(self, query: str, file: str = "state.db") -> list[dict[str, Any]]:
        """Rows of the state, or of the durable runs' file."""
        path = self.state / file
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as opened:
            opened.row_factory = sqlite3.Row
            return [dict(row) for row in opened.execute(query)]

    def ended(self) -> int:
        """How many runs are over."""
        (row,) = self.rows("SELECT count(*) AS n FROM runs WHERE body <> '{}'")
        return int(row["n"])

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@asynccontextmanager
async def watching(world: Remote, folder: Path, step_s: int) -> AsyncIterator[Server]:
    """The real command over a world, once it watches."""
    (folder / "policy.yaml").write_text(POLICY % step_s, encoding="utf-8")
    kubeconfig = write_kubeconfig(folder, world.url)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MCP_DEVOPS_")}
    (folder / "mcp-devops.toml").touch()
    environment = {
        **kept,
        "MCP_DEVOPS_CONFIG": str(folder / "mcp-devops.toml"),
        "KUBECONFIG": str(kubeconfig),
        "MCP_DEVOPS_PROMETHEUS__URL": world.url,
        "MCP_DEVOPS_PROMETHEUS__STEP_S": "10",
        "MCP_DEVOPS_INCIDENT__VERIFY_WINDOW_S": "15",
        "MCP_DEVOPS_INCIDENT__STEADY_S": "5",
        "MCP_DEVOPS_DOCKER__ENGINE": "false",
        "NO_PROXY": "127.0.0.1",
    }
    with (folder / "watch.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mcp_devops", "watch", "-n", "team-*"),
            *("--policy", str(folder / "policy.yaml"), "--state-dir", str(folder / "state")),
            env=environment,
            stdout=log,
            stderr=log,
        )
        server = Server(process, folder / "state", folder / "watch.log")
        try:
            async with asyncio.timeout(60):
                while "watching team-*" not in server.said():
                    assert process.returncode is None, server.said()
                    await asyncio.sleep(0.2)
            yield server
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _heard(world: Remote, heard: dict[str, float]) -> None:
    """A client that reads the Deployments' watch and notes when each new template came."""
    import httpx2

    path = f"{world.url}/apis/apps/v1/deployments"
    async with httpx2.AsyncClient(timeout=None) as http:
        listed = (await http.get(path)).json()
        known = {d["metadata"]["uid"]: template_hash(d) for d in listed["items"]}
        version = listed["metadata"]["resourceVersion"]
        query = {"watch": "1", "resourceVersion": version}
        async with http.stream("GET", path, params=query) as answer:
            async for line in answer.aiter_lines():
                thing = json.loads(line)["object"]
                uid = thing["metadata"]["uid"]
                if template_hash(thing) != known[uid] and uid not in heard:
                    heard[uid] = time.time()


@dataclass
class Figures:
    """Seconds, one for each rollout or each bad one."""

    begun: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    first_look: list[float] = field(default_factory=list)
    verdict: list[float] = field(default_factory=list)
    recovered: list[float] = field(default_factory=list)
    missed: int = 0
    twice: int = 0
    looks: int = 0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    requests: dict[str, int] = field(default_factory=dict)
    took_s: float = 0.0

    def data(self) -> dict[str, Any]:
        """For people and files."""
        spread = {
            name: {"median": median(v), "p99": sorted(v)[int(len(v) * 0.99)], "max": max(v)}
            for name in ("begun", "bare", "first_look", "verdict", "recovered")
            if (v := getattr(self, name))
        }
        plain = ("missed", "twice", "looks", "cpu_s", "peak_mb", "took_s", "requests")
        return {**spread, **{name: getattr(self, name) for name in plain}}


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


async def _measured(step_s: int) -> Figures:
    figures = Figures()
    heard: dict[str, float] = {}
    with scratch() as folder:
        async with AsyncExitStack() as stack:
            world = await stack.enter_async_context(many_deployments(COUNT, WITHIN_S, BAD))
            server = await stack.enter_async_context(watching(world, folder, step_s))
            bare = asyncio.create_task(_heard(world, heard))
            before = await world.control("state")
            cpu_s, start = server.cpu_s(), time.time()
            await world.control("begin")
            while time.time() - start < LATEST_S:
                await asyncio.sleep(5)
                state = await world.control("state")
                if server.ended() >= BAD and time.time() - start > WITHIN_S + CALM_S:
                    break
            figures.took_s = time.time() - start
            figures.cpu_s, figures.peak_mb = server.cpu_s() - cpu_s, server.peak_mb()
            figures.requests = {
                k: v - before["requests"].get(k, 0) for k, v in state["requests"].items()
            }
            bare.cancel()
            await asyncio.gather(bare, return_exceptions=True)
            _read(figures, server, state, heard)
            (folder / "watch.log").replace("/tmp/rolling_watch.log")
    return figures


def _read(figures: Figures, server: Server, state: dict[str, Any], heard: dict[str, float]) -> None:
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in server.rows("SELECT * FROM runs"):
        runs.setdefault(run["id"].removeprefix("run-")[:36], []).append(run)
    looks = server.rows(
        "SELECT workflow_uuid, started_at_epoch_ms AS began, completed_at_epoch_ms AS ended"
        " FROM operation_outputs WHERE function_name = 'look' ORDER BY function_id",
        "runs.db",
    )
    figures.looks = len(looks)
    first: dict[str, float] = {}
    for look in looks:
        uid = look["workflow_uuid"].removeprefix("run-")[:36]
        first.setdefault(uid, look["ended"] / 1000)
    for rollout in state["rollouts"]:
        uid, at = rollout["uid"], rollout["at"]
        mine = runs.get(uid, [])
        figures.missed += not mine
        figures.twice += len(mine) > 1
        if uid in heard:
            figures.bare.append(heard[uid] - at)
        if mine:
            figures.begun.append(_seconds(mine[0]["started_at"]) - at)
        if uid in first:
            figures.first_look.append(first[uid] - at)
        if mine and rollout["kind"] != "healthy":
            body = json.loads(mine[0]["body"])
            if "decided_at" in body:
                figures.verdict.append(_seconds(body["decided_at"]) - at)
            if mine[0]["status"] == "recovered":
                figures.recovered.append(_seconds(body["acted_at"]) - at)


def run(step_s: int = 15) -> Sequence[Result]:
    """Measure once at the real pace."""
    found = asyncio.run(_measured(step_s))
    sys.stderr.write(json.dumps(found.data(), indent=1) + "\n")
    requests = sum(found.requests.values())
    return [
        Row("rolling", "from event to run begun, median", median(found.begun),
            median(found.bare), "a bare client of the same watch", "s",
            note=f"{COUNT} rollouts in {WITHIN_S:g} s: {found.missed} missed, {found.twice} twice"),
        Row("rolling", "from event to run begun, slowest", max(found.begun), max(found.bare),
            "a bare client of the same watch", "s"),
        Row("rolling", "from a bad rollout to its verdict, slowest", max(found.verdict), TARGET_S,
            "the target for recovery", "s", 1.0,
            note=f"{len(found.verdict)} of {BAD} decided; median {median(found.verdict):.1f} s"),
        Row("rolling", "processor seconds per rollout", found.cpu_s / COUNT,
            found.took_s / COUNT, "one whole core for as long", "s", 1.0,
            note=f"{found.looks} looks, {requests / COUNT:.0f} requests per rollout,"
            f" peak {found.peak_mb:.0f} MB"),
    ]  # fmt: skip
