from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as some

from mcp_devops.model.target import Workload
from mcp_devops.response_policy.limits import (
    Allowed,
    Breaker,
    Limits,
    PastAct,
    Reset,
    Stopped,
    is_open,
    may_act,
)
from tests.support.response import CART, NOW, SEARCH, act

WINDOW = Limits(rollbacks_per_hour=2, breaker=Reset.WINDOW, cooldown_minutes=0)
PERSON = WINDOW.model_copy(update={"breaker": Reset.PERSON})


def stopped(found: Allowed | Stopped) -> Stopped:
    assert isinstance(found, Stopped), found
    return found


def test_without_a_past_it_may_act_and_knows_how_often_still() -> None:
    assert may_act(NOW, CART, [], WINDOW) == Allowed(left_this_hour=1)
    assert may_act(NOW, CART, [act(10, SEARCH)], WINDOW) == Allowed(left_this_hour=0)


def test_the_hourly_limit_counts_all_services_and_ends_when_enough_are_an_hour_old() -> None:
    history = [act(50, SEARCH), act(20, SEARCH)]
    found = stopped(may_act(NOW, CART, history, WINDOW))
    assert "2 automatic rollbacks in the last hour, limit 2" in found.reason
    assert found.until == NOW + timedelta(minutes=10)
    assert not found.breaker
    assert isinstance(may_act(NOW + timedelta(minutes=10), CART, history, WINDOW), Allowed)


def test_the_breaker_stays_open_until_a_person_closes_it() -> None:
    history = [act(600, SEARCH), act(590, SEARCH)]
    found = stopped(may_act(NOW, CART, history, PERSON))
    assert (found.breaker, found.until) == (True, None)
    assert "unfreeze --breaker" in found.reason
    closed = Breaker(is_open=False, at=NOW - timedelta(minutes=5))
    assert isinstance(may_act(NOW, CART, history, PERSON, closed), Allowed)


def test_a_closed_breaker_forgets_nothing_of_the_last_hour() -> None:
    history = [act(40, SEARCH), act(30, SEARCH)]
    closed = Breaker(is_open=False, at=NOW - timedelta(minutes=5))
    found = stopped(may_act(NOW, CART, history, PERSON, closed))
    assert (found.breaker, found.until) == (False, NOW + timedelta(minutes=20))


def test_slow_rollbacks_do_not_open_the_breaker() -> None:
    assert not is_open(NOW, [act(190), act(120), act(60)], PERSON, Breaker())
    assert is_open(NOW, [act(119.9), act(60)], PERSON, Breaker())


def test_a_breaker_that_was_set_open_stops_everything_whatever_happened() -> None:
    thrown = Breaker(is_open=True, at=NOW, reason="a storm")
    found = stopped(may_act(NOW, CART, [], WINDOW, thrown))
    assert "a storm" in found.reason and found.breaker
    assert "open;" in stopped(may_act(NOW, CART, [], WINDOW, Breaker(is_open=True))).reason


def test_one_service_is_rolled_back_only_so_often_in_a_day() -> None:
    limits = Limits(rollbacks_per_service_per_day=1, cooldown_minutes=0)
    found = stopped(may_act(NOW, CART, [act(600)], limits))
    assert found.until == NOW + timedelta(minutes=24 * 60 - 600)
    assert isinstance(may_act(NOW, SEARCH, [act(600)], limits), Allowed)
    other = CART.model_copy(update={"cluster": "prod"})
    assert isinstance(may_act(NOW, other, [act(600)], limits), Allowed), "another cluster's"
    assert isinstance(may_act(NOW, CART, [act(24 * 60)], limits), Allowed)


def test_a_service_is_left_alone_for_a_while_after_a_rollback() -> None:
    limits = Limits(cooldown_minutes=30)
    found = stopped(may_act(NOW, CART, [act(10)], limits))
    assert found.until == NOW + timedelta(minutes=20)
    assert "cooldown 30 min" in found.reason
    assert isinstance(may_act(NOW, CART, [act(30)], limits), Allowed)


