"""One SQLite file that several processes share: the server, and `mcp-devops approve` beside it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.lowlevel import checkpoint

from mcp_devops.errors import DevOpsError, NotConfigured, Unsupported, UpstreamUnavailable
from mcp_devops.journal.migrations import migrate

T = TypeVar("T")

BUSY_TIMEOUT_S = 10.0
"""Seconds a transaction waits for another process's; ours take milliseconds, so ten seconds mean
that somebody holds the file open in a shell."""

_OPEN_ATTEMPTS = 100
_CORRUPT = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT"})
_READ_ONLY = frozenset({"SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"})


def default_state_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Where state lives unless told otherwise: `$XDG_STATE_HOME/mcp-devops`.

    Args:
        environment: Environment variables; None: those of this process. An empty or relative
            `XDG_STATE_HOME` counts as unset, as the XDG specification asks: `~/.local/state`.
    """
    variables = os.environ if environment is None else environment
    base = variables.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        home = variables.get("HOME") or os.path.expanduser("~")
        base = os.path.join(home, ".local", "state")
    return Path(base) / "mcp-devops"


def default_database_path(environment: Mapping[str, str] | None = None) -> Path:
    """The state file: `state.db` in `default_state_dir`."""
    return default_state_dir(environment) / "state.db"


class Database:
    """An open state file. Made by `open_database`; every path to it is a transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = _Lane(path, "state-write", read_only=False)
        self._reader = _Lane(path, "state-read", read_only=True)

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in a write transaction (`BEGIN IMMEDIATE` … `COMMIT`).

        Transactions of this process run one after another on one thread; those of other
        processes are waited for. If the function raises, everything rolls back and its exception
        comes through. A cancelled caller leaves no half transaction: one that has begun commits
        or rolls back by itself, one that has not begun never does.

        Args:
            fn: Called off the event loop with the connection; must not commit, and must not
                keep the connection.

        Raises:
            UpstreamUnavailable: The file is locked for `BUSY_TIMEOUT_S`, or the disk is full or
                failing.
            Unsupported: The file is damaged.
            sqlite3.IntegrityError: A constraint of the tables was hit; nothing was written.
        """
        return await self._writer.run(fn)

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function on one consistent snapshot; it cannot write. Does not wait for writers.

        Raises:
            UpstreamUnavailable: As for `run`.
            Unsupported: As for `run`.
        """
        return await self._reader.run(fn)

    async def start(self) -> None:
        """Create or check the file and bring its tables to this version. See `open_database`."""
        await self._writer.submit(lambda: _prepare_file(self.path))
        await self._writer.submit(self._writer.connect)
        await self._writer.run(migrate)
        await self._reader.submit(self._reader.connect)

    async def close(self) -> None:
        """Finish what has begun and close the file."""
        with anyio.CancelScope(shield=True):
            for lane in (self._reader, self._writer):
                await lane.submit(lane.disconnect)
                lane.threads.shutdown(wait=False)


@asynccontextmanager
async def open_database(path: Path | str) -> AsyncIterator[Database]:
    """Open the state file, creating it (mode 0600) and missing folders (mode 0700).

    Raises:
        Unsupported: The file is damaged, not SQLite, another program's, or a newer version's.
        NotConfigured: The place cannot be written.
        UpstreamUnavailable: The file is locked, or the disk is full or failing.
    """
    database = Database(Path(path))
    try:
        await database.start()
        yield database
    finally:
        await database.close()


class _Lane:
    """One connection on one thread: what runs here runs one after another."""

    def __init__(self, path: Path, name: str, *, read_only: bool) -> None:
        self.threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._path = path
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        return await self.submit(lambda: self._transact(fn))

    async def submit(self, work: Callable[[], T]) -> T:
        await checkpoint()
        future: Future[T] = self.threads.submit(work)
        # Shielded: whoever is cancelled meanwhile still learns what became of the transaction.
        # A bare task.cancel() passes the shield; then the thread finishes by itself.
        with anyio.CancelScope(shield=True):
            await asyncio.wrap_future(future)
        return future.result()

    def connect(self) -> None:
        with _translated(self._path):
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=True
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
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _transact(self, fn: Callable[[sqlite3.Connection], T]) -> T:
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
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
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
