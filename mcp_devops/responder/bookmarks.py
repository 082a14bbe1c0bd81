"""What the watch remembers over restarts, in the state: values by name, templates by workload."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from mcp_devops.journal.connection import Connection


class Seen(NamedTuple):
    """What is remembered of one workload."""

    template: str | None
    """Hash of the newest template that was taken note of; None: none was."""
    restored: str | None
    """Hash of the template that a rollback of ours brings back, until it is there."""
    rollouts: int
    """How many rollouts were taken note of: the same template may be rolled out twice."""
    generation: int = 0
    """Generation of the object that `template` was read from; 0: it is not known."""


def seen_in(connection: Connection, uid: str) -> Seen:
    """What is remembered of a workload."""
    return Seen(
        bookmark_in(connection, f"template:{uid}"),
        bookmark_in(connection, f"restored:{uid}") or None,
        int(bookmark_in(connection, f"rollouts:{uid}") or 0),
        int(bookmark_in(connection, f"generation:{uid}") or 0),
    )


def take_note_in(
    connection: Connection,
    uid: str,
    template: str,
    before: Seen,
    now: datetime,
    generation: int = 0,
) -> None:
    """Remember a rollout, unless another replica did since `before` was read."""
    if seen_in(connection, uid).rollouts != before.rollouts:
        return
    set_bookmark_in(connection, f"generation:{uid}", str(generation), now)
    set_bookmark_in(connection, f"template:{uid}", template, now)
    set_bookmark_in(connection, f"rollouts:{uid}", str(before.rollouts + 1), now)
    if before.restored == template:
        # It is back. Rolled out again later, it is a rollout like any other.
        set_bookmark_in(connection, f"restored:{uid}", "", now)


def restoring_in(connection: Connection, uid: str, template: str, now: datetime) -> None:
    """Remember which template a rollback of ours brings back."""
    set_bookmark_in(connection, f"restored:{uid}", template, now)


def bookmark_in(connection: Connection, name: str) -> str | None:
    """A remembered value; None: nothing was."""
    row = connection.execute("SELECT value FROM bookmarks WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row["value"])


def set_bookmark_in(connection: Connection, name: str, value: str, now: datetime) -> None:
    """Remember a value."""
    connection.execute(
        "INSERT INTO bookmarks (name, value, at) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at",
        (name, value, now.isoformat()),
    )
