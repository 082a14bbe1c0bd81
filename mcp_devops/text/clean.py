"""The one pipeline of foreign text: cap, strip escapes, redact. Shortening comes after, elsewhere.

The order matters. Redacting first misses a secret that a colour code splits; shortening first
cuts a secret below the length by which its rule knows it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_devops.text.escapes import strip_escapes
from mcp_devops.text.secrets import DEFAULT, MAX_DEPTH, TOO_DEEP, Redactor, free_name

MAX_TEXT_CHARS = 262_144
"""Characters of one text that are looked at: 256 K. The rules are measured to stay below half a
second on hostile input of that size; what is older is cut, because the newest end tells most."""

_CUT_NOTE_ROOM = 80
_BOUNDARY_SEARCH = 4_096
_BOUNDARIES = (re.compile(r"\n"), re.compile(r"\s"), re.compile(r"[^\w.~+/=:-]"))


def clean(text: str, redactor: Redactor = DEFAULT) -> str:
    """Make foreign text fit to be shown, stored or sent: no escapes, no known secrets.

    A text over `MAX_TEXT_CHARS` keeps its newest end, cut at a line, else at a word, so that no
    half of a token stays, under a first line that says how much was cut. Below that size the
    number of lines stays the same. Shortening to a budget is the caller's next step, never the
    one before.
    """
    return redactor.text(strip_escapes(_capped(text)))


def clean_lines(lines: Sequence[str], redactor: Redactor = DEFAULT) -> tuple[list[str], int]:
    """Clean lines together, so that a key that spans lines is found.

    Newlines inside a line become spaces.

    Returns:
        The cleaned lines, and how many of the oldest were cut by the size cap: the first line
        returned belongs to `lines[cut]`.
    """
    kept: list[str] = []
    room = MAX_TEXT_CHARS
    for line in reversed(lines):
        room -= len(line) + 1
        if room < 0:
            if not kept:
                kept.append(_end_of(line, MAX_TEXT_CHARS))
            break
        kept.append(line)
    if not kept:
        return [], 0
    text = "\n".join(line.replace("\n", " ") for line in reversed(kept))
    return redactor.text(strip_escapes(text)).split("\n"), len(lines) - len(kept)


def clean_data(data: Any, redactor: Redactor = DEFAULT) -> Any:
    """Clean JSON-like data: every string capped and stripped, then redacted by key and by text.

    Numbers that JSON cannot hold (NaN, infinities) become strings; other objects their `str`.
    """
    return redactor.data(_stripped(data, 0))


def _stripped(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return strip_escapes(_capped(value))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, Mapping):
        result: dict[str, Any] = {}
        for key, item in value.items():
            name = free_name(strip_escapes(_capped(str(key))), result)
            result[name] = _stripped(item, depth + 1)
        return result
    if isinstance(value, list | tuple | set | frozenset):
        return [_stripped(item, depth + 1) for item in value]
    return strip_escapes(_capped(str(value)))


def _capped(text: str) -> str:
    if len(text) <= MAX_TEXT_CHARS:
        return text
    end = _end_of(text, MAX_TEXT_CHARS - _CUT_NOTE_ROOM)
    return f"[cut: {len(text) - len(end):,} characters before this]\n{end}"


def _end_of(text: str, max_chars: int) -> str:
    """The newest characters, from the first boundary in them that no secret reaches across."""
    if len(text) <= max_chars:
        return text
    start = len(text) - max_chars
    for boundary in _BOUNDARIES:
        if found := boundary.search(text, start, start + _BOUNDARY_SEARCH):
            return text[found.end() :]
    return text[start:]
