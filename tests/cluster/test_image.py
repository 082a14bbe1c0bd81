"""The image as it is built from deploy/, locked down as deploy/ runs it, and inside the cluster."""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_devops.integrations.kubernetes.cluster import Cluster
from tests.cluster.test_deploy import Manifest, kubectl, moved
from tests.support.cluster import AVAILABLE, WHY_NOT, connected, fresh_namespace, shop, until
from tests.support.docker_engine import docker
from tests.support.image import product, why_not
from tests.support.manifests import rendered
from tests.support.on_call import own_prometheus

LACKING = None if not AVAILABLE else why_not()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT),
    pytest.mark.skipif(LACKING is not None, reason=LACKING or ""),
]
TOKEN = "a-token-for-the-test-" + "b2C3" * 4
MEGABYTES_OVER_BASE = 290
"""It has about 255."""
LOCKED = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def tools(url: str) -> set[str]:
    """Names that a client with a token is shown."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}, timeout=60) as web,
        Client(streamable_http_client(f"{url}/mcp", http_client=web)) as client,
    ):
        return {tool.name for tool in (await client.list_tools()).tools}


async def status(url: str) -> int:
    """What is answered there; 0 if nothing is."""
    async with httpx2.AsyncClient() as web:
        try:
            return (await web.get(url)).status_code
        except httpx2.TransportError:
            return 0


@asynccontextmanager
async def served(image: str, *options: str) -> AsyncIterator[tuple[str, str]]:
    """A container that serves; gives its name and address."""
    name, port = f"mcpd-{uuid.uuid4().hex[:8]}", free_port()
    url = f"http://127.0.0.1:{port}"
    try:
        await docker(
            *("run", "-d", "--name", name, "--network", "host", *LOCKED, *options),
            *("--health-interval", "1s", "-e", f"HEALTH_URL={url}/healthz"),
            *("-e", f"MCP_DEVOPS_HTTP__TOKENS=ann={TOKEN}", image),
            *("serve", "--http", f"127.0.0.1:{port}"),
        )
        await until(lambda: status(f"{url}/healthz"), lambda code: code == 200, 60)
        yield name, url
    finally:
        with anyio.CancelScope(shield=True):
            await docker("rm", "-f", "-v", name, check=False)


async def test_it_serves_without_root_and_writes_nothing_but_its_state(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with product() as (image, size):
        helps = await docker("run", "--rm", "--read-only", "--network", "none", image, "--help")
        async with served(image, "--read-only") as (name, url):
            locked = await tools(url)

            async def health() -> str:
                return await docker("inspect", "--format", "{{.State.Health.Status}}", name)

            await until(health, lambda h: h.strip() == "healthy", 60)
            user = await docker("exec", name, "id", "-u")
            state = await docker("exec", name, "ls", "/var/lib/mcp-devops")
        # The same where it could write elsewhere.
        async with served(image) as (name, url):
            free = await tools(url)
            written = await docker("diff", name)
    with capsys.disabled():
        os.write(1, f"\nimage: {size / 1e6:.0f} MB over its base\n".encode())
    assert size < MEGABYTES_OVER_BASE * 1e6
    assert "serve" in helps and "watch" in helps
    assert user.strip() == "65532" and "state.db" in state
    assert "incident_investigate" in locked and locked == free
    assert written == "", "files were changed outside of the volume"


ALONE = """\
version: 1
defaults:
  automatic: verdict
  without_data: record_only
  observe: {for_s: 60, step_s: 5, baseline_minutes: 1, buffer_minutes: 0}
