"""`mcp-devops doctor | rbac | settings | tools`: what is set up, missing, granted."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_devops.cli.serving import AllowWrites, StateDir, Toolsets, server_settings

if TYPE_CHECKING:
    from mcp_devops.cli.looking import Line

NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; default: the context's.")
]


def doctor(
    namespace: NamespaceOption = None,
    allow_writes: AllowWrites = [],  # noqa: B006 - typer reads it, nobody changes it
    toolsets: Toolsets = [],  # noqa: B006 - likewise
    state_dir: StateDir = None,
) -> None:
    """Check settings, environment, each integration, permissions and the journal.

    Exit code 0: ready; 1: something needs a hand.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mcp_devops.cli.looking import look

    settings = server_settings(allow_writes, [], toolsets, state_dir)
    lines: list[Line] = asyncio.run(look(settings, namespace, os.environ))
    table = Table(box=None, pad_edge=False, show_header=False)
    marks = {"ok": "[green]ok[/]", "off": "[dim]off[/]", "bad": "[red]BAD[/]", "note": "note"}
    for line in lines:
        says = escape(line.says) + (f"\n[dim]{escape(line.fix)}[/]" if line.fix else "")
        table.add_row(marks[line.state], line.what, says)
    Console(highlight=False).print(table)
    raise typer.Exit(1 if any(line.state == "bad" for line in lines) else 0)


def rbac(
    namespace: Annotated[
        list[str],
        typer.Option(
            "--namespace", "-n", help="Namespace to grant in; default: default. Repeatable."
        ),
    ] = [],  # noqa: B006 - typer reads it, nobody changes it
    all_namespaces: Annotated[
        bool,
        typer.Option(
            "--all-namespaces",
            "-A",
            help="Grant in all namespaces, those to come too: what `watch` with a pattern (team-*)"
            " needs.",
        ),
    ] = False,
    name: Annotated[str, typer.Option("--name", help="ServiceAccount and role name.")] = (
        "mcp-devops"
    ),
    account_namespace: Annotated[
        str | None,
        typer.Option(
            "--account-namespace",
            help="Where the ServiceAccount lives; default: the first namespace, or default.",
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Bind a user instead of a ServiceAccount.")
    ] = None,
    writes: Annotated[
        bool, typer.Option("--writes/--read-only", help="Grant what the change tools need too.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Grant what `mcp-devops watch` needs too; --writes has it already."
        ),
    ] = False,
) -> None:
    """Print the ServiceAccount and least-privilege roles for the enabled tools, as YAML.

    Pipe it into `kubectl apply -f -`. It is derived from the tools' own declarations.
    """
    from mcp_devops.catalog import build_catalog
    from mcp_devops.cli.manifests import WATCHING, role_manifests
    from mcp_devops.toolkit.risk import Risk

    if all_namespaces and namespace:
        raise typer.BadParameter("--all-namespaces goes with no --namespace.")
    namespaces = namespace or ["default"]
    catalog = build_catalog(server_settings([], [], [], None))
    tools = [
        spec
        for member in catalog.members
        for spec in member.integration.tools
        if writes or spec.risk is Risk.READ
    ]
    needs = list(dict.fromkeys(n for spec in tools for n in spec.needs))
    needs += WATCHING if watch else ()
    home = account_namespace or namespaces[0]
    typer.echo(role_manifests(needs, None if all_namespaces else namespaces, name, home, user))


def settings() -> None:
    """Print every setting: its variable, its value in force, what it means. Secrets are masked."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mcp_devops.cli.looking import setting_rows

    table = Table("variable", "value", "meaning", box=None, pad_edge=False)
    for variable, value, meaning in setting_rows():
        table.add_row(variable, escape(value), escape(meaning))
    Console(highlight=False).print(table)


def tools(
    allow_writes: AllowWrites = [],  # noqa: B006 - typer reads it, nobody changes it
    toolsets: Toolsets = [],  # noqa: B006 - likewise
) -> None:
    """List the tools that a client would be shown, and those that are off with the reason."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mcp_devops.catalog import build_catalog, published

    own = server_settings(allow_writes, [], toolsets, None)
    catalog = build_catalog(own)
    shown = {spec.name for spec in published(catalog, own)}
    table = Table("tool", "risk", "what it does", box=None, pad_edge=False)
    for member in catalog.members:
        for spec in member.integration.tools:
            first = escape(spec.description.split("\n", 1)[0])
            if spec.name not in shown:
                why = member.why_off or "writes are off (--allow-writes)"
                first = f"[dim]off: {escape(why)}[/]"
            table.add_row(spec.name, spec.risk.value, first)
    Console(highlight=False).print(table)
