"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.text.people import ago, duration, percent, plural


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"), (0.85, "850 ms"), (0.9999, "1 s"), (12, "12 s"), (59.6, "1 min"),
        (200, "3 min 20 s"), (7200, "2 h"), (7500, "2 h 5 min"), (273_600, "3 d 4 h"),
        (-12, "12 s"), (math.inf, "unknown"),
    ],
)  # fmt: skip
def test_a_duration_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "just now"),
        (200, "3 min 20 s ago"),
        (-12, "in 12 s"),
        (math.nan, "at an unknown time"),
    ],
)
def test_an_age_says_its_direction(seconds: float, shown: str) -> None:
    assert ago(seconds) == shown


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        (0, "0%"), (0.0004, "0.04%"), (0.125, "12.5%"), (1, "100%"), (0.00001, "<0.01%"),
        (0.99999, ">99.99%"), (-0.5, "-50%"), (-0.00001, ">-0.01%"), (-0.99999, "<-99.99%"),
        (0.999, "99.9%"), (25, "2,500%"), (None, "unknown"), (math.nan, "unknown"),
    ],
)  # fmt: skip
def test_a_share_reads_as_a_percentage(ratio: float | None, shown: str) -> None:
    assert percent(ratio) == shown


@given(st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True))
def test_what_is_neither_nothing_nor_all_never_reads_so(ratio: float) -> None:
    if 0 < ratio * 100 < 100:
        assert percent(ratio) not in {"0%", "100%"}


@pytest.mark.parametrize(
    ("n", "word", "shown"),
    [(1, "pod", "1 pod"), (3, "pod", "3 pods"), (2, "entry", "2 entries"), (0, "key", "0 keys"),
     (1200, "match", "1,200 matches")],
)  # fmt: skip
def test_a_noun_agrees_with_its_count(n: int, word: str, shown: str) -> None:
    assert plural(n, word) == shown
