"""The state in a PostgreSQL database that many replicas share."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mcp_devops.errors import DevOpsError, NotConfigured, OutcomeUnknown, Unsupported
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.place import SCHEMA, PostgresUrl
from mcp_devops.journal.postgres_errors import (
    explained,
    is_lost,
    may_repeat,
    refused_connection,
)
from mcp_devops.journal.postgres_rows import PostgresConnection, Row, TimedConnection

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
"""Seconds one host may take to let us in, unless the URL has its own `connect_timeout`."""

LOCK_TIMEOUT_S = 10
"""Seconds a transaction waits for another's; ours take milliseconds."""

STATEMENT_TIMEOUT_S = 30
"""Seconds the server may work on one statement."""

IDLE_TIMEOUT_S = 10
"""Seconds after which the server ends a transaction whose client says nothing: the network to it is
cut, and until then it holds the lock."""

SETTLE_S = 20.0
"""Seconds to find out what became of a commit whose answer was lost: a restart takes a few, and a
session that is cut off ends after `IDLE_TIMEOUT_S`."""

ATTEMPTS = 4
"""How often a transaction is tried: after a lost connection or where the server asks for it."""

OLDEST_VERSION = 130000
"""PostgreSQL 13: has what is asked of it, and is the oldest that was maintained in 2025."""

# Any number of our own: the same for all replicas, and for no other program.
_LOCK = 0x6D63702D6465766F

_SETTINGS = (
    f"SET LOCAL search_path = {SCHEMA}, pg_temp;"
    f" SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_S}s';"
    f" SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_S}s';"
)
# One write at a time, as in SQLite: the chain has one end, and an approval one use. The lock
# comes first and each statement sees what was committed before it, so nothing is judged on old
# rows. Text comparison and the durability of a commit must not depend on the server's settings.
_WRITE = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {_SETTINGS}"
    f" SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s';"
    " SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true),"
    f" pg_advisory_xact_lock({_LOCK})"
).encode()
_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_SETTINGS}".encode()
_TIME = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
# Only what has written needs a mark; a look at approvals stays without a trace.
_MARK = (
    "INSERT INTO commits (owner, token, at)"
    f" SELECT ?, ?, {_TIME.format('now()')}"
    " WHERE pg_current_xact_id_if_assigned() IS NOT NULL"
    " ON CONFLICT (owner) DO UPDATE SET token = excluded.token, at = excluded.at"
)

# A mark is needed for seconds.
_OLD = _TIME.format("(now() - interval '1 day')")
_FORGET = f"DELETE FROM commits WHERE owner = ? OR at < {_OLD}"  # noqa: S608


