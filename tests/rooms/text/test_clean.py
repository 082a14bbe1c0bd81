"""The one pipeline."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.text.clean import MAX_TEXT_CHARS, clean, clean_data, clean_lines
from mcp_devops.text.secrets import MAX_DEPTH, Redactor

TOKEN = "ghp" + "_" + "Fa1" * 12


@pytest.mark.parametrize("split", ["\x1b[31m", "\u200b", "\x00", "\x1b[0m\x1b[1m"])
def test_a_secret_that_escapes_split_is_found(split: str) -> None:
    assert clean(f"got {TOKEN[:9]}{split}{TOKEN[9:]}") == "got [REDACTED:github]"


def test_known_values_are_taken_out() -> None:
    assert clean("it is sesame-open", Redactor(["sesame-open"])) == "it is [REDACTED:configured]"


@given(st.text(max_size=200))
def test_a_text_below_the_cap_keeps_its_lines(text: str) -> None:
    assert clean(text).count("\n") == text.count("\n")


def test_a_text_over_the_cap_keeps_its_newest_lines_and_says_so() -> None:
    text = "".join(f"line {number}\n" for number in range(60_000)) + "the end"
    shown = clean(text)
    first, second = shown.split("\n")[:2]
    assert first.startswith("[cut: ")
    assert second.startswith("line ")
    assert shown.endswith("the end")
    assert len(shown) <= MAX_TEXT_CHARS


@pytest.mark.parametrize("filler", ["word ", "x", "x,"])
def test_a_line_over_the_cap_keeps_its_end(filler: str) -> None:
    shown = clean(filler * MAX_TEXT_CHARS + " the end")
    assert shown.endswith(" the end")
    assert len(shown) <= MAX_TEXT_CHARS


def test_the_cap_leaves_no_half_of_a_secret() -> None:
    half = MAX_TEXT_CHARS - 100
    text = "x " * 1_000 + f"{TOKEN}," + "y," * (half // 2)
    assert TOKEN[-12:] not in clean(text)


def test_lines_are_cleaned_together_and_keep_their_numbers() -> None:
    head, end = "-----BEGIN " + "PRIVATE KEY-----", "-----END " + "PRIVATE KEY-----"
    lines = ["a", head, "Ab3/" * 16, end, "b\nc", "\x1b[1md"]
    assert clean_lines(lines) == (["a", "[REDACTED:private-key]", "", "", "b c", "d"], 0)


def test_lines_over_the_cap_lose_the_oldest() -> None:
    lines, cut = clean_lines(["x" * 1_000] * 400)
    assert len(lines) + cut == 400
    assert cut > 0


def test_one_line_over_the_cap_is_cut() -> None:
    lines, cut = clean_lines(["a", "x" * (MAX_TEXT_CHARS + 5) + " end"])
    assert cut == 1
    assert lines[0].endswith("end")
    assert len(lines[0]) <= MAX_TEXT_CHARS


def test_no_lines_are_no_lines() -> None:
    assert clean_lines([]) == ([], 0)


def test_data_is_stripped_and_redacted() -> None:
    data = {
        "log": f"\x1b[1m{TOKEN[:9]}\x1b[0m{TOKEN[9:]}",
        "pass\u200bword": "x",
        "ratio": math.nan,
        "half": 0.5,
        "list": ("a\x07", {1}),
        "other": ValueError("token=hunter2-x9"),
    }
    assert clean_data(data) == {
        "log": "[REDACTED:github]",
        "password": "[REDACTED:key]",
        "ratio": "nan",
        "half": 0.5,
        "list": ["a", [1]],
        "other": "token=[REDACTED:named]",
    }


def test_keys_that_become_the_same_all_stay() -> None:
    assert clean_data({"a\u200b": 1, "a": 2}) == {"a": 1, "a#2": 2}


def test_data_nested_without_end_is_cut() -> None:
    data: Any = "x"
    for _ in range(5_000):
        data = {"a": data}
    assert json.dumps(clean_data(data)).count("{") <= MAX_DEPTH
