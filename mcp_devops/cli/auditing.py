"""`mcp-devops audit list | show | verify | export`: the journal, for people and auditors."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_devops.cli.serving import StateDir, server_settings

if TYPE_CHECKING:
    from mcp_devops.journal.journal import Journal

app = typer.Typer(help="Read, check and export the journal.", no_args_is_help=True)


class Format(StrEnum):
    """Export formats."""

    JSONL = "jsonl"
    CSV = "csv"


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


IncidentOption = Annotated[str | None, typer.Option("--incident", help="Only this incident.")]
KindOption = Annotated[str | None, typer.Option("--kind", help="Only entries of this kind.")]
Since = Annotated[
    datetime | None,
    typer.Option("--since", parser=_moment, metavar="TIME", help="From then on, RFC 3339."),
]
Until = Annotated[
    datetime | None,
    typer.Option("--until", parser=_moment, metavar="TIME", help="Before then, RFC 3339."),
]


@asynccontextmanager
async def _journal(state_dir: Path | None) -> AsyncIterator[Journal]:
    from mcp_devops.gateway.opening import database_path
    from mcp_devops.journal.database import open_database
    from mcp_devops.journal.journal import Journal
    from mcp_devops.text.secrets import Redactor
    from mcp_devops.toolkit.clock import SystemClock

    settings = server_settings([], [], [], state_dir)
    async with open_database(database_path(settings)) as database:
        yield Journal(database, Redactor(()), SystemClock().now)


def _filters(
    incident: str | None, kind: str | None, since: datetime | None, until: datetime | None
) -> dict[str, Any]:
    from mcp_devops.errors import InvalidArguments
    from mcp_devops.journal.entry import EntryKind

    if kind is not None and kind not in set(EntryKind):
        raise InvalidArguments(
            f"There is no entry kind {kind!r}.", fix=f"Known: {', '.join(EntryKind)}."
        )
    given = {
        "incident_id": incident,
        "kind": EntryKind(kind) if kind else None,
        "since": since,
        "until": until,
    }
    return {k: v for k, v in given.items() if v is not None}


@app.command("list")
def show_list(
    incident: IncidentOption = None,
    kind: KindOption = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Newest entries.")] = 40,
    state_dir: StateDir = None,
) -> None:
    """Show the newest entries, oldest of them first."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    async def read() -> list[Any]:
        async with _journal(state_dir) as journal:
            found = await journal.list(
                **_filters(incident, kind, since, until), limit=limit, newest_first=True
            )
            return list(reversed(found.entries))

    table = Table("seq", "at (UTC)", "kind", "who", "what", box=None, pad_edge=False)
    for entry in asyncio.run(read()):
        table.add_row(
            str(entry.seq),
            f"{entry.at:%Y-%m-%d %H:%M:%S}",
            entry.kind.value,
            escape(entry.actor),
            escape(_what(entry)),
        )
    Console(highlight=False).print(table)


def _what(entry: Any) -> str:
    body = entry.body
    for key in ("what", "headline", "outcome", "status"):
        if isinstance(body.get(key), str):
            return f"{entry.subject}: {body[key]}"
    return str(entry.subject)


@app.command()
def show(
    seq: Annotated[int, typer.Argument(help="Place in the journal, from 1.")],
    state_dir: StateDir = None,
) -> None:
    """Show one entry whole, as JSON."""

    async def read() -> Any:
        async with _journal(state_dir) as journal:
            return await journal.get(seq)

    entry = asyncio.run(read())
    typer.echo(json.dumps(entry.model_dump(mode="json"), indent=2, ensure_ascii=False))


@app.command()
def verify(
    anchor: Annotated[
        str | None,
        typer.Option(
            "--anchor",
            metavar="SEQ:HASH",
            help="A head written down earlier and elsewhere: shows that nothing before it was cut.",
        ),
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Check the hash chain. Exit code 0: whole; 1: broken, with the first broken entry."""

    async def check() -> Any:
        async with _journal(state_dir) as journal:
            return await journal.verify(anchor)

    report = asyncio.run(check())
    typer.echo(report.says)
    if report.ok and report.head:
        typer.echo(f"Head: {report.head}  (keep it elsewhere; pass it as --anchor later)")
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def export(
    form: Annotated[Format, typer.Option("--format", help="jsonl or csv.")] = Format.JSONL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; default: standard output.")
    ] = None,
    incident: IncidentOption = None,
    kind: KindOption = None,
    since: Since = None,
    until: Until = None,
    state_dir: StateDir = None,
) -> None:
    """Write entries as JSON Lines or CSV, oldest first."""
    from mcp_devops.journal.export import csv_rows, jsonl

    async def write() -> int:
        count = 0
        async with _journal(state_dir) as journal:
            filters = _filters(incident, kind, since, until)
            rows = csv_rows(journal, **filters) if form is Format.CSV else jsonl(journal, **filters)
            with _opened(output) if output else _stdout() as sink:
                async for row in rows:
                    sink.write(row)
                    count += 1
        return count

    count = asyncio.run(write())
    if output:
        typer.echo(f"{count} lines written to {output}.", err=True)


def _opened(output: Path) -> Any:
    from mcp_devops.errors import InvalidArguments

    try:
        return output.open("w", encoding="utf-8", newline="")
    except OSError as problem:
        raise InvalidArguments(
            f"{output} cannot be written: {problem.strerror}.", fix="Choose another --output."
        ) from problem


def _stdout() -> Any:
    from contextlib import nullcontext

    return nullcontext(sys.stdout)
