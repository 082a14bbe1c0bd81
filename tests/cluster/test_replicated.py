"""The `replicated` overlay as it runs: two pods, one real PostgreSQL, and one of them dies.

The cluster has one node and no pod network, so the second pod is a Deployment of its own, the same
but for its name and ports.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from mcp_devops.journal.database import open_database
from mcp_devops.journal.journal import Journal
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import SystemClock
from tests.cluster.test_deploy import Manifest, kubectl
from tests.cluster.test_image import (
    AT_ONCE,
    LACKING,
    TOKEN,
    api_server,
    deployed,
    free_port,
    tools,
)
from tests.support.cluster import AVAILABLE, WHY_NOT, connected, fresh_namespace, shop, until
from tests.support.image import product
from tests.support.on_call import own_prometheus
from tests.support.postgres import PostgresServer, postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT),
    pytest.mark.skipif(LACKING is not None, reason=LACKING or ""),
]
FIRST_AND_BAD = 2
"""Rollouts of the shop."""
RUNS = (
    "SELECT replica FROM mcp_devops.runs WHERE replica IS NOT NULL AND target LIKE '%/{}%'"
    " ORDER BY started_at DESC"
)
NAMES = ("mcp-devops", "mcp-devops-2")


def secret(namespace: str, name: str, **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": data,
    }


def both(namespace: str, image: str, settings: Mapping[str, str]) -> tuple[list[Manifest], Any]:
    """All objects, with a Deployment for each of the two pods; and the ports of each."""
    objects: list[Manifest] = []
    ports: dict[str, dict[str, int]] = {}
    for name in NAMES:
        ports[name] = {"9095": free_port(), "8765": free_port()}
        made = deployed(namespace, image, ports[name], settings, "replicated")
        (deployment,) = [copy.deepcopy(m) for m in made if m["kind"] == "Deployment"]
        assert deployment["spec"]["replicas"] == 2
        labels = {"app.kubernetes.io/name": "mcp-devops", "test/pod": name}
        deployment["metadata"]["name"] = name
        deployment["spec"] |= {"replicas": 1, "selector": {"matchLabels": labels}}
        deployment["spec"]["template"]["metadata"]["labels"] = labels
        objects = objects or [m for m in made if m["kind"] != "Deployment"]
        # The cluster's API is older than policy/v1.
        objects = [m for m in objects if m["kind"] != "PodDisruptionBudget"]
        objects.append(deployment)
    return objects, ports


@asynccontextmanager
async def running(
    namespace: str, image: str, url: str, settings: Mapping[str, str]
) -> AsyncIterator[Any]:
    """Both pods, ready by their own probes; gives their ports."""
    objects, ports = both(namespace, image, settings)
    secrets = [
        secret(namespace, "mcp-devops", MCP_DEVOPS_HTTP__TOKENS=f"ann={TOKEN}"),
        secret(namespace, "mcp-devops-database", url=url, **{"request-state-key": "k" * 64}),
    ]
    try:
        code, says = await kubectl("apply", "-f", "-", given=[*secrets, *objects])
        assert code == 0, says
        await until(
            lambda: items(namespace, "deploy"),
            lambda found: [d["status"].get("availableReplicas") for d in found] == [1, 1],
            120,
            every=1,
        )
        yield ports
    finally:
        with anyio.CancelScope(shield=True):
            here = ("-n", namespace, "delete", "--timeout=60s")
            await kubectl(*here, "deploy", *NAMES, "--ignore-not-found")
            # Until they are gone their image is in use.
            await kubectl(*here, "pods", "-l", "app.kubernetes.io/name=mcp-devops")
            kinds = "clusterrolebinding,clusterrole"
            await kubectl("delete", kinds, namespace, "--ignore-not-found", "--wait=false")


async def items(namespace: str, kind: str) -> list[Any]:
    _, text = await kubectl(
        *("-n", namespace, "get", kind, "-o", "json"),
        *(("-l", "app.kubernetes.io/name=mcp-devops") if kind == "pods" else NAMES),
    )
    found: list[Any] = json.loads(text).get("items", [])
    return found


async def numbers(port: int) -> str:
    """What a pod's /metrics says; nothing while there is none."""
    async with httpx2.AsyncClient() as web:
        try:
            return (await web.get(f"http://127.0.0.1:{port}/metrics")).text
        except httpx2.TransportError:
            return ""


async def test_two_pods_share_the_work_and_the_death_of_one_does_not_stop_it(
    tmp_path: Any, postgres: PostgresServer, postgres_url: str
) -> None:
    async with (
        connected() as admin,
        product() as (image, _),
        fresh_namespace(await admin.cluster()) as namespace,
        own_prometheus(tmp_path, ["seen"]) as metrics,
    ):
        cluster = await admin.cluster()
        settings = {
            "api_port": api_server().rpartition(":")[2],
            "MCP_DEVOPS_PROMETHEUS__URL": metrics,
            "MCP_DEVOPS_INCIDENT__VERIFY_WINDOW_S": "10",
            "MCP_DEVOPS_INCIDENT__STEADY_S": "3",
        }

        async def asked(statement: str) -> list[tuple[Any, ...]]:
            database = postgres_url.rpartition("/")[2].partition("?")[0]
            return await anyio.to_thread.run_sync(
                lambda: postgres.admin(statement, database=database)
            )

        async with running(namespace, image, postgres_url, settings) as ports:
            served = [await tools(f"http://localhost:{ports[n]['8765']}") for n in NAMES]
            pods = {p["metadata"]["name"] for p in await items(namespace, "pods")}
            replicas = {row[0] for row in await asked("SELECT id FROM mcp_devops.replicas")}
            async with shop(cluster, "seen", 2, namespace=namespace) as made:
                await cluster.patch(made.path, AT_ONCE, "application/merge-patch+json")
                before = (await made.read())["spec"]["template"]
                await made.set_env(VERSION="v2", CRASH_AFTER_S="1")
                # What the shop began with is a rollout too, and so are the two pods themselves.
                found = await until(
                    lambda: asked(RUNS.format(made.name)),
                    lambda rows: len(rows) >= FIRST_AND_BAD,
                    60,
                    every=0.2,
                )
                owner = found[0][0]
                gone = ("--grace-period=0", "--force", "--wait=false")
                await kubectl("-n", namespace, "delete", "pod", str(owner), *gone)
                await until(
                    made.read, lambda live: live["spec"]["template"] == before, 180, every=1
                )
                told = 'mcp_devops_runs{status="recovered"} 1.0'
                for name in NAMES:
                    port = ports[name]["9095"]
                    await until(lambda p=port: numbers(p), lambda t: told in t, 120, every=1)  # type: ignore[misc]
            actions = await asked("SELECT status FROM mcp_devops.actions")
        async with open_database(postgres_url) as database:
            chain = await Journal(database, Redactor(()), SystemClock().now).verify()
    assert served[0] == served[1] and "incident_investigate" in served[0]
    assert replicas == pods and owner in pods
    assert actions == [("done",)], "nothing is done twice"
    assert chain.ok, chain.says
