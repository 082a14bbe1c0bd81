"""One file, several processes, whole transactions."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from pathlib import Path

import anyio
import pytest

from mcp_devops.errors import NotConfigured, Unsupported, UpstreamUnavailable
from mcp_devops.journal import database as module
from mcp_devops.journal.database import (
    Database,
    default_database_path,
    default_state_dir,
    open_database,
)
from mcp_devops.journal.migrations import MIGRATIONS


def put(connection: sqlite3.Connection, digest: str = "d") -> None:
    connection.execute(
        "INSERT INTO actions (digest, tool, status, started_at, owner)"
        " VALUES (?, 't', 'started', 'now', 'o')",
        (digest,),
    )


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM actions").fetchone()[0])


def test_state_lives_under_xdg_state_home() -> None:
    assert default_state_dir({"XDG_STATE_HOME": "/s"}) == Path("/s/mcp-devops")
    assert default_database_path({"XDG_STATE_HOME": "/s"}) == Path("/s/mcp-devops/state.db")


@pytest.mark.parametrize("value", ["", "relative/dir"])
def test_an_unusable_xdg_state_home_counts_as_unset(value: str) -> None:
    environment = {"XDG_STATE_HOME": value, "HOME": "/h"}
    assert default_state_dir(environment) == Path("/h/.local/state/mcp-devops")


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert default_state_dir() == Path("/elsewhere/mcp-devops")


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


async def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    async with open_database(path) as db:
        await db.run(put)
    async with open_database(path) as db:
        assert await db.read(count) == 1
        names = await db.read(lambda c: [r[0] for r in c.execute("SELECT name FROM migrations")])
    assert names == [migration.name for migration in MIGRATIONS]


async def test_an_exception_rolls_the_transaction_back(db: Database) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        put(connection)
        raise LookupError

    with pytest.raises(LookupError):
        await db.run(fails)
    assert await db.read(count) == 0
    await db.run(put)
    assert await db.read(count) == 1


async def test_a_broken_constraint_comes_through_as_itself(db: Database) -> None:
    await db.run(put)
    with pytest.raises(sqlite3.IntegrityError):
        await db.run(put)


async def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(NotConfigured):
        await db.read(put)
    assert await db.read(count) == 0


async def test_a_transaction_that_began_commits_although_its_caller_is_cancelled(
    db: Database,
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        put(connection)
        began.set()
        go_on.wait(5)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(db.run, slow)
            await asyncio.to_thread(began.wait, 5)
            tasks.cancel_scope.cancel()
            go_on.set()
    assert await db.read(count) == 1


async def test_a_cancelled_task_leaves_the_file_usable(db: Database) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        began.set()
        go_on.wait(5)
        put(connection, "slow")

    with anyio.fail_after(10):
        task = asyncio.create_task(db.run(slow))
        await asyncio.to_thread(began.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await db.run(lambda connection: put(connection, "next"))
    assert await db.read(count) == 2


async def test_a_cancelled_task_that_waits_its_turn_never_begins(db: Database) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        began.set()
        go_on.wait(5)

    with anyio.fail_after(10):
        first = asyncio.create_task(db.run(slow))
        await asyncio.to_thread(began.wait, 5)
        waiting = asyncio.create_task(db.run(put))
        for _ in range(10):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        await first
    assert await db.read(count) == 0


async def test_concurrent_callers_are_serialised(db: Database) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(db.run, lambda c, n=number: put(c, f"d{n}"))
    assert await db.read(count) == 30


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


async def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    async with open_database(path) as db:
        await db.run(lambda c: c.execute("INSERT INTO migrations (name) VALUES ('m999_future')"))
    with pytest.raises(Unsupported) as caught:
        async with open_database(path):
            pass
    assert caught.value.details["unknown"] == ["m999_future"]


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
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        for number in range(2_000):
            put(connection, f"{number}" * 200)

    with pytest.raises(UpstreamUnavailable):
        await db.run(fill)
    assert await db.read(count) == 0


async def test_a_closed_file_refuses(path: Path) -> None:
    async with open_database(path) as db:
        pass
    with pytest.raises(RuntimeError):
        await db.run(put)


async def test_a_file_can_be_opened_many_times_at_once(path: Path) -> None:
    async def use(number: int) -> None:
        async with open_database(path) as db:
            await db.run(lambda connection: put(connection, f"d{number}"))

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(use, number)
    async with open_database(path) as db:
        assert await db.read(count) == 8
