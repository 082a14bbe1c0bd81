"""The journal in other programs."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import GENESIS, EntryKind, hash_of
from mcp_devops.journal.export import COLUMNS, csv_rows, jsonl
from mcp_devops.journal.journal import PAGE_LIMIT, Journal


async def test_json_lines_can_be_verified_without_the_program(journal: Journal) -> None:
    for number in range(3):
        await journal.append(EntryKind.NOTE, actor="ada", subject="é\nx", body={"n": number})
    lines = [line async for line in jsonl(journal)]
    previous = GENESIS
    for line in lines:
        assert line.endswith("\n")
        row = json.loads(line)
        assert row["prev_hash"] == previous
        assert hash_of(row) == row["hash"]
        previous = row["hash"]
    assert len(lines) == 3


async def test_export_takes_the_filters_of_the_list(journal: Journal) -> None:
    await journal.append(EntryKind.NOTE, actor="ada", subject="s", body={})
    await journal.append(EntryKind.NOTE, actor="bob", subject="s", body={})
    since = datetime(2026, 1, 1, tzinfo=UTC)
    lines = [line async for line in jsonl(journal, actor="bob", since=since)]
    assert [json.loads(line)["seq"] for line in lines] == [2]


async def test_no_cell_of_the_csv_is_a_formula(journal: Journal) -> None:
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)", 'plain, "quoted"']
    for text in hostile:
        await journal.append(EntryKind.NOTE, actor=text, subject=text, body={"x": text})
    text = "".join([line async for line in csv_rows(journal)])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    assert [row["actor"] for row in rows] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", hostile[-1]]
    assert [json.loads(row["body"])["x"] for row in rows] == hostile
    assert rows[0]["incident_id"] == ""


async def test_a_stream_goes_over_pages(journal: Journal, db: Database) -> None:
    def many(connection: Connection) -> None:
        for number in range(PAGE_LIMIT + 5):
            journal.append_in(
                connection, EntryKind.NOTE, actor="a", subject="s", body={"n": number}
            )

    await db.run(many)
    numbers = [entry.seq async for entry in journal.stream()]
    assert numbers == list(range(1, PAGE_LIMIT + 6))
