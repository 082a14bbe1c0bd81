"""The clock of a replayed recording."""

from datetime import UTC, datetime, timedelta

from mcp_devops.toolkit.clock import ShiftedClock

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_it_starts_at_its_moment_and_goes_on() -> None:
    clock = ShiftedClock(START)
    first = clock.now()
    assert START <= first <= clock.now()


def test_a_change_of_pace_keeps_what_has_passed() -> None:
    clock = ShiftedClock(START, speed=1e6)
    before = clock.now()
    clock.run_at(0.0)
    still = clock.monotonic()
    assert clock.now() >= before
    assert clock.monotonic() == still
    assert clock.now() == START + timedelta(seconds=still)


def test_deadlines_pass_at_the_pace_of_the_time_of_day() -> None:
    clock = ShiftedClock(START, speed=0.0)
    assert (clock.monotonic(), clock.now(), clock.speed) == (0.0, START, 0.0)
