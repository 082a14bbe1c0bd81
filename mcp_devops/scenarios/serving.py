"""Serves MCP over a recorded incident: the usual server, with a replayed world behind it."""

from __future__ import annotations

import json
import logging
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio.to_thread

from mcp_devops.scenarios.listening import listening
from mcp_devops.scenarios.recorded import Scenario, load, scans
from mcp_devops.scenarios.replay_kubernetes import kubernetes_app
from mcp_devops.scenarios.replay_prometheus import prometheus_app
from mcp_devops.scenarios.world import World
from mcp_devops.settings import CONFIG_VARIABLE, ENV_PREFIX, ServerSettings
from mcp_devops.toolkit.clock import Clock, SystemClock

log = logging.getLogger(__name__)

CONTEXT = "recorded"
"""Name of the kubeconfig context."""
TOOLSETS = ("docker", "incident", "kubernetes", "prometheus")
"""What a recording may hold; everything else would reach for the person's own systems. Of Docker
only scan reports, and only where the recording has some."""


@asynccontextmanager
async def replayed(name: str) -> AsyncIterator[tuple[World, str, str, str]]:
    """Play a recording on loopback, from now on.

    Gives the world, the address of its Kubernetes API, the token for it, and the address of its
    Prometheus.

    Raises:
        NotFound: There is no such recording.
    """
    scenario = await anyio.to_thread.run_sync(load, name)
    world = World(scenario, SystemClock().now())
    token = secrets.token_hex(16)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(world.aclose)
        cluster = await stack.enter_async_context(listening(kubernetes_app(world, token)))
        metrics = await stack.enter_async_context(listening(prometheus_app(world)))
        yield world, cluster, token, metrics


@asynccontextmanager
async def prepared(
    name: str, settings: ServerSettings
) -> AsyncIterator[tuple[ServerSettings, Clock]]:
    """Play a recording, and give the settings and the clock of a server over it.

    Changes are allowed in the scenario's namespace unless the settings name others; they are still
    asked for. The journal goes to `state_dir`, or to a temporary directory.

    Args:
        name: The scenario.
        settings: The server's settings.

    Raises:
        NotFound: There is no such scenario; the names are told.
    """
    async with replayed(name) as (world, cluster, token, metrics):
        with tempfile.TemporaryDirectory(prefix="mcp-devops-") as made:
            folder = Path(made)
            about = world.scenario.about
            connect(os.environ, folder, world.scenario, cluster, token, metrics)
            state = settings.state_dir or folder / "state"
            played = settings.model_copy(
                update={
                    "allow_writes": settings.allow_writes or (about.namespace,),
                    "toolsets": settings.toolsets or toolsets(name),
                    "state_dir": state,
                    "database_url": None,
                }
            )
            log.warning("scenario %s: %s Journal: %s", name, about.title, state)
            yield played, world.clock


def toolsets(name: str) -> tuple[str, ...]:
    """The tool sets that a recording holds.

    Raises:
        NotFound: There is no such scenario.
    """
    return tuple(t for t in TOOLSETS if t != "docker" or scans(name) is not None)


def connect(
    environ: MutableMapping[str, str],
    folder: Path,
    scenario: Scenario,
    cluster: str,
    token: str,
    metrics: str,
) -> None:
    """Point this process's environment at the replayed systems, and away from the person's own.

    Args:
        environ: What is changed.
        folder: Where the kubeconfig is written.
        scenario: What is played.
        cluster: Address of the Kubernetes API.
        token: Its token.
        metrics: Address of Prometheus.
    """
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(_kubeconfig(cluster, token, scenario.about.namespace), encoding="utf-8")
    empty = folder / "mcp-devops.toml"
    empty.touch()
    for toolset in TOOLSETS:
        prefix = f"{ENV_PREFIX}{toolset.upper()}__"
        for variable in [v for v in environ if v.upper().startswith(prefix)]:
            del environ[variable]
    environ.update(
        {
            **scenario.about.settings,
            CONFIG_VARIABLE: str(empty),
            "KUBECONFIG": str(kubeconfig),
            f"{ENV_PREFIX}PROMETHEUS__URL": metrics,
            f"{ENV_PREFIX}DOCKER__ENGINE": "false",
            f"{ENV_PREFIX}DOCKER__SCAN_ROOTS": str(scans(scenario.name) or ""),
        }
    )
    for variable in ("NO_PROXY", "no_proxy"):
        environ[variable] = ",".join(filter(None, (environ.get(variable), "127.0.0.1")))


def _kubeconfig(server: str, token: str, namespace: str) -> str:
    """A kubeconfig with one context; JSON is YAML."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "clusters": [{"name": CONTEXT, "cluster": {"server": server}}],
            "users": [{"name": CONTEXT, "user": {"token": token}}],
            "contexts": [
                {
                    "name": CONTEXT,
                    "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": namespace},
                }
            ],
        }
    )
