"""The journal as text for other programs: JSON Lines, which can be verified again, and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

from mcp_devops.journal.entry import Entry
from mcp_devops.journal.journal import Journal
from mcp_devops.model.record import canonical_json

COLUMNS = (
    "seq",
    "at",
    "kind",
    "actor",
    "subject",
    "incident_id",
    "call_id",
    "body",
    "prev_hash",
    "hash",
)
"""Columns of the CSV form, in order; `body` is JSON text."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


async def jsonl(journal: Journal, **filters: Any) -> AsyncIterator[str]:
    """One line of canonical JSON an entry, oldest first, each with its newline.

    A line's hash is the SHA-256 of the line's object without `hash`, in the same form.

    Args:
        journal: What to export.
        filters: As for `Journal.list`, without paging.
    """
    async for entry in journal.stream(**filters):
        yield canonical_json(entry.row()).decode() + "\n"


async def csv_rows(journal: Journal, **filters: Any) -> AsyncIterator[str]:
    """A header, then one row an entry, oldest first, each with its line end.

    A cell that a spreadsheet would take for a formula gets an apostrophe before it, so these
    rows are for reading; what is to be verified is exported as JSON Lines.

    Args:
        journal: What to export.
        filters: As for `Journal.list`, without paging.
    """
    yield _csv_line(list(COLUMNS))
    async for entry in journal.stream(**filters):
        yield _csv_line(_cells(entry))


def _cells(entry: Entry) -> list[str]:
    row = entry.row()
    row["body"] = json.dumps(row["body"], sort_keys=True, ensure_ascii=False)
    return [_harmless("" if row[name] is None else str(row[name])) for name in COLUMNS]


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def _csv_line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()
