"""What is written, how it is found again, and that it cannot be changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import InvalidArguments, NotFound
from mcp_devops.journal.chain import ChainProblem
from mcp_devops.journal.connection import Connection, ConstraintBroken
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import GENESIS, Entry, EntryKind, hash_of, stamp
from mcp_devops.journal.journal import BODY_LIMIT_CHARS, LABEL_LIMIT_CHARS, Journal
from mcp_devops.journal.sqlite import SqliteConnection
from mcp_devops.text.secrets import Redactor

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


async def fill(journal: Journal, count: int = 5) -> list[Entry]:
    return [
        await journal.append(EntryKind.NOTE, actor="ada", subject="s", body={"n": number})
        for number in range(1, count + 1)
    ]


async def test_entries_form_a_chain_from_genesis(journal: Journal) -> None:
    first, second = await fill(journal, 2)
    assert (first.seq, first.prev_hash) == (1, GENESIS)
    assert (second.seq, second.prev_hash) == (2, first.hash)
    assert hash_of(second.row()) == second.hash


async def test_what_is_returned_is_what_is_stored(journal: Journal) -> None:
    entry = await journal.append(
        EntryKind.DECISION,
        actor="engine",
        subject="Deployment shop/web",
        body={"confidence": 0.93, "text": "é\n", "none": None, "deep": [{"a": [1, 2**70]}]},
        incident_id="inc-1",
        call_id="call-1",
    )
    assert await journal.get(entry.seq) == entry
    assert (await journal.verify()).ok


async def test_a_number_that_is_not_there_is_not_found(journal: Journal) -> None:
    with pytest.raises(NotFound):
        await journal.get(7)


async def test_secrets_and_escapes_never_reach_the_file(journal: Journal, db: Database) -> None:
    await journal.append(
        EntryKind.NOTE,
        actor="ada token=hunter2-x9",
        subject="ses\x1b[31mame-open-it",
        body={
            "env": [{"name": "DB_PASSWORD", "value": "hunter2-x9"}],
            "log": "sesame-open-it\ud800",
        },
        incident_id="inc sesame-open-it",
        call_id="sesame-open-it",
    )
    stored = await db.read(lambda c: str(list(map(tuple, c.execute("SELECT * FROM entries")))))
    assert "hunter2" not in stored
    assert "sesame" not in stored
    assert stored.count("[REDACTED:configured]") == 4


async def test_a_large_body_is_cut_and_says_so(journal: Journal) -> None:
    entry = await journal.append(
        EntryKind.NOTE, actor="a" * 9_000, subject="s", body={"log": ["x" * 1_000] * 500, "kept": 1}
    )
    assert len(json.dumps(entry.body)) <= BODY_LIMIT_CHARS
    assert len(entry.actor) <= LABEL_LIMIT_CHARS
    assert entry.body["kept"] == 1
    assert entry.body["_cut"]
    assert (await journal.verify()).ok


@pytest.mark.parametrize("kind", [EntryKind.CALL_STARTED, EntryKind.ACTION_FINISHED])
async def test_starts_and_finishes_need_what_ties_them(journal: Journal, kind: EntryKind) -> None:
    with pytest.raises(ValueError, match="call id"):
        await journal.append(kind, actor="a", subject="s", body={})


async def test_an_answer_and_its_entry_commit_together_or_not_at_all(
    journal: Journal, db: Database
) -> None:
    def answer(connection: Connection) -> None:
        journal.append_in(
            connection, EntryKind.APPROVAL_ANSWERED, actor="ada", subject="apr-1", body={}
        )
        raise LookupError

    with pytest.raises(LookupError):
        await db.run(answer)
    assert (await journal.verify()).entries == 0

    entry = await db.run(
        lambda connection: journal.append_in(
            connection, EntryKind.APPROVAL_ANSWERED, actor="ada", subject="apr-1", body={}
        )
    )
    assert await journal.get(1) == entry


async def test_replacing_is_forgetting_too(path: Path) -> None:
    async with open_database(path) as db:
        journal = Journal(db, Redactor(()), lambda: START)
        await fill(journal, 2)
        again = "INSERT OR REPLACE INTO entries SELECT * FROM entries WHERE seq = 1"
        with pytest.raises(ConstraintBroken):
            await db.run(lambda connection: connection.execute(again))
        assert (await journal.verify()).entries == 2


def test_an_entry_outside_a_transaction_is_refused() -> None:
    connection = sqlite3.connect(":memory:", factory=SqliteConnection)
    journal = Journal(None, Redactor(), lambda: START)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Database\.run"):
        journal.append_in(connection, EntryKind.NOTE, actor="a", subject="s", body={})
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET actor = 'eve'",
        "DELETE FROM entries",
        "INSERT INTO entries SELECT * FROM entries WHERE seq = 1",
        "INSERT INTO entries SELECT * FROM entries WHERE seq = 1"
        " ON CONFLICT (seq) DO UPDATE SET actor = 'eve'",
        "INSERT INTO entries SELECT 99, at, kind, actor, subject, incident_id, call_id, body,"
        " prev_hash, hash FROM entries WHERE seq = 1",
    ],
)
async def test_the_tables_themselves_refuse_to_forget(
    journal: Journal, db: Database, statement: str
) -> None:
    await fill(journal, 2)
    with pytest.raises(ConstraintBroken):
        await db.run(lambda connection: connection.execute(statement))
    assert (await journal.verify()).entries == 2


async def written(journal: Journal) -> None:
    for kind, actor, subject, incident in (
        (EntryKind.NOTE, "ada", "x", "inc-1"),
        (EntryKind.DECISION, "engine", "y", "inc-1"),
        (EntryKind.NOTE, "ada", "y", None),
        (EntryKind.NOTE, "bob", "x", "inc-2"),
    ):
        await journal.append(kind, actor=actor, subject=subject, body={}, incident_id=incident)


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({}, [1, 2, 3, 4]),
        ({"kind": EntryKind.NOTE}, [1, 3, 4]),
        ({"kind": [EntryKind.NOTE, EntryKind.DECISION]}, [1, 2, 3, 4]),
        ({"kind": []}, []),
        ({"incident_id": "inc-1"}, [1, 2]),
        ({"actor": "ada", "subject": "y"}, [3]),
        ({"call_id": "c"}, []),
        ({"since": START + timedelta(seconds=2)}, [2, 3, 4]),
        ({"until": START + timedelta(seconds=2)}, [1]),
        (
            {"since": (START + timedelta(seconds=4)).astimezone(timezone(timedelta(hours=5)))},
            [4],
        ),
        ({"newest_first": True, "limit": 2}, [4, 3]),
        ({"newest_first": True, "cursor": 3}, [2, 1]),
        ({"limit": 0}, [1]),
    ],
)
async def test_filters_choose_entries(
    journal: Journal, filters: dict[str, Any], numbers: list[int]
) -> None:
    await written(journal)
    page = await journal.list(**filters)
    assert [entry.seq for entry in page.entries] == numbers


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_cover_everything_once(journal: Journal, newest_first: bool) -> None:
    await fill(journal, 5)
    seen: list[int] = []
    cursor: int | None = None
    while True:
        page = await journal.list(cursor=cursor, limit=2, newest_first=newest_first)
        seen += [entry.seq for entry in page.entries]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(range(1, 6), reverse=newest_first)


async def test_what_was_started_and_never_finished_is_visible(journal: Journal) -> None:
    async def add(kind: EntryKind, call: str) -> Entry:
        return await journal.append(kind, actor="a", subject="t", body={}, call_id=call)

    await add(EntryKind.CALL_STARTED, "c1")
    crashed = await add(EntryKind.CALL_STARTED, "c2")
    action = await add(EntryKind.ACTION_STARTED, "c2")
    await add(EntryKind.CALL_FINISHED, "c1")
    server = await journal.append(EntryKind.SERVER_STARTED, actor="s", subject="s", body={})
    running = await add(EntryKind.CALL_STARTED, "c3")

    assert await journal.unfinished() == (crashed, action, running)
    assert await journal.unfinished(before=server.seq) == (crashed, action)
    await add(EntryKind.ACTION_FINISHED, "c2")
    assert await journal.unfinished(before=server.seq) == (crashed,)


@pytest.mark.parametrize(
    ("script", "problem", "seq"),
    [
        ("UPDATE entries SET actor = 'eve' WHERE seq = 3", ChainProblem.CHANGED, 3),
        ("UPDATE entries SET at = '2020-01-01T00:00:00.000000Z' WHERE seq = 2",
         ChainProblem.CHANGED, 2),
        ("UPDATE entries SET incident_id = 'inc' WHERE seq = 2", ChainProblem.CHANGED, 2),
        ("""UPDATE entries SET body = '{"n":7}' WHERE seq = 3""", ChainProblem.CHANGED, 3),
        ("""UPDATE entries SET body = '{"n": 3}' WHERE seq = 3""", ChainProblem.CHANGED, 3),
        ("UPDATE entries SET body = 'gone' WHERE seq = 3", ChainProblem.CHANGED, 3),
        ("UPDATE entries SET hash = prev_hash WHERE seq = 5", ChainProblem.CHANGED, 5),
        ("DELETE FROM entries WHERE seq = 3", ChainProblem.MISSING, 3),
        ("DELETE FROM entries WHERE seq <= 2", ChainProblem.MISSING, 1),
        ("UPDATE entries SET seq = 99 WHERE seq = 2; UPDATE entries SET seq = 2 WHERE seq = 4;"
         "UPDATE entries SET seq = 4 WHERE seq = 99", ChainProblem.REORDERED, 2),
        ("UPDATE entries SET seq = 99 WHERE seq = 4; UPDATE entries SET seq = 4 WHERE seq = 5;"
         "UPDATE entries SET seq = 5 WHERE seq = 99", ChainProblem.REORDERED, 4),
        ("DELETE FROM entries WHERE seq = 2; UPDATE entries SET seq = 2 WHERE seq = 3",
         ChainProblem.REORDERED, 2),
    ],
)  # fmt: skip
async def test_tampering_is_found_at_the_first_wrong_entry(
    journal: Journal,
    tamper: Callable[[str], None],
    script: str,
    problem: ChainProblem,
    seq: int,
) -> None:
    await fill(journal)
    assert (await journal.verify()).ok
    tamper(script)
    report = await journal.verify()
    assert (report.ok, report.problem, report.broken_seq) == (False, problem, seq)
    assert f"Entry {seq}" in report.says


async def rewritten(db: Database, tamper: Callable[[str], None], seq: int, actor: str) -> None:
    row = await db.read(
        lambda c: dict(c.execute("SELECT * FROM entries WHERE seq = ?", (seq,)).fetchone())
    )
    row = {**row, "actor": actor, "body": json.loads(row["body"])}
    changes = f"actor = '{actor}', hash = '{hash_of(row)}'"
    tamper(f"UPDATE entries SET {changes} WHERE seq = {seq}")  # noqa: S608


async def test_an_entry_rewritten_with_a_fresh_hash_breaks_its_successor(
    journal: Journal, db: Database, tamper: Callable[[str], None]
) -> None:
    await fill(journal)
    await rewritten(db, tamper, 3, "eve")
    report = await journal.verify()
    assert (report.problem, report.broken_seq) == (ChainProblem.CHANGED, 4)


async def test_only_an_anchor_shows_a_cut_off_end(
    journal: Journal, tamper: Callable[[str], None]
) -> None:
    await fill(journal)
    anchor = (await journal.verify()).head
    assert anchor
    tamper("DELETE FROM entries WHERE seq >= 4")
    assert (await journal.verify()).ok
    report = await journal.verify(anchor)
    assert (report.problem, report.broken_seq) == (ChainProblem.TRUNCATED, 4)
    tamper("DELETE FROM entries")
    report = await journal.verify(anchor)
    assert (report.problem, report.broken_seq, report.head) == (ChainProblem.TRUNCATED, 1, None)


async def test_only_an_anchor_shows_a_rewritten_end(
    journal: Journal, db: Database, tamper: Callable[[str], None]
) -> None:
    await fill(journal)
    anchor = (await journal.verify()).head
    await rewritten(db, tamper, 5, "eve")
    assert (await journal.verify()).ok
    report = await journal.verify(anchor)
    assert (report.problem, report.broken_seq) == (ChainProblem.REWRITTEN, 5)


async def test_an_anchor_stays_good_while_the_journal_grows(journal: Journal) -> None:
    await fill(journal, 2)
    report = await journal.verify()
    await fill(journal, 2)
    later = await journal.verify(report.head)
    assert (later.ok, later.anchored, later.entries) == (True, True, 4)


async def test_an_empty_journal_is_sound(journal: Journal) -> None:
    report = await journal.verify()
    assert (report.ok, report.entries, report.head) == (True, 0, None)


async def test_a_malformed_anchor_is_the_callers_mistake(journal: Journal) -> None:
    with pytest.raises(InvalidArguments):
        await journal.verify("yesterday")


@given(
    st.datetimes(timezones=st.timezones(), min_value=datetime(1970, 1, 2)),  # noqa: DTZ001
    st.datetimes(timezones=st.timezones(), min_value=datetime(1970, 1, 2)),  # noqa: DTZ001
)
def test_stamps_sort_as_time_does(one: datetime, other: datetime) -> None:
    try:
        earlier = one.astimezone(UTC) < other.astimezone(UTC)
    except OverflowError:
        return
    assert (stamp(one) < stamp(other)) == earlier
