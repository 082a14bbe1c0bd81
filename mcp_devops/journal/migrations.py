"""The tables of the state, as numbered steps. A step that was released is never edited."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mcp_devops.errors import Unsupported
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.place import SCHEMA


@dataclass(frozen=True, slots=True)
class Only:
    """A statement of one dialect."""

    dialect: str
    """As in `Connection.dialect`."""
    sql: str
    """The statement."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    name: str
    """`mNNN_what`; what the database remembers."""
    statements: tuple[str | Only, ...]
    """SQL, run in order in one transaction. Plain text runs on both, see `_spelled`."""


_SQLITE_GUARDS = tuple(
    Only("sqlite", sql)
    for sql in (
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
    )
)
_POSTGRES_GUARDS = tuple(
    Only("postgresql", sql)
    for sql in (
        """
        CREATE FUNCTION entries_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the journal is append-only'
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
        """,
        # The table is named in full: a session may have a table of this name on its own path.
        """
        CREATE FUNCTION entries_check_place() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE expected bigint;
        BEGIN
            EXECUTE format('SELECT coalesce(max(seq), 0) + 1 FROM %I.%I',
                TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO expected;
            IF NEW.seq IS DISTINCT FROM expected THEN
                RAISE EXCEPTION 'the journal is append-only'
                    USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NEW;
        END $$
        """,
        """
        CREATE TRIGGER entries_are_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
        FOR EACH STATEMENT EXECUTE FUNCTION entries_refuse()
        """,
        """
        CREATE TRIGGER entries_come_last BEFORE INSERT ON entries
        FOR EACH ROW EXECUTE FUNCTION entries_check_place()
        """,
        # Otherwise session_replication_role = replica passes them by.
        "ALTER TABLE entries ENABLE ALWAYS TRIGGER entries_are_not_changed",
        "ALTER TABLE entries ENABLE ALWAYS TRIGGER entries_come_last",
    )
)

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
            *_SQLITE_GUARDS,
            *_POSTGRES_GUARDS,
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
    Migration(
        "m003_responder",
        (
            """
            CREATE TABLE switches (
                name TEXT PRIMARY KEY,
                is_on INTEGER NOT NULL,
                by_whom TEXT NOT NULL,
                reason TEXT NOT NULL,
                at TEXT NOT NULL
            )
            """,
            """
            CREATE TABLE deliveries (
                source TEXT NOT NULL,
                key TEXT NOT NULL,
                at TEXT NOT NULL,
                PRIMARY KEY (source, key)
            )
            """,
            """
            CREATE TABLE outcomes (
                incident_id TEXT PRIMARY KEY,
                verdict_id TEXT NOT NULL,
                target TEXT NOT NULL,
                automatic INTEGER NOT NULL,
                was_right INTEGER NOT NULL,
                by_whom TEXT NOT NULL,
                note TEXT NOT NULL,
                at TEXT NOT NULL
            )
            """,
            """
            CREATE TABLE replicas (
                id TEXT PRIMARY KEY,
                version TEXT NOT NULL,
                started_at TEXT NOT NULL,
                seen_at TEXT NOT NULL
            )
            """,
            """
            CREATE TABLE bookmarks (
                name TEXT PRIMARY KEY,
                value TEXT NOT NULL,
                at TEXT NOT NULL
            )
            """,
            """
            CREATE TABLE runs (
                id TEXT PRIMARY KEY,
                target TEXT NOT NULL,
                template_hash TEXT NOT NULL,
                incident_id TEXT,
                status TEXT NOT NULL,
                replica TEXT,
                started_at TEXT NOT NULL,
                updated_at TEXT NOT NULL,
                body TEXT NOT NULL
            )
            """,
            "CREATE INDEX runs_by_status ON runs (status, updated_at)",
            "CREATE INDEX runs_by_target ON runs (target, status)",
        ),
    ),
    Migration(
        "m004_commit_marks",
        (
            # SQLite always knows whether it has committed.
            Only(
                "postgresql",
                "CREATE TABLE commits (owner TEXT PRIMARY KEY, token TEXT NOT NULL,"
                " at TEXT NOT NULL)",
            ),
        ),
    ),
    Migration(
        "m005_people",
        (
            # A JSON list; null: whoever can reach a channel may answer.
            "ALTER TABLE approvals ADD COLUMN approvers TEXT",
            """
            CREATE TABLE outbox (
                key TEXT PRIMARY KEY,
                incident_id TEXT NOT NULL,
                channel TEXT NOT NULL,
                body TEXT NOT NULL,
                status TEXT NOT NULL CHECK (status IN ('owed', 'told', 'dropped', 'failed')),
                attempts INTEGER NOT NULL,
                made_at TEXT NOT NULL,
                next_at TEXT NOT NULL,
                problem TEXT
            )
            """,
            "CREATE INDEX outbox_by_time ON outbox (status, next_at)",
            "CREATE INDEX outbox_by_incident ON outbox (incident_id, channel)",
        ),
    ),
    Migration(
        "m006_ages",
        (
            # By which the oldest are found and deleted, and a workload's newest are counted.
            "CREATE INDEX deliveries_by_time ON deliveries (at)",
            "CREATE INDEX outbox_by_age ON outbox (made_at)",
            "CREATE INDEX runs_by_time ON runs (updated_at)",
            "CREATE INDEX runs_of_target ON runs (target, started_at)",
        ),
    ),
    Migration(
        "m007_claims",
        # The few claims among all verdicts: they are read at each look at a rollout.
        ("CREATE INDEX entries_by_actor ON entries (kind, actor, seq)",),
    ),
)
"""All steps, in order. Times in these tables are RFC 3339 text in UTC; JSON is text."""


