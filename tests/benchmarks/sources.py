"""One investigation of all sources against its slowest source; and with two sources dead.

Real processes and sockets on loopback: a replayed cluster and Prometheus, stand-ins of Datadog and
Sentry that take as long as the services do, a real Terraform where one is installed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.scenarios.listening import listening
from mcp_devops.scenarios.serving import connect, replayed
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.context import Caller
from tests.benchmarks.measure import Result, Row, Skipped, scratch
from tests.support import terraform_world
from tests.support.datadog import API_KEY, APP_KEY, DatadogApi
from tests.support.datadog import Traffic as Spans
from tests.support.sentry import ORG, TOKEN, World

CALLER = Caller("bench", "test")
REPETITIONS = 5
DEADLINE_S = 4.0
"""Deadline of the investigation with dead sources."""
ANSWER_S = 0.8
"""Seconds in which the hosted services answer one question: the order of a busy day."""
PARTS = {
    "terraform": ("MCP_DEVOPS_TERRAFORM__INVESTIGATE", "false"),
    "datadog": ("MCP_DEVOPS_DATADOG__API_KEY", ""),
    "sentry": ("MCP_DEVOPS_SENTRY__TOKEN", ""),
}


def run() -> Iterator[Result]:
    if why := terraform_world.why_not():
        yield Skipped("sources", why)
        return
    with scratch() as folder:
        yield from asyncio.run(_measured(folder))


async def _measured(folder: Path) -> list[Result]:
    world = await asyncio.to_thread(terraform_world.World(folder / "terraform").make)
    world.service("web", replicas=1)
    async with _everything(folder, world) as variables:
        whole = await _median(folder, variables, {})
        alone = {
            name: await _median(
                folder, variables, {n: v for part, (n, v) in PARTS.items() if part != name}
            )
            for name in PARTS
        }
        alone["cluster and Prometheus"] = await _median(folder, variables, dict(PARTS.values()))
    slowest = max(alone, key=lambda name: alone[name])
    each = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in alone.items())
    rows: list[Result] = [
        Row(
            "sources",
            "an investigation of all sources",
            whole,
            alone[slowest],
            f"its slowest source alone ({slowest})",
            "s",
            1.2,
            each,
        )
    ]
    async with _everything(folder, world, dead=("prometheus", "sentry")) as variables:
        stuck = {"MCP_DEVOPS_INCIDENT__SOURCE_DEADLINE_S": str(DEADLINE_S)}
        dead = await _median(folder, variables, stuck, 2)
    rows.append(
        Row(
            "sources",
            "an investigation with Prometheus and Sentry dead",
            dead,
            DEADLINE_S,
            "one deadline",
            "s",
            1.0,
            "both take connections and never answer",
        )
    )
    return rows


@asynccontextmanager
async def _everything(
    folder: Path, terraform: terraform_world.World, dead: tuple[str, ...] = ()
) -> AsyncIterator[dict[str, str]]:
    """Variables of a server over a replayed cluster, with every other source beside it."""
    async with replayed("slow-after-scaling") as (world, cluster, token, metrics):
        variables: dict[str, str] = {}
        connect(variables, folder, world.scenario, cluster, token, metrics)
        now = world.clock.now()
        sentry = World()
        sentry.clock = world.clock  # type: ignore[assignment]  # whatever tells the time
        sentry.projects = {"pricing": "11"}
        spans = Spans(now - timedelta(hours=3), now + timedelta(hours=1), service="pricing")
        datadog = DatadogApi(traffic=[spans], now=now + timedelta(hours=1))
        async with (
            listening(_slowed(sentry.answer)) as sentry_url,
            listening(_slowed(_through(datadog.app()))) as datadog_url,
            _silent() as nowhere,
        ):
            yield {
                **variables,
                "MCP_DEVOPS_SENTRY__URL": nowhere if "sentry" in dead else sentry_url,
                "MCP_DEVOPS_SENTRY__ORGANIZATION": ORG,
                "MCP_DEVOPS_SENTRY__TOKEN": TOKEN,
                "MCP_DEVOPS_SENTRY__GRACE_S": "0",
                "MCP_DEVOPS_SENTRY__SETTLE_S": "0",
                "MCP_DEVOPS_SENTRY__TIMEOUT_S": "60",
                "MCP_DEVOPS_DATADOG__URL": datadog_url,
                "MCP_DEVOPS_DATADOG__API_KEY": API_KEY,
                "MCP_DEVOPS_DATADOG__APP_KEY": APP_KEY,
                "MCP_DEVOPS_DATADOG__SETTLE_S": "0",
                "MCP_DEVOPS_TERRAFORM__ROOTS": str(terraform.root),
                "MCP_DEVOPS_TERRAFORM__BINARY": str(terraform_world.binary()),
                "MCP_DEVOPS_TERRAFORM__CLI_CONFIG_FILE": str(terraform.config),
                "MCP_DEVOPS_TERRAFORM__ALLOWED_PROVIDERS": "local.test/demo/*",
                "MCP_DEVOPS_TERRAFORM__REUSE_S": "0",
                **(
                    {
                        "MCP_DEVOPS_PROMETHEUS__URL": nowhere,
                        "MCP_DEVOPS_PROMETHEUS__TIMEOUT_S": "60",
                    }
                    if "prometheus" in dead
                    else {}
                ),
            }


Handler = Callable[[Request], Awaitable[Response]]


def _slowed(handler: Handler) -> Starlette:
    """A service that takes its time."""

    async def answer(request: Request) -> Response:
        await asyncio.sleep(ANSWER_S)
        return await handler(request)

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])


def _through(app: Starlette) -> Handler:
    """The application as a handler."""

    async def answer(request: Request) -> Response:
        body = await request.body()
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {k: v for k, v in request.scope.items() if k not in ("path_params", "endpoint")}
        await app(scope, receive, send)
        content = b"".join(m.get("body", b"") for m in sent[1:])
        headers = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Response(content, sent[0]["status"], headers)

    return answer


@asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """An address that takes connections and never says a word."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"


async def _median(
    folder: Path, variables: dict[str, str], changes: dict[str, str], times: int = REPETITIONS
) -> float:
    """Seconds of one investigation, its connections made before."""
    before = {k: v for k, v in os.environ.items() if k.startswith(("MCP_DEVOPS_", "KUBECONFIG"))}
    for name in before:
        del os.environ[name]
    chosen = {k: v for k, v in {**variables, **changes}.items() if v}
    os.environ.update(chosen)
    try:
        settings = ServerSettings(state_dir=folder / "state")
        async with open_gateway(settings, channel="test") as gateway:
            await _investigate(gateway)
            return median([await _investigate(gateway) for _ in range(times)])
    finally:
        for name in chosen:
            os.environ.pop(name, None)
        os.environ.update(before)


async def _investigate(gateway: Gateway) -> float:
    begun = time.perf_counter()
    arguments = {"namespace": "shop", "workload": "pricing"}
    reply = await gateway.call("incident_investigate", arguments, CALLER)
    assert reply.data is not None, reply.text
    return time.perf_counter() - begun
