"""Cuts text, lines and JSON-like answers to a size, keeping what tells most."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

CHARS_PER_TOKEN = 3.5
"""Characters of one token. English prose has about 4; JSON, identifiers and log lines split finer,
so that 3.5 errs on the large side (estimate, not measured per model)."""

SOFT_BUDGET_TOKENS = 10_000
"""Tokens one answer should stay below: clients warn about larger tool results at this size."""

SOFT_LIMIT_CHARS = int(SOFT_BUDGET_TOKENS * CHARS_PER_TOKEN)
"""The soft budget in characters of compact JSON."""

HARD_LIMIT_CHARS = 50_000
"""Characters no answer exceeds, whatever it holds."""

NOTES_LIMIT_CHARS = 2_000
"""Characters that all notes of one `shrink` take together, at most."""

MIN_SHRINK_CHARS = 64
"""Smallest limit that `shrink` takes; below it there is nothing to keep."""

_LEVELS = (
    (20_000, 500),
    (10_000, 250),
    (6_000, 160),
    (4_000, 120),
    (2_500, 80),
    (1_600, 60),
    (1_000, 40),
    (700, 30),
    (500, 20),
    (350, 14),
    (240, 10),
    (160, 6),
    (100, 3),
    (60, 1),
)
"""Steps of (characters a string keeps, items a list keeps), each about two thirds of the last."""

_FIELDS_OF_A_RECORD = 50
"""A mapping with more keys than this is a table, not a record, and may lose rows."""

_MAX_DEPTH = 100
_TOO_DEEP = "[cut: nested too deep]"
_PATH_CHARS = 120


class Keep(StrEnum):
    """Which end of a long list survives."""

    LAST = "last"
    FIRST = "first"


def estimate_tokens(text: str) -> int:
    """About how many tokens a text costs, erring on the large side."""
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def compact_json(data: Any) -> str:
    """JSON without spaces, with characters beyond ASCII as they are; foreign objects as `str`."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, default=str)


def cut_start(text: str, max_chars: int) -> str:
    """The end of a text, under a note of how much is missing before it; never over `max_chars`."""
    if len(text) <= max_chars:
        return text
    mark = f"[{len(text) - max_chars:,}+ characters cut] "
    if len(mark) * 2 > max_chars:
        return text[len(text) - max(max_chars, 0) :]
    return mark + text[len(text) - (max_chars - len(mark)) :]


def cut_end(text: str, max_chars: int) -> str:
    """The beginning of a text, with a note of how much is missing; never over `max_chars`."""
    if len(text) <= max_chars:
        return text
    mark = f" [{len(text) - max_chars:,}+ characters cut]"
    if len(mark) * 2 > max_chars:
        return text[: max(max_chars, 0)]
    return text[: max_chars - len(mark)] + mark


def cut_middle(text: str, max_chars: int) -> str:
    """Both ends of a text, the end twice as long, around a note; never over `max_chars`."""
    if len(text) <= max_chars:
        return text
    mark = f" [{len(text) - max_chars:,}+ characters cut] "
    room = max_chars - len(mark)
    if room < len(mark):
        return cut_start(text, max_chars)
    head = room // 3
    return text[:head] + mark + text[len(text) - (room - head) :]


def keep_newest(lines: Sequence[str], max_chars: int) -> tuple[list[str], int]:
    """The newest lines that fit, a newline counted for each.

    A newest line that is too long for itself keeps its end.

    Returns:
        The lines kept, oldest first, and how many older ones were dropped.
    """
    kept: list[str] = []
    room = max_chars
    for line in reversed(lines):
        if len(line) + 1 > room:
            if not kept and room > 1:
                kept.append(cut_start(line, room - 1))
            break
        room -= len(line) + 1
        kept.append(line)
    return kept[::-1], len(lines) - len(kept)


