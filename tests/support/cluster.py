"""The real test cluster: own deployments under unique names, bounded waits on conditions."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio

from mcp_devops.errors import NotFound
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.settings import KubernetesSettings
from mcp_devops.toolkit.clock import SystemClock

T = TypeVar("T")

NAMESPACE = "shop"
AVAILABLE = bool(os.environ.get("TEST_CLUSTER"))
"""Whether the variables of the test cluster are set."""
WHY_NOT = "needs the test cluster: TEST_CLUSTER and KUBECONFIG are not set"
POLL_S = 0.25
"""Seconds between two looks at a condition."""
PROBE_S = 2
"""Seconds between two readiness probes of a pod. Each starts a process in its container: at one a
second the probes alone fill the two cores of a small machine, and whatever is tested waits."""


@asynccontextmanager
async def connected(variable: str = "KUBECONFIG") -> AsyncIterator[KubernetesClient]:
    """A client of the cluster as the user whose kubeconfig a variable names.

    KUBECONFIG is the administrator, TEST_CLUSTER_AGENT_KUBECONFIG and
    TEST_CLUSTER_VIEWER_KUBECONFIG are the restricted users.
    """
    client = KubernetesClient(KubernetesSettings(kubeconfig=(os.environ[variable],)), SystemClock())
    try:
        yield client
    finally:
        await client.aclose()


async def until(
    look: Callable[[], Awaitable[T]],
    holds: Callable[[T], bool],
    seconds: float = 90,
    every: float = POLL_S,
) -> T:
    """Look again and again until it holds.

    Args:
        look: The look.
        holds: Whether what was seen is what is waited for.
        seconds: When to give up.
        every: Seconds between two looks; looks that cost much want more.

    Raises:
        AssertionError: It did not within `seconds`; the last look is in the message.
    """
    last: Any = None
    with anyio.move_on_after(seconds):
        while True:
            last = await look()
            if holds(last):
                return last  # type: ignore[no-any-return]  # it is the T that was just read
            await anyio.sleep(every)
    raise AssertionError(f"did not hold within {seconds} s; last: {str(last)[:2000]}")


class Shop:
    """One deployment of the test service, made for one test."""

    def __init__(self, cluster: Cluster, name: str, namespace: str = NAMESPACE) -> None:
        self.cluster = cluster
        self.name = name
        self.namespace = namespace

    @property
    def path(self) -> str:
        return path_of("deployments", "apps", namespace=self.namespace, name=self.name)

    async def read(self) -> dict[str, Any]:
        """The Deployment now."""
        return await self.cluster.get(self.path)

    async def pods(self) -> list[dict[str, Any]]:
        """Its pods now, those being deleted too."""
        return await self.cluster.list_all(
            path_of("pods", namespace=self.namespace), {"labelSelector": f"app={self.name}"}
        )

    async def set_env(self, **values: str) -> None:
        """Roll out other environment variables."""
        env = [{"name": k, "value": v} for k, v in values.items()]
        await self._patch({"containers": [{"name": "checkout", "env": env}]})

    async def set_image(self, image: str) -> None:
        """Roll out another image."""
        await self._patch({"containers": [{"name": "checkout", "image": image}]})

    async def _patch(self, pod_spec: Mapping[str, Any]) -> None:
        body = {"spec": {"template": {"spec": pod_spec}}}
        await self.cluster.patch(self.path, body, "application/strategic-merge-patch+json")

    async def rolled_out(self, seconds: float = 90) -> dict[str, Any]:
        """Wait until all pods are of the newest template and available."""

        def done(thing: dict[str, Any]) -> bool:
            status, wanted = thing.get("status", {}), thing["spec"]["replicas"]
            observed = int(status.get("observedGeneration", 0))
            counts = [status.get(k) for k in ("updatedReplicas", "availableReplicas", "replicas")]
            return observed >= thing["metadata"]["generation"] and counts == [wanted] * 3

        return await until(self.read, done, seconds)

    async def restarted(self, times: int = 2, seconds: float = 90) -> None:
        """Wait until one of its containers restarted so many times."""

        def seen(pods: Sequence[dict[str, Any]]) -> bool:
            counts = [
                c.get("restartCount", 0)
                for p in pods
                for c in p.get("status", {}).get("containerStatuses", ())
            ]
            return max(counts, default=0) >= times

        await until(self.pods, seen, seconds)

    async def delete(self) -> None:
        """Remove it with its pods; gone already is fine."""
        try:
            await self.cluster.delete(self.path, {"propagationPolicy": "Background"})
        except NotFound:
            return


@asynccontextmanager
async def fresh_namespace(cluster: Cluster) -> AsyncIterator[str]:
    """A namespace of its own for one test, so that others' faults are no neighbours."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await cluster.post(path_of("namespaces"), {"metadata": {"name": name}})

    async def accounts() -> list[Any]:
        return await cluster.list_all(path_of("serviceaccounts", namespace=name))

    # Pods are refused until the namespace has its default account.
    await until(accounts, bool, 30)
    try:
        yield name
    finally:
        with anyio.CancelScope(shield=True):
            await cluster.delete(path_of("namespaces", name=name))


@asynccontextmanager
async def shop(
    cluster: Cluster,
    prefix: str = "shop",
    replicas: int = 3,
    ready: bool = True,
    namespace: str = NAMESPACE,
    probe_s: int = PROBE_S,
    **env: str,
) -> AsyncIterator[Shop]:
    """A uniquely named copy of the checkout deployment, deleted at the end.

    Args:
        cluster: As administrator.
        prefix: Start of its name.
        replicas: Pods.
        ready: Wait until it is rolled out.
        namespace: Where.
        probe_s: Seconds between two readiness probes.
        env: Environment that differs from the manifest.
    """
    made = Shop(cluster, f"{prefix}-{uuid.uuid4().hex[:6]}", namespace)
    body = _manifest(made.name, replicas, env)
    (container,) = body["spec"]["template"]["spec"]["containers"]
    container["readinessProbe"]["periodSeconds"] = probe_s
    body["metadata"]["namespace"] = namespace
    await cluster.post(path_of("deployments", "apps", namespace=namespace), body)
    try:
        if ready:
            await made.rolled_out()
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            await made.delete()


def _manifest(name: str, replicas: int, env: Mapping[str, str]) -> dict[str, Any]:
    import yaml

    path = Path(os.environ["TEST_CLUSTER_MANIFESTS"]) / "checkout.yaml"
    thing: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
    labels = {"app": name}
    thing["metadata"].update(name=name, labels=labels)
    spec = thing["spec"]
    spec.update(replicas=replicas, selector={"matchLabels": labels})
    spec["template"]["metadata"]["labels"] = labels
    container = spec["template"]["spec"]["containers"][0]
    values = {"SERVICE": name, **env}
    kept = [v for v in container["env"] if v["name"] not in values]
    container["env"] = kept + [{"name": k, "value": v} for k, v in values.items()]
    return thing