def migrate(connection: Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Bring a database to this program's schema. Runs inside the caller's write transaction.

    Replicas that start at once wait for each other there. Needs no right to create anything
    where nothing is to be created.

    Raises:
        Unsupported: It belongs to another program, or to a newer version of this one.
    """
    tables = _tables(connection)
    if "migrations" not in tables:
        if tables:
            raise Unsupported(
                "The state file or schema is that of another program.",
                fix="Point the server at another file or database; this one was not touched.",
                source="journal",
            )
        connection.execute(
            "CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL"
            f" DEFAULT ({_NOW[connection.dialect]}))"
        )
    applied = {row[0] for row in connection.execute("SELECT name FROM migrations")}
    if unknown := sorted(applied - {migration.name for migration in migrations}):
        raise Unsupported(
            f"The state was written by a newer version; it knows {unknown[-1]!r}.",
            fix="Upgrade mcp-devops, or point the server at another file or database.",
            source="journal",
            unknown=unknown,
        )
    for migration in migrations:
        if migration.name not in applied:
            for statement in migration.statements:
                if sql := _spelled(statement, connection.dialect):
                    connection.execute(sql)
            connection.execute("INSERT INTO migrations (name) VALUES (?)", (migration.name,))


_NOW = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    "postgresql": "to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
}


def _tables(connection: Connection) -> set[str]:
    if connection.dialect == "sqlite":
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if connection.execute("SELECT to_regnamespace(?)", (SCHEMA,)).fetchone()[0] is None:
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = ?", (SCHEMA,))
    return {row[0] for row in found}


def _spelled(statement: str | Only, dialect: str) -> str | None:
    """A statement for this dialect; None: it is not for it.

    PostgreSQL compares text by the database's language unless told otherwise, and then times as
    text are not sorted as time is; its INTEGER ends at two thousand million.
    """
    if isinstance(statement, Only):
        return statement.sql if statement.dialect == dialect else None
    if dialect == "sqlite":
        return statement
    return re.sub(r"\bINTEGER\b", "BIGINT", re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', statement))