class _Again(Exception):
    """The transaction did not happen and may be tried again; carries why."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.why = why


class PostgresEngine:
    """One connection to a PostgreSQL database, made anew when it was lost.

    Each writing transaction leaves a token in the table `commits`. When the connection breaks
    during a commit, the token tells afterwards whether it happened, so nothing is lost or done
    twice: an answer that is not known is looked up, never guessed.
    """

    def __init__(self, place: PostgresUrl, *, read_only: bool) -> None:
        self._place = place
        self._read_only = read_only
        self._begin = _READ if read_only else _WRITE
        self._owner = secrets.token_hex(8)
        self._raw: psycopg.Connection[Row] | None = None
        self._closed = False

    def connect(self) -> None:
        """Connect, within `CONNECT_TIMEOUT_S`."""
        self._raw = self._connected()

    def disconnect(self) -> None:
        """Close for good."""
        if self._raw is not None and not self._read_only and not self._raw.closed:
            self._forget(self._raw)
        self._closed = True
        self._drop()

    def transact(self, fn: Callable[[Connection], T]) -> T:
        """Run a function in one transaction; again if it is certain that it did not happen."""
        if self._closed:
            raise RuntimeError("the state database is closed")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(fn)
            except _Again as again:
                if attempt == ATTEMPTS:
                    raise again.why from again
        raise AssertionError  # the loop returns or raises

    def _once(self, fn: Callable[[Connection], T]) -> T:
        raw = self._raw = self._raw or self._connected()
        connection = PostgresConnection(raw)
        token = secrets.token_hex(8)
        try:
            raw.execute(self._begin)
            result = fn(connection)
            if not self._read_only:
                connection.execute(_MARK, (self._owner, token))
        except psycopg.Error as error:
            self._failed(error)
            raise
        except BaseException:
            self._roll_back()
            raise
        try:
            raw.execute(b"COMMIT")
        except psycopg.Error as error:
            # Only an error of the server itself says that the commit did not happen.
            if not self._read_only and (is_lost(error, raw) or not error.sqlstate):
                self._drop()
                if self._settled(token, error):
                    return result
                means = explained(error, self._place, read_only=False)
                raise _Again(means or error) from error
            self._failed(error)
            raise
        return result

    def _failed(self, error: psycopg.Error) -> None:
        """Roll back, and raise what the failure means, unless it is a bug."""
        lost = is_lost(error, self._raw)
        if lost:
            self._drop()
        else:
            self._roll_back()
        means = explained(error, self._place, read_only=self._read_only)
        if means is not None and (lost or may_repeat(error)):
            raise _Again(means) from error
        if means is not None:
            raise means from error

    def _settled(self, token: str, error: psycopg.Error) -> bool:
        """Whether the transaction of a token is committed, asked until the server is back.

        Raises:
            OutcomeUnknown: It did not come back within `SETTLE_S`.
        """
        deadline = monotonic() + SETTLE_S
        pause = threading.Event()
        while True:
            try:
                # Under the lock: until the lost session has ended, its commit may still come.
                raw = self._raw = self._connected()
                raw.execute(self._begin)
                asked = PostgresConnection(raw).execute(
                    "SELECT 1 FROM commits WHERE owner = ? AND token = ?", (self._owner, token)
                )
                found = asked.fetchone() is not None
                self._roll_back()
                return found
            except (psycopg.Error, DevOpsError):
                self._drop()
                if monotonic() > deadline:
                    break
                pause.wait(0.2)
        raise OutcomeUnknown(
            f"PostgreSQL at {self._place} went away during a commit: it may or may not be written.",
            fix="Once the server is back, look at `mcp-devops audit list` before you repeat it.",
            source="journal",
        ) from error

    def _connected(self) -> psycopg.Connection[Row]:
        try:
            given = conninfo_to_dict(self._place.reveal)
        except psycopg.Error:
            # libpq repeats the URL, password and all.
            raise NotConfigured(
                "The database URL is not one that PostgreSQL's client library can read.",
                fix="Write postgresql://USER:PASSWORD@HOST:5432/DATABASE; special characters of"
                " the password are percent-encoded.",
                source="journal",
            ) from None
        usual = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "mcp-devops",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        }
        try:
            raw: psycopg.Connection[Row] = TimedConnection.connect(
                **{**usual, **given},  # type: ignore[arg-type]
                autocommit=True,
                # A pooler between us may give each transaction another session.
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            raise refused_connection(error, self._place) from error
        if raw.info.server_version < OLDEST_VERSION:
            version = raw.info.server_version // 10_000
            raw.close()
            raise Unsupported(
                f"PostgreSQL at {self._place} is version {version}.",
                fix="Upgrade it to 13 or later.",
                source="journal",
            )
        return raw

    def _roll_back(self) -> None:
        try:
            if self._raw is not None:
                self._raw.execute(b"ROLLBACK")
        except psycopg.Error:
            self._drop()

    def _forget(self, raw: psycopg.Connection[Row]) -> None:
        """Take our mark away, and those of processes that were killed before they could."""
        try:
            raw.execute(self._begin)
            PostgresConnection(raw).execute(_FORGET, (self._owner,))
            raw.execute(b"COMMIT")
        except psycopg.Error:
            # The row does no harm, and closing must not fail for it.
            return

    def _drop(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None
