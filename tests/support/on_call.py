"""An agent on duty at the real cluster: a namespace of its own, the printed Role, a real server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp import types as t

from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from tests.support.cluster import Shop, connected, fresh_namespace, shop, until
from tests.support.process import stdio

WINDOWS: dict[str, Any] = {"baseline_minutes": 1, "buffer_minutes": 0, "step_s": 10}
"""Short enough for a deployment that is a minute old."""
YES = t.ElicitResult(action="accept", content={"approve": True})
TARGETS = Path("/run/test-cluster/targets")
"""Where the pods of the test service say that they can be scraped."""
BASELINE_S = 95
"""Seconds of healthy traffic before a bad rollout: what the short baseline needs."""


@dataclass(frozen=True)
class Place:
    """A namespace of its own, and a user who has there what `mcp-devops rbac` prints."""

    cluster: Cluster
    """As administrator."""
    namespace: str
    kubeconfig: Path


@asynccontextmanager
async def place(folder: Path, *options: str) -> AsyncIterator[Place]:
    """Make the namespace, and grant exactly the printed Role in it."""
    async with connected() as admin:
        cluster = await admin.cluster()
        async with fresh_namespace(cluster) as namespace:
            command = ("-m", "mcp_devops", "rbac", "-n", namespace, "--name", "granted")
            printed = await anyio.run_process([sys.executable, *command, *options])
            await anyio.run_process(["kubectl", "apply", "-f", "-"], input=printed.stdout)
            token = await _token(cluster, namespace)
            yield Place(cluster, namespace, _kubeconfig(folder, namespace, token))


async def _token(cluster: Cluster, namespace: str) -> str:
    """The account's token, which the controller of this version stores in a Secret."""
    import base64

    async def secrets() -> list[dict[str, Any]]:
        found = await cluster.list_all(path_of("secrets", namespace=namespace))
        return [
            s
            for s in found
            if s["metadata"].get("annotations", {}).get("kubernetes.io/service-account.name")
            == "granted"
            and s.get("data", {}).get("token")
        ]

    found = await until(secrets, bool, 30)
    return base64.b64decode(found[0]["data"]["token"]).decode()


def _kubeconfig(folder: Path, namespace: str, token: str) -> Path:
    import yaml

    admin = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    admin["users"] = [{"name": "granted", "user": {"token": token}}]
    admin["contexts"][0]["context"].update(user="granted", namespace=namespace)
    path = folder / "granted.kubeconfig"
    path.write_text(json.dumps(admin), encoding="utf-8")
    return path


class OnCall:
    """An agent's client with a person who answers its dialogs."""

    def __init__(self, client: Client, made: Shop, asked: list[str]) -> None:
        self.client = client
        self.made = made
        self.asked = asked

    async def call(self, name: str, **arguments: Any) -> t.CallToolResult:
        result = await self.client.call_tool(name, arguments)
        assert isinstance(result, t.CallToolResult)
        return result

    async def data(self, name: str, **arguments: Any) -> dict[str, Any]:
        result = await self.call(name, **arguments)
        assert not result.is_error, result.content
        assert isinstance(result.structured_content, dict)
        return result.structured_content

    async def verdict(self) -> tuple[dict[str, Any], dict[str, Any]]:
        found = await self.data("incident_investigate", workload=self.made.name, **WINDOWS)
        return found, await self.data("incident_decide", incident_id=found["incident_id"])

    async def verdict_of(self, action: str, seconds: float = 120) -> dict[str, Any]:
        """Look and judge until the verdict is this, as an agent on duty would."""

        async def look() -> dict[str, Any]:
            return (await self.verdict())[1]

        return await until(look, lambda v: v["action"] == action, seconds, every=3)


@asynccontextmanager
async def own_prometheus(folder: Path, names: Sequence[str]) -> AsyncIterator[str]:
    """The address of a Prometheus that scrapes the pods of these workloads only.

    Tests run side by side, and one's failing services would be another's sick neighbours. Where
    the program is not there, it is the cluster's own.
    """
    program = shutil.which("prometheus")
    if program is None or not await anyio.Path(TARGETS).is_dir():
        yield os.environ["PROMETHEUS_URL"]
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    files = [str(TARGETS / f"{name}-*.json") for name in names]
    scrape = {
        "job_name": "pods",
        "scrape_interval": "2s",
        "file_sd_configs": [{"files": files, "refresh_interval": "2s"}],
    }
    config = folder / "prometheus.json"
    config.write_text(json.dumps({"scrape_configs": [scrape]}), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        "--log.level=error",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until(lambda: _answers(address), bool, 30)
        yield f"http://{address}"
    finally:
        process.terminate()
        with anyio.CancelScope(shield=True):
            await process.wait()


async def _answers(address: str) -> bool:
    import httpx2

    async with httpx2.AsyncClient() as http:
        try:
            return (await http.get(f"http://{address}/-/ready")).is_success
        except httpx2.HTTPError:
            return False


@asynccontextmanager
async def on_call(
    folder: Path,
    kubeconfig: Path | str,
    made: Shop,
    mode: str = "auto",
    beside: Sequence[str] = (),
    **variables: str,
) -> AsyncIterator[OnCall]:
    """The real server as a process, with a real client over stdio.

    Args:
        folder: For its state.
        kubeconfig: Whose rights it has.
        made: The workload under judgement.
        mode: The client's era.
        beside: Names of other workloads whose metrics it may see.
        variables: Settings of the server.
    """
    asked: list[str] = []

    async def approve(context: Any, params: Any) -> t.ElicitResult:
        asked.append(params.message)
        return YES

    state = folder / "state"
    state.mkdir(exist_ok=True)
    async with own_prometheus(folder, (made.name, *beside)) as metrics:
        environment = {
            "KUBECONFIG": str(kubeconfig),
            "MCP_DEVOPS_PROMETHEUS__URL": metrics,
            "MCP_DEVOPS_INCIDENT__VERIFY_WINDOW_S": "15",
            "MCP_DEVOPS_INCIDENT__STEADY_S": "5",
            **variables,
        }
        server = stdio(state, "--allow-writes", made.namespace, **environment)
        async with Client(server, mode=mode, elicitation_callback=approve) as client:
            yield OnCall(client, made, asked)


@asynccontextmanager
async def at_work(
    folder: Path, prefix: str, mode: str = "auto", replicas: int = 3, **variables: str
) -> AsyncIterator[tuple[OnCall, Shop]]:
    """A healthy workload in its own namespace, and an agent with the printed Role there."""
    async with (
        place(folder, "--writes") as there,
        shop(there.cluster, prefix, replicas, namespace=there.namespace) as made,
        on_call(folder, there.kubeconfig, made, mode, **variables) as duty,
    ):
        yield duty, made


async def healthy_traffic(made: Shop) -> None:
    """Wait until the workload has served long enough to be compared with."""
    created = (await made.read())["metadata"]["creationTimestamp"]
    from datetime import UTC, datetime

    start = datetime.fromisoformat(created.replace("Z", "+00:00"))

    async def age() -> float:
        return (datetime.now(UTC) - start).total_seconds()

    await until(age, lambda seconds: seconds >= BASELINE_S, BASELINE_S + 30)
