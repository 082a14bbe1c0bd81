"""An image's history read: two builders' dialects, and the secrets that were baked in. Pure.

A secret given as ARG stands in its own entry and in every RUN after it, and in ENV it stands in the
configuration too; removing a file in a later layer removes nothing. What is found is told by kind
and place, never by value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_devops.model.record import Record
from mcp_devops.text.clean import MAX_TEXT_CHARS
from mcp_devops.text.escapes import strip_escapes
from mcp_devops.text.rules import is_placeholder
from mcp_devops.text.secrets import Redactor, is_secret_name

_NOP = re.compile(r"^/bin/sh -c #\(nop\)\s*")
_ASSIGNED = re.compile(r"(?:^|(?<=\s))([A-Za-z_][A-Za-z0-9_.]*)=")
_BUILD_ARGS = re.compile(
    r"^\|\d{1,4} (.*?)(?=/\S{1,200} {1,4}(?:-\S{1,20} {1,4}(?:\w{1,20} {1,4})?){0,3}-\S{0,10}c\s)",
    re.DOTALL,
)
_SHELL = re.compile(r"^/bin/sh -c ")
_OPERATION = re.compile(r"^[A-Z]+$")
_CONFIGURED = "[REDACTED:configured]"
_NAMED = "[REDACTED:named]"


class BakedSecret(Record):
    """A secret that everybody who can pull the image can read. Rotate it; rebuild without it."""

    kind: str
    """Rule that found it: named is a value under a name such as DB_PASSWORD."""
    place: str
    """Where it stands."""


@dataclass(frozen=True)
class Step:
    """One entry of a history, taken apart; raw: not redacted yet."""

    number: int
    """Counted from the newest, which is 1."""
    instruction: str
    """RUN, COPY, ENV, …; IMPORT for an imported root; ? where it cannot be told."""
    command: str
    """What follows the instruction, whole."""
    size: int
    """Bytes that it added."""
    created: int
    """Epoch seconds."""
    identity: str
    """Image id at that step; empty where the builder keeps none (`<missing>`)."""
    builder: str
    """legacy, buildkit or empty."""


def steps_of(history: Sequence[Mapping[str, Any]]) -> list[Step]:
    """The entries of the engine's answer, newest first."""
    return [_step(number, entry) for number, entry in enumerate(history, 1)]


def _step(number: int, entry: Mapping[str, Any]) -> Step:
    said = strip_escapes(str(entry.get("CreatedBy") or "")).strip()
    if len(said) > MAX_TEXT_CHARS:
        # Cut at a space, so that no half of a secret is left that no rule knows.
        said = said[:MAX_TEXT_CHARS].rpartition(" ")[0]
    comment = str(entry.get("Comment") or "")
    builder = "legacy"
    if _NOP.match(said):
        instruction, command = _split(_NOP.sub("", said))
    elif "buildkit" in comment or said.endswith("# buildkit"):
        builder = "buildkit"
        instruction, command = _split(said.removesuffix("# buildkit").rstrip())
    elif _SHELL.match(said):
        instruction, command = "RUN", _SHELL.sub("", said)
    elif said.startswith("|"):
        instruction, command = "RUN", said
    elif not said:
        instruction, command, builder = "IMPORT", strip_escapes(comment), ""
    else:
        instruction, command, builder = *_split(said), ""
    identity = str(entry.get("Id") or "")
    return Step(
        number=number,
        instruction=instruction,
        command=command,
        size=int(entry.get("Size") or 0),
        created=int(entry.get("Created") or 0),
        identity="" if identity == "<missing>" else identity,
        builder=builder,
    )


def _split(said: str) -> tuple[str, str]:
    word, _, rest = said.strip().partition(" ")
    return (word, rest.strip()) if _OPERATION.match(word) else ("?", said.strip())


def assignments(text: str) -> list[tuple[str, str]]:
    """NAME=value pairs of an ENV, ARG or LABEL, or of a RUN's build arguments.

    Both builders print them without quotes, so a value reaches to the next name or to the end.
    """
    found = list(_ASSIGNED.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [
        (match[1], text[match.end() : end].strip().strip("\"'"))
        for match, end in zip(found, ends, strict=True)
    ]


def _given(step: Step) -> list[tuple[str, str]]:
    if step.instruction in ("ENV", "ARG"):
        return assignments(step.command)
    if step.instruction == "RUN" and step.command.startswith("|"):
        match = _BUILD_ARGS.match(step.command)
        # Behind a shell that is not known the command counts as the last value: masked with it,
        # if that is a secret, rather than shown with a part of it.
        return assignments(match[1] if match else step.command)
    return []


def env_pairs(image: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment of an inspected image, in its order."""
    config = image.get("Config") or {}
    pairs = [str(entry).partition("=") for entry in config.get("Env") or ()]
    return [(name, value) for name, _, value in pairs]


class Bakery:
    """Knows the values that an image gives to names of secrets, and masks them everywhere in it.

    Rules alone miss the rest of a value with spaces, and a value that is repeated without its name.
    """

    def __init__(self, image: Mapping[str, Any], steps: Iterable[Step]) -> None:
        pairs = [*env_pairs(image), *(pair for step in steps for pair in _given(step))]
        known = {v for n, v in pairs if v and is_secret_name(n) and not is_placeholder(v)}
        self._redactor = Redactor(known)

    def shown(self, text: str) -> str:
        """The text without secrets."""
        return self._redactor.text(text).replace(_CONFIGURED, _NAMED)

    def kinds(self, text: str) -> list[str]:
        """The kinds of secrets in a text, each once."""
        found = (f.kind for f in self._redactor.find(text))
        return list(dict.fromkeys("named" if kind == "configured" else kind for kind in found))


def baked_secrets(
    image: Mapping[str, Any], steps: Sequence[Step], bakery: Bakery
) -> list[BakedSecret]:
    """All secrets in an image's history and configuration, newest history entry first."""
    return list(dict.fromkeys(_found(image, steps, bakery)))


def _found(
    image: Mapping[str, Any], steps: Sequence[Step], bakery: Bakery
) -> Iterator[BakedSecret]:
    # An ARG stands in every RUN after it: one line tells all of them.
    places: dict[tuple[str, str], list[int]] = {}
    for step in steps:
        for kind in bakery.kinds(f"{step.instruction} {step.command}"):
            places.setdefault((kind, step.instruction), []).append(step.number)
    for (kind, instruction), numbers in places.items():
        word = "entry" if len(numbers) == 1 else "entries"
        place = f"history {word} {_ranges(numbers)} of {len(steps)} ({instruction})"
        yield BakedSecret(kind=kind, place=place)
    for name, value in env_pairs(image):
        for kind in bakery.kinds(f"{name}={value}"):
            yield BakedSecret(kind=kind, place=f"environment variable {bakery.shown(name)}")
    config = image.get("Config") or {}
    for name, value in (config.get("Labels") or {}).items():
        for kind in bakery.kinds(f"{name}={value}"):
            yield BakedSecret(kind=kind, place=f"label {bakery.shown(str(name))}")
    for part in ("Entrypoint", "Cmd"):
        for kind in bakery.kinds(" ".join(map(str, config.get(part) or ()))):
            yield BakedSecret(kind=kind, place=f"the image's {part.lower()}")


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as people write them: `2, 5-8`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
