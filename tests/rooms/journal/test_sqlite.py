"""The file: whose it is, how it is written, and what is wrong with it."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_devops.errors import NotConfigured, Unsupported, UpstreamUnavailable
from mcp_devops.journal import sqlite as module
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database, open_database
from tests.rooms.journal.test_database import count, put


@pytest.fixture
async def db(path: Path) -> AsyncIterator[Database]:
    async with open_database(path) as database:
        yield database


async def test_the_file_and_its_folder_are_for_the_owner_only(db: Database, path: Path) -> None:
    await db.run(put)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def a_file(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o644)


async def test_an_open_file_is_tightened(path: Path) -> None:
    a_file(path)
    async with open_database(path):
        assert mode(path) == 0o600


async def test_writes_are_durable_and_logged_ahead(db: Database) -> None:
    async def value(name: str) -> object:
        return await db.run(lambda c: c.execute(f"PRAGMA {name}").fetchone()[0])

    assert await value("journal_mode") == "wal"
    assert await value("synchronous") == 2
    assert await value("foreign_keys") == 1


async def test_a_file_that_is_not_sqlite_is_refused_with_the_next_move(path: Path) -> None:
    a_file(path, b"not a database, but long enough to be read as one " * 100)
    with pytest.raises(Unsupported) as caught:
        async with open_database(path):
            pass
    assert "aside" in caught.value.fix


async def test_another_programs_file_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(Unsupported):
        async with open_database(path):
            pass
    connection = sqlite3.connect(path)
    assert [r[0] for r in connection.execute("SELECT name FROM sqlite_master")] == ["theirs"]
    connection.close()


async def test_a_place_that_cannot_be_written_is_a_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotConfigured):
        async with open_database(tmp_path / "file" / "state.db"):
            pass


async def test_a_lock_that_somebody_keeps_is_worth_waiting_for(
    db: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.run(lambda connection: connection.execute("SELECT 1"))
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    async with open_database(path) as impatient:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UpstreamUnavailable) as caught:
            await impatient.run(put)
        assert caught.value.retryable
        other.execute("ROLLBACK")
        other.close()
        await impatient.run(put)


async def test_a_full_disk_writes_nothing(db: Database) -> None:
    def fill(connection: Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        for number in range(2_000):
            put(connection, f"{number}" * 200)

    with pytest.raises(UpstreamUnavailable):
        await db.run(fill)
    assert await db.read(count) == 0
