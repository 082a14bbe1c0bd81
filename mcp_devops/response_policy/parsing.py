"""Text of a policy file in, policy or problems out: each with its line and what is valid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mcp_devops.decision.policy import Policy
from mcp_devops.model.record import Record
from mcp_devops.response_policy.policy import (
    THRESHOLD_GROUPS,
    Document,
    ResponsePolicy,
    thresholds_over,
)
from mcp_devops.response_policy.yaml_lines import (
    MAX_PROBLEMS,
    Path,
    Place,
    Problem,
    Read,
    read_yaml,
)

MAX_BYTES = 262_144
"""Bytes of a policy file: 256 K; a thousand scopes take about 150 K."""

SHOWN_CHARS = 60
"""Characters of a key that a message repeats; values are not repeated, one may be a secret."""


class Rejected(Record):
    """A file that is not a valid policy."""

    problems: tuple[str, ...]
    """`file:line:column: what is wrong, what is valid`, in the order of the file."""


def parse_policy(
    content: bytes, origin: str, base: Policy | None = None
) -> ResponsePolicy | Rejected:
    """Read and check a policy file.

    Args:
        content: Its bytes.
        origin: What to call it in messages.
        base: The server's decision policy, over which thresholds are laid.

    Returns:
        The policy, or everything that is wrong with it.
    """
    base = base or Policy()
    found: list[Problem] = []
    read = Read()
    document: Document | None = None
    try:
        if len(content) > MAX_BYTES:
            raise ValueError(f"The file has more than {MAX_BYTES:,} bytes.")
        read = read_yaml(content.decode("utf-8-sig"))
        found += read.problems
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        found.append(Problem(Place(line, 1), "The file is not UTF-8 text."))
    except ValueError as problem:
        found.append(Problem(Place(1, 1), str(problem)))
    if not found:
        document = _document(read, found)
    if document is not None:
        found += _threshold_problems(document, read, base)
        found += _shadowed(document, read)
    if found or document is None:
        listed = sorted(set(found))[:MAX_PROBLEMS]
        return Rejected(
            problems=tuple(f"{origin}:{at.line}:{at.column}: {says}" for at, says in listed)
        )
    scopes = range(len(document.scopes))
    return ResponsePolicy(
        version=hashlib.sha256(content).hexdigest()[:12],
        origin=origin,
        document=document,
        scope_lines=tuple(read.place(("scopes", n)).line for n in scopes),
        defaults_line=read.places[("defaults",)].line if ("defaults",) in read.places else None,
        base=base,
    )


def _document(read: Read, found: list[Problem]) -> Document | None:
    if not isinstance(read.data, dict):
        says = "The file is empty" if read.data is None else "The file is not a mapping"
        found.append(Problem(read.place(()), f"{says}; {_valid(Document)}."))
        return None
    try:
        # As JSON, because strict JSON mode takes a list for a tuple and still no "1" for 1.
        return Document.model_validate_json(json.dumps(read.data), strict=True)
    except ValidationError as wrong:
        found += _explained(wrong, Document, read)
        return None


def _explained(
    wrong: ValidationError, model: type[BaseModel], read: Read, prefix: Path = ()
) -> Iterable[Problem]:
    errors = wrong.errors(include_url=False)
    for error in errors:
        path: Path = (*prefix, *error["loc"])
        depth = len(error["loc"])
        if error["type"] == "too_short" and any(
            len(other["loc"]) > depth and other["loc"][:depth] == error["loc"] for other in errors
        ):
            continue  # it is short of the items that are told to be wrong
        yield Problem(read.place(path), _says(error, model, path, len(prefix)))


def _says(error: Mapping[str, Any], model: type[BaseModel], path: Path, skip: int) -> str:
    kind, where = error["type"], _dotted(path)
    inside = _model_at(model, path[skip:-1]) if len(path) > skip else None
    if kind == "extra_forbidden" and inside is not None:
        near = _near(path[-1], _keys(inside))
        return f"There is no key {_dotted(path)}.{near} V{_valid(inside)[1:]}."
    if kind == "missing" and inside is not None:
        return f"The key {where} is missing; {_valid(inside)}."
    if kind in ("enum", "literal_error"):
        expected = str(error.get("ctx", {}).get("expected", ""))
        choices = [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
        return f"{where}: Write {expected}.{_near(error.get('input'), choices)}"
    here = _model_at(model, path[skip:])
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        valid = f"; {_valid(here)}" if here is not None else ""
        return f"{where}: A mapping belongs here{valid}."
    said = str(error["msg"])
    if kind == "bool_type":
        said = "Write true or false"
    elif kind == "string_type":
        said = "Write text; put numbers and the like in quotes"
    elif kind == "tuple_type":
        said = "Write a list, such as [a, b]"
    elif kind == "too_short":
        said = "The list is empty; write at least one entry or leave the key out"
    elif kind == "value_error":
        said = said.removeprefix("Value error, ")
        said = said[:1].upper() + said[1:]
    return f"{where}: {said}."


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part[:SHOWN_CHARS]}"
    return text.lstrip(".") or "(the file)"


def _near(given: object, known: Iterable[str]) -> str:
    if not isinstance(given, str):
        return ""
    near = get_close_matches(given[:SHOWN_CHARS], list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _valid(model: type[BaseModel]) -> str:
    return f"valid here: {', '.join(_keys(model))}"


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model that stands at a path, going through lists and optional values."""
    here: type[BaseModel] | None = model
    for part in path:
        if here is None:
            return None
        if isinstance(part, int):
            continue
        by_key = {info.alias or name: info for name, info in here.model_fields.items()}
        here = _model_in(by_key[part].annotation) if part in by_key else None
    return here


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for arg in get_args(annotation) if (m := _model_in(arg)) is not None), None)


