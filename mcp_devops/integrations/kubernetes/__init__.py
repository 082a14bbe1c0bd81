"""Kubernetes: what runs, what ails it, what changed. Client, revisions, and the tools that read.

`client.py` connects, `cluster.py` asks, `revisions.py`, `podstate.py` and `trouble.py` judge
without asking, `facts.py` serves the rooms that decide; each other module is a tool.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.kubernetes.access import (
    check_access,
    check_kubernetes_access,
    who_am_i,
)
from mcp_devops.integrations.kubernetes.actions import ROLLOUT_TOOLS
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.events import list_events
from mcp_devops.integrations.kubernetes.kubeconfig import in_pod, kubeconfig_paths
from mcp_devops.integrations.kubernetes.logs import tail_logs
from mcp_devops.integrations.kubernetes.pods import describe_pods
from mcp_devops.integrations.kubernetes.resources import RESOURCES
from mcp_devops.integrations.kubernetes.settings import KubernetesSettings
from mcp_devops.integrations.kubernetes.workloads import list_workloads
from mcp_devops.toolkit.integration import Health, Integration

if TYPE_CHECKING:
    from mcp_devops.toolkit.clock import Clock


def _connect(settings: KubernetesSettings, clock: Clock) -> KubernetesClient:
    return KubernetesClient(settings, clock)


async def _close(client: KubernetesClient) -> None:
    await client.aclose()


def _why_off(settings: KubernetesSettings) -> str | None:
    paths = kubeconfig_paths(settings, os.environ)
    if any(p.is_file() for p in paths) or in_pod(os.environ):
        return None
    return f"no kubeconfig at {', '.join(map(str, paths))}, and this is no pod"


async def _ping(client: KubernetesClient) -> Health:
    try:
        cluster = await client.cluster()
        version = str((await cluster.get("/version")).get("gitVersion", "unknown version"))
        user = await who_am_i(cluster)
    except DevOpsError as failure:
        return Health(False, failure.what, failure.fix)
    return Health(
        True,
        f"Kubernetes {version} at {cluster.entry.server}, context {cluster.name},"
        f" namespace {cluster.namespace}" + (f", as {user}" if user else ""),
    )


INTEGRATION = Integration(
    name="kubernetes",
    settings=KubernetesSettings,
    client=KubernetesClient,
    connect=_connect,
    close=_close,
    tools=(
        list_workloads,
        describe_pods,
        tail_logs,
        list_events,
        check_kubernetes_access,
        *ROLLOUT_TOOLS,
    ),
    why_off=_why_off,
    ping=_ping,
    check_access=check_access,
    resources=RESOURCES,
)
"""What the catalog finds."""
