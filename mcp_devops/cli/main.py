"""The command `mcp-devops` and its subcommands."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from mcp_devops import __version__
from mcp_devops.cli import (
    approving,
    auditing,
    checking,
    demonstrating,
    freezing,
    judging,
    policies,
    reporting,
    serving,
    watching,
)
from mcp_devops.errors import DevOpsError

app = typer.Typer(
    name="mcp-devops",
    help="Incident response over MCP: diagnose a bad deployment, decide with reasons, roll back"
    " behind an approval, keep the record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(serving.serve)
app.command()(watching.watch)
app.command()(demonstrating.demo)
app.command()(checking.doctor)
app.command()(checking.rbac)
app.command()(checking.settings)
app.command()(checking.tools)
app.command()(approving.approvals)
app.command()(approving.approve)
app.command()(approving.deny)
app.command()(freezing.freeze)
app.command()(freezing.unfreeze)
app.command()(judging.outcome)
app.add_typer(policies.app, name="policy")
app.add_typer(auditing.app, name="audit")
app.add_typer(reporting.app, name="incident")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Take options that belong to no subcommand."""


GC_THRESHOLD = 50_000
"""Allocations between two young collections. A start makes some hundred thousand objects that all
stay; at Python's 700 the collector walks them again and again, a tenth of the start."""


def main() -> None:
    """Run the command; anticipated failures are one readable line and exit code 2."""
    gc.set_threshold(GC_THRESHOLD)
    try:
        app()
    except DevOpsError as problem:
        typer.echo(f"mcp-devops: {problem}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