def shrink(
    data: Mapping[str, Any], max_chars: int = SOFT_LIMIT_CHARS, *, keep: Keep = Keep.LAST
) -> tuple[dict[str, Any], list[str]]:
    """Cut JSON-like data until its compact JSON has at most `max_chars` characters.

    Long strings lose their beginning, long lists one end, in steps that leave small things
    alone; only if that is not enough, whole top-level entries go, largest first. What fits
    already comes back equal.

    Args:
        data: The answer. Not changed.
        max_chars: The limit, at least `MIN_SHRINK_CHARS`.
        keep: Which end of a long list survives; `LAST` where newest comes last.

    Returns:
        The data that fits, and a sentence for each place that was cut, together at most
        `NOTES_LIMIT_CHARS` characters and not counted in the limit.

    Raises:
        ValueError: `max_chars` is below `MIN_SHRINK_CHARS`.
    """
    if max_chars < MIN_SHRINK_CHARS:
        raise ValueError(f"a limit of {max_chars} characters is below {MIN_SHRINK_CHARS}")
    cutter = _Cutter(None, None, keep)
    result: dict[str, Any] = cutter.cut(dict(data), "", 0)
    for string_chars, list_items in _LEVELS:
        if len(compact_json(result)) <= max_chars:
            return result, list(_bounded(cutter.notes))
        cutter = _Cutter(string_chars, list_items, keep)
        result = cutter.cut(dict(data), "", 0)
    notes = cutter.notes + list(_drop_entries(result, max_chars))
    return result, list(_bounded(notes))


@dataclass
class _Cutter:
    string_chars: int | None
    list_items: int | None
    keep: Keep
    notes: list[str] = field(default_factory=list)

    def cut(self, value: Any, path: str, depth: int) -> Any:
        if isinstance(value, str):
            return self._string(value, path)
        if depth >= _MAX_DEPTH and isinstance(value, Mapping | list | tuple):
            self.notes.append(f"{_shown(path)}: nested deeper than {_MAX_DEPTH} levels, cut")
            return _TOO_DEEP
        if isinstance(value, Mapping):
            items = self._rows(list(value.items()), path)
            return {
                str(name): self.cut(item, f"{path}.{name}" if path else str(name), depth + 1)
                for name, item in items
            }
        if isinstance(value, list | tuple):
            kept = self._list(list(value), path)
            return [self.cut(item, f"{path}[]", depth + 1) for item in kept]
        return value

    def _string(self, value: str, path: str) -> str:
        limit = self.string_chars
        if limit is None or len(value) <= limit:
            return value
        self.notes.append(f"{_shown(path)}: the last {limit:,} of {len(value):,} characters kept")
        return cut_start(value, limit)

    def _list(self, items: list[Any], path: str) -> list[Any]:
        limit = self.list_items
        if limit is None or len(items) <= limit:
            return items
        self.notes.append(f"{_shown(path)}: the {self.keep} {limit:,} of {len(items):,} items kept")
        return items[-limit:] if self.keep is Keep.LAST else items[:limit]

    def _rows(self, items: list[tuple[Any, Any]], path: str) -> list[tuple[Any, Any]]:
        if self.list_items is None or len(items) <= max(self.list_items, _FIELDS_OF_A_RECORD):
            return items
        limit = max(self.list_items, _FIELDS_OF_A_RECORD)
        self.notes.append(f"{_shown(path)}: the first {limit:,} of {len(items):,} keys kept")
        return items[:limit]


def _drop_entries(result: dict[str, Any], max_chars: int) -> Iterator[str]:
    sizes = {name: len(compact_json({name: item})) for name, item in result.items()}
    total = len(compact_json(result))
    for name in sorted(sizes, key=lambda entry: -sizes[entry]):
        if total <= max_chars:
            return
        del result[name]
        total = len(compact_json(result))
        yield f"{_shown(name)}: left out, {sizes[name]:,} characters"


def _shown(path: str) -> str:
    return cut_end(path, _PATH_CHARS) or "answer"


def _bounded(notes: Sequence[str]) -> Iterator[str]:
    room = NOTES_LIMIT_CHARS - 40
    # The same path in every item of a list says the same thing many times.
    unique = list(dict.fromkeys(notes))
    for index, note in enumerate(unique):
        room -= len(note)
        if room < 0:
            yield f"{len(unique) - index:,} more places cut"
            return
        yield note
