"""The unattended server on a real cluster: incidents of many kinds at random times.

`make bench-response` prints what became of each, and keeps it in .bench/response.json: seconds from
the bad rollout to its detection, decision and recovery, right and wrong actions, false rollbacks.
A service is back when the cluster says that every pod of the old template serves; recovered is
later: the server has watched its requests for a while.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import anyio
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.scenarios.listening import listening
from tests.benchmarks.measure import scratch
from tests.support.cluster import (
    AVAILABLE,
    WHY_NOT,
    Shop,
    connected,
    fresh_namespace,
    shop,
    until,
)
from tests.support.on_call import TARGETS, own_prometheus
from tests.support.pagerduty import KEY, FakePagerDuty

RESULTS = Path(__file__).parents[2] / ".bench" / "response.json"
SEED = 20261120
SERVICES = ("cart", "orders", "payments", "search", "profile", "pricing", "stock", "mail")
NOISE = {"profile": "0.02", "pricing": "0.02"}
"""Services that always fail so many requests."""
OBSERVE_S = 150
WAIT_MINUTES = 1
"""For an answer that nobody gives."""
POLICY = f"""\
version: 1
defaults:
  automatic: verdict
  without_data: record_only
  observe: {{for_s: {OBSERVE_S}, step_s: 8, baseline_minutes: 1, buffer_minutes: 0}}
  approval: {{wait_minutes: {WAIT_MINUTES}}}
  resolve: {{pagerduty: resolve}}
