"""Label and field selectors, as list and watch take them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def chosen(thing: Json, query: Mapping[str, str]) -> bool:
    """Whether label and field selectors fit an object."""
    labels = thing["metadata"].get("labels") or {}
    return all(
        _label_fits(labels, part) for part in _parts(query.get("labelSelector", ""))
    ) and all(_field_fits(thing, part) for part in _parts(query.get("fieldSelector", "")))


def _parts(selector: str) -> list[str]:
    """A selector's requirements; commas inside parentheses do not part them."""
    return [p.strip() for p in re.split(r",(?![^()]*\))", selector) if p.strip()]


def _label_fits(labels: Mapping[str, str], part: str) -> bool:
    if match := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", part):
        values = [v.strip() for v in match[3].split(",")]
        return (labels.get(match[1]) in values) == (match[2] == "in")
    if match := re.fullmatch(r"([^=!\s]+)\s*(==?|!=)\s*(\S*)", part):
        return (labels.get(match[1]) == match[3]) == (match[2] != "!=")
    return (part.removeprefix("!") in labels) != part.startswith("!")


def _field_fits(thing: Json, part: str) -> bool:
    path, sign, wanted = re.split(r"(!=|==?)", part, maxsplit=1)
    found: Any = thing
    for step in path.strip().split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return (str(found if found is not None else "") == wanted.strip()) == (sign != "!=")
