"""`mcp-devops serve`: stdio by default, HTTP on request."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mcp_devops.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.routing import Route

    from mcp_devops.gateway.door import Gateway
    from mcp_devops.toolkit.clock import Clock


def configure_logging(level: str) -> None:
    """Log to stderr, times in UTC: stdout is the wire."""
    import time

    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(max(logging.WARNING, logging.getLevelName(level)))


def server_settings(
    allow_writes: list[str],
    automatic: list[str],
    toolsets: list[str],
    state_dir: Path | None,
    log_level: str | None = None,
) -> ServerSettings:
    """Settings from the environment and the file, with the command line's options over them."""
    options: dict[str, object] = {
        "allow_writes": _names(allow_writes),
        "automatic_namespaces": _names(automatic),
        "toolsets": _names(toolsets),
        "state_dir": state_dir,
        "log_level": log_level,
    }
    return ServerSettings.load(**{k: v for k, v in options.items() if v})


def _names(given: list[str]) -> tuple[str, ...]:
    return tuple(n.strip() for entry in given for n in entry.split(",") if n.strip())


AllowWrites = Annotated[
    list[str],
    typer.Option(
        "--allow-writes",
        metavar="NAMESPACE",
        help="Let change tools run in namespaces of this pattern (shop, team-*). Repeatable."
        " Without it the server is read-only.",
    ),
]
Automatic = Annotated[
    list[str],
    typer.Option(
        "--automatic",
        metavar="NAMESPACE",
        help="Let the policy approve rollbacks in namespaces of this pattern (confidence 0.80,"
        " complete evidence, no veto). Off by default.",
    ),
]
Toolsets = Annotated[
    list[str],
    typer.Option("--toolsets", metavar="NAMES", help="Publish only these, separated by commas."),
]
StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", help="Where journal and approvals are kept.", file_okay=False),
]


def serve(
    http: Annotated[
        str | None,
        typer.Option(
            "--http",
            metavar="HOST:PORT",
            help="Serve streamable HTTP at /mcp, with pages for people at /incidents, /healthz and"
            " /metrics. Default: stdio.",
        ),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            "--scenario",
            metavar="NAME",
            help="Play with a recorded incident instead of a real cluster; `mcp-devops demo"
            " --list` names them.",
        ),
    ] = None,
    watch: Annotated[
        list[str],
        typer.Option(
            "--watch",
            metavar="NAMESPACE",
            help="Beside --http: answer rollouts in namespaces of this pattern unattended, as"
            " `mcp-devops watch` does, and take webhooks. Repeatable.",
        ),
    ] = [],  # noqa: B006 - typer reads it, nobody changes it
    allow_writes: AllowWrites = [],  # noqa: B006 - likewise
    automatic: Automatic = [],  # noqa: B006 - likewise
    toolsets: Toolsets = [],  # noqa: B006 - likewise
    state_dir: StateDir = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR; on stderr.")
    ] = None,
) -> None:
    """Serve MCP to an agent: over standard input and output, or over HTTP."""
    settings = server_settings(
        allow_writes, automatic, toolsets, state_dir, log_level.upper() if log_level else None
    )
    configure_logging(settings.log_level)
    if watch and (http is None or scenario is not None):
        raise typer.BadParameter("--watch goes with --http, and with no scenario.")
    if scenario is not None:
        run_and_exit(_serve_scenario(scenario, settings, http))
    run_and_exit(_serve(settings, http, watched=_names(watch)))


def run_and_exit(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run to the end and exit with the code it gives.

    After a signal a thread may still wait for standard input; everything else is closed by then,
    so the process ends without it.
    """
    runner = asyncio.Runner()
    code = runner.run(work)
    if code > 128:
        logging.shutdown()
        os._exit(code)
    runner.close()
    raise typer.Exit(code)


async def _serve(
    settings: ServerSettings,
    http: str | None,
    clock: Clock | None = None,
    watched: tuple[str, ...] = (),
) -> int:
    if http is not None:
        from mcp_devops.server.http import serve_http
        from mcp_devops.web.routes import page_routes

        alongside = partial(_responding, watched) if watched else None
        return await serve_http(settings, http, clock, pages=page_routes, alongside=alongside)
    from mcp_devops.server.stdio import serve_stdio

    return await serve_stdio(settings, clock)


@asynccontextmanager
async def _responding(
    namespaces: tuple[str, ...], gateway: Gateway
) -> AsyncIterator[Sequence[Route]]:
    """Answer rollouts beside the server, and give the addresses of its webhooks."""
    from mcp_devops.integrations.pagerduty.settings import PagerDutySettings
    from mcp_devops.integrations.sentry.settings import SentrySettings
    from mcp_devops.integrations.slack.settings import SlackSettings
    from mcp_devops.journal.database import Database
    from mcp_devops.responder.service import watching
    from mcp_devops.responder.telling.channels import Front
    from mcp_devops.web.routes import page_file
    from mcp_devops.webhooks.routes import Hearers, webhook_routes
    from mcp_devops.webhooks.settings import WebhookSettings

    secret = SlackSettings.load().signing_secret
    pagerduty = PagerDutySettings.load().webhook_secret
    front = Front(partial(page_file, gateway), hears_slack=secret is not None)
    async with watching(gateway, namespaces, front=front) as responder:
        hearers = Hearers(
            deployed=lambda d: responder.deployed(d.namespace, d.workload, d.kind),
            alerted=responder.alerted,
            answered=responder.people.answered,
            slack_secret=secret.get_secret_value() if secret else None,
            sentry_base=SentrySettings.load().url,
            paged=responder.people.heard,
            pagerduty_secret=pagerduty.get_secret_value() if pagerduty else None,
        )
        database = await gateway.services.get(Database)
        yield webhook_routes(WebhookSettings.load(), database, gateway.clock, hearers)


async def _serve_scenario(name: str, settings: ServerSettings, http: str | None) -> int:
    from mcp_devops.scenarios.serving import prepared

    async with prepared(name, settings) as (played, clock):
        return await _serve(played, http, clock)
