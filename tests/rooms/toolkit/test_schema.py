from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

import jsonschema  # type: ignore[import-untyped]  # ships no types
import pytest
from pydantic import Field

from mcp_devops.catalog import discover
from mcp_devops.model.record import Moment, Record
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.schema import TOLD, input_schema, output_schema
from mcp_devops.toolkit.spec import AnyTool


class Colour(StrEnum):
    """Colours of lamps."""

    RED = "red"
    BLUE = "blue"


class Bulb(Record):
    """A bulb: this text is about the type."""

    watts: int = Field(5, ge=1, le=100)
    """How strong."""
    colour: Colour = Colour.RED
    """Its light."""


class Lamp(Record):
    """Arguments of every shape."""

    name: str = Field(max_length=40, pattern="^[a-z]+$")
    """Which lamp."""
    dim: float | None = None
    """How dim; null: as it is."""
    colour: Colour | None = None
    """Its colour."""
    mode: Literal["steady", "blink"] = "steady"
    """How it shines."""
    main: Bulb
    """The main bulb."""
    spare: Bulb | None = None
    """The bulb in the drawer."""
    others: tuple[Bulb, ...] = ()
    """More bulbs."""
    tags: list[str] | None = None
    """Marks."""
    meta: dict[str, str] = Field(default_factory=dict)
    """Anything."""
    notes: dict[str, Bulb] = Field(default_factory=dict)
    """Bulbs by room."""
    either: int | str = 1
    """A number or a name."""
    since: Moment | None = None
    """From then on."""


class Shown(Answer):
    """What is told of a lamp."""

    bulb: Bulb
    """Its bulb."""
    bulbs: tuple[Bulb, ...] = ()
    """All bulbs."""
    names: tuple[str, ...] = ()
    """Names."""
    maybe: Bulb | None = None
    """Perhaps one."""
    seen: Moment
    """When."""
    colour: Colour = Colour.RED
    """Its light."""
    count: dict[str, int] = Field(default_factory=dict)
    """Numbers."""
    either: int | str = 1
    """Number or name."""


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema; names of properties are no keywords."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key, value in schema.items():
        if key == "properties":
            for one in value.values():
                yield from nodes(one)
        elif key == "anyOf":
            for one in value:
                yield from nodes(one)
        elif isinstance(value, dict):
            yield from nodes(value)


TOOLS: list[AnyTool] = [spec for i in discover() for spec in i.tools]
SCHEMAS = [
    input_schema(Lamp),
    output_schema(Shown),
    *(s.input_schema for s in TOOLS),
    *(s.output_schema for s in TOOLS),
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_no_schema_has_references_titles_null_branches_or_unknown_keywords(
    schema: dict[str, Any],
) -> None:
    for node in nodes(schema):
        assert set(node) <= TOLD
        assert node.get("type") != "null"
        assert {"type": "null"} not in node.get("anyOf", [])
        assert not ("default" in node and node["default"] is None)
    jsonschema.Draft202012Validator.check_schema(schema)


def test_an_optional_argument_is_shown_as_its_one_type_with_its_own_words() -> None:
    shown = input_schema(Lamp)["properties"]
    assert shown["dim"] == {"type": "number", "description": "How dim; null: as it is."}
    assert shown["since"] == {
        "type": "string",
        "format": "date-time",
        "description": "From then on.",
    }
    assert shown["tags"] == {
        "type": "array",
        "items": {"type": "string"},
        "description": "Marks.",
    }


def test_a_nested_record_stands_where_it_is_used_and_keeps_the_fields_words() -> None:
    shown = input_schema(Lamp)["properties"]
    bulb = {
        "watts": {
            "type": "integer",
            "default": 5,
            "minimum": 1,
            "maximum": 100,
            "description": "How strong.",
        },
        "colour": {
            "type": "string",
            "enum": ["red", "blue"],
            "default": "red",
            "description": "Its light.",
        },
    }
    assert shown["main"]["description"] == "The main bulb."
    assert shown["spare"]["description"] == "The bulb in the drawer."
    for found in (
        shown["main"],
        shown["spare"],
        shown["others"]["items"],
        shown["notes"]["additionalProperties"],
    ):
        assert found["properties"] == bulb
        assert found["additionalProperties"] is False


def test_choices_are_told_and_several_types_stay_several() -> None:
    shown = input_schema(Lamp)["properties"]
    assert shown["colour"]["enum"] == ["red", "blue"] and "anyOf" not in shown["colour"]
    assert shown["mode"]["enum"] == ["steady", "blink"]
    assert shown["either"]["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert shown["meta"]["additionalProperties"] == {"type": "string"}


def test_arguments_are_closed_and_say_which_are_required() -> None:
    schema = input_schema(Lamp)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name", "main"]
    assert "description" not in schema, "the tool's own description says what it is for"


def test_a_tool_without_arguments_still_has_an_object() -> None:
    class Nothing(Record):
        """No arguments."""

    assert input_schema(Nothing) == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_an_answers_schema_is_typed_at_the_top_and_plain_below() -> None:
    assert output_schema(Shown) == {
        "type": "object",
        "properties": {
            "headline": {"type": "string"},
            "bulb": {"type": "object"},
            "bulbs": {"type": "array"},
            "names": {"type": "array", "items": {"type": "string"}},
            "maybe": {"type": "object"},
            "seen": {"type": "string", "format": "date-time"},
            "colour": {"type": "string"},
            "count": {"type": "object"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        },
        "required": ["headline", "bulb", "seen"],
    }


def test_an_answer_conforms_to_its_schema_with_and_without_what_is_at_its_default() -> None:
    seen = datetime(2026, 3, 1, tzinfo=UTC)
    for answer in (
        Shown(headline="x", bulb=Bulb(), seen=seen),
        Shown(
            headline="x", bulb=Bulb(watts=9), seen=seen, bulbs=(Bulb(),), maybe=Bulb(), either="a"
        ),
    ):
        data = json.loads(answer.model_dump_json(exclude_defaults=True))
        jsonschema.validate(data, output_schema(Shown))
