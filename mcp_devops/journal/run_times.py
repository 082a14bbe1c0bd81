"""How long runs took, also those whose rows were deleted: a count that was told never goes down."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from datetime import datetime
from math import inf
from typing import Any

from mcp_devops.journal.connection import Connection
from mcp_devops.model.incident import IncidentStatus

SECONDS = (5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 450, 600, 900, 1800, 3600)
"""Upper bounds. From a crash seen at once to an hour; a person is waited for 10 minutes by
default."""
TIMES = ("detect", "decide", "page", "recover")
"""What is timed of a run."""
DELETED = "deleted:times"
"""Bookmark that holds the times of the runs whose rows are gone."""

_FIELDS = {"detect": "detected_at", "decide": "decided_at", "page": "paged_at"}
_OLD = (
    "SELECT id, status, body FROM runs WHERE target = ? AND body <> '{}' AND updated_at < ?"
    " AND started_at < ? ORDER BY id LIMIT ?"
)

Kept = dict[str, dict[str, float]]
"""By what is timed: how many lie in the bucket up to a bound, by the bound's text, and `sum`."""


def times_of(status: str, body: str) -> Iterator[tuple[str, float]]:
    """What a run that ended took, in seconds since it began; recovery only where it is verified.

    Args:
        status: How it ended.
        body: JSON of when its steps were.
    """
    found = json.loads(body)
    times: Mapping[str, Any] = found if isinstance(found, dict) else {}
    began = times.get("began")
    if not isinstance(began, int | float):
        return
    fields = dict(_FIELDS)
    if status == IncidentStatus.RECOVERED.value:
        fields["recover"] = "acted_at"
    for name, field in fields.items():
        if isinstance(at := times.get(field), str):
            # A clock that was set back must not make a negative sum.
            yield name, max(0.0, datetime.fromisoformat(at).timestamp() - began)


def deleted_times_in(connection: Connection) -> Kept:
    """The times of runs whose rows were deleted."""
    row = connection.execute("SELECT value FROM bookmarks WHERE name = ?", (DELETED,)).fetchone()
    return json.loads(row["value"]) if row is not None else {}


def delete_runs_in(
    connection: Connection, target: str, *, before: str, past: str, most: int, now: datetime
) -> int:
    """Delete runs of a workload that ended, and keep their times, in one transaction.

    Args:
        connection: Of a transaction that writes.
        target: The workload, as the table names it.
        before: Moved last before this moment.
        past: Begun before this moment.
        most: Rows at the most.
        now: The present moment.

    Returns:
        How many.
    """
    rows = connection.execute(_OLD, (target, before, past, most)).fetchall()
    kept = deleted_times_in(connection)
    for row in rows:
        for name, seconds in times_of(row["status"], row["body"]):
            at = bisect_left(SECONDS, seconds)
            bound = str(SECONDS[at] if at < len(SECONDS) else inf)
            told = kept.setdefault(name, {"sum": 0.0})
            told[bound] = told.get(bound, 0) + 1
            told["sum"] += seconds
        connection.execute("DELETE FROM runs WHERE id = ?", (row["id"],))
    if rows:
        connection.execute(
            "INSERT INTO bookmarks (name, value, at) VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at",
            (DELETED, json.dumps(kept), now.isoformat()),
        )
    return len(rows)
