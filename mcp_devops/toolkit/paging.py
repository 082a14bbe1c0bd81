"""Cursors: opaque, bound to the question they were given for."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TypeVar

from mcp_devops.errors import InvalidArguments
from mcp_devops.model.record import Record, digest

T = TypeVar("T")

CURSOR_LIMIT = 1_000
"""Characters of a cursor; ours have about fifty, and an API's own token inside one some hundred
more. Longer ones are nested deep enough to exhaust the parser."""


def _scope(args: Record) -> str:
    return digest(args.model_dump(mode="json", exclude={"cursor"}))[:12]


def encode_cursor(args: Record, position: str | int) -> str:
    """A cursor for the rest of this question's answer."""
    raw = json.dumps([_scope(args), position], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(args: Record, cursor: str) -> str | int:
    """The position a cursor stands for.

    Raises:
        InvalidArguments: It is damaged, or belongs to another question.
    """
    scope: object = None
    position: object = None
    if len(cursor) <= CURSOR_LIMIT:
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            scope, position = json.loads(raw)
        except (ValueError, TypeError):  # not base64, not JSON, not a pair
            scope = None
    if scope != _scope(args) or isinstance(position, bool) or not isinstance(position, str | int):
        raise InvalidArguments(
            "cursor: it does not belong to these arguments.",
            fix="Repeat the call without cursor, then pass next_cursor with the same arguments.",
            field="cursor",
        )
    return position


def page(
    items: Sequence[T], args: Record, cursor: str | None, limit: int
) -> tuple[Sequence[T], str | None]:
    """Cut one page out of a whole list.

    Returns:
        The page and the cursor of the next one, or None at the end.
    """
    start = 0
    if cursor is not None:
        position = decode_cursor(args, cursor)
        if not isinstance(position, int) or not 0 <= position <= len(items):
            raise InvalidArguments(
                "cursor: it points outside the list.", fix="Repeat the call without cursor."
            )
        start = position
    end = start + limit
    return items[start:end], encode_cursor(args, end) if end < len(items) else None