def _threshold_problems(document: Document, read: Read, base: Policy) -> Iterable[Problem]:
    least = base.limits.automatic_confidence
    defaults = document.defaults.thresholds
    parts: list[tuple[Path, dict[str, dict[str, float | None]]]] = [(("defaults",), defaults)]
    parts += [(("scopes", n), scope.thresholds) for n, scope in enumerate(document.scopes)]
    for path, thresholds in parts:
        path = (*path, "thresholds")
        yield from _group_problems(thresholds, path, read)
        allowed = {g: numbers for g, numbers in thresholds.items() if g in THRESHOLD_GROUPS}
        try:
            Policy.model_validate_json(json.dumps(thresholds_over(base, allowed)), strict=True)
        except ValidationError as wrong:
            yield from _explained(wrong, Policy, read, path)
        given = thresholds.get("limits", {}).get("automatic_confidence")
        if given is not None and given < least:
            yield Problem(
                read.place((*path, "limits", "automatic_confidence")),
                f"{_dotted((*path, 'limits', 'automatic_confidence'))}: It may only be raised;"
                f" valid here: {least:g} to 0.999.",
            )
        if path[0] == "defaults" and given is not None:
            least = max(least, given)


def _group_problems(thresholds: Mapping[str, Any], path: Path, read: Read) -> Iterable[Problem]:
    for group, numbers in thresholds.items():
        here = (*path, group)
        if group not in THRESHOLD_GROUPS:
            why = " is set in the server's policy file only." if group in Policy.model_fields else (
                f" does not exist.{_near(group, THRESHOLD_GROUPS)}"
            )  # fmt: skip
            valid = ", ".join(THRESHOLD_GROUPS)
            yield Problem(read.place(here), f"The group {_dotted(here)}{why} Valid here: {valid}.")
        elif group == "limits":
            yield from (
                Problem(
                    read.place((*here, name)),
                    f"{_dotted((*here, name))} cannot be set here;"
                    f" valid here: automatic_confidence.",
                )
                for name in numbers
                if name != "automatic_confidence"
            )


def _shadowed(document: Document, read: Read) -> Iterable[Problem]:
    """Scopes that can never apply: whoever wrote them believes they do."""
    for n, scope in enumerate(document.scopes):
        above = next((m for m in range(n) if document.scopes[m].match.covers(scope.match)), None)
        if above is not None:
            line = read.place(("scopes", above)).line
            yield Problem(
                read.place(("scopes", n)),
                f"Scope {n + 1} never applies: scope {above + 1} on line {line} matches all of it,"
                " and the first match applies. Put the narrower scope first.",
            )
