"""The tables of the state file, as numbered steps. A step that was released is never edited."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from mcp_devops.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    name: str
    """`mNNN_what`; what the file remembers."""
    statements: tuple[str, ...]
    """SQL, run in order in one transaction."""


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "m001_journal",
        (
            """
            CREATE TABLE entries (
                seq INTEGER PRIMARY KEY CHECK (seq > 0),
                at TEXT NOT NULL,
                kind TEXT NOT NULL,
                actor TEXT NOT NULL,
                subject TEXT NOT NULL,
                incident_id TEXT,
                call_id TEXT,
                body TEXT NOT NULL,
                prev_hash TEXT NOT NULL,
                hash TEXT NOT NULL
            )
            """,
            "CREATE INDEX entries_by_incident ON entries (incident_id, seq)",
            "CREATE INDEX entries_by_kind ON entries (kind, seq)",
            "CREATE INDEX entries_by_call ON entries (call_id)",
            """
            CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
            """,
            """
            CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
            """,
            # INSERT OR REPLACE deletes without firing delete triggers.
            """
            CREATE TRIGGER entries_come_last BEFORE INSERT ON entries
            WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)
            BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
            """,
        ),
    ),
    Migration(
        "m002_approvals_incidents_actions",
        (
            """
            CREATE TABLE approvals (
                id TEXT PRIMARY KEY,
                digest TEXT NOT NULL,
                plan TEXT NOT NULL,
                summary TEXT NOT NULL,
                requested_by TEXT NOT NULL,
                requested_at TEXT NOT NULL,
                expires_at TEXT NOT NULL,
                status TEXT NOT NULL CHECK (status IN
                    ('pending', 'approved', 'denied', 'dismissed', 'expired', 'used')),
                answered_by TEXT,
                answered_at TEXT,
                channel TEXT,
                note TEXT,
                incident_id TEXT
            )
            """,
            "CREATE INDEX approvals_by_digest ON approvals (digest, status)",
            "CREATE INDEX approvals_by_status ON approvals (status, expires_at)",
            """
            CREATE TABLE incidents (
                id TEXT PRIMARY KEY,
                namespace TEXT NOT NULL,
                name TEXT NOT NULL,
                status TEXT NOT NULL,
                opened_at TEXT NOT NULL,
                updated_at TEXT NOT NULL,
                body TEXT NOT NULL
            )
            """,
            "CREATE INDEX incidents_by_target ON incidents (namespace, name, status)",
            "CREATE INDEX incidents_by_time ON incidents (updated_at)",
            """
            CREATE TABLE actions (
                digest TEXT PRIMARY KEY,
                tool TEXT NOT NULL,
                status TEXT NOT NULL CHECK (status IN ('started', 'done', 'failed', 'unknown')),
                started_at TEXT NOT NULL,
                finished_at TEXT,
                owner TEXT NOT NULL,
                outcome TEXT
            )
            """,
        ),
    ),
)
"""All steps, in order. Times in these tables are RFC 3339 text in UTC; JSON is text."""


def migrate(connection: sqlite3.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Bring a file to this program's schema. Runs inside the caller's write transaction.

    Raises:
        Unsupported: The file belongs to another program, or to a newer version of this one.
    """
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if tables and "migrations" not in tables:
        raise Unsupported(
            "The state file is a SQLite file of another program.",
            fix="Point the server at another file; this one was not touched.",
            source="journal",
        )
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL"
        " DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))"
    )
    applied = {row[0] for row in connection.execute("SELECT name FROM migrations")}
    if unknown := sorted(applied - {migration.name for migration in migrations}):
        raise Unsupported(
            f"The state file was written by a newer version; it knows {unknown[-1]!r}.",
            fix="Upgrade mcp-devops, or point the server at another file.",
            source="journal",
            unknown=unknown,
        )
    for migration in migrations:
        if migration.name not in applied:
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations (name) VALUES (?)", (migration.name,))
