"""A workload's rollout as something that a client can read and subscribe to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from mcp_devops.errors import DevOpsError, NotFound
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.names import workload_at
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.progress import rollout_status
from mcp_devops.integrations.kubernetes.snapshot import look
from mcp_devops.integrations.kubernetes.trouble import judge
from mcp_devops.integrations.kubernetes.watching import watch_rollout
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.toolkit.context import Services
from mcp_devops.toolkit.resource import ResourceItem, ResourceSpec

CURRENT = "-"
"""Stands for the current context in an address."""
LISTED = 200
"""Workloads in a list or completion at most; further ones are reached by their address."""

_KINDS = {kind.value.lower(): kind for kind in WorkloadKind}


async def _find(services: Services, parameters: Mapping[str, str]) -> tuple[Cluster, Workload]:
    kind = _KINDS.get(parameters["kind"].lower())
    if kind is None:
        raise NotFound(
            "There is no such kind of workload.",
            fix=f"Known: {', '.join(k.value for k in WorkloadKind)}.",
        )
    client = await services.get(KubernetesClient)
    context = parameters["context"]
    cluster = await client.cluster(None if context in ("", CURRENT) else context)
    name, namespace = parameters["name"], parameters["namespace"]
    return cluster, workload_at(cluster.context, namespace, kind, name)


async def _read(services: Services, parameters: Mapping[str, str]) -> str:
    cluster, target = await _find(services, parameters)
    seen = await look(cluster, target, cluster.clock.now())
    health = judge(seen.scene).health
    told: dict[str, Any] = {
        "workload": target.model_dump(mode="json"),
        "rollout": rollout_status(seen.scene.workload, target.kind).model_dump(mode="json"),
        "health": health.model_dump(mode="json"),
        "missing": [m.model_dump(mode="json") for m in seen.missing],
    }
    return json.dumps(told, indent=1, ensure_ascii=False)


async def _list(services: Services) -> Sequence[ResourceItem]:
    """Deployments of the default namespace; none where they may not be listed."""
    client = await services.get(KubernetesClient)
    try:
        cluster = await client.cluster()
        names = await _names(cluster)
    except DevOpsError:
        # A client lists resources when it connects; a cluster that is away must not break that.
        return ()
    return [
        ResourceItem(
            uri=ROLLOUT.address(
                context=CURRENT,
                namespace=cluster.namespace,
                kind=WorkloadKind.DEPLOYMENT.value,
                name=name,
            ),
            name=f"{cluster.namespace}/{name}",
            description=f"Rollout of Deployment {name} in context {cluster.name}",
        )
        for name in names[:LISTED]
    ]


async def _names(cluster: Cluster) -> list[str]:
    return await _metadata_names(
        cluster, path_of("deployments", "apps", namespace=cluster.namespace)
    )


async def _metadata_names(cluster: Cluster, path: str) -> list[str]:
    body = await cluster.get(
        path,
        {"limit": LISTED},
        accept="application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
    )
    return sorted(str(item["metadata"]["name"]) for item in body.get("items") or ())


async def _watch(services: Services, parameters: Mapping[str, str]) -> AsyncIterator[Any]:
    cluster, target = await _find(services, parameters)
    async with aclosing(watch_rollout(cluster, target)) as lines:
        async for line in lines:
            yield line


async def _complete(services: Services, argument: str, prefix: str) -> Sequence[str]:
    """Values that exist; nothing where they may not be read."""
    if argument == "kind":
        values = [kind.value for kind in WorkloadKind]
    else:
        try:
            values = await _known(await services.get(KubernetesClient), argument)
        except DevOpsError:
            return ()
    return [v for v in values if v.lower().startswith(prefix.lower())]


async def _known(client: KubernetesClient, argument: str) -> list[str]:
    if argument == "context":
        return [CURRENT, *await client.contexts()]
    cluster = await client.cluster()
    if argument == "namespace":
        return await _metadata_names(cluster, path_of("namespaces"))
    return await _names(cluster) if argument == "name" else []


ROLLOUT = ResourceSpec(
    uri="kubernetes://{context}/{namespace}/{kind}/{name}",
    name="rollout",
    description="How far a workload's rollout is and how its pods are; context - is the current"
    " one, kind Deployment, StatefulSet or DaemonSet. Subscribe to be told when it moves.",
    mime_type="application/json",
    read=_read,
    list=_list,
    watch=_watch,
    complete=_complete,
)

RESOURCES = (ROLLOUT,)
"""What this integration lets clients read and subscribe to."""