"""
AT_ONCE = {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}}}}


def deployed(
    namespace: str,
    image: str,
    ports: Mapping[str, int],
    settings: Mapping[str, str],
    overlay: str = "single",
) -> list[Manifest]:
    """The objects of the overlay as they are, but for what this cluster has not.

    It has no pod network (so the host's, other ports, and the API server's own address), and no
    registry. The policy lets clear cases be rolled back alone.
    """
    text = yaml.safe_dump_all(moved(rendered(overlay), namespace, "mcp-devops"))
    text = text.replace("image: mcp-devops:0.1.0", f"image: {image}")
    text = text.replace("--namespace=shop", f"--namespace={namespace}")
    for usual, port in ports.items():
        text = re.sub(rf"(?<=0\.0\.0\.0:){usual}\b|(?<=containerPort: ){usual}\b", str(port), text)
    found: list[Manifest] = list(yaml.safe_load_all(text))
    (deployment,) = [m for m in found if m["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    for each in pod["containers"]:
        each["env"] = [
            *each.get("env", ()),
            {"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"},
            {"name": "KUBERNETES_SERVICE_PORT", "value": settings["api_port"]},
        ]
    for each in found:
        if each["metadata"]["name"] == "mcp-devops-policy":
            each["data"]["policy.yaml"] = ALONE
        if each["metadata"]["name"] == "mcp-devops-settings":
            each["data"] |= {k: v for k, v in settings.items() if k.startswith("MCP_DEVOPS_")}
    return found


def api_server() -> str:
    """Where the administrator's configuration says that it is."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    found: str = config["clusters"][0]["cluster"]["server"]
    return found


def volume(namespace: str, folder: Path) -> Manifest:
    """A disk of the node, since nobody provisions claims here."""
    here = {"key": "kubernetes.io/hostname", "operator": "Exists"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace},
        "spec": {
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": "mcp-devops-state"},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


@asynccontextmanager
async def applied(
    cluster: Cluster, namespace: str, folder: Path, image: str, settings: Mapping[str, str]
) -> AsyncIterator[dict[str, int]]:
    """The overlay on the cluster, ready by its own probes; gives the ports."""
    ports = {"9095": free_port(), "8765": free_port()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mcp-devops", "namespace": namespace},
        "stringData": {"MCP_DEVOPS_HTTP__TOKENS": f"ann={TOKEN}"},
    }
    objects = [
        secret,
        volume(namespace, folder),
        *deployed(namespace, image, ports, settings),
    ]
    try:
        code, says = await kubectl("apply", "-f", "-", given=objects)
        assert code == 0, says

        async def available() -> dict[str, Any]:
            _, text = await kubectl("-n", namespace, "get", "deploy,pods", "-o", "json")
            found: dict[str, Any] = json.loads(text)
            return found

        def ready(found: dict[str, Any]) -> bool:
            (made,) = [i for i in found["items"] if i["kind"] == "Deployment"]
            return bool(made["status"].get("availableReplicas") == 1)

        await until(available, ready, 90, every=1)
        yield ports
    finally:
        with anyio.CancelScope(shield=True):
            here = ("-n", namespace, "delete", "--timeout=60s")
            await kubectl(*here, "deploy", "mcp-devops", "--ignore-not-found")
            # Until they are gone their image is in use.
            await kubectl(*here, "pods", "-l", "app.kubernetes.io/name=mcp-devops")
            kinds = "clusterrolebinding,clusterrole,persistentvolume"
            await kubectl("delete", kinds, namespace, "--ignore-not-found", "--wait=false")


async def test_from_inside_the_cluster_a_crashing_deployment_is_seen_and_rolled_back(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(0o755)
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
        async with applied(cluster, namespace, disk, image, settings) as ports:
            shown = await tools(f"http://localhost:{ports['8765']}")
            async with shop(cluster, "seen", 2, namespace=namespace) as made:
                await cluster.patch(made.path, AT_ONCE, "application/merge-patch+json")
                before = (await made.read())["spec"]["template"]
                await made.set_env(VERSION="v2", CRASH_AFTER_S="1")
                await until(
                    made.read, lambda live: live["spec"]["template"] == before, 120, every=1
                )

                async def numbers() -> str:
                    async with httpx2.AsyncClient() as web:
                        return (await web.get(f"http://127.0.0.1:{ports['9095']}/metrics")).text

                await until(
                    numbers, lambda t: 'mcp_devops_runs{status="recovered"} 1.0' in t, 90, every=1
                )
                _, pods = await kubectl(
                    *("-n", namespace, "get", "pods", "-o", "json"),
                    *("-l", "app.kubernetes.io/name=mcp-devops"),
                )
        kept = (disk / "state.db").stat()
    assert "incident_investigate" in shown and "kubernetes_roll_back_workload" not in shown
    (pod,) = json.loads(pods)["items"]
    assert [s["restartCount"] for s in pod["status"]["containerStatuses"]] == [0, 0]
    assert kept.st_uid == 65532 and kept.st_mode & 0o077 == 0
