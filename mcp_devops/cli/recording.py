"""Opens the state for commands that write a person's word into it, and prints what comes of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_devops.cli.serving import server_settings

if TYPE_CHECKING:
    from mcp_devops.incidents.store import IncidentStore
    from mcp_devops.journal.database import Database
    from mcp_devops.journal.journal import Journal

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@dataclass(frozen=True)
class Records:
    """The open state, and the moment the command began."""

    database: Database
    journal: Journal
    incidents: IncidentStore
    now: datetime


@asynccontextmanager
async def open_records(state_dir: Path | None) -> AsyncIterator[Records]:
    """Open the state without a cluster: a person's word needs none."""
    from mcp_devops.gateway.opening import database_path
    from mcp_devops.incidents.store import IncidentStore
    from mcp_devops.journal.database import open_database
    from mcp_devops.journal.journal import Journal
    from mcp_devops.text.secrets import Redactor
    from mcp_devops.toolkit.clock import SystemClock

    settings = server_settings([], [], [], state_dir)
    clock = SystemClock()
    async with open_database(database_path(settings)) as database:
        journal = Journal(database, Redactor(()), clock.now)
        yield Records(database, journal, IncidentStore(database, journal, clock), clock.now())


def tell(text: str, data: Mapping[str, Any], *, as_json: bool) -> None:
    """Print text for a person, without escapes, or data for a program."""
    from mcp_devops.text.escapes import strip_escapes

    typer.echo(json.dumps(data, indent=2, ensure_ascii=False) if as_json else strip_escapes(text))
