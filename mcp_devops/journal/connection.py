"""What a function inside a transaction is given: one connection, the same on every database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Rows(Protocol):
    """The answer to one statement. A row is read by column name or by place, `dict(row)` works."""

    @property
    def rowcount(self) -> int:
        """Rows that an INSERT, UPDATE or DELETE touched."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """An open transaction's connection.

    SQL that runs on both databases: `?` for values, `ON CONFLICT` rather than `OR REPLACE`, no
    `rowid`, no value compared with NULL by `= ?`. A function that catches what `execute` raises
    and goes on works on SQLite only: on PostgreSQL the transaction is lost by then.
    """

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows:
        """Run one statement."""
        ...

    def stream(self, sql: str, parameters: Sequence[Any] = ..., /) -> Iterable[Any]:
        """Rows of a SELECT, a few at a time: memory stays constant. One stream at a time."""
        ...


class ConstraintBroken(Exception):
    """A constraint of the tables was hit, or the journal refused to forget; nothing was written."""


class Engine(Protocol):
    """One connection to one kind of database. Used by one thread at a time."""

    def connect(self) -> None:
        """Open it.

        Raises:
            DevOpsError: It cannot be opened; the error says what to do.
        """
        ...

    def disconnect(self) -> None:
        """Close it; nothing happens if it is closed already."""
        ...

    def transact(self, fn: Callable[[Connection], T]) -> T:
        """Run a function in one transaction: all of it, or nothing.

        Raises:
            RuntimeError: It is closed.
        """
        ...
