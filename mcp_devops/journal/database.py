"""The open state: every path to it is a transaction, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint

from mcp_devops.errors import NotConfigured
from mcp_devops.journal.connection import Connection, Engine
from mcp_devops.journal.migrations import migrate
from mcp_devops.journal.place import (
    Place,
    PostgresUrl,
    default_database_path,
    default_state_dir,
    place_of,
)
from mcp_devops.journal.sqlite import SqliteEngine

__all__ = [
    "Connection",
    "Database",
    "default_database_path",
    "default_state_dir",
    "open_database",
]

T = TypeVar("T")

POSTGRES_READERS = 3
"""Connections for reading on PostgreSQL, where an answer takes a way over the network."""


class Database:
    """An open state file or database. Made by `open_database`.

    Attributes:
        place: Where it is; its text form shows no password.
        many_hosts: Whether processes of other machines may use it too.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.many_hosts = isinstance(place, PostgresUrl)
        self._writer = _Lane(_engine(place, read_only=False), "state-write")
        count = POSTGRES_READERS if self.many_hosts else 1
        self._readers = [_Lane(_engine(place, read_only=True), "state-read") for _ in range(count)]

    async def run(self, fn: Callable[[Connection], T]) -> T:
        """Run a function in a write transaction.

        There is one such transaction at a time: those of this process run one after another on
        one thread, those of other processes and replicas are waited for. If the function raises,
        everything rolls back and its exception comes through. A cancelled caller leaves no half
        transaction: one that has begun commits or rolls back by itself, one that has not begun
        never does.

        Args:
            fn: Called off the event loop with the connection; must not commit, and must not
                keep the connection. On PostgreSQL it is called again if the connection broke
                before the commit, so it must do nothing but use the connection.

        Raises:
            UpstreamUnavailable: The database is locked by another, is down, or its disk is full or
                failing. Nothing was written.
            OutcomeUnknown: PostgreSQL went away during the commit and did not come back in time.
            Unsupported: The file is damaged.
            ConstraintBroken: A constraint of the tables was hit; nothing was written.
        """
        return await self._writer.run(fn)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run a function on one consistent snapshot; it cannot write. Does not wait for writers.

        Raises:
            UpstreamUnavailable: As for `run`.
            Unsupported: As for `run`.
        """
        # A long look, such as a verification, must not hold up short ones.
        return await min(self._readers, key=lambda lane: lane.waiting).run(fn)

    async def start(self) -> None:
        """Create or check the state and bring its tables to this version. See `open_database`."""
        await self._writer.connect()
        await self._writer.run(migrate)
        # Other readers connect when they are needed first; a file's only reader connects now.
        await self._readers[0].connect()

    async def close(self) -> None:
        """Finish what has begun and close."""
        with anyio.CancelScope(shield=True):
            for lane in (*self._readers, self._writer):
                await lane.close()


@asynccontextmanager
async def open_database(where: Place | str) -> AsyncIterator[Database]:
    """Open the state.

    Args:
        where: A path: the SQLite file, created (mode 0600) with its folders (mode 0700) if
            missing. A `postgresql://` URL: a database in which the schema `mcp_devops` is made if
            it is missing.

    Raises:
        Unsupported: The file is damaged, not SQLite, another program's, or a newer version's.
        NotConfigured: The place cannot be written, or is no place.
        CredentialsRejected: PostgreSQL does not accept the user or the password.
        PermissionDenied: The user may not use or make the schema; with the grant that is missing.
        UpstreamUnavailable: The file is locked, the server is down, or the disk is full.
    """
    place = place_of(where)
    if isinstance(place, PostgresUrl):
        # It takes a third of a second to import, off the loop; who has a file never waits for it.
        await to_thread.run_sync(_load_psycopg)
    database = Database(place)
    try:
        await database.start()
        yield database
    finally:
        await database.close()


def _engine(place: Place, *, read_only: bool) -> Engine:
    if not isinstance(place, PostgresUrl):
        return SqliteEngine(place, read_only=read_only)
    from mcp_devops.journal.postgres import PostgresEngine

    return PostgresEngine(place, read_only=read_only)


def _load_psycopg() -> None:
    try:
        import psycopg  # noqa: F401 - here to be loaded
    except ImportError as missing:
        raise NotConfigured(
            "The state is to be on PostgreSQL, and its driver psycopg is not installed.",
            fix='Run: pip install "mcp-devops[postgres]". Or unset MCP_DEVOPS_DATABASE_URL.',
            source="journal",
        ) from missing


class _Lane:
    """One connection on one thread: what runs here runs one after another."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._engine = engine
        self.waiting = 0

    async def connect(self) -> None:
        await self._submit(self._engine.connect)

    async def run(self, fn: Callable[[Connection], T]) -> T:
        self.waiting += 1
        try:
            return await self._submit(lambda: self._engine.transact(fn))
        finally:
            self.waiting -= 1

    async def close(self) -> None:
        await self._submit(self._engine.disconnect)
        self._threads.shutdown(wait=False)

    async def _submit(self, work: Callable[[], T]) -> T:
        await checkpoint()
        future: Future[T] = self._threads.submit(work)
        # Shielded: whoever is cancelled meanwhile still learns what became of the transaction.
        # A bare task.cancel() passes the shield; then the thread finishes by itself.
        with anyio.CancelScope(shield=True):
            await asyncio.wrap_future(future)
        return future.result()
