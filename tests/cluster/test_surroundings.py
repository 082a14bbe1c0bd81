"""Causes that lie around a deployment, on the real cluster: the right cause and action for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mcp_devops.scenarios.listening import listening
from tests.support import terraform_world
from tests.support.cluster import AVAILABLE, WHY_NOT, Shop, shop, until
from tests.support.on_call import (
    BASELINE_S,
    TARGETS,
    WINDOWS,
    OnCall,
    at_work,
    healthy_traffic,
    on_call,
    place,
)
from tests.support.terraform_world import World

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)]

SCANS = Path(__file__).parents[2] / "fixtures/docker/scans"


def judge(duty: OnCall) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Look and judge, again and again."""

    async def look() -> dict[str, Any]:
        return (await duty.verdict())[1]

    return look


async def slowly(made: Shop) -> None:
    """Let a rollout take its time, so that both revisions serve in the same minutes."""
    patch = {"spec": {"minReadySeconds": 25}}
    await made.cluster.patch(made.path, patch, "application/merge-patch+json")


async def test_a_regression_beside_terraform_drift_is_still_the_new_revisions_doing(
    tmp_path: Path,
) -> None:
    if why := terraform_world.why_not():
        pytest.skip(why)
    world = await asyncio.to_thread(World(tmp_path / "world").make)
    async with (
        place(tmp_path, "--writes") as there,
        shop(there.cluster, "drift", namespace=there.namespace) as made,
    ):
        world.service("web", image="app:0.9", env=f"https://{made.name}.example")
        settings = world.client().settings
        variables = {
            "MCP_DEVOPS_TERRAFORM__ROOTS": str(world.root),
            "MCP_DEVOPS_TERRAFORM__BINARY": settings.binary,
            "MCP_DEVOPS_TERRAFORM__CLI_CONFIG_FILE": str(world.config),
            "MCP_DEVOPS_TERRAFORM__ALLOWED_PROVIDERS": ",".join(settings.allowed_providers),
        }
        before = world.digest()
        async with on_call(tmp_path, there.kubeconfig, made, **variables) as duty:
            await healthy_traffic(made)
            await slowly(made)
            await made.set_env(VERSION="v2", FAIL_RATE="0.3", LATENCY_MS="60")
            verdict = await duty.verdict_of("roll_back")
            found = await duty.data("incident_investigate", workload=made.name, **WINDOWS)
            done = await duty.data("incident_roll_back", incident_id=verdict["incident_id"])
    assert verdict["cause"] == "new_code_regression" and verdict["automatic"]
    drift = found["surroundings"]["drift"][0]
    assert drift["address"] == "demo_service.web" and drift["names_service"]
    said = next(f for f in verdict["findings"] if f["rule"] == "drift")
    assert said["weight"] == 0 and "old revision runs on the same" in said["says"]
    assert done["status"] == "recovered"
    assert world.digest() == before, "an investigation writes no state"


@contextmanager
def scraped(name: str, address: str) -> Iterator[None]:
    """Let Prometheus scrape an address as one more pod."""
    target = TARGETS / f"{name}.json"
    target.write_text(json.dumps([{"targets": [address]}]), encoding="utf-8")
    try:
        yield
    finally:
        target.unlink()


