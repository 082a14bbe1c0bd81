"""Takes secrets out of text and out of JSON-like data, by rule.

What is found becomes `[REDACTED:rule]`: the rule's name is evidence, the length is not kept. A
random value under an innocent name is not found by design, so an answer may say "redacted by
rule", never "free of secrets".
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from mcp_devops.text.rules import PASSWORD_NAME, RULES, SECRET_NAME, is_placeholder

MAX_DEPTH = 100
"""Levels of nesting that are followed; far beyond any manifest, far below Python's recursion
limit of 1000."""

TOO_DEEP = "[cut: nested too deep]"
"""Stands for what lies below `MAX_DEPTH`."""

MIN_KNOWN_CHARS = 6
"""Known values shorter than this are not searched for: they would occur in innocent words."""

MIN_KNOWN_BASE64_CHARS = 8
"""What `MIN_KNOWN_CHARS` become in base64."""

_MAX_PASSES = 8
_NAME_LIMIT = 200
_MARKERS = " ".join(
    f"[REDACTED:{name}]"
    for name in (*(rule.name for rule in RULES), "configured", "key", "arg", "secret")
)
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.-]{0,100})=(.+)", re.DOTALL)
_DOCKER_AUTH = frozenset({"auth", "identitytoken", "registrytoken"})


@dataclass(frozen=True, slots=True)
class Found:
    """Where a secret stands; never what it is."""

    kind: str
    """Name of the rule."""
    start: int
    """Offset of its first character."""
    end: int
    """Offset after its last character."""


class Redactor:
    """Takes out what the rules find, and the given values in every spelling logs use.

    Args:
        known: Secrets that are known by value, such as our own credentials. Plain, URL-quoted,
            JSON-, HTML- and repr-escaped, hex and base64 (also inside a longer base64 text) are
            masked. Shorter than `MIN_KNOWN_CHARS`: ignored.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        spellings = {
            form
            for value in known
            if len(value.strip()) >= MIN_KNOWN_CHARS
            for form in _spellings(value.strip())
            # A value that is part of a marker would be found again in what replaced it.
            if form not in _MARKERS
        }
        longest_first = sorted(spellings, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if spellings else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def text(self, text: str) -> str:
        """Replace every secret in a whole text by `[REDACTED:rule]`.

        Newlines inside a replaced key block stay behind it, so lines keep their numbers.
        Idempotent. Meant for texts up to 256 K characters, with escapes already stripped.
        """
        # A replacement can bring together what stood around it, so look again until nothing new.
        for _ in range(_MAX_PASSES):
            found = self.find(text)
            if not found:
                break
            text = _replaced(text, found)
        return text

    def find(self, text: str) -> list[Found]:
        """Where secrets stand in a text, in order, without overlap."""
        spans = [
            (start, end, rule.name) for rule in _candidates(text) for start, end in rule.spans(text)
        ]
        if self._known:
            spans += [(*match.span(), "configured") for match in self._known.finditer(text)]
        merged: list[Found] = []
        for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
            if merged and start < merged[-1].end:
                last = merged[-1]
                merged[-1] = Found(last.kind, last.start, max(last.end, end))
            else:
                merged.append(Found(kind, start, end))
        return merged

    def data(self, data: Any) -> Any:
        """Redact JSON-like data by its structure, and every string in it as text.

        Structure is: the key over a value, `name`/`value` pairs, flags in argument lists, pairs
        in header lists, the data of a Kubernetes Secret.

        Mappings become dicts, sequences and sets lists, other objects their `str`. Idempotent.
        """
        return self._data(data, "", 0)

    def _data(self, value: Any, key: str, depth: int) -> Any:
        if isinstance(value, str):
            return self._string(value, key)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return "[REDACTED:key]" if PASSWORD_NAME.search(_plain_name(key)) else value
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        if isinstance(value, Mapping):
            return self._mapping(value, key, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return list(self._items(list(value), key, depth))
        return self.text(str(value))

    def _string(self, value: str, key: str) -> str:
        masked_key = is_secret_name(key) or (key.lower() in _DOCKER_AUTH and len(value) >= 8)
        return _masked(value, "key") if masked_key else self.text(value)

    def _mapping(self, mapping: Mapping[Any, Any], key: str, depth: int) -> dict[str, Any]:
        plain = {str(name).lower(): item for name, item in mapping.items()}
        label = plain.get("name", plain.get("key"))
        pair = isinstance(label, str) and is_secret_name(label)
        secret = plain.get("kind") == "Secret"
        result: dict[str, Any] = {}
        for name, item in mapping.items():
            lower = str(name).lower()
            if pair and lower == "value" and isinstance(item, str | int | float):
                redacted: Any = _masked(str(item), "env")
            elif secret and lower in {"data", "stringdata"} and isinstance(item, Mapping):
                redacted = {
                    self.text(str(entry)): "[REDACTED:secret]" if content else content
                    for entry, content in item.items()
                }
            else:
                redacted = self._data(item, str(name), depth + 1)
            result[free_name(self.text(str(name)), result)] = redacted
        return result

    def _items(self, items: list[Any], key: str, depth: int) -> Iterator[Any]:
        before: Any = None
        for item in items:
            if isinstance(item, str) and not item.startswith("-") and _is_secret_flag(before):
                yield _masked(item, "arg")
            elif isinstance(item, str) and (named := _ASSIGNMENT.fullmatch(item)):
                yield f"{named[1]}={self.mask_value(named[1], named[2])}"
            elif _is_secret_pair(item):
                yield [item[0], _masked(item[1], "key")]
            else:
                yield self._data(item, key, depth + 1)
            before = item

    def mask_value(self, name: str, value: str) -> str:
        """The value of a named setting as it may be shown.

        Masked whole if the name says secret, otherwise redacted as text; empty values and
        placeholders stay.
        """
        return _masked(value, "env") if is_secret_name(name) else self.text(value)


@lru_cache(maxsize=4096)
def _plain_name(name: str) -> str:
    return _CAMEL_BOUNDARY.sub("_", name[-_NAME_LIMIT:]).replace(" ", "_").lower()


def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds a secret: `DB_PASSWORD`, `clientSecret`, `x-api-key`.

    Names of places where a secret is kept (`secretName`, `tokenFile`) are not.
    """
    return bool(name) and SECRET_NAME.search(_plain_name(name)) is not None


def redact(text: str) -> str:
    """Replace every secret that a rule finds in a text. See `Redactor.text`."""
    return DEFAULT.text(text)


def redact_data(data: Any) -> Any:
    """Redact JSON-like data by rule. See `Redactor.data`."""
    return DEFAULT.data(data)


def find_secrets(text: str) -> list[Found]:
    """Where the rules find secrets in a text, in order, without overlap."""
    return DEFAULT.find(text)


def mask_value(name: str, value: str) -> str:
    """The value of a named setting as it may be shown. See `Redactor.mask_value`."""
    return DEFAULT.mask_value(name, value)


def _candidates(text: str) -> Iterator[Any]:
    lower = text.lower()
    return (rule for rule in RULES if any(literal in lower for literal in rule.literals))


def _replaced(text: str, found: list[Found]) -> str:
    parts: list[str] = []
    position = 0
    for one in found:
        newlines = "\n" * text.count("\n", one.start, one.end)
        parts += (text[position : one.start], f"[REDACTED:{one.kind}]", newlines)
        position = one.end
    return "".join(parts) + text[position:]


def _masked(value: str, kind: str) -> str:
    return value if not value or is_placeholder(value) else f"[REDACTED:{kind}]"


def _is_secret_flag(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.startswith("-")
        and "=" not in value
        and is_secret_name(value.lstrip("-"))
    )


def _is_secret_pair(value: Any) -> bool:
    """Headers and tags as `[["Cookie", "a=b"], …]`."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
        and is_secret_name(value[0])
    )


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or the name with a number, where two keys became the same by redaction."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}#{number}", number + 1
    return free


def _spellings(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "replace")
    value = raw.decode()
    yield from (value, quote(value, safe=""), quote(value), quote_plus(value), html.escape(value))
    yield from (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    yield from (repr(value)[1:-1], raw.hex(), raw.hex().upper())
    for shift in range(3):
        # In a longer base64 text the value begins at one of three offsets; the characters at
        # both ends that also hold bits of the neighbours are left off.
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        shared_end = (shift + len(raw)) % 3 != 0
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - shared_end]
        if len(inner) >= MIN_KNOWN_BASE64_CHARS:
            yield inner
            yield inner.translate(str.maketrans("+/", "-_"))


DEFAULT = Redactor()
"""The rules alone, with no known values."""
