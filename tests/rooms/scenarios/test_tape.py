"""Samples on the scenario's clock."""

from itertools import pairwise

import pytest

from mcp_devops.scenarios.packing import Samples
from mcp_devops.scenarios.tape import Tape

RECORDED = Samples({"pod": "a"}, range(0, 131, 2), [5.0 * i for i in range(66)])
"""A sample each two seconds, five requests each; the rollback at 100, the end at 130."""
START = 1000.0


def tape(*series: Samples) -> Tape:
    return Tape(series or (RECORDED,), turn=100, end=130, start=START)


def test_before_the_rollback_the_last_minute_goes_on_and_nothing_recorded_later_shows() -> None:
    (played,) = tape().until(START + 200)
    assert played.times[-1] == START + 200
    assert {round(b - a, 3) for a, b in pairwise(played.times)} == {2.0}
    assert {b - a for a, b in pairwise(played.values)} == {5.0}


def test_after_the_rollback_the_recording_goes_on_where_the_counter_stood() -> None:
    once = tape()
    once.turn(START + 75)
    (played,) = once.until(START + 90)
    assert played.times[-1] <= START + 90
    assert all(0 < b - a <= 5 for a, b in pairwise(played.values))
    (later,) = once.until(START + 500)
    assert later.times[-1] >= START + 495


def test_a_pod_that_was_gone_is_not_brought_back() -> None:
    gone = Samples({"pod": "gone"}, range(0, 51, 2), range(26))
    (played,) = tape(gone).until(START + 300)
    assert played.times[-1] == START - 50


def test_a_pod_of_the_rollback_is_not_there_before_it() -> None:
    new = Samples({"pod": "new"}, range(104, 131, 2), range(14))
    once = tape(new)
    assert once.until(START + 50) == []
    once.turn(START + 60)
    (played,) = once.until(START + 70)
    assert played.times[0] == pytest.approx(START + 64)