class Caller:
    """Counts calls of a service to its bank, as a client library would."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.counts = {"200": 0, "503": 0}
        self.bank_is_up = True

    async def call(self) -> None:
        """Ten calls a second, for as long as the test lasts."""
        while True:
            self.counts["200" if self.bank_is_up else "503"] += 1
            await asyncio.sleep(0.1)

    def metrics(self, request: Request) -> PlainTextResponse:
        lines = ["# TYPE http_client_requests_total counter"]
        for code, count in self.counts.items():
            labels = f'service="{self.service}",dependency="bank.example",status="{code}"'
            lines.append(f"http_client_requests_total{{{labels}}} {count}")
        return PlainTextResponse("\n".join(lines) + "\n")


@asynccontextmanager
async def calling_a_bank(service: str) -> AsyncIterator[Caller]:
    caller = Caller(service)
    app = Starlette(routes=[Route("/metrics", caller.metrics)])
    async with listening(app) as url:
        task = asyncio.create_task(caller.call())
        with scraped(f"{service}-calls", url.removeprefix("http://")):
            try:
                yield caller
            finally:
                task.cancel()


async def test_every_service_bad_at_once_is_the_dependencys_doing(tmp_path: Path) -> None:
    """Old and new pods, two neighbours and the calls to the bank begin to fail in one moment."""
    bad_after = BASELINE_S + 25

    def failing(after_s: float) -> dict[str, Any]:
        return {"FAIL_RATE": "0.4", "LATENCY_MS": "10", "DEGRADE_AFTER_S": f"{after_s:.0f}"}

    async with (
        place(tmp_path, "--writes") as there,
        shop(there.cluster, "peer-a", 1, namespace=there.namespace, **failing(bad_after)) as one,
        shop(there.cluster, "peer-b", 1, namespace=there.namespace, **failing(bad_after)) as other,
        shop(there.cluster, "orders", namespace=there.namespace, **failing(bad_after)) as made,
        calling_a_bank(made.name) as caller,
        on_call(tmp_path, there.kubeconfig, made, beside=(one.name, other.name)) as duty,
    ):
        await healthy_traffic(made)
        patch = {"spec": {"minReadySeconds": 60, "progressDeadlineSeconds": 300}}
        await made.cluster.patch(made.path, patch, "application/merge-patch+json")
        await made.set_env(VERSION="v2", DEGRADE_AFTER_S="22")
        caller.bank_is_up = False

        verdict = await until(
            judge(duty), lambda v: v["cause"] == "upstream_dependency_failure", 120, every=3
        )
        found = await duty.data("incident_investigate", workload=made.name, **WINDOWS)
        refused = await duty.call("incident_roll_back", incident_id=verdict["incident_id"])
    assert verdict["action"] == "hold_for_review" and not verdict["automatic"]
    calls = found["surroundings"]["failing_calls"][0]
    assert calls["dependency"] == "bank.example" and calls["baseline_error_rate"] == 0
    assert refused.is_error and duty.asked == []


def _blames_capacity(verdict: dict[str, Any]) -> bool:
    return any(f["rule"] == "scaling" and f["weight"] < 0 for f in verdict["findings"])


async def test_latency_after_pods_were_taken_away_is_capacity_and_not_the_deployment(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path, "slow", replicas=4) as (duty, made):
        await healthy_traffic(made)
        await made.set_env(VERSION="v2", LATENCY_MS="80", DEGRADE_AFTER_S="25")
        await made.rolled_out()
        patch = {"spec": {"replicas": 2}}
        await made.cluster.patch(made.path, patch, "application/merge-patch+json")

        verdict = await until(judge(duty), _blames_capacity, 150, every=3)
        found = await duty.data("incident_investigate", workload=made.name, **WINDOWS)
    assert verdict["action"] == "hold_for_review" and not verdict["automatic"]
    assert "latency_alone" in {v["code"] for v in verdict["vetoes"]}
    assert "Scaled down" in found["scaling"][-1]["what"]
    assert verdict["cause"] == "infrastructure_change"


async def test_a_new_vulnerability_holds_an_image_that_serves_well(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name, image in (("before", "test/shop:1"), ("after", "test/shop:2")):
        report = json.loads((SCANS / f"trivy_{name}.json").read_text(encoding="utf-8"))
        report["ArtifactName"] = image
        (scans / f"{name}.json").write_text(json.dumps(report), encoding="utf-8")
    variables: dict[str, Any] = {"MCP_DEVOPS_DOCKER__SCAN_ROOTS": str(scans)}
    async with at_work(tmp_path, "scan", **variables) as (duty, made):
        await healthy_traffic(made)
        await made.set_image("test/shop:2")
        await made.rolled_out()
        found, verdict = await duty.verdict()

        verdict = await until(
            judge(duty), lambda v: "as well as before" in v["headline"], 150, every=3
        )
    around = found["surroundings"]
    assert around["image_risk"]["hold"] and around["image_risk"]["new_by_severity"]["critical"] == 1
    assert "shares" in around["image"], "the engine that runs the pods compares the images"
    assert verdict["action"] == "hold_for_review" and verdict["cause"] == "none"
    assert {v["code"] for v in verdict["vetoes"]} == {"new_vulnerability"}
