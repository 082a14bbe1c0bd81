from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import InvalidArguments
from mcp_devops.model.record import Record
from mcp_devops.toolkit.paging import decode_cursor, encode_cursor, page


class Asked(Record):
    """A question with pages."""

    namespace: str = "shop"
    """Where."""
    cursor: str | None = None
    """Where the last page ended."""


QUESTION = Asked()


@given(st.integers() | st.text(max_size=50))
def test_a_cursor_gives_back_its_position(position: str | int) -> None:
    assert decode_cursor(QUESTION, encode_cursor(QUESTION, position)) == position


@given(items=st.lists(st.integers(), max_size=40), limit=st.integers(1, 15))
def test_pages_put_together_are_the_whole_list(items: list[int], limit: int) -> None:
    seen: list[int] = []
    cursor: str | None = None
    for _ in range(len(items) + 1):
        part, cursor = page(items, Asked(cursor=cursor), cursor, limit)
        assert len(part) <= limit
        seen += part
        if cursor is None:
            break
    assert seen == items


@given(st.text(max_size=200))
def test_no_made_up_cursor_is_taken(cursor: str) -> None:
    with pytest.raises(InvalidArguments) as refused:
        page([1, 2, 3], QUESTION, cursor, 1)
    assert refused.value.details.get("field") == "cursor"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    )
)
def test_no_made_up_json_is_taken(content: object) -> None:
    raw = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    with pytest.raises(InvalidArguments):
        decode_cursor(QUESTION, raw)


@given(st.none() | st.floats() | st.lists(st.integers()) | st.dictionaries(st.text(), st.text()))
def test_a_position_of_another_type_is_not_taken(position: object) -> None:
    cursor = encode_cursor(QUESTION, position)  # type: ignore[arg-type]  # the point
    with pytest.raises(InvalidArguments):
        decode_cursor(QUESTION, cursor)


@pytest.mark.parametrize(
    "cursor",
    [
        base64.b64encode(b"[" * 700).decode(),
        "",
        "=",
        "%%%",
        "[" * 3000,
        "é",
        "AAAA",
        "\x00",
        base64.b64encode(b"[" * 100_000).decode(),
    ],
)
def test_hostile_cursors_are_refused_like_any_other(cursor: str) -> None:
    with pytest.raises(InvalidArguments):
        decode_cursor(QUESTION, cursor)


def test_a_cursor_of_another_question_is_refused() -> None:
    cursor = encode_cursor(Asked(namespace="team-a"), 1)
    with pytest.raises(InvalidArguments):
        decode_cursor(Asked(namespace="team-b"), cursor)


def test_a_cursor_belongs_to_the_question_whatever_cursor_that_came_with() -> None:
    cursor = encode_cursor(Asked(cursor="abc"), 1)
    assert decode_cursor(Asked(cursor=cursor), cursor) == 1


@pytest.mark.parametrize("position", [-1, 4, 10**30, "2", True])
def test_a_position_outside_the_list_is_refused(position: str | int) -> None:
    cursor = encode_cursor(QUESTION, position)
    with pytest.raises(InvalidArguments):
        page([1, 2, 3], QUESTION, cursor, 1)