limits: {{rollbacks_per_hour: 100, rollbacks_per_service_per_day: 24, cooldown_minutes: 0}}
"""
AT_ONCE = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}}
SLOWLY = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
CALM_S = 80
"""Seconds of healthy traffic between two incidents of a service: what the baseline needs."""


@dataclass(frozen=True)
class Kind:
    """One kind of incident.

    Attributes:
        name: Its name.
        env: What the bad version does.
        rolled_back: Whether rolling back is right.
        paged: Whether a person must be told.
        within_s: Seconds from the rollout to recovery; None: no target.
        outage: Whether the strategy lets all pods be replaced at once.
        image: Another image, if that is what is rolled out.
        burst_s: Seconds in which errors are counted beside the real ones, from the rollout on.
    """

    name: str
    env: Mapping[str, str] = field(default_factory=dict)
    rolled_back: bool = False
    paged: bool = False
    within_s: float | None = None
    outage: bool = False
    image: str | None = None
    burst_s: tuple[float, float] | None = None


CRASH = Kind("crash loop", {"CRASH_AFTER_S": "1"}, True, False, 45, True)
PULL = Kind("image pull", {}, True, False, 45, True, "registry.invalid/shop:nope")
MEMORY = Kind("out of memory", {"LEAK_MB_PER_S": "60"}, True, False, 90, True)
CONFIG = Kind("missing configuration", {"REQUIRE_ENV": "PAYMENT_URL"}, True, False, 45, True)
ERRORS = Kind("error regression", {"FAIL_RATE": "0.3"}, True, False, 150)
BOTH = Kind("errors and latency", {"FAIL_RATE": "0.25", "LATENCY_MS": "70"}, True, False, 150)
SLOW = Kind("latency alone", {"LATENCY_MS": "120"}, False, True)
HEALTHY = Kind("healthy")
NOISY = Kind("noisy but fine")
SPIKE = Kind("spike of 30 s", burst_s=(10, 40))
UPSTREAM = Kind("upstream outage", paged=True, burst_s=(20, OBSERVE_S + 60))
ROUNDS: tuple[tuple[Kind, ...], ...] = (
    (CRASH, HEALTHY, ERRORS, PULL, NOISY, BOTH, SPIKE, CONFIG),
    (ERRORS, CRASH, HEALTHY, SLOW, PULL, SPIKE, BOTH, MEMORY),
    (PULL, BOTH, CRASH, ERRORS, HEALTHY, NOISY, SLOW, CRASH),
    (UPSTREAM, UPSTREAM, UPSTREAM, UPSTREAM),
)


@dataclass
class Incident:
    """What became of one."""

    kind: str
    service: str
    at: float
    status: str = ""
    detected_s: float | None = None
    decided_s: float | None = None
    back_s: float | None = None
    recovered_s: float | None = None
    rolled_back: bool = False
    paged: bool = False
    right: bool = False
    in_time: bool | None = None


class Counters:
    """Failed requests that are counted beside the real ones, on pods of our choice."""

    def __init__(self) -> None:
        self.failing: dict[str, tuple[str, float, float]] = {}
        """By pod: service, and from when to when it fails."""
        self.counts: dict[tuple[str, str], float] = {}
        self._last = time.time()

    def metrics(self, request: Request) -> PlainTextResponse:
        now = time.time()
        for pod, (service, start, end) in self.failing.items():
            seconds = max(0.0, min(now, end) - max(self._last, start))
            key = (service, pod)
            self.counts[key] = self.counts.get(key, 0.0) + 3 * seconds
        self._last = now
        lines = ["# TYPE http_requests_total counter"]
        for (service, pod), count in self.counts.items():
            labels = f'service="{service}",pod="{pod}",status="500"'
            lines.append(f"http_requests_total{{{labels}}} {count:.1f}")
        return PlainTextResponse("\n".join(lines) + "\n")


class Bench:
    """The services, the server that watches them, and those who are paged."""

    def __init__(self, cluster: Cluster, shops: Sequence[Shop], state: Path) -> None:
        self.cluster = cluster
        self.shops = list(shops)
        self.state = state
        self.pages = FakePagerDuty()
        self.counters = Counters()
        self.chance = random.Random(SEED)  # noqa: S311 - times of incidents, not secrets
        self.versions = dict.fromkeys((s.name for s in shops), 1)
        self.found: list[Incident] = []

    async def play(self, kinds: Sequence[Kind]) -> None:
        """One round: every service gets its incident, at a random time."""
        shops = self.shops[: len(kinds)]
        work = [self._one(s, k) for s, k in zip(shops, kinds, strict=True)]
        if any(k is UPSTREAM for k in kinds):
            # A dependency fails for all, also for those that nobody deploys.
            work += [self._burst(other, UPSTREAM) for other in self.shops[len(kinds) :]]
        await asyncio.gather(*work)

    async def _one(self, made: Shop, kind: Kind) -> None:
        delay = 0.0 if kind is UPSTREAM else self.chance.uniform(0, 30)
        strategy = AT_ONCE if kind.outage else SLOWLY
        ready = 0 if kind.outage else 20
        await made.cluster.patch(
            made.path,
            {"spec": {"strategy": strategy, "minReadySeconds": ready}},
            "application/merge-patch+json",
        )
        await asyncio.sleep(delay)
        self.versions[made.name] += 1
        version = f"v{self.versions[made.name]}"
        it = Incident(kind.name, made.name, time.time())
        self.found.append(it)
        earlier = len(self.pages.events)
        before = (await made.read())["spec"]["template"]
        if kind.image:
            await made.set_image(kind.image)
        else:
            await made.set_env(VERSION=version, **kind.env)
        burst = asyncio.create_task(self._burst(made, kind)) if kind.burst_s else None
        back = asyncio.create_task(self._back(made, it, before))
        await self._ended(made, it, kind)
        back.cancel()
        await asyncio.gather(back, return_exceptions=True)
        if burst is not None:
            await burst
        live = (await made.read())["spec"]["template"]
        it.rolled_back = live == before
        told = self.pages.events[earlier:]
        it.paged = any(
            e["payload"].get("component") == made.name
            for e in told
            if e["event_action"] == "trigger"
        )
        wanted = kind.rolled_back
        it.right = it.rolled_back == wanted and (it.paged or not kind.paged)
        if kind.within_s is not None:
            it.in_time = it.recovered_s is not None and it.recovered_s <= kind.within_s
        await self._calmed(made, kind, before)

    async def _back(self, made: Shop, it: Incident, before: Mapping[str, Any]) -> None:
        """Note when every pod serves by the old template again."""
        while True:
            await asyncio.sleep(1)
            live = await made.read()
            status, wanted = live.get("status") or {}, live["spec"]["replicas"]
            serving = (status.get("updatedReplicas"), status.get("availableReplicas"))
            seen = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
            if live["spec"]["template"] == before and seen and serving == (wanted, wanted):
                it.back_s = round(time.time() - it.at, 1)
                return

    async def _burst(self, made: Shop, kind: Kind) -> None:
        """Count failures on every pod of a service, old and new, while the burst lasts."""
        start, end = kind.burst_s or (0.0, 0.0)
        began = time.time()
        while time.time() < began + end:
            for pod in await made.pods():
                name = pod["metadata"]["name"]
                self.counters.failing.setdefault(name, (made.name, began + start, began + end))
            await asyncio.sleep(5)

    async def _ended(self, made: Shop, it: Incident, kind: Kind) -> None:
        """Wait until the run of this rollout is closed, and read its times."""

        async def row() -> dict[str, Any] | None:
            return await asyncio.to_thread(_run_since, self.state, made.name, it.at)

        found = await until(
            row, lambda r: r is not None and bool(r["body"].get("ended_at")), 420, 2
        )
        assert found is not None
        body = found["body"]
        it.status = found["status"]
        it.detected_s = _after(body.get("detected_at"), it.at)
        it.decided_s = _after(body.get("decided_at"), it.at)
        if it.status == "recovered":
            it.recovered_s = _after(body.get("acted_at"), it.at)

    async def _calmed(self, made: Shop, kind: Kind, before: Mapping[str, Any]) -> None:
        """Bring the service back to health, if nobody did, and let it serve a while."""
        live = (await made.read())["spec"]["template"]
        if live != before and (kind.env or kind.image):
            patch = [{"op": "replace", "path": "/spec/template", "value": before}]
            await made.cluster.patch(made.path, patch, "application/json-patch+json")
        await made.rolled_out(240)
        await asyncio.sleep(CALM_S)


def _after(at: str | None, begun: float) -> float | None:
    from datetime import datetime

    return None if at is None else round(datetime.fromisoformat(at).timestamp() - begun, 1)


def _run_since(state: Path, name: str, at: float) -> dict[str, Any] | None:
    """The newest run of a workload that began after a moment."""
    from datetime import UTC, datetime

    since = datetime.fromtimestamp(at - 1, UTC).isoformat()
    with sqlite3.connect(f"file:{state}?mode=ro", uri=True, timeout=10) as connection:
        row = connection.execute(
            "SELECT status, body FROM runs WHERE target LIKE ? AND started_at >= ?"
            " ORDER BY started_at LIMIT 1",
            (f"%/{name}%", since),
        ).fetchone()
    return None if row is None else {"status": row[0], "body": json.loads(row[1])}


@asynccontextmanager
async def _watching(
    folder: Path, bench: Bench, metrics: str, namespace: str
) -> AsyncIterator[None]:
    """The real command as a process."""
    policy = folder / "policy.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    app = Starlette(
        routes=[
            Route("/v2/enqueue", bench.pages.enqueue, methods=["POST"]),
            Route("/v2/change/enqueue", bench.pages.change, methods=["POST"]),
        ]
    )
    async with listening(app) as pagerduty:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MCP_DEVOPS_")},
            "MCP_DEVOPS_PROMETHEUS__URL": metrics,
            "MCP_DEVOPS_PROMETHEUS__STEP_S": "10",
            "MCP_DEVOPS_INCIDENT__VERIFY_WINDOW_S": "15",
            "MCP_DEVOPS_INCIDENT__STEADY_S": "5",
            "MCP_DEVOPS_PAGERDUTY__URL": pagerduty,
            "MCP_DEVOPS_PAGERDUTY__ROUTING_KEY": KEY,
            "MCP_DEVOPS_APPROVAL_TTL_S": str(60 * WAIT_MINUTES),
        }
        log = (folder / "watch.log").open("wb")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mcp_devops", "watch", "-n", namespace),
            *("--policy", str(policy), "--state-dir", str(bench.state.parent)),
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            process.terminate()
            with anyio.CancelScope(shield=True):
                await process.wait()
            log.close()


async def _run(folder: Path, rounds: Sequence[Sequence[Kind]]) -> list[Incident]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        cluster = await (await enter(connected())).cluster()
        namespace = await enter(fresh_namespace(cluster))
        shops = [
            await enter(
                shop(
                    cluster,
                    name,
                    2,
                    False,
                    namespace,
                    probe_s=3,
                    **({"FAIL_RATE": NOISE[name]} if name in NOISE else {}),
                )
            )
            for name in SERVICES
        ]
        for made in shops:
            await made.rolled_out(240)
        (folder / "state").mkdir()
        bench = Bench(cluster, shops, folder / "state" / "state.db")
        counting = Starlette(routes=[Route("/metrics", bench.counters.metrics)])
        address = await enter(listening(counting))
        target = TARGETS / "bench-response-counters.json"
        target.write_text(json.dumps([{"targets": [address.removeprefix("http://")]}]), "utf-8")
        stack.callback(target.unlink)
        metrics = await enter(own_prometheus(folder, [*(s.name for s in shops), "bench-response"]))
        await enter(_watching(folder, bench, metrics, namespace))
        await asyncio.sleep(CALM_S)
        for number, kinds in enumerate(rounds, 1):
            sys.stderr.write(f"round {number} of {len(rounds)}: {len(kinds)} rollouts\n")
            await bench.play(kinds)
        return bench.found


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"


def show(found: Sequence[Incident]) -> dict[str, Any]:
    """Print the table, keep the figures, and give the summary."""
    console = Console(width=132)
    names = ("kind", "service", "status", "detected", "decided", "back", "recovered")
    table = Table(*names, "paged", "right")
    for it in sorted(found, key=lambda i: (i.kind, i.at)):
        late = " [red]late[/]" if it.in_time is False else ""
        table.add_row(
            it.kind,
            it.service,
            it.status,
            *(_seconds(s) for s in (it.detected_s, it.decided_s, it.back_s)),
            _seconds(it.recovered_s) + late,
            "yes" if it.paged else "",
            "[green]yes[/]" if it.right else "[red]NO[/]",
        )
    console.print(table)
    recovered = [i.recovered_s for i in found if i.recovered_s is not None]
    wanted = {k.name: k for kinds in ROUNDS for k in kinds}
    summary = {
        "incidents": len(found),
        "right": sum(i.right for i in found),
        "false_rollbacks": sum(i.rolled_back and not wanted[i.kind].rolled_back for i in found),
        "missed_rollbacks": sum(not i.rolled_back and wanted[i.kind].rolled_back for i in found),
        "late": sum(i.in_time is False for i in found),
        "uncertain_not_paged": sum(wanted[i.kind].paged and not i.paged for i in found),
        "median_recovery_s": median(recovered) if recovered else None,
        "slowest_recovery_s": max(recovered, default=None),
    }
    console.print(summary)
    RESULTS.parent.mkdir(exist_ok=True)
    kept = {"summary": summary, "incidents": [asdict(i) for i in found]}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    console.print(f"Written to {RESULTS.relative_to(RESULTS.parents[1])}.")
    return summary


def main() -> int:
    """Run the rounds that are named by number, or all."""
    if not AVAILABLE:
        sys.stderr.write(f"{WHY_NOT}\n")
        return 2
    chosen = [ROUNDS[int(n) - 1] for n in sys.argv[1:]] or list(ROUNDS)
    with scratch() as folder:
        found = asyncio.run(_run(folder, chosen))
        log = (folder / "watch.log").read_text(encoding="utf-8", errors="replace")
        (RESULTS.parent).mkdir(exist_ok=True)
        (RESULTS.parent / "watch.log").write_text(log, encoding="utf-8")
    summary = show(found)
    return 0 if not summary["false_rollbacks"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
