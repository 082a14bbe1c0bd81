"""What is cut fits, and the newest survives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_devops.text.budget import (
    HARD_LIMIT_CHARS,
    MIN_SHRINK_CHARS,
    NOTES_LIMIT_CHARS,
    SOFT_LIMIT_CHARS,
    Keep,
    compact_json,
    cut_end,
    cut_middle,
    cut_start,
    estimate_tokens,
    keep_newest,
    shrink,
)


@pytest.mark.parametrize("cut", [cut_start, cut_middle, cut_end])
@given(text=st.text(max_size=300), limit=st.integers(0, 320))
def test_a_cut_text_never_exceeds_its_limit(cut: Any, text: str, limit: int) -> None:
    shown = cut(text, limit)
    assert len(shown) <= limit
    if len(text) <= limit:
        assert shown == text


def test_cuts_keep_their_ends_and_say_how_much_is_gone() -> None:
    text = "first " + "x" * 1_000 + " last"
    assert cut_start(text, 100).endswith(" last")
    assert cut_end(text, 100).startswith("first ")
    middle = cut_middle(text, 100)
    assert middle.startswith("first ")
    assert middle.endswith(" last")
    for shown in (cut_start(text, 100), cut_end(text, 100), middle):
        assert "911+ characters cut" in shown


@given(st.lists(st.text(alphabet="abc ", max_size=20), max_size=30), st.integers(0, 200))
def test_the_newest_lines_are_kept_within_the_limit(lines: list[str], limit: int) -> None:
    kept, dropped = keep_newest(lines, limit)
    assert sum(len(line) + 1 for line in kept) <= limit
    assert len(kept) + dropped == len(lines)
    if kept and kept[0] in lines:
        assert lines[len(lines) - len(kept) :] == kept


def test_a_newest_line_that_is_too_long_keeps_its_end() -> None:
    kept, dropped = keep_newest(["old", "x" * 100 + "end"], 20)
    assert kept[0].endswith("end")
    assert dropped == 1


def test_tokens_are_estimated_on_the_large_side() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("x" * 35) == 10
    assert estimate_tokens("x" * SOFT_LIMIT_CHARS) == 10_000
    assert SOFT_LIMIT_CHARS < HARD_LIMIT_CHARS


def test_what_fits_comes_back_equal() -> None:
    data = {"a": [1, {"b": "c"}], "d": None}
    assert shrink(data) == (data, [])


def test_a_long_log_loses_its_beginning() -> None:
    data = {"title": "t", "log": "old\n" * 50_000 + "the end", "n": 1}
    shown, notes = shrink(data, 5_000)
    assert shown["title"] == "t"
    assert shown["n"] == 1
    assert shown["log"].endswith("the end")
    (note,) = notes
    assert note.startswith("log: the last ")
    assert "200,007 characters" in note


@pytest.mark.parametrize(("keep", "index", "value"), [(Keep.LAST, -1, 9_999), (Keep.FIRST, 0, 0)])
def test_a_long_list_keeps_the_end_that_was_asked_for(keep: Keep, index: int, value: int) -> None:
    shown, notes = shrink({"items": list(range(10_000))}, 1_000, keep=keep)
    assert shown["items"][index] == value
    assert notes == [f"items: the {keep} {len(shown['items'])} of 10,000 items kept"]


def test_a_table_loses_rows_and_a_record_keeps_its_fields() -> None:
    data = {"rows": {f"k{n}": "v" * 20 for n in range(5_000)}, "a": 1}
    shown, notes = shrink(data, 4_000)
    assert shown["a"] == 1
    assert 0 < len(shown["rows"]) < 5_000
    assert "of 5,000 keys kept" in notes[0]


def test_what_cannot_be_cut_is_left_out_largest_first() -> None:
    data = {"huge": {f"{n}": list(range(n)) for n in range(49)}, "small": 1}
    shown, notes = shrink(data, MIN_SHRINK_CHARS)
    assert shown == {"small": 1}
    assert any(note.startswith("huge: left out, ") for note in notes)


def test_the_same_place_in_many_items_is_one_note() -> None:
    data = {"pods": [{"log": "x" * 50_000} for _ in range(5)]}
    _, notes = shrink(data, 10_000)
    assert len(notes) == 1
    assert notes[0].startswith("pods[].log: ")


def test_notes_are_bounded() -> None:
    data = {f"key number {n}": "x" * 5_000 + "y" * n for n in range(50)}
    _, notes = shrink(data, 20_000)
    assert sum(map(len, notes)) <= NOTES_LIMIT_CHARS
    assert notes[-1].endswith(" more places cut")


def test_data_nested_without_end_is_cut() -> None:
    inner: Any = "x"
    for _ in range(5_000):
        inner = [inner]
    shown, notes = shrink({"a": inner, "b": (1, 2)})
    assert len(compact_json(shown)) < 1_000
    assert "deeper" in notes[0]


def test_a_limit_with_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="below"):
        shrink({}, MIN_SHRINK_CHARS - 1)


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=60),
        st.integers(0, 900).map(lambda size: "x" * size),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=12), st.dictionaries(st.text(max_size=30), inner, max_size=8)
    ),
    max_leaves=30,
)


@settings(max_examples=150)
@given(
    st.dictionaries(st.text(max_size=40), JSON, max_size=8),
    st.integers(MIN_SHRINK_CHARS, 3_000),
    st.sampled_from(Keep),
)
def test_shrunk_data_never_exceeds_its_limit(data: dict[str, Any], limit: int, keep: Keep) -> None:
    shown, notes = shrink(data, limit, keep=keep)
    assert len(json.dumps(shown, separators=(",", ":"), ensure_ascii=False)) <= limit
    assert sum(map(len, notes)) <= NOTES_LIMIT_CHARS
    assert (shown == data) or notes
