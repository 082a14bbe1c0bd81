from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.model.window import Window
from mcp_devops.web.axes import time_label, time_ticks, value_ticks
from mcp_devops.web.chart import Line, Moment, Picture, Plot, draw, text_width
from mcp_devops.web.html import document, el, raw_style
from mcp_devops.web.style import CSS, DARK, LIGHT, TEXT_ON
from tests.support.evidence import seconds


@given(st.floats(min_value=1e-9, max_value=1e12), st.integers(2, 8))
def test_value_ticks_are_round_begin_at_zero_and_reach_the_highest(top: float, most: int) -> None:
    ticks = value_ticks(top, most)
    assert ticks[0] == 0 and ticks[-1] >= top * (1 - 1e-6)
    assert len(ticks) <= most + 1 and ticks == sorted(ticks)


@pytest.mark.parametrize("top", [0.0, -3.0, float("nan"), float("inf")])
def test_nothing_to_draw_still_has_an_axis(top: float) -> None:
    assert value_ticks(top)[-1] >= 1.0


@given(st.integers(1, 40_000_000), st.integers(1, 10))
def test_time_ticks_are_few_ordered_and_inside(span: int, most: int) -> None:
    start, end = seconds(0), seconds(0) + timedelta(seconds=span)
    ticks = time_ticks(start, end, most)
    assert len(ticks) <= most and ticks == sorted(set(ticks))
    assert all(start <= tick <= end for tick in ticks)


def test_time_labels_say_as_much_as_is_needed() -> None:
    assert time_label(seconds(5), 60, False) == "03:00:05"
    assert time_label(seconds(60), 600, True) == "03:01"
    assert time_label(seconds(0), 200_000, True) == "01 Mar 03:00"


def _picture(before_s: float, later_s: float) -> Picture:
    start, end = seconds(-before_s), seconds(later_s)
    after = Window(start=seconds(0), end=end)
    line = Line("new", "new", 60, ((seconds(-60), 0.1), (seconds(0), 0.2)))
    return Picture("k", "t", "d", str, 0.01, start, end, end, (line,), after=after)


def test_a_short_time_after_a_long_one_is_drawn_wider_and_that_is_said() -> None:
    short, even = _picture(2400, 300), _picture(120, 100)
    assert short.bend == seconds(0) and even.bend is None
    plot = Plot(short, "wide")
    places = [plot.x(seconds(s)) for s in range(-2500, 400, 10)]
    assert places == sorted(places)
    assert plot.x(seconds(300)) - plot.x(seconds(0)) > (plot.width - 100) / 2
    assert "two time scales, wider since the deployment" in draw(short).markup
    assert "two time scales" not in draw(even).markup


@pytest.mark.parametrize("shape", ["wide", "narrow"])
def test_no_mark_goes_through_the_word_for_what_is_not_recorded(shape: str) -> None:
    picture = replace(
        _picture(120, 120),
        known_until=seconds(0),
        moments=(Moment(seconds(20), "rolled back", "moment-back"),),
    )
    plot = Plot(picture, shape)
    found = re.search(r'<text x="([\d.]+)"[^>]*>(not recorded|no data)<', plot.draw().markup)
    assert found
    half = text_width(found[2]) / 2
    assert plot.x(seconds(20)) < float(found[1]) - half
    assert float(found[1]) + half < plot.width


def test_elements_escape_what_they_are_given() -> None:
    made = el("p", "<b>&", None, 3, [el("br"), "x"], class_='"><i', title=None, hidden=True)
    assert made.markup == '<p class="&quot;&gt;&lt;i" hidden>&lt;b&gt;&amp;3<br>x</p>'


@pytest.mark.parametrize("name", ["onclick", "style", "bad name", "1x"])
def test_attributes_that_could_run_something_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        el("p", **{name: "x"})


def test_elements_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError):
        el("p><script")
    with pytest.raises(ValueError):
        el("br", "content")
    with pytest.raises(ValueError):
        raw_style("</style>")


def test_the_policy_of_a_page_allows_its_own_sheet_by_hash() -> None:
    html = unescape(document("t", CSS, "<svg/>", "body"))
    taken = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    assert f"style-src 'sha256-{taken}'" in html and f"<style>{CSS}</style>" in html


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_has_enough_contrast_on_its_ground(palette: dict[str, str]) -> None:
    for text, ground in TEXT_ON:
        lighter, darker = sorted(
            (_luminance(palette[text]), _luminance(palette[ground])), reverse=True
        )
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)


def test_both_palettes_name_the_same_colours() -> None:
    assert set(LIGHT) == set(DARK)
