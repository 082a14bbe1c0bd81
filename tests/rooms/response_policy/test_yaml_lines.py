from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mcp_devops.response_policy.yaml_lines import MAX_NODES, Place, Problem, read_yaml


def only(text: str) -> Problem:
    (found,) = read_yaml(text).problems
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:00", "22:00"),
        ("no", "no"),
        ("on", "on"),
        ("2026-03-01", "2026-03-01"),
        ("0x10", "0x10"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("007", 7),
        ("-3", -3),
        ("1.5", 1.5),
        (".5e1", 5.0),
        ("1e999", "1e999"),
        (".nan", ".nan"),
        ("'12'", "12"),
        ('"true"', "true"),
    ],
)
def test_values_are_read_by_the_core_schema_and_times_stay_text(text: str, value: Any) -> None:
    assert read_yaml(f"a: {text}\n").data == {"a": value}


def test_every_key_and_item_knows_its_place() -> None:
    read = read_yaml("a:\n  b: [x,\n    {c: 1}]\n")
    assert read.place(("a", "b")) == Place(2, 3)
    assert read.place(("a", "b", 1, "c")) == Place(3, 6)
    assert read.place(("a", "nothing", "there")) == Place(1, 1), "the nearest thing around it"


@given(
    some.recursive(
        some.none()
        | some.booleans()
        | some.integers(-(10**17), 10**17)
        | some.text(some.characters(min_codepoint=32, max_codepoint=126), max_size=20),
        lambda inner: (
            some.lists(inner, max_size=4)
            | some.dictionaries(
                some.text(some.characters(min_codepoint=97, max_codepoint=122), max_size=5),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
@settings(deadline=None)
def test_json_is_read_as_what_it_means(value: Any) -> None:
    read = read_yaml(json.dumps({"value": value}))
    if not read.problems:
        assert read.data == {"value": value}
    else:
        assert all("Nested deeper" in p.says for p in read.problems)


@given(some.text(max_size=200) | some.text("ab:-&*!|>[]{}<?\"'\n \t#%", max_size=60))
@settings(deadline=None, max_examples=300)
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    read = read_yaml(text)
    assert all(p.place.line >= 1 and p.place.column >= 1 and p.says for p in read.problems)


def test_a_repeated_key_is_refused_with_both_lines() -> None:
    found = only("a: 1\nb: 2\na: {x: 3}\n")
    assert found.place == Place(3, 1)
    assert "'a'" in found.says and "line 1" in found.says


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: [1,\n", 2, "not YAML"),
        ("a: b: c\n", 1, "not YAML"),
        ("ok: 1\nx: \x07\n", 2, "control character"),
        ("x: \ud800\n", 1, "control character"),
        ("a: 1\n---\nb: 2\n", 2, "one document"),
        ("a: !!python/object/apply:os.system [x]\n", 1, "Tags"),
        ("a: *nowhere\n", 1, "no anchor"),
        ("base: &b {x: 1}\na:\n  <<: *b\n", 3, "Merge keys"),
        ("? [a, b]\n: 1\n", 1, "A key is one word"),
        ("a: " + "[" * 50_000, 1, "Nested deeper"),
        ("a: " + "x" * 1001, 1, "Longer than"),
        ("x" * 1001 + ": 1\n", 1, "not longer"),
        ("a: &a [*a]\n", 1, "no anchor"),
    ],
)
def test_what_a_policy_does_not_need_is_refused_where_it_stands(
    text: str, line: int, says: str
) -> None:
    found = read_yaml(text).problems[0]
    assert (found.place.line, says in found.says) == (line, True), found


def test_an_anchor_may_be_used_again() -> None:
    assert read_yaml("a: &x [1, {b: c}]\nd: *x\n").data["d"] == [1, {"b": "c"}]


def test_aliases_cannot_grow_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    found = only("\n".join(lines))
    assert f"{MAX_NODES:,}" in found.says
    assert found.place.line == 5, "where it gets too large"


def test_endless_problems_are_listed_up_to_a_bound() -> None:
    assert len(read_yaml("".join(f"k{n}: !t x\n" for n in range(500))).problems) == 50
