"""The storm breaker: how often something may be done alone, worked out from what was done.

Everything here is arithmetic on past acts. Windows slide; there is no midnight at which a count
starts anew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload
from mcp_devops.text.people import plural

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Reset(StrEnum):
    """What closes an open breaker."""

    PERSON = "person"
    """Somebody runs `mcp-devops unfreeze --breaker`."""
    WINDOW = "window"
    """The hour has passed."""


class Limits(Record):
    """How often the server may act alone, over everything it watches."""

    rollbacks_per_hour: int = Field(3, ge=0, le=100)
    """Automatic rollbacks in any 60 minutes, all services together; then the breaker opens."""
    rollbacks_per_service_per_day: int = Field(2, ge=0, le=24)
    """Automatic rollbacks of one workload in any 24 hours."""
    cooldown_minutes: float = Field(30, ge=0, le=1440)
    """Minutes after an automatic rollback of a workload in which it is not done again."""
    breaker: Reset = Reset.PERSON
    """What closes the breaker once the hourly limit was reached: person or window."""


class PastAct(Record):
    """One automatic rollback that was begun, whatever became of it."""

    at: Moment
    """When it was begun."""
    target: Workload
    """Of what."""


class Breaker(Record):
    """The breaker's switch as it was last set."""

    is_open: bool = False
    """Whether it was set open."""
    at: Moment | None = None
    """When it was last set; null: never."""
    reason: str = ""
    """Why."""

    @property
    def closed_at(self) -> datetime | None:
        """When a person last closed it."""
        return None if self.is_open else self.at


class Allowed(Record):
    """The limits allow one more."""

    left_this_hour: int
    """How many more after this one, before the breaker opens."""


class Stopped(Record):
    """The limits do not allow it."""

    reason: str
    """Every limit that is reached, in words."""
    until: Moment | None
    """From then on they allow it, if nothing else is done; null: not by waiting."""
    breaker: bool = False
    """Whether the breaker is open, so that everything stops."""


def may_act(
    now: datetime,
    target: Workload,
    history: Collection[PastAct],
    limits: Limits,
    breaker: Breaker = Breaker(),  # noqa: B008 - immutable
) -> Allowed | Stopped:
    """Say whether one more automatic rollback may be begun.

    Args:
        now: The moment.
        target: What would be rolled back.
        history: All automatic rollbacks of the last 24 hours and, with `breaker: person`, all
            since the breaker was last closed; in any order.
        limits: The limits.
        breaker: The switch.
    """
    times = sorted(act.at for act in history)
    own = sorted(act.at for act in history if act.target == target)
    stops = [
        *_by_the_switch(now, times, limits, breaker),
        *_by_the_hour(now, times, limits),
        *_by_the_day(now, own, limits),
        *_by_the_cooldown(now, own, limits),
    ]
    if not stops:
        used = sum(at > now - HOUR for at in times)
        return Allowed(left_this_hour=limits.rollbacks_per_hour - used - 1)
    ends = [until for _, until in stops if until is not None]
    return Stopped(
        reason="; ".join(says for says, _ in stops),
        until=max(ends) if len(ends) == len(stops) else None,
        breaker=is_open(now, history, limits, breaker),
    )


def is_open(now: datetime, history: Collection[PastAct], limits: Limits, breaker: Breaker) -> bool:
    """Whether the breaker is open: set so, or the hourly limit was reached and a person closes it.

    The latter follows from the acts themselves, so a crash cannot forget it.
    """
    return bool(_by_the_switch(now, sorted(act.at for act in history), limits, breaker))


_Stop = tuple[str, datetime | None]


def _by_the_switch(
    now: datetime, times: Sequence[datetime], limits: Limits, breaker: Breaker
) -> list[_Stop]:
    fix = "close it with `mcp-devops unfreeze --breaker` when the cause is understood"
    if breaker.is_open:
        why = f" ({breaker.reason})" if breaker.reason else ""
        return [(f"the breaker is open{why}; {fix}", None)]
    count = limits.rollbacks_per_hour
    if limits.breaker is Reset.WINDOW or count == 0:
        return []
    since = [at for at in times if breaker.closed_at is None or at > breaker.closed_at]
    for first, last in zip(since, since[count - 1 :], strict=False):
        if last - first < HOUR:
            says = f"{plural(count, 'automatic rollback')} within an hour, up to {last:%H:%M} UTC"
            return [(f"the breaker opened after {says}; {fix}", None)]
    # Where the clock was set back, acts that lie ahead are of the last hour as well.
    if sum(at > now - HOUR for at in since) >= count:
        says = f"{plural(count, 'automatic rollback')} within an hour"
        return [(f"the breaker opened after {says}; {fix}", None)]
    return []


def _by_the_hour(now: datetime, times: Sequence[datetime], limits: Limits) -> list[_Stop]:
    recent = [at for at in times if at > now - HOUR]
    count = limits.rollbacks_per_hour
    if len(recent) < count:
        return []
    says = f"{len(recent)} automatic rollbacks in the last hour, limit {count}"
    return [(says, recent[-count] + HOUR if count else None)]


def _by_the_day(now: datetime, own: Sequence[datetime], limits: Limits) -> list[_Stop]:
    recent = [at for at in own if at > now - DAY]
    count = limits.rollbacks_per_service_per_day
    if len(recent) < count:
        return []
    says = f"{len(recent)} automatic rollbacks of this workload in the last 24 h, limit {count}"
    return [(says, recent[-count] + DAY if count else None)]


def _by_the_cooldown(now: datetime, own: Sequence[datetime], limits: Limits) -> list[_Stop]:
    rest = timedelta(minutes=limits.cooldown_minutes)
    if not own or own[-1] <= now - rest or not rest:
        return []
    says = f"this workload was rolled back at {own[-1]:%H:%M} UTC, cooldown"
    return [(f"{says} {limits.cooldown_minutes:g} min", own[-1] + rest)]
