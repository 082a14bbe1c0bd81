from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.journal import Journal
from mcp_devops.text.secrets import Redactor

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Ticking:
    """A clock that moves one second each time it is read."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture
async def db(path: Path) -> AsyncIterator[Database]:
    async with open_database(path) as database:
        yield database


@pytest.fixture
def journal(db: Database) -> Journal:
    return Journal(db, Redactor(["sesame-open-it"]), Ticking())


@pytest.fixture
def tamper(path: Path) -> Callable[[str], None]:
    """Changes the file behind the program's back, triggers taken off."""

    def run(script: str) -> None:
        connection = sqlite3.connect(path)
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.executescript(script)
        connection.commit()
        connection.close()

    return run
