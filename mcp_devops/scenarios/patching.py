"""Patches as an API server applies them: JSON Patch (RFC 6902) and merge patch (RFC 7386). Pure."""

from __future__ import annotations

import copy
from typing import Any

Json = dict[str, Any]


class BadPatch(ValueError):
    """The patch cannot be applied."""


class Stale(ValueError):
    """It was made for another version of the object, or for another object."""


def patched(thing: Json, patch: Any, content_type: str) -> Json:
    """The object after a patch; the object itself is left alone.

    A strategic merge patch is read as a merge patch with `$patch: replace`: enough for templates.

    Raises:
        BadPatch: It cannot be applied.
        Stale: Its resourceVersion or uid is not the object's.
    """
    if content_type == "application/json-patch+json":
        result = _operations(copy.deepcopy(thing), patch)
    elif content_type in (
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ):
        result = merged(thing, patch)
    else:
        raise BadPatch(f"the media type {content_type!r} is no patch")
    for key in ("resourceVersion", "uid"):
        if result["metadata"].get(key) != thing["metadata"].get(key):
            raise Stale(key)
    return result


def merged(old: Any, patch: Any) -> Any:
    """A merge patch applied."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    replaces = patch.get("$patch") == "replace" or not isinstance(old, dict)
    result = {} if replaces else copy.deepcopy(old)
    for key, value in patch.items():
        if key == "$patch":
            continue
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _operations(thing: Json, patch: Any) -> Json:
    if not isinstance(patch, list):
        raise BadPatch("a JSON Patch is a list of operations")
    for operation in patch:
        try:
            _apply(thing, operation)
        except BadPatch:
            raise
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as problem:
            raise BadPatch(f"operation {operation!r:.200} does not apply") from problem
    return thing


def _apply(thing: Json, operation: Json) -> None:
    *way, last = [
        p.replace("~1", "/").replace("~0", "~") for p in operation["path"].lstrip("/").split("/")
    ]
    place: Any = thing
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    key: Any = last
    if isinstance(place, list):
        key = len(place) if last == "-" else int(last)
    kind = operation["op"]
    if kind == "test":
        if place[key] != operation["value"]:
            raise BadPatch(f"the test of {operation['path']} does not hold")
    elif kind not in ("add", "remove", "replace"):
        raise BadPatch(f"the operation {kind!r} is not known here")
    else:
        if kind != "add":
            # What is removed or replaced must be there.
            place.pop(key)
        if kind != "remove" and isinstance(place, list):
            place.insert(key, operation["value"])
        elif kind != "remove":
            place[key] = operation["value"]
