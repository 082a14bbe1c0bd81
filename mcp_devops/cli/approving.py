"""`mcp-devops approvals | approve | deny`: a person's answer, from any terminal of the machine.

Where the approval has a list of approvers, the operating system's user must be on it. A name given
with --as goes into the record beside that user and opens nothing: anybody could type it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_devops.cli.serving import StateDir, server_settings

if TYPE_CHECKING:
    from rich.console import Console

    from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus


@asynccontextmanager
async def _desk(settings_dir: StateDir) -> AsyncIterator[ApprovalDesk]:
    """The approvals, without a cluster: answering needs none."""
    from mcp_devops.gateway.approvals import ApprovalDesk
    from mcp_devops.gateway.opening import database_path
    from mcp_devops.journal.database import open_database
    from mcp_devops.journal.journal import Journal
    from mcp_devops.text.secrets import Redactor
    from mcp_devops.toolkit.clock import SystemClock

    settings = server_settings([], [], [], settings_dir)
    clock = SystemClock()
    async with open_database(database_path(settings)) as database:
        journal = Journal(database, Redactor(()), clock.now)
        yield ApprovalDesk(database, journal, clock, settings.approval_ttl_s)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def approvals(state_dir: StateDir = None) -> None:
    """List the approvals that wait for a person."""
    from rich.markup import escape
    from rich.table import Table

    from mcp_devops.toolkit.clock import SystemClock

    async def waiting() -> list[Approval]:
        async with _desk(state_dir) as desk:
            return await desk.waiting()

    found = asyncio.run(waiting())
    console = _console()
    if not found:
        console.print("No approval waits.")
        return
    now = SystemClock().now()
    table = Table("id", "what", "asked by", "left", box=None, pad_edge=False)
    for approval in found:
        what, who = (
            escape(_harmless(t).replace("\n", " "))
            for t in (approval.plan.summary, approval.requested_by)
        )
        table.add_row(approval.id, what, who, _left(approval, now))
    console.print(table)


def _left(approval: Approval, now: datetime) -> str:
    from mcp_devops.text.people import duration

    return duration(max(0.0, (approval.expires_at - now).total_seconds()))


def _show(console: Console, approval: Approval) -> None:
    from rich.markup import escape

    from mcp_devops.gateway.consent import question_text

    console.print(escape(_harmless(question_text(approval.plan, approval))))


def _harmless(text: str) -> str:
    """Without escapes: what a person approves must not hide behind a moved cursor."""
    from mcp_devops.text.escapes import strip_escapes

    return strip_escapes(text)


As = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Who you say you are, where several people share this login: written down beside the"
        " login, and never enough for a list of approvers.",
    ),
]


def approve(
    approval_id: Annotated[str, typer.Argument(metavar="ID", help="apr-<10 hex>.")],
    note: Annotated[str, typer.Option("--note", help="Goes into the record.")] = "",
    says: As = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask to confirm.")] = False,
    state_dir: StateDir = None,
) -> None:
    """Say yes to one exact plan. The agent then repeats its call, and the plan is carried out."""
    from mcp_devops.gateway.approvals import ApprovalStatus

    console = _console()

    async def look() -> Approval:
        async with _desk(state_dir) as desk:
            return await desk.get(approval_id)

    _show(console, asyncio.run(look()))
    if not yes and not typer.confirm("Approve?", default=False):
        console.print("Nothing was answered; the approval still waits.")
        raise typer.Exit(1)
    _answer(approval_id, ApprovalStatus.APPROVED, note, says, state_dir)
    console.print(f"Approved {approval_id}. It counts once, for this plan only.")


def deny(
    approval_id: Annotated[str, typer.Argument(metavar="ID", help="apr-<10 hex>.")],
    note: Annotated[str, typer.Option("--note", help="Why; the agent is told.")] = "",
    says: As = "",
    state_dir: StateDir = None,
) -> None:
    """Say no. The agent is told, and may not ask again for this plan until the time is over."""
    from mcp_devops.gateway.approvals import ApprovalStatus

    _answer(approval_id, ApprovalStatus.DENIED, note, says, state_dir)
    _console().print(f"Denied {approval_id}.")


def _answer(
    approval_id: str, status: ApprovalStatus, note: str, says: str, state_dir: StateDir
) -> None:
    from mcp_devops.text.clean import clean
    from mcp_devops.toolkit.local_user import local_user

    user = local_user()
    named = " ".join(clean(says[:200]).split())[:80]
    who = f"{user}, who says to be {named}" if named else user

    async def answer() -> None:
        async with _desk(state_dir) as desk:
            await desk.answer(
                approval_id, status, who=who, channel="terminal", note=note, vouched=(user,)
            )

    asyncio.run(answer())
