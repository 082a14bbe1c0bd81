"""Before and after of a resource: what differs, with secrets masked three ways. Pure.

A value is masked where Terraform marks it sensitive in either state (for a deleted object the
mask afterwards says nothing), where its name or shape says secret, and where it equals a value
that was marked sensitive somewhere else in the plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mcp_devops.model.record import Record
from mcp_devops.text.budget import cut_middle
from mcp_devops.text.clean import clean, clean_data
from mcp_devops.text.secrets import Redactor

SENSITIVE = "(sensitive)"
MAX_DEPTH = 40
"""Levels that are compared; deeper ones are masked whole. Provider schemas stay below ten."""
MAX_VALUE_CHARS = 160
"""Characters of one shown value."""
MAX_JSON_CHARS = 200_000
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}")


class AttributeChange(Record):
    """One attribute that differs between the state and the real world."""

    path: str
    """Where, as in containers[0].image."""
    before: str | None
    """What the state says; null: absent."""
    after: str | None
    """What is there; null: absent."""


def as_map(value: Any) -> Mapping[str, Any]:
    """The value, or an empty mapping where a plan has something else."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> Sequence[Any]:
    """The value, or an empty list where a plan has something else."""
    return value if isinstance(value, list) else []


def union(one: Any, other: Any, depth: int = 0) -> Any:
    """What is sensitive in either mask: true, false, or a mask parallel to the value."""
    if one is True or other is True or depth > MAX_DEPTH:
        return True
    if one and other and type(one) is not type(other):
        return True  # the value changed its shape: neither mask can be read beside the other
    if isinstance(one or other, Mapping):
        first, second = as_map(one), as_map(other)
        return {k: union(first.get(k), second.get(k), depth + 1) for k in {**first, **second}}
    if isinstance(one or other, list):
        left, right = as_list(one), as_list(other)
        return [
            union(_at(left, i), _at(right, i), depth + 1) for i in range(max(len(left), len(right)))
        ]
    return False


def masked(value: Any, mask: Any, depth: int = 0) -> Any:
    """The value with what the mask marks replaced; where mask and shape disagree, all of it."""
    if _hidden(value, mask, depth):
        return None if value is None else SENSITIVE
    if isinstance(value, Mapping):
        inner = as_map(mask)
        return {k: masked(v, inner.get(k), depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        marks = as_list(mask)
        return [masked(v, _at(marks, i), depth + 1) for i, v in enumerate(value)]
    return value


def _hidden(value: Any, mask: Any, depth: int) -> bool:
    if mask is True or depth > MAX_DEPTH:
        return True
    fits = (isinstance(value, Mapping) and isinstance(mask, Mapping)) or (
        isinstance(value, list) and isinstance(mask, list)
    )
    return bool(mask) and not fits


def unfolded(value: Any, depth: int = 0) -> Any:
    """The value with JSON documents in strings as structure: name and value pairs show there."""
    if isinstance(value, Mapping) and depth <= MAX_DEPTH:
        return {k: unfolded(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list) and depth <= MAX_DEPTH:
        return [unfolded(v, depth + 1) for v in value]
    if isinstance(value, str) and value[:1] in ("{", "[") and len(value) <= MAX_JSON_CHARS:
        try:
            return json.loads(value) if _nesting(value) <= MAX_DEPTH else value
        except ValueError:
            return value
    return value


def _nesting(text: str) -> int:
    """Levels a JSON text opens, at most: brackets inside its strings count too."""
    level = deepest = 0
    for bracket in re.findall(r"[][{}]", text):
        level += 1 if bracket in "[{" else -1
        deepest = max(deepest, level)
    return deepest


def sensitive_texts(value: Any, mask: Any, depth: int = 0) -> Iterator[str]:
    """Every string that a mask marks, to be masked wherever else it appears."""
    if depth > 2 * MAX_DEPTH:
        return
    if mask is True and isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            inner = True if mask is True else as_map(mask).get(key)
            yield from sensitive_texts(item, inner, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            inner = True if mask is True else _at(as_list(mask), index)
            yield from sensitive_texts(item, inner, depth + 1)


_SIDES = ("before", "after")


def differences(change: Mapping[str, Any], redactor: Redactor) -> list[AttributeChange]:
    """Attributes that differ, in the order of their paths, fit to be shown.

    Args:
        change: `before`, `after`, `before_sensitive`, `after_sensitive` as in plan JSON.
        redactor: Knows the values that are marked sensitive anywhere in the plan.
    """
    mask = union(change.get("before_sensitive"), change.get("after_sensitive"))
    raw = [masked_keeping(change.get(side), mask) for side in _SIDES]
    shown = [clean_data(unfolded(masked(change.get(side), mask)), redactor) for side in _SIDES]
    found = _walk("", raw[0], raw[1], shown[0], shown[1], 0)
    return sorted(
        (
            AttributeChange(
                path=clean(path, redactor)[:200] or "(whole)",
                before=_text(before),
                after=_text(after),
            )
            for path, before, after in found
        ),
        key=lambda c: c.path,
    )


def masked_keeping(value: Any, mask: Any, depth: int = 0) -> Any:
    """The real value, shaped as `unfolded(masked(value))` is: only compared, never shown."""
    if _hidden(value, mask, depth):
        return _Opaque(value) if value is not None else None
    if isinstance(value, Mapping):
        inner = as_map(mask)
        return {k: masked_keeping(v, inner.get(k), depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        marks = as_list(mask)
        return [masked_keeping(v, _at(marks, i), depth + 1) for i, v in enumerate(value)]
    return unfolded(value, depth)


class _Opaque:
    """A sensitive value: it can be compared and says nothing."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opaque) and self._value == other._value

    def __hash__(self) -> int:
        return 0


def _walk(
    path: str, before: Any, after: Any, shown_before: Any, shown_after: Any, depth: int
) -> Iterator[tuple[str, Any, Any]]:
    if depth <= 2 * MAX_DEPTH and _same_or_none(before, after, dict):
        left, right = _pairs(before, shown_before), _pairs(after, shown_after)
        for key in {**left, **right}:
            (b, sb), (a, sa) = left.get(key, _ABSENT), right.get(key, _ABSENT)
            yield from _walk(f"{path}.{key}" if path else str(key), b, a, sb, sa, depth + 1)
    elif depth <= 2 * MAX_DEPTH and isinstance(before, list) and isinstance(after, list):
        for i in range(max(len(before), len(after))):
            yield from _walk(
                f"{path}[{i}]", _at(before, i), _at(after, i),
                _at(shown_before, i), _at(shown_after, i), depth + 1,
            )  # fmt: skip
    elif isinstance(before, bool) != isinstance(after, bool) or before != after:
        yield path, shown_before, shown_after


_ABSENT = (None, None)


def _same_or_none(before: Any, after: Any, kind: type) -> bool:
    return all(v is None or isinstance(v, kind) for v in (before, after)) and before is not after


def _pairs(value: Any, shown: Any) -> dict[str, tuple[Any, Any]]:
    """Values with their shown forms. Cleaning keeps order and number of keys, not their names."""
    if not value:
        return {}
    forms = list(shown.values()) if isinstance(shown, Mapping) else [shown] * len(value)
    return {k: (v, form) for (k, v), form in zip(value.items(), forms, strict=True)}


def _at(items: Any, index: int) -> Any:
    return items[index] if isinstance(items, list) and index < len(items) else None


def _text(value: Any) -> str | None:
    """A shown value as bounded text; encoded blobs only by their length: they may hold anything."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if _BASE64.fullmatch(text):
        return f"[{len(text)} encoded characters]"
    return cut_middle(text, MAX_VALUE_CHARS)
