"""`mcp-devops incident list | page | postmortem`: what happened, as files for people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_devops.cli.serving import StateDir, server_settings

if TYPE_CHECKING:
    from datetime import datetime

    from mcp_devops.gateway.door import Gateway
    from mcp_devops.incidents.account import Account
    from mcp_devops.model.incident import Incident

app = typer.Typer(help="Look at incidents, and write them down as files.", no_args_is_help=True)

IncidentId = Annotated[str, typer.Argument(metavar="ID", help="inc-<8 hex>.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="File; default: the id in this directory.", dir_okay=False),
]


@asynccontextmanager
async def _door(state_dir: Path | None) -> AsyncIterator[Gateway]:
    """The same door as a server's, so that what is secret there is masked here."""
    from mcp_devops.gateway.opening import open_gateway

    settings = server_settings([], [], [], state_dir)
    async with open_gateway(settings, channel="terminal", looks_only=True) as gateway:
        yield gateway


async def _account(incident_id: str, state_dir: Path | None) -> tuple[Account, datetime]:
    from mcp_devops.incidents.account import account_of

    async with _door(state_dir) as gateway:
        account = await account_of(gateway.services, incident_id, walk_chain=True)
        return account, gateway.clock.now()


@app.command("list")
def show_list(
    open_only: Annotated[
        bool, typer.Option("--open", help="Only those in which somebody still has to look.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Newest.")] = 20,
    state_dir: StateDir = None,
) -> None:
    """List incidents, newest first."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mcp_devops.incidents.account import cleaned
    from mcp_devops.incidents.store import IncidentStore
    from mcp_devops.text.people import ago

    async def read() -> tuple[list[Incident], list[str]]:
        async with _door(state_dir) as gateway:
            store = await gateway.services.get(IncidentStore)
            found = (await store.all(open_only=open_only))[:limit]
            now = gateway.clock.now()
            ages = [ago((now - i.opened_at).total_seconds()) for i in found]
            return [cleaned(i, gateway.redactor) for i in found], ages

    found, ages = asyncio.run(read())
    console = Console(highlight=False)
    if not found:
        console.print("No incident is open." if open_only else "There is no incident yet.")
        return
    table = Table("id", "status", "what", "opened", "verdict", box=None, pad_edge=False)
    for incident, age in zip(found, ages, strict=True):
        verdict = incident.verdict.action.value if incident.verdict else "-"
        status = incident.status.value.replace("_", " ")
        table.add_row(incident.id, status, escape(str(incident.target)), age, verdict)
    console.print(table)


@app.command()
def page(
    incident_id: IncidentId,
    output: Output = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    state_dir: StateDir = None,
) -> None:
    """Write an incident as one HTML file: charts, verdict, approval, timeline. Opens offline."""
    from mcp_devops.web.incident_page import incident_page

    account, now = asyncio.run(_account(incident_id, state_dir))
    path = _write(output or Path(f"{account.incident.id}.html"), incident_page(account, now))
    typer.echo(str(path))
    if open_it:
        import webbrowser

        if not webbrowser.open(path.as_uri()):
            typer.echo(f"No browser could be started; open {path} yourself.", err=True)


@app.command()
def postmortem(incident_id: IncidentId, output: Output = None, state_dir: StateDir = None) -> None:
    """Write the draft of a blameless postmortem as Markdown, from the record alone."""
    from mcp_devops.incidents.postmortem import DETAILED_CHARS, draft_of

    account, _ = asyncio.run(_account(incident_id, state_dir))
    path = _write(output or Path(f"{account.incident.id}.md"), draft_of(account, DETAILED_CHARS))
    typer.echo(str(path))


def _write(path: Path, text: str) -> Path:
    """The absolute path of what was written.

    Raises:
        InvalidArguments: It cannot be written there.
    """
    from mcp_devops.errors import InvalidArguments

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise InvalidArguments(
            f"{path} cannot be written: {problem.strerror}.", fix="Choose another --output."
        ) from problem
    return path.resolve()
