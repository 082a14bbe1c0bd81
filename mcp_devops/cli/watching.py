"""`mcp-devops watch`: answer deployments unattended."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_devops.cli.serving import StateDir, configure_logging, run_and_exit, server_settings
from mcp_devops.errors import DevOpsError
from mcp_devops.settings import ServerSettings

if TYPE_CHECKING:
    from mcp_devops.gateway.door import Gateway
    from mcp_devops.responder.metrics import Readiness

log = logging.getLogger("mcp_devops.watch")


def watch(
    namespaces: Annotated[
        list[str],
        typer.Option(
            "--namespace",
            "-n",
            metavar="PATTERN",
            help="Watch namespaces of this pattern (shop, team-*). Repeatable.",
        ),
    ],
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="Response policy (YAML). Without one nothing is done alone: people are asked."
            " `mcp-devops policy check` tells whether it is valid.",
            dir_okay=False,
        ),
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", help="Kubeconfig context; default: the current one.")
    ] = None,
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="Judge and tell people, but never change anything."),
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="HOST:PORT",
            help="Serve /metrics, /healthz and /readyz there, to whoever can connect.",
        ),
    ] = None,
    state_dir: StateDir = None,
    log_level: Annotated[
        str, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR; on stderr.")
    ] = "INFO",
) -> None:
    """Watch rollouts, judge them, roll bad ones back or ask a person, until it is stopped.

    A run survives a crash: start it again and it goes on where it was.
    """
    import os

    if policy is not None:
        os.environ["MCP_DEVOPS_RESPONSE__POLICY_FILE"] = str(policy)
    writes = [] if read_only else namespaces
    settings = server_settings(writes, [], [], state_dir, log_level.upper())
    configure_logging(settings.log_level)
    run_and_exit(_watch(settings, tuple(namespaces), context, metrics))


async def _watch(
    settings: ServerSettings,
    namespaces: tuple[str, ...],
    context: str | None,
    metrics: str | None,
) -> int:
    from functools import partial

    from mcp_devops.gateway.opening import open_gateway
    from mcp_devops.responder.service import watching
    from mcp_devops.responder.telling.channels import Front
    from mcp_devops.web.routes import page_file

    stop = asyncio.Event()
    told: list[str] = []
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    up = False

    def asked_to_stop() -> None:
        if not (up or stop.is_set()) and starting is not None:
            # What is waited for at the start, such as a cluster that is away, may not come.
            starting.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    try:
        async with (
            open_gateway(settings, channel="watch") as gateway,
            _told(gateway, metrics) as readiness,
            watching(
                gateway, namespaces, context=context, front=Front(partial(page_file, gateway))
            ) as responder,
        ):
            up = True
            if readiness is not None:
                readiness.replica = responder.runs.replica
            log.info("watching %s as %s", ", ".join(namespaces), responder.runs.replica)
            await stop.wait()
            log.info("stopping; runs under way go on when it is started again")
    except* DevOpsError as problems:
        told = [str(problem) for problem in problems.exceptions]
    except* asyncio.CancelledError:
        if not stop.is_set():
            raise
        log.info("stopped before it watched")
    sys.stderr.write("".join(f"{line}\n" for line in told))
    return 1 if told else 0


@asynccontextmanager
async def _told(gateway: Gateway, metrics: str | None) -> AsyncIterator[Readiness | None]:
    """Serve the numbers, if that is wanted."""
    if metrics is None:
        yield None
        return
    from mcp_devops.journal.database import Database
    from mcp_devops.responder.metrics import Readiness, telling
    from mcp_devops.server.metrics import Metrics

    readiness = Readiness(await gateway.services.get(Database), gateway.clock)
    async with telling(metrics, Metrics(gateway).render, readiness) as address:
        log.info("metrics at %s/metrics", address)
        yield readiness
