from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mcp_devops.response_policy.hours import DAYS, Effect, QuietHours, strictest

BERLIN = ZoneInfo("Europe/Berlin")


def hours(
    start: str,
    end: str,
    days: tuple[str, ...] = DAYS,
    zone: str = "Europe/Berlin",
    effect: str = "ask",
) -> QuietHours:
    return QuietHours.model_validate(
        {"from": start, "to": end, "days": days, "timezone": zone, "effect": effect}
    )


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-03-04T09:00", True),
        ("2026-03-04T16:59:59", True),
        ("2026-03-04T17:00", False),
        ("2026-03-04T08:59:59", False),
        ("2026-03-07T12:00", False),
    ],
)
def test_a_period_within_a_day_counts_on_its_days_by_local_time(moment: str, inside: bool) -> None:
    period = hours("09:00", "17:00", ("mon", "tue", "wed", "thu", "fri"))
    assert (period.ends_at(berlin(moment)) is not None) is inside


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-03-06T21:59", False),
        ("2026-03-06T22:00", True),
        ("2026-03-07T05:59", True),
        ("2026-03-07T06:00", False),
        ("2026-03-07T22:30", False),
        ("2026-03-06T03:00", False),
    ],
)
def test_a_period_over_midnight_belongs_to_the_day_it_begins_on(moment: str, inside: bool) -> None:
    friday = hours("22:00", "06:00", ("fri",))
    assert (friday.ends_at(berlin(moment)) is not None) is inside


def test_a_whole_day_is_midnight_to_midnight() -> None:
    sunday = hours("00:00", "24:00", ("sun",))
    assert sunday.ends_at(berlin("2026-03-08T00:00")) == berlin("2026-03-09T00:00")
    assert sunday.ends_at(berlin("2026-03-08T23:59:59")) is not None
    assert sunday.ends_at(berlin("2026-03-09T00:00")) is None


def test_the_hour_that_winter_time_repeats_is_inside_once_and_for_all() -> None:
    night = hours("01:00", "02:30")
    # 2026-10-25: 03:00 becomes 02:00 again.
    for moment in (berlin("2026-10-25T02:10"), berlin("2026-10-25T02:45"),
                   berlin("2026-10-25T02:10", fold=1)):  # fmt: skip
        assert night.ends_at(moment) == berlin("2026-10-25T02:30", fold=1)
    assert night.ends_at(berlin("2026-10-25T02:30", fold=1)) is None


def test_a_start_that_summer_time_skips_is_the_moment_of_the_change() -> None:
    # 2026-03-29: 02:00 becomes 03:00.
    change = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    early = hours("02:30", "05:00")
    assert early.ends_at(change - timedelta(seconds=1)) is None
    assert early.ends_at(change) == berlin("2026-03-29T05:00")
    late = hours("01:00", "02:30")
    assert late.ends_at(change - timedelta(seconds=1)) == change
    assert late.ends_at(change) is None


TIMES = some.integers(0, 1439).map(lambda m: f"{m // 60:02}:{m % 60:02}")
ZONES = some.sampled_from(
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]
)
MOMENTS = some.datetimes(
    datetime.fromisoformat("2026-01-01"),
    datetime.fromisoformat("2027-12-31"),
    timezones=some.just(UTC),
)


@given(TIMES, TIMES, ZONES, MOMENTS, some.sets(some.sampled_from(DAYS), min_size=1))
@settings(deadline=None, max_examples=300)
def test_what_the_wall_clock_shows_inside_the_period_is_inside(
    start: str, end: str, zone: str, moment: datetime, days: set[str]
) -> None:
    if start == end:
        return
    period = hours(start, end, tuple(sorted(days)), zone)
    local = moment.astimezone(ZoneInfo(zone))
    shown = f"{local:%H:%M}"
    today, before = DAYS[local.weekday()], DAYS[local.weekday() - 1]
    if start < end:
        by_the_clock = today in days and start <= shown < end
    else:
        by_the_clock = (today in days and shown >= start) or (before in days and shown < end)
    found = period.ends_at(moment)
    offsets = {
        (moment + timedelta(hours=h)).astimezone(ZoneInfo(zone)).utcoffset() for h in (-26, 26)
    }
    if by_the_clock:
        assert found is not None and found > moment
    elif len(offsets) == 1:
        assert found is None, "away from a change of the clock nothing else is"


@given(TIMES, TIMES, ZONES, MOMENTS)
@settings(deadline=None)
def test_a_period_lasts_until_the_end_it_names(
    start: str, end: str, zone: str, moment: datetime
) -> None:
    if start == end:
        return
    period = hours(start, end, zone=zone)
    until = period.ends_at(moment)
    if until is not None:
        assert period.ends_at(until - timedelta(seconds=1)) == until
        assert until - moment <= timedelta(hours=25)


def test_of_several_periods_at_once_the_strictest_applies() -> None:
    noon = berlin("2026-03-04T12:00")
    mild = hours("09:00", "17:00", effect="ask")
    strict = hours("11:00", "13:00", effect="page_only")
    over = hours("13:00", "14:00", effect="record_only")
    for order in ([mild, strict, over], [over, strict, mild]):
        found = strictest(order, noon)
        assert found == (strict, berlin("2026-03-04T13:00"))
    assert strictest([over], noon) is None
    assert found is not None and found[0].effect is Effect.PAGE_ONLY


def test_a_period_says_itself() -> None:
    assert hours("22:00", "06:00").says() == "every day 22:00-06:00 Europe/Berlin"
    assert hours("22:00", "06:00", ("fri", "sat")).says() == "fri, sat 22:00-06:00 Europe/Berlin"
