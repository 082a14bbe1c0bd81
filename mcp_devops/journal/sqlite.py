"""The state in one SQLite file that several processes of a machine share."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mcp_devops.errors import DevOpsError, NotConfigured, Unsupported, UpstreamUnavailable
from mcp_devops.journal.connection import Connection, ConstraintBroken

T = TypeVar("T")

BUSY_TIMEOUT_S = 10.0
"""Seconds a transaction waits for another process's; ours take milliseconds, so ten seconds mean
that somebody holds the file open in a shell."""

_OPEN_ATTEMPTS = 100
_CORRUPT = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT"})
_READ_ONLY = frozenset({"SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"})


class SqliteConnection(sqlite3.Connection):
    """SQLite's own connection, with what `Connection` asks for beside it."""

    dialect = "sqlite"

    def stream(self, sql: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]:
        """Rows of a SELECT, read as they are asked for."""
        return self.execute(sql, parameters)


class SqliteEngine:
    """One connection to a state file."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._path = path
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        self._read_only = read_only
        self._connection: SqliteConnection | None = None

    def connect(self) -> None:
        """Open the file, creating it (mode 0600) and missing folders (mode 0700)."""
        if not self._read_only:
            _prepare_file(self._path)
        with _translated(self._path):
            connection = sqlite3.connect(
                self._path,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=True,
                factory=SqliteConnection,
            )
            connection.row_factory = sqlite3.Row
            self._connection = connection
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            if self._read_only:
                connection.execute("PRAGMA query_only = ON")
            else:
                _switch_to_wal(connection)
                connection.execute("PRAGMA synchronous = FULL")

    def disconnect(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def transact(self, fn: Callable[[Connection], T]) -> T:
        """Run a function in one transaction."""
        connection = self._connection
        if connection is None:
            raise RuntimeError("the state file is closed")
        with _translated(self._path):
            connection.execute(self._begin)
            try:
                result = fn(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result


def _prepare_file(path: Path) -> None:
    try:
        for folder in reversed([path.parent, *path.parent.parents]):
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
        # SQLite gives its -wal and -shm files the mode of this one.
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.close(handle)
        path.chmod(0o600)
    except OSError as error:
        raise NotConfigured(
            f"The state file {str(path)!r} cannot be written: {error.strerror}.",
            fix="Make its folder writable for this user, or set XDG_STATE_HOME to one that is.",
            source="journal",
        ) from error


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Turn on write-ahead logging, which SQLite refuses at once while another process does it."""
    pause = threading.Event()
    for attempt in range(_OPEN_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or attempt == _OPEN_ATTEMPTS - 1:
                raise
            pause.wait(BUSY_TIMEOUT_S / _OPEN_ATTEMPTS)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.IntegrityError as error:
        raise ConstraintBroken(str(error)) from error
    except sqlite3.DatabaseError as error:
        raise _explained(error, path) from error


def _explained(error: sqlite3.DatabaseError, path: Path) -> DevOpsError:
    name = getattr(error, "sqlite_errorname", "") or ""
    base = "_".join(name.split("_")[:2])
    file = repr(str(path))
    if base in _CORRUPT:
        return Unsupported(
            f"The state file {file} is damaged, or is not a SQLite file.",
            fix="Move it aside (with its -wal and -shm files) and keep it, then start again; or"
            " restore a backup.",
            source="journal",
            upstream=str(error),
        )
    if base in _READ_ONLY:
        return NotConfigured(
            f"The state file {file} cannot be opened for writing.",
            fix="Make the file and its folder writable for this user.",
            source="journal",
            upstream=str(error),
        )
    if base in {"SQLITE_BUSY", "SQLITE_LOCKED"}:
        return UpstreamUnavailable(
            f"Another process has held the state file {file} for {BUSY_TIMEOUT_S:g} s.",
            fix="Close the other program that has it open, then call again.",
            source="journal",
        )
    return UpstreamUnavailable(
        f"The state file {file} could not be used; nothing was written.",
        fix="Check the free space and the health of its disk, then call again.",
        source="journal",
        upstream=str(error),
    )
