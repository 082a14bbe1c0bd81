"""The base of what tools return: typed data, and a text for people beside it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from mcp_devops.model.record import Record


class ResponseFormat(StrEnum):
    """How much a tool says."""

    CONCISE = "concise"
    DETAILED = "detailed"


class Answer(Record):
    """What a tool returns. Fields at their default are left out on the wire."""

    headline: str
    """The answer in one sentence."""

    def text(self) -> str:
        """The readable form; tools whose answer is a table or a log say it in their own way."""
        return render(self.model_dump(mode="json", exclude_defaults=True))


def render(data: Mapping[str, Any], indent: str = "") -> str:
    """Show nested data as indented text: scalars on a line, lists of records as blocks."""
    lines: list[str] = []
    for key, value in data.items():
        if key == "headline" and not indent:
            lines.append(str(value))
        elif isinstance(value, Mapping):
            lines += [f"{indent}{key}:", render(value, indent + "  ")]
        elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
            lines.append(f"{indent}{key}:")
            lines += [_item(v, indent) for v in value]
        elif isinstance(value, list):
            lines.append(f"{indent}{key}: {', '.join(map(str, value))}")
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)


def _item(value: Any, indent: str) -> str:
    if not isinstance(value, Mapping):
        return f"{indent}- {value}"
    flat = all(not isinstance(v, Mapping | list) for v in value.values())
    if flat:
        return f"{indent}- " + ", ".join(f"{k}={v}" for k, v in value.items())
    body = render(value, indent + "  ").split("\n")
    return "\n".join([f"{indent}- {body[0].strip()}", *body[1:]])
