from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.journal import Journal
from mcp_devops.text.secrets import Redactor
from tests.support.postgres import PostgresServer, postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

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


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, path: Path) -> Path | str:
    """Where the state is: each test runs on a file and on a PostgreSQL database."""
    if request.param == "sqlite":
        return path
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def db(where: Path | str) -> AsyncIterator[Database]:
    async with open_database(where) as database:
        yield database


@pytest.fixture
def journal(db: Database) -> Journal:
    return Journal(db, Redactor(["sesame-open-it"]), Ticking())


@pytest.fixture
def tamper(request: pytest.FixtureRequest, where: Path | str) -> Callable[[str], None]:
    """Changes the journal behind the program's back, guards taken off."""
    if isinstance(where, Path):
        return lambda script: _tamper_file(where, script)
    server: PostgresServer = request.getfixturevalue("postgres")
    database = where.rpartition("/")[2]

    def run(script: str) -> None:
        server.admin(
            "SET search_path = mcp_devops",
            "ALTER TABLE entries DISABLE TRIGGER ALL",
            *script.split(";"),
            database=database,
        )

    return run


def _tamper_file(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (name,) in names.fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.executescript(script)
    connection.commit()
    connection.close()
