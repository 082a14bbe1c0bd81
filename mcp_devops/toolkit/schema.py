"""JSON schemas small enough to be paid for in every session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from mcp_devops.model.record import Record

TOLD = frozenset(
    {
        *("type", "description", "enum", "const", "default", "minimum", "maximum", "format"),
        *("items", "properties", "required", "additionalProperties", "anyOf"),
    }
)
"""Keywords that help a caller. The rest (patterns, lengths, titles) is checked, not told: an
answer to a wrong argument names the rule, and every byte here is paid for in every session."""


def input_schema(model: type[Record]) -> dict[str, Any]:
    """Schema of the arguments: references resolved, generated titles and null branches dropped.

    Some clients refuse or drop combinators, so an optional argument is shown as its one type.
    """
    raw = model.model_json_schema(mode="validation")
    schema = _inline(raw, raw.get("$defs", {}), depth=12)
    schema.setdefault("properties", {})
    schema.pop("description", None)
    return schema


def output_schema(model: type[Record]) -> dict[str, Any]:
    """Schema of the answer: typed at the top level, plain objects below, no descriptions.

    Every answer conforms to it; the whole nested form would cost more bytes than all inputs.
    """

    class TopOnly(GenerateJsonSchema):
        """Does not descend: the nested form takes 50 ms of every start, and none of it is told."""

        def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
            return super().model_schema(schema) if schema["cls"] is model else {"type": "object"}

    raw = model.model_json_schema(mode="serialization", schema_generator=TopOnly)
    schema = _inline(raw, raw.get("$defs", {}), depth=1)
    properties = {k: _undescribed(v) for k, v in schema.get("properties", {}).items()}
    return {
        "type": "object",
        "properties": properties,
        "required": [k for k in schema.get("required", []) if k in properties],
    }


def _undescribed(schema: Any) -> Any:
    """The types of a field: what a program needs to read it."""
    if not isinstance(schema, Mapping):
        return schema
    kept = {k: schema[k] for k in ("type", "anyOf", "format") if k in schema}
    inner = schema.get("items", {}).get("type", "object")
    if "items" in schema and inner != "object":
        kept["items"] = {"type": inner}
    return kept


def _inline(schema: Mapping[str, Any], defs: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Resolve references down to `depth` levels of objects; deeper ones become plain objects."""
    if "$ref" in schema:
        target = defs[schema["$ref"].rsplit("/", 1)[-1]]
        rest = {k: v for k, v in schema.items() if k not in ("$ref", "title")}
        resolved = _inline(target, defs, depth)
        # The description of a referenced type is about the type; the field's own says more.
        resolved.pop("description", None)
        return {**resolved, **rest}
    if "anyOf" in schema:
        options = [o for o in schema["anyOf"] if o.get("type") != "null"]
        rest = {k: v for k, v in schema.items() if k not in ("anyOf", "title")}
        if rest.get("default", 0) is None:
            rest.pop("default")
        if len(options) == 1:
            return {**_inline(options[0], defs, depth), **rest}
        return {"anyOf": [_inline(o, defs, depth) for o in options], **rest}
    if schema.get("type") == "object" and "properties" in schema and depth <= 0:
        return {"type": "object"}
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key not in TOLD:
            continue
        if key == "properties":
            out[key] = {name: _inline(v, defs, depth - 1) for name, v in value.items()}
        elif isinstance(value, Mapping) and key in ("items", "additionalProperties"):
            out[key] = _inline(value, defs, depth)
        else:
            out[key] = value
    return out