def test_all_limits_that_are_reached_are_told_and_the_last_end_counts() -> None:
    limits = Limits(rollbacks_per_hour=1, rollbacks_per_service_per_day=1, breaker=Reset.WINDOW)
    found = stopped(may_act(NOW, CART, [act(10)], limits))
    assert found.reason.count(";") == 2
    assert found.until == NOW + timedelta(minutes=24 * 60 - 10)


def test_a_limit_of_none_is_never() -> None:
    for limits in (Limits(rollbacks_per_hour=0), Limits(rollbacks_per_service_per_day=0)):
        found = stopped(may_act(NOW, CART, [], limits))
        assert (found.until, found.breaker) == (None, False)


TARGETS = some.sampled_from([Workload(namespace="shop", name=name) for name in "abc"])
TRIES = some.lists(some.tuples(some.integers(0, 40 * 60), TARGETS), max_size=60)
LIMITS = some.builds(
    Limits,
    rollbacks_per_hour=some.integers(0, 4),
    rollbacks_per_service_per_day=some.integers(0, 3),
    cooldown_minutes=some.sampled_from([0.0, 5.0, 30.0]),
    breaker=some.sampled_from(list(Reset)),
)


@given(TRIES, LIMITS, some.lists(some.integers(0, 40 * 60), max_size=5))
@settings(deadline=None)
def test_no_sliding_window_ever_sees_more_than_its_limit(
    tries: list[tuple[int, Workload]], limits: Limits, closings: list[int]
) -> None:
    done: list[PastAct] = []
    for minute, target in sorted(tries, key=lambda t: t[0]):
        now = NOW + timedelta(minutes=minute)
        closed = [c for c in closings if c <= minute]
        at = NOW + timedelta(minutes=max(closed)) if closed else None
        if isinstance(may_act(now, target, done, limits, Breaker(at=at)), Allowed):
            done.append(PastAct(at=now, target=target))
    for last in done:
        within = [a for a in done if timedelta() <= last.at - a.at]
        hour = [a for a in within if last.at - a.at < timedelta(hours=1)]
        day = [a for a in within if a.target == last.target and last.at - a.at < timedelta(days=1)]
        assert len(hour) <= limits.rollbacks_per_hour
        assert len(day) <= limits.rollbacks_per_service_per_day
        earlier = [a for a in day if a.at < last.at]
        rest = timedelta(minutes=limits.cooldown_minutes)
        assert all(last.at - a.at >= rest for a in earlier)


PASTS = some.lists(some.builds(act, some.integers(-30, 3000), TARGETS), max_size=12)


@given(PASTS, LIMITS, some.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_past_does_not_matter(
    past: list[PastAct], limits: Limits, random: object
) -> None:
    mixed = list(past)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert may_act(NOW, CART, past, limits) == may_act(NOW, CART, mixed, limits)


@given(PASTS, PASTS, LIMITS, TARGETS)
@settings(deadline=None)
def test_a_longer_past_never_allows_more(
    past: list[PastAct], more: list[PastAct], limits: Limits, target: Workload
) -> None:
    if isinstance(may_act(NOW, target, past, limits), Stopped):
        assert isinstance(may_act(NOW, target, past + more, limits), Stopped)


@given(PASTS, LIMITS.filter(lambda it: it.breaker is Reset.WINDOW), TARGETS)
@settings(deadline=None)
def test_a_stop_that_names_its_end_is_over_then(
    past: list[PastAct], limits: Limits, target: Workload
) -> None:
    found = may_act(NOW, target, past, limits)
    if isinstance(found, Stopped) and found.until is not None:
        assert isinstance(may_act(found.until, target, past, limits), Allowed)
        just_before = found.until - timedelta(seconds=1)
        assert isinstance(may_act(just_before, target, past, limits), Stopped)
