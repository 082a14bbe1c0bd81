"""PostgreSQL in the manner of `Connection`: `?` for values, rows by name and by place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

T = TypeVar("T")

STATEMENT_S = 45.0
"""Seconds after which a server that says nothing counts as gone: more than it may take itself."""

_STREAM_ROWS = 500


class Row:
    """One row: `row["seq"]`, `row[0]`, `dict(row)`; iterating gives values, as in SQLite."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: dict[str, int], values: Sequence[Any]) -> None:
        self._places = places
        self._values = values

    def __getitem__(self, key: int | str) -> Any:
        return self._values[self._places[key] if isinstance(key, str) else key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self._places)


def _rows(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], Row]:
    places = {column.name: at for at, column in enumerate(cursor.description or ())}
    return lambda values: Row(places, values)


class Silence(psycopg.OperationalError):
    """The server did not answer in time: what it is doing is not known."""


class TimedConnection(psycopg.Connection[Row]):
    """A connection that gives a silent server up: the server's own limits need a live one."""

    def wait(self, gen: Any, *args: Any, **more: Any) -> Any:
        """Wait for an answer, for `STATEMENT_S` at most."""
        return super().wait(_bounded(gen, monotonic() + STATEMENT_S), *args, **more)


def _bounded(gen: Any, deadline: float) -> Any:
    """The same generator, which psycopg asks every tenth of a second whether it is ready."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and monotonic() > deadline:
                gen.close()
                raise Silence("no answer in time")
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


class PostgresConnection:
    """What a function inside a transaction is given."""

    dialect = "postgresql"

    def __init__(self, raw: psycopg.Connection[Row]) -> None:
        self._raw = raw

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._raw.info.transaction_status is not TransactionStatus.IDLE

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[Row]:
        """Run one statement."""
        cursor = self._raw.cursor(row_factory=_rows)
        return cursor.execute(_placed(sql), [_plain(value) for value in parameters])

    def stream(self, sql: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]:
        """Rows of a SELECT, fetched from the server a few hundred at a time."""
        with self._raw.cursor(name="mcp_devops_stream", row_factory=_rows) as cursor:
            cursor.itersize = _STREAM_ROWS
            yield from cursor.execute(_placed(sql), [_plain(value) for value in parameters])


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        # Columns of yes and no are numbers, which SQLite makes of a bool by itself.
        return int(value)
    if isinstance(value, str) and "\0" in value:
        return value.replace("\0", "\ufffd")  # the one character that its text cannot hold
    return value


@lru_cache(maxsize=256)
def _placed(sql: str) -> bytes:
    """`?` outside quotes as psycopg's `%s`."""
    parts = sql.replace("%", "%%").split("'")
    parts[::2] = [part.replace("?", "%s") for part in parts[::2]]
    return "'".join(parts).encode()
