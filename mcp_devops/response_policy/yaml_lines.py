"""Reads YAML into plain data that remembers its lines, within bounds.

Values are read by the core schema of YAML 1.2: `22:00`, `no` and `on` are text, not 1320 and two
booleans. Nothing is constructed: tags are refused, so are merge keys and repeated keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MAX_DEPTH = 12
"""Levels of nesting; a policy needs six."""
MAX_NODES = 20_000
"""Values after aliases are written out; some hundred scopes have a few thousand."""
MAX_SCALAR_CHARS = 1_000
"""Characters of one key or value."""
MAX_PROBLEMS = 50
"""Problems that are listed; who has more has the wrong file."""

Path = tuple[str | int, ...]

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class Place(NamedTuple):
    """Where something stands, counted from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """What is wrong at a place."""

    place: Place
    says: str


@dataclass
class Read:
    """A document as plain data, with the place of every key and list item."""

    data: Any = None
    """Dictionaries, lists, text, numbers, booleans, None."""
    places: dict[Path, Place] = field(default_factory=dict)
    """Where the key of an entry, or an item, stands; `()`: the document's first value."""
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with it as YAML; then `data` is not to be trusted."""

    def place(self, path: Path) -> Place:
        """The place of a path, or of the nearest thing around it that has one."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(1, 1))


class _Stop(Exception):
    """Ends the reading; what is wrong is on the list."""


def read_yaml(text: str) -> Read:
    """Read one YAML document.

    Args:
        text: Its text; the caller has bounded its size.
    """
    import yaml

    read = Read()
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text.encode()
        _Reader(read, yaml.parse(text, Loader=loader)).document()
    except _Stop:
        pass
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        said = " ".join(filter(None, (wrong.problem, wrong.context)))
        if mark is not None and text[mark.index : mark.index + 1] == "\t":
            said = "a tab stands here; indent with spaces"
        read.problems.append(Problem(_place(mark), f"This is not YAML: {said}."))
    except (yaml.YAMLError, UnicodeEncodeError) as wrong:
        at = getattr(wrong, "position", getattr(wrong, "start", 0))
        line = text.count("\n", 0, at) + 1
        column = at - (text.rfind("\n", 0, at) + 1) + 1
        read.problems.append(
            Problem(Place(line, column), "A control character does not belong into YAML.")
        )
    return read


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)


class _Reader:
    """Turns a stream of events into data; one per document."""

    def __init__(self, read: Read, events: Iterator[Any]) -> None:
        self._read = read
        self._events = events
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0

    def document(self) -> None:
        started = False
        for event in self._events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                if started:
                    self._problem(event, "Only one document a file is read.", stop=True)
                started = True
            elif kind not in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"):
                self._read.places[()] = _place(event.start_mark)
                self._read.data = self._value(event, (), 0)

    def _value(self, event: Any, path: Path, depth: int) -> Any:
        if depth > MAX_DEPTH:
            self._problem(event, f"Nested deeper than {MAX_DEPTH} levels.", stop=True)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event)
        before = self._nodes
        self._count(event, 1)
        if event.tag not in (None, "!"):
            self._problem(event, f"Tags such as {event.tag[:60]!r} are not read; write the value.")
        if kind == "ScalarEvent":
            found: Any = self._scalar(event)
        elif kind == "SequenceStartEvent":
            found = self._sequence(path, depth)
        else:
            found = self._mapping(path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (found, self._nodes - before)
        return found

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            self._problem(event, f"*{event.anchor[:60]} names no anchor above it.")
            return None
        found, size = self._anchors[event.anchor]
        self._count(event, size)
        return found

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if len(text) > MAX_SCALAR_CHARS:
            self._problem(event, f"Longer than {MAX_SCALAR_CHARS} characters.")
            return ""
        return _resolved(text) if event.implicit[0] else text

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        found: list[Any] = []
        for event in self._events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            here = (*path, len(found))
            self._read.places[here] = _place(event.start_mark)
            found.append(self._value(event, here, depth + 1))
        return found

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self._events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key = self._key(event, depth)
            here = (*path, key)
            if key in found:
                first = self._read.places[here].line
                self._problem(event, f"{key!r} stands here twice; first on line {first}.")
                here = (*path, f"{key} ")
            elif key == "<<":
                self._problem(
                    event, "Merge keys (<<) are not read; put what scopes share into `defaults`."
                )
            self._read.places[here] = _place(event.start_mark)
            value = self._value(next(self._events), here, depth + 1)
            found.setdefault(key, value)
        return found

    def _key(self, event: Any, depth: int) -> str:
        self._count(event, 1)
        if type(event).__name__ != "ScalarEvent":
            self._problem(event, "A key is one word, not a list, a mapping or an alias.", stop=True)
        key: str = event.value
        if len(key) > MAX_SCALAR_CHARS:
            self._problem(event, f"A key is not longer than {MAX_SCALAR_CHARS} characters.")
        return key[:MAX_SCALAR_CHARS]

    def _count(self, event: Any, size: int) -> None:
        self._nodes += size
        if self._nodes > MAX_NODES:
            self._problem(event, f"More than {MAX_NODES:,} values, aliases written out.", stop=True)

    def _problem(self, event: Any, says: str, *, stop: bool = False) -> None:
        self._read.problems.append(Problem(_place(event.start_mark), says))
        if stop or len(self._read.problems) >= MAX_PROBLEMS:
            raise _Stop


def _resolved(text: str) -> Any:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
