"""Quiet hours: when less is done by itself, by the wall clock of a place.

A period is one unbroken stretch of real time, from the first instant its start is on the clock to
the last instant its end is. So the hour that a change to winter time repeats is inside as a whole,
and a start in the hour that a change to summer time skips means the moment of the change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from mcp_devops.model.record import Record


class Day(StrEnum):
    """Days of the week, as the file names them."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


DAYS = tuple(Day)
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")


class Effect(StrEnum):
    """The most that is done meanwhile, mildest first."""

    ASK = "ask"
    """A person is paged and asked; nothing is done alone."""
    PAGE_ONLY = "page_only"
    """A person is paged; no action is prepared."""
    RECORD_ONLY = "record_only"
    """Written down, and nobody is called."""


class QuietHours(Record):
    """One period that comes back every week."""

    days: tuple[Day, ...] = Field(DAYS, min_length=1)
    """Days on which it begins; default: every day."""
    start: str = Field(alias="from")
    """Local time it begins, HH:MM."""
    end: str = Field(alias="to")
    """Local time it ends, HH:MM or 24:00; earlier than `from`: on the next day."""
    timezone: str
    """Name in the IANA time zone database, such as Europe/Berlin."""
    effect: Effect
    """ask, page_only or record_only."""

    @field_validator("start", "end")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if not _TIME.fullmatch(value):
            raise ValueError("write HH:MM from 00:00 to 24:00, with two digits each")
        return value

    @field_validator("start")
    @classmethod
    def _begins_within_the_day(cls, value: str) -> str:
        if value == "24:00":
            raise ValueError("a day begins at 00:00")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as problem:
            raise ValueError(_unknown_zone(value)) from problem
        return value

    @model_validator(mode="after")
    def _lasts(self) -> QuietHours:
        if self.start == self.end:
            raise ValueError("from and to are the same; a whole day is 00:00 to 24:00")
        return self

    def ends_at(self, now: datetime) -> datetime | None:
        """When the period that covers a moment ends, in UTC; None: none covers it."""
        zone = ZoneInfo(self.timezone)
        today = now.astimezone(zone).date()
        ends = [
            end
            for day in (today - timedelta(days=1), today)
            if DAYS[day.weekday()] in self.days
            for begin, end in [self._period(day, zone)]
            if begin <= now < end
        ]
        return max(ends, default=None)

    def says(self) -> str:
        """The period in words."""
        days = "every day" if set(self.days) == set(DAYS) else ", ".join(self.days)
        return f"{days} {self.start}-{self.end} {self.timezone}"

    def _period(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        begin, end = _minutes(self.start), _minutes(self.end)
        last = day + timedelta(days=1) if end < begin else day
        return _instant(day, begin, zone, last=False), _instant(last, end, zone, last=True)


def strictest(hours: Sequence[QuietHours], now: datetime) -> tuple[QuietHours, datetime] | None:
    """Of the periods that cover a moment the one that allows least, with its end in UTC."""
    order = list(Effect)
    covering = [(order.index(h.effect), end, h) for h in hours if (end := h.ends_at(now))]
    if not covering:
        return None
    _, end, found = max(covering, key=lambda c: (c[0], c[1]))
    return found, end


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _instant(day: date, minutes: int, zone: ZoneInfo, *, last: bool) -> datetime:
    """The first or last instant at which the clock of a zone shows a time, in UTC.

    A time that the clock skips becomes the moment of the skip.
    """
    wall = datetime.combine(day, time()) + timedelta(minutes=minutes)
    shown = sorted(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if all(moment.astimezone(zone).replace(tzinfo=None) != wall for moment in shown):
        return _skip_between(shown[0], shown[1], zone)
    return shown[1] if last else shown[0]


def _skip_between(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=64)
def _unknown_zone(name: str) -> str:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    known = available_timezones()
    if not known:
        return "no time zone database is installed; install the package tzdata"
    near = get_close_matches(name, sorted(known), n=1)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    return f"no such time zone, write an IANA name such as Europe/Berlin or UTC{hint}"
