"""The tool that says what a Terraform state holds, without running a provider."""

from __future__ import annotations

import anyio.to_thread
from pydantic import Field

from mcp_devops.errors import NoData
from mcp_devops.integrations.terraform.client import TerraformClient
from mcp_devops.integrations.terraform.places import checked_workspace
from mcp_devops.integrations.terraform.state import StateSummary, summarise
from mcp_devops.model.record import Record
from mcp_devops.text.people import plural
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool

MOST = 50
"""Rows of each table in an answer."""


class DescribeState(Record):
    """Which state."""

    directory: str | None = Field(None, max_length=4096)
    """Root module, relative to a configured root; default: the only root."""
    workspace: str | None = None
    """Workspace; default: the directory's own."""
    state_file: str | None = Field(None, max_length=4096)
    """A file of the configured state directory (a copy or replica) instead."""


class StateDescription(Answer):
    """What the state holds."""

    source: str
    """Directory or file it was read from."""
    state: StateSummary
    """Counts, versions, outputs."""
    notes: tuple[str, ...] = ()
    """Limits of this answer."""


@tool(
    name="terraform_show_state",
    title="Terraform state summary",
    risk=Risk.READ,
    deadline_s=600,
)
async def show_state(
    args: DescribeState, context: ToolContext[TerraformClient]
) -> StateDescription:
    """Summarise a Terraform or OpenTofu state: resources by type and module, serial, outputs.

    Sensitive outputs are masked; attribute values are never shown. No provider is executed and
    no lock taken. A copied state is read from the configured state directory by state_file.
    terraform_plan_drift compares the state with the real world.
    """
    workspace = checked_workspace(args.workspace)
    if args.state_file is not None:
        raw = await anyio.to_thread.run_sync(context.client.replica, args.state_file)
        source = args.state_file
    else:
        directory = context.client.directory(args.directory)
        raw, source = await context.client.state(directory, workspace), str(directory)
    summary = await anyio.to_thread.run_sync(summarise, raw)
    if summary is None:
        raise NoData(
            "There is no state, or not one of format 4.",
            fix="Check directory, workspace or state_file.",
            source="terraform",
        )
    tables = ("types", "modules", "outputs")
    notes = [
        f"{len(getattr(summary, table)) - MOST} more {table} are not listed."
        for table in tables
        if len(getattr(summary, table)) > MOST
    ]
    cut = {table: dict(list(getattr(summary, table).items())[:MOST]) for table in tables}
    return StateDescription(
        headline=f"{plural(summary.resources, 'resource')} in"
        f" {plural(len(summary.modules), 'module')}, serial {summary.serial}.",
        source=source,
        state=summary.model_copy(update={**cut, "tainted": summary.tainted[:MOST]}),
        notes=tuple(notes),
    )
