"""Whole transactions, on a file and on PostgreSQL alike."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import anyio
import pytest

from mcp_devops.errors import NotConfigured, Unsupported
from mcp_devops.journal.connection import Connection, ConstraintBroken
from mcp_devops.journal.database import (
    Database,
    default_database_path,
    default_state_dir,
    open_database,
)
from mcp_devops.journal.migrations import MIGRATIONS


def put(connection: Connection, digest: str = "d") -> None:
    connection.execute(
        "INSERT INTO actions (digest, tool, status, started_at, owner)"
        " VALUES (?, 't', 'started', 'now', 'o')",
        (digest,),
    )


def count(connection: Connection) -> int:
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


async def test_what_was_written_is_there_after_reopening(where: Path | str) -> None:
    async with open_database(where) as db:
        await db.run(put)
    async with open_database(where) as db:
        assert await db.read(count) == 1
        names = await db.read(lambda c: [r[0] for r in c.execute("SELECT name FROM migrations")])
    assert names == [migration.name for migration in MIGRATIONS]


async def test_an_exception_rolls_the_transaction_back(db: Database) -> None:
    def fails(connection: Connection) -> None:
        put(connection)
        raise LookupError

    with pytest.raises(LookupError):
        await db.run(fails)
    assert await db.read(count) == 0
    await db.run(put)
    assert await db.read(count) == 1


async def test_a_broken_constraint_comes_through_as_itself(db: Database) -> None:
    await db.run(put)
    with pytest.raises(ConstraintBroken):
        await db.run(put)


async def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(NotConfigured):
        await db.read(put)
    assert await db.read(count) == 0


async def test_a_transaction_that_began_commits_although_its_caller_is_cancelled(
    db: Database,
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
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


async def test_a_cancelled_task_leaves_the_state_usable(db: Database) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
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

    def slow(connection: Connection) -> None:
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


async def test_a_state_of_a_newer_version_is_refused(where: Path | str) -> None:
    async with open_database(where) as db:
        await db.run(lambda c: c.execute("INSERT INTO migrations (name) VALUES ('m999_future')"))
    with pytest.raises(Unsupported) as caught:
        async with open_database(where):
            pass
    assert caught.value.details["unknown"] == ["m999_future"]


async def test_a_closed_state_refuses(where: Path | str) -> None:
    async with open_database(where) as db:
        pass
    with pytest.raises(RuntimeError):
        await db.run(put)


async def test_a_state_can_be_opened_many_times_at_once(where: Path | str) -> None:
    async def use(number: int) -> None:
        async with open_database(where) as db:
            await db.run(lambda connection: put(connection, f"d{number}"))

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(use, number)
    async with open_database(where) as db:
        assert await db.read(count) == 8


async def test_a_row_is_read_by_name_by_place_and_as_a_dict(db: Database) -> None:
    await db.run(put)

    def look(connection: Connection) -> tuple[object, ...]:
        row = connection.execute("SELECT digest, tool AS what, owner FROM actions").fetchone()
        named = dict(row)
        return row["digest"], row["what"], row[2], tuple(row), list(row.keys()), len(row), named

    values = ("d", "t", "o")
    columns = ["digest", "what", "owner"]
    expected = (*values, values, columns, 3, dict(zip(columns, values, strict=True)))
    assert await db.read(look) == expected


async def test_question_marks_and_percent_signs_in_quotes_are_text(db: Database) -> None:
    def look(connection: Connection) -> tuple[object, ...]:
        sql = "SELECT 'a ? %s 100%', 7 % 4, ?, 'it''s ?' WHERE 'x' LIKE '%'"
        return tuple(connection.execute(sql, ("given",)).fetchone())

    assert await db.read(look) == ("a ? %s 100%", 3, "given", "it's ?")


async def test_yes_and_no_are_numbers_and_counts_of_rows_are_told(db: Database) -> None:
    def write(connection: Connection) -> list[int]:
        insert = (
            "INSERT INTO switches (name, is_on, by_whom, reason, at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO NOTHING"
        )
        values = ("responder", True, "ann", "calm", "now")
        counts = [connection.execute(insert, values).rowcount for _ in range(2)]
        stored = connection.execute("SELECT is_on FROM switches WHERE is_on = ?", (True,))
        return [*counts, stored.fetchone()["is_on"]]

    assert await db.run(write) == [1, 0, 1]


async def test_times_as_text_compare_as_time_does(db: Database) -> None:
    times = ["2026-03-01T12:00:00+00:00", "2026-03-01T12:00:00.000001+00:00", "2026-03-02T00:00Z"]

    def write(connection: Connection) -> list[str]:
        for number, at in enumerate(reversed(times)):
            connection.execute(
                "INSERT INTO bookmarks (name, value, at) VALUES (?, ?, ?)", (f"b{number}", "v", at)
            )
        rows = connection.execute("SELECT at FROM bookmarks WHERE at <= ? ORDER BY at", times[-1:])
        return [row["at"] for row in rows]

    assert await db.run(write) == times


async def test_the_tables_of_the_responder_are_there(db: Database) -> None:
    tables = ("switches", "deliveries", "outcomes", "replicas", "bookmarks", "runs")

    def look(connection: Connection) -> int:
        return sum(len(connection.execute(f"SELECT * FROM {t}").fetchall()) for t in tables)  # noqa: S608

    assert await db.read(look) == 0


async def test_a_url_of_another_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured):
        async with open_database("mysql://ann:s3same@127.0.0.1/x"):
            pass
