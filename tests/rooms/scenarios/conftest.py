"""A played recording on loopback."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest

from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.kubeconfig import ContextEntry
from mcp_devops.integrations.kubernetes.settings import KubernetesSettings
from mcp_devops.scenarios.serving import replayed
from mcp_devops.scenarios.world import World


@dataclass
class Played:
    """A world, a bare HTTP client for each of its systems, and the product's client."""

    world: World
    api: httpx2.AsyncClient
    prometheus: httpx2.AsyncClient
    cluster: Cluster


@asynccontextmanager
async def play(name: str) -> AsyncIterator[Played]:
    async with replayed(name) as (world, cluster, token, metrics):
        entry = ContextEntry("recorded", cluster, world.namespace, user={"token": token})
        client = Cluster(entry, KubernetesSettings(), world.clock)
        headers = {"authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(base_url=cluster, headers=headers) as api,
            httpx2.AsyncClient(base_url=metrics) as prometheus,
        ):
            yield Played(world, api, prometheus, client)
        await client.aclose()


Play = Callable[[str], AbstractAsyncContextManager[Played]]


@pytest.fixture(name="play")
def play_fixture() -> Play:
    return play
