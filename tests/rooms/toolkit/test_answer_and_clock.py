from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.model.record import Record
from mcp_devops.toolkit.answer import Answer, render
from mcp_devops.toolkit.clock import ShiftedClock, SystemClock

START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=3)
    ),
    max_leaves=10,
)


class Bulb(Record):
    """A bulb."""

    watts: int
    """How strong."""
    notes: tuple[str, ...] = ()
    """More."""


class Lamp(Answer):
    """A lamp."""

    level: int = 0
    """How bright."""
    names: tuple[str, ...] = ()
    """Names."""
    bulbs: tuple[Bulb, ...] = ()
    """Bulbs."""
    main: Bulb | None = None
    """The main one."""


def test_an_answers_text_leaves_out_what_is_at_its_default() -> None:
    assert Lamp(headline="Off.").text() == "Off."


def test_an_answers_text_shows_scalars_lists_and_records() -> None:
    lamp = Lamp(
        headline="On.",
        level=3,
        names=("hall", "stairs"),
        bulbs=(Bulb(watts=5), Bulb(watts=6, notes=("old", "warm"))),
        main=Bulb(watts=7),
    )
    assert lamp.text().split("\n") == [
        "On.",
        "level: 3",
        "names: hall, stairs",
        "bulbs:",
        "- watts=5",
        "- watts: 6",
        "  notes: old, warm",
        "main:",
        "  watts: 7",
    ]


def test_a_list_of_records_and_scalars_keeps_all_of_them() -> None:
    assert render({"mixed": [{"a": 1}, "b", 2]}) == "mixed:\n- a=1\n- b\n- 2"


def test_a_headline_further_down_is_a_field_like_any_other() -> None:
    assert render({"headline": "top", "inner": {"headline": "low"}}) == (
        "top\ninner:\n  headline: low"
    )


@given(st.dictionaries(st.text(min_size=1, max_size=6), DATA, max_size=4))
def test_any_data_has_a_text_in_which_every_key_appears(data: dict[str, object]) -> None:
    text = render(data)
    assert all(key in text for key in data if key != "headline")


def test_a_shifted_clock_starts_where_it_is_told_and_keeps_both_hands_in_step() -> None:
    clock = ShiftedClock(START, speed=0)
    assert clock.now() == START and clock.monotonic() == 0 and clock.speed == 0


def test_a_hurried_clock_runs_faster_than_the_machines() -> None:
    machine, clock = SystemClock(), ShiftedClock(START, speed=1000)
    begun = machine.monotonic()
    while machine.monotonic() == begun:
        continue
    passed = clock.monotonic()
    assert passed >= (machine.monotonic() - begun) > 0
    assert clock.now() >= START + timedelta(seconds=passed)


def test_a_change_of_pace_keeps_what_has_passed() -> None:
    clock = ShiftedClock(START, speed=1_000_000)
    while clock.monotonic() < 1:
        continue
    clock.run_at(0)
    stopped = clock.monotonic()
    assert stopped >= 1 and clock.speed == 0
    assert clock.monotonic() == stopped
    clock.run_at(10)
    assert clock.monotonic() >= stopped


def test_the_machines_clock_has_a_zone_and_never_runs_backwards() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()
