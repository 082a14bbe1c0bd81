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
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mcp_devops.cli.serving import StateDir, server_settings
from mcp_devops.toolkit.local_user import local_user

if TYPE_CHECKING:
    from mcp_devops.journal.database import Database
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
    async with _state(state_dir) as (_, journal):
        yield journal


@asynccontextmanager
async def _state(state_dir: Path | None) -> AsyncIterator[tuple[Database, Journal]]:
    from mcp_devops.gateway.opening import database_path
    from mcp_devops.journal.database import open_database
    from mcp_devops.journal.journal import Journal
    from mcp_devops.text.secrets import Redactor
    from mcp_devops.toolkit.clock import SystemClock

    settings = server_settings([], [], [], state_dir)
    async with open_database(database_path(settings)) as database:
        yield database, Journal(database, Redactor(()), SystemClock().now)


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
            help="A head written down earlier and elsewhere: shows that nothing was cut off"
            " or rewritten; of a bundle, that its chain is that of the journal.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="Check this audit bundle, offline, instead."),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            "--fingerprint",
            metavar="SHA256",
            help="Of the bundle, as told when it was made: shows that all of it is as it was, and"
            " nothing was left out.",
        ),
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Check the hash chain, and the other tables against it; or an audit bundle.

    Exit code 0: whole; 1: broken, with what is wrong first; 2: it could not be checked.
    """
    if bundle is not None:
        _verify_bundle(bundle, anchor, fingerprint)
    if fingerprint is not None:
        from mcp_devops.errors import InvalidArguments

        raise InvalidArguments("A fingerprint is that of a bundle.", fix="Name it with --bundle.")

    async def check() -> Any:
        async with _journal(state_dir) as journal:
            return await journal.verify(anchor)

    report = asyncio.run(check())
    typer.echo(report.says)
    if report.ok and report.head:
        typer.echo(f"Head: {report.head}  (keep it elsewhere; pass it as --anchor later)")
    raise typer.Exit(0 if report.ok else 1)


def _verify_bundle(path: Path, anchor: str | None, fingerprint: str | None) -> NoReturn:
    from mcp_devops.journal.bundle_check import verify_bundle

    report = verify_bundle(path, anchor=anchor, fingerprint=fingerprint)
    typer.echo(report.says)
    for problem in report.problems[1:]:
        typer.echo(f"  also: {problem}")
    typer.echo(f"Fingerprint: {report.fingerprint}")
    if report.head:
        typer.echo(f"Head: {report.head}")
    if not report.chain_was_whole:
        typer.echo("The journal itself was broken when this bundle was made; see its summary.md.")
    for incident in report.unproven_evidence:
        typer.echo(f"The evidence of {incident} is that of its row; no entry here tells the same.")
    if fingerprint is None and report.ok:
        shown = "that no entry was left out" if anchor else "that nobody made it anew"
        typer.echo(f"Only --fingerprint can show {shown}.")
    raise typer.Exit(0 if report.ok and report.chain_was_whole else 1)


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
    soc2: Annotated[
        bool,
        typer.Option(
            "--soc2",
            help="A bundle for an auditor (zip; needs -o): who approved what on which evidence,"
            " with the proof of the chain. Exit code 1: written, but the chain is broken.",
        ),
    ] = False,
    state_dir: StateDir = None,
) -> None:
    """Write entries as JSON Lines or CSV, oldest first; or a bundle for an auditor."""
    from mcp_devops.journal.export import csv_rows, jsonl

    if soc2:
        _export_bundle(output, form, kind, incident, since, until, state_dir)

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


def _export_bundle(
    output: Path | None,
    form: Format,
    kind: str | None,
    incident: str | None,
    since: datetime | None,
    until: datetime | None,
    state_dir: Path | None,
) -> NoReturn:
    from mcp_devops import __version__
    from mcp_devops.errors import InvalidArguments
    from mcp_devops.gateway.opening import database_path
    from mcp_devops.journal.bundle import Bundle, Selection, write_bundle
    from mcp_devops.journal.entry import EntryKind
    from mcp_devops.journal.place import PostgresUrl
    from mcp_devops.text.secrets import Redactor
    from mcp_devops.toolkit.clock import SystemClock

    if output is None or kind is not None or form is not Format.JSONL:
        raise InvalidArguments(
            "A bundle is a file of its own form, with every kind of entry.",
            fix="Pass -o FILE, and neither --format nor --kind.",
        )
    place = database_path(server_settings([], [], [], state_dir))
    redactor = Redactor(place.secrets if isinstance(place, PostgresUrl) else ())
    selection = Selection(incident=incident, since=since, until=until)

    async def write() -> Bundle:
        now = SystemClock().now()
        async with _state(state_dir) as (database, journal):
            made = await write_bundle(
                database, output, selection, redactor=redactor, now=now, version=__version__
            )
            # A bundle that somebody makes anew later has another fingerprint than this.
            await journal.append(
                EntryKind.NOTE,
                actor=local_user(),
                subject="audit bundle",
                incident_id=incident,
                body={"what": "exported", "fingerprint": made.fingerprint, "entries": made.entries},
            )
            return made

    made = asyncio.run(write())
    typer.echo(f"{made.entries} entries written to {output}.", err=True)
    typer.echo(f"Fingerprint: {made.fingerprint}  (keep it elsewhere)", err=True)
    typer.echo(made.chain.says, err=True)
    raise typer.Exit(0 if made.chain.ok else 1)


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
