from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mcp_devops.errors import DevOpsError, NoData
from mcp_devops.integrations.sentry.compare_error_rates import (
    CompareErrorRates,
    compare_error_rates,
)
from mcp_devops.integrations.sentry.series import aligned, compare
from mcp_devops.integrations.sentry.settings import SentrySettings
from mcp_devops.integrations.sentry.telling import SentryComparison
from mcp_devops.model.arms import ArmSummary, summarise
from mcp_devops.model.evidence import Arm, RequestSeries
from mcp_devops.model.window import Window, WindowRule
from mcp_devops.toolkit.answer import ResponseFormat
from mcp_devops.toolkit.comparing import VersionedService
from tests.support.prometheus_api import FixedClock
from tests.support.sentry import (
    NOW,
    Traffic,
    World,
    ago,
    context_for,
    html,
    missing,
    no_route,
    release,
    says,
    sentry,
    slow,
)

OLD, NEW = "checkout@1.0.0", "checkout@1.1.0+7"
DEPLOYED = ago(20)
RULE = SentrySettings().rule
SPLIT = VersionedService("checkout", new=NEW, old=OLD)
WHOLE = VersionedService("checkout")


def world(*, spans: bool = True, **options: Any) -> World:
    """An old release that serves on, and a new one that is worse since the deployment."""
    requests = 100.0 if spans else 0.0
    return World(
        traffic=[
            Traffic(ago(90), NOW, errors=2, requests=requests, failed=0.01, release=OLD),
            Traffic(
                DEPLOYED, NOW, errors=40, requests=requests, failed=0.2, p99_ms=900, release=NEW
            ),
        ],
        releases=[release(OLD, ago(900)), release(NEW, DEPLOYED)],
        **options,
    )


async def found(
    there: World, service: VersionedService = SPLIT, rule: WindowRule = RULE, **settings: Any
) -> SentryComparison:
    async with sentry(there, **settings) as client:
        comparison = await compare(client, service, DEPLOYED, rule)
    assert comparison is not None
    return comparison


def arms(comparison: SentryComparison) -> dict[Arm, ArmSummary]:
    return {s.arm: summarise(s) for s in comparison.series}


def arm(comparison: SentryComparison, which: Arm) -> RequestSeries:
    return next(s for s in comparison.series if s.arm is which)


async def test_windows_leave_out_the_buffer_the_grace_and_what_has_not_settled() -> None:
    comparison = await found(world())
    assert comparison.windows.baseline == Window(start=ago(60), end=ago(30))
    assert comparison.windows.after == Window(start=ago(17), end=ago(3))
    assert all(s.windows == comparison.windows for s in comparison.series)
    assert all(s.source == "sentry" and s.service == "checkout" for s in comparison.series)


async def test_failed_of_all_transactions_is_told_for_both_releases_in_the_same_minutes() -> None:
    comparison = await found(world())
    by_arm = arms(comparison)
    assert comparison.dataset == "spans" and comparison.endpoint == "events-timeseries"
    assert by_arm[Arm.BASELINE].error_rate == pytest.approx(0.01)
    assert by_arm[Arm.BASELINE].requests == 3000
    assert by_arm[Arm.NEW].error_rate == pytest.approx(0.2)
    assert by_arm[Arm.CONTROL].error_rate == pytest.approx(0.01)
    assert by_arm[Arm.NEW].p99_ms == 900
    assert "sampl" in (by_arm[Arm.NEW].note or "")


async def test_the_baseline_goes_on_to_the_deployment_so_that_earlier_trouble_is_seen() -> None:
    series = arm(await found(world()), Arm.BASELINE)
    assert series.buckets[0].start == ago(60)
    assert series.buckets[-1].start == DEPLOYED - timedelta(minutes=1)


async def test_without_transactions_error_events_are_counted_and_requests_stay_unknown() -> None:
    comparison = await found(world(spans=False))
    assert comparison.dataset == "errors"
    assert all(b.requests is None for s in comparison.series for b in s.buckets)
    assert sum(b.errors or 0 for b in arm(comparison, Arm.NEW).buckets) == 40 * 14
    assert comparison.error_events == {
        Arm.BASELINE: 60,
        Arm.AFTER: 42 * 14,
        Arm.NEW: 40 * 14,
        Arm.CONTROL: 28,
    }
    assert "requests" in (arm(comparison, Arm.AFTER).note or "")


async def test_a_service_that_stops_sending_transactions_is_not_judged_by_them() -> None:
    there = world(spans=False)
    there.traffic.append(Traffic(ago(90), DEPLOYED, requests=100, release=OLD))
    comparison = await found(there)
    assert comparison.dataset == "errors"


async def test_a_minute_without_transactions_is_unknown_not_idle() -> None:
    there = World(
        traffic=[
            Traffic(ago(90), ago(40), requests=50, release=OLD),
            Traffic(ago(30), NOW, requests=50, release=OLD),
        ]
    )
    series = arm(await found(there, WHOLE), Arm.BASELINE)
    gap = [b for b in series.buckets if ago(40) <= b.start < ago(30)]
    assert len(gap) == 10 and all(b.requests is None and b.errors is None for b in gap)


async def test_zero_errors_are_zero_only_for_a_project_that_has_had_events() -> None:
    there = World(traffic=[Traffic(ago(90), NOW)])
    comparison = await found(there, WHOLE)
    assert {b.errors for b in arm(comparison, Arm.AFTER).buckets} == {0}
    there.silent = {"checkout"}
    with pytest.raises(NoData):
        await found(there, WHOLE)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": []},
        {"timeSeries": []},
        {"timeSeries": [{"yAxis": "count()", "values": [], "meta": {"interval": 60000}}]},
        [],
    ],
)
async def test_an_empty_answer_with_200_is_unknown(body: Any) -> None:
    there = world()
    there.broken = {"events-": says(200, body)}
    with pytest.raises(NoData):
        await found(there, WHOLE)


async def test_buckets_that_sentry_calls_incomplete_are_left_out_whatever_the_settle_time() -> None:
    comparison = await found(world(), WHOLE, settle_s=0)
    series = arm(comparison, Arm.AFTER)
    assert comparison.windows.after.end == NOW
    assert [b.errors is None for b in series.buckets[-3:]] == [False, True, True]


async def test_lag_within_the_settle_time_does_not_look_like_a_recovery() -> None:
    series = arm(await found(world(lag_s=170)), Arm.NEW)
    assert {b.requests for b in series.buckets} == {100}


async def test_another_bucket_length_than_asked_is_refused() -> None:
    with pytest.raises(NoData) as raised:
        await found(world(interval=300))
    assert "300 s" in str(raised.value) and "60 s" in str(raised.value)


async def test_a_meta_interval_that_contradicts_the_times_is_refused() -> None:
    there = world()
    values = [
        {"timestamp": (ago(60).timestamp() + 60 * i) * 1000, "value": 1, "incomplete": False}
        for i in range(50)
    ]
    series = {"yAxis": "count()", "meta": {"interval": 3_600_000}, "values": values}
    there.broken = {"events-timeseries": says(200, {"timeSeries": [series]})}
    with pytest.raises(NoData):
        await found(there, WHOLE)


@pytest.mark.parametrize("datasets", [{"errors", "spans"}, {"errors"}])
async def test_an_older_sentry_is_asked_the_old_way(datasets: set[str]) -> None:
    comparison = await found(world(timeseries=False, datasets=datasets))
    assert comparison.endpoint == "events-stats"
    by_arm = arms(comparison)
    if "spans" in datasets:
        assert by_arm[Arm.NEW].error_rate == pytest.approx(0.2)
    else:
        assert comparison.dataset == "errors"
        assert comparison.error_events[Arm.NEW] == 40 * 14
        assert "INVALID_ARGUMENTS" in comparison.notes[0]


async def test_an_empty_bucket_of_the_old_way_is_a_zero() -> None:
    there = World(timeseries=False, traffic=[Traffic(ago(90), ago(40), errors=3)])
    comparison = await found(there, WHOLE)
    assert comparison.error_events == {Arm.BASELINE: 60, Arm.AFTER: 0}


async def test_a_dataset_that_only_the_old_way_knows_is_asked_there() -> None:
    there = world()
    there.broken = {"events-timeseries": says(400, {"detail": "unknown dataset"})}
    assert (await found(there)).endpoint == "events-stats"


async def test_a_newer_sentry_without_the_old_way_tells_why_it_refused() -> None:
    there = world()
    refusal = says(400, {"detail": "Invalid query: nope"})
    there.broken = {"events-timeseries": refusal, "events-stats": lambda _: no_route()}
    with pytest.raises(DevOpsError) as raised:
        await found(there)
    assert raised.value.code == "INVALID_ARGUMENTS" and raised.value.upstream


async def test_an_unknown_organisation_is_said() -> None:
    there = world()
    async with sentry(there) as client:
        await client.projects()
        there.broken = {"/": lambda _: missing()}
        with pytest.raises(DevOpsError) as raised:
            await compare(client, WHOLE, DEPLOYED, RULE)
    assert raised.value.details["missing"] == "organization"


async def test_a_release_that_sentry_does_not_know_has_no_zero() -> None:
    there = world(spans=False)
    there.releases = there.releases[:1]
    comparison = await found(there)
    assert Arm.NEW not in arms(comparison) and Arm.CONTROL in arms(comparison)
    assert any("does not confirm" in n and NEW in n for n in comparison.notes)


async def test_a_release_without_transactions_is_left_out_with_a_reason() -> None:
    there = world()
    there.traffic = there.traffic[:1]
    comparison = await found(there)
    assert Arm.NEW not in arms(comparison)
    assert any(NEW in n for n in comparison.notes)


@pytest.mark.parametrize("spans", [True, False])
async def test_a_release_whose_question_fails_is_left_out_with_the_reason(spans: bool) -> None:
    there = world(spans=spans)
    there.broken = {"1.1.0%2B7": says(403)}
    comparison = await found(there)
    assert set(arms(comparison)) == {Arm.BASELINE, Arm.AFTER, Arm.CONTROL}
    assert any(NEW in n and "PERMISSION_DENIED" in n for n in comparison.notes)


async def test_a_release_that_cannot_be_confirmed_has_no_zero() -> None:
    there = world(spans=False)
    there.broken = {"releases/": says(403)}
    comparison = await found(there)
    assert set(arms(comparison)) == {Arm.BASELINE, Arm.AFTER}
    with_requests = world()
    with_requests.broken = {"releases/": says(403)}
    comparison = await found(with_requests)
    assert Arm.NEW in arms(comparison) and Arm.NEW not in comparison.error_events


async def test_one_release_for_both_is_no_split() -> None:
    both = VersionedService("checkout", new=OLD, old=OLD)
    assert set(arms(await found(world(), both))) == {Arm.BASELINE, Arm.AFTER}


async def test_without_a_complete_bucket_after_the_deployment_its_count_is_unknown() -> None:
    there = world(spans=False)
    there.clock = FixedClock(DEPLOYED + timedelta(minutes=4))
    async with sentry(there, settle_s=0) as client:
        told = await compare_error_rates.run(context_args(), context_for(client))
    assert "unknown (after)" in told.headline and "after" not in told.error_events


async def test_transactions_that_fail_leave_error_events_with_the_reason() -> None:
    there = world()
    there.broken = {"dataset=spans": says(403)}
    comparison = await found(there)
    assert comparison.dataset == "errors"
    assert any("PERMISSION_DENIED" in n for n in comparison.notes)
    assert "PERMISSION_DENIED" in (comparison.series[0].note or "")


async def test_error_events_that_fail_leave_transactions_with_the_reason() -> None:
    there = world()
    there.broken = {"dataset=errors": says(403)}
    comparison = await found(there)
    assert comparison.dataset == "spans" and comparison.error_events == {}
    assert any("PERMISSION_DENIED" in n for n in comparison.notes)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (says(401), "CREDENTIALS_REJECTED"),
        (says(403), "PERMISSION_DENIED"),
        (says(429, Retry_After="900"), "RATE_LIMITED"),
        (says(503), "UPSTREAM_UNAVAILABLE"),
        (html(), "UPSTREAM_UNAVAILABLE"),
        (slow, "UPSTREAM_TIMEOUT"),
    ],
)
async def test_a_failure_of_all_is_the_error_and_never_a_number(fault: Any, code: str) -> None:
    there = world()
    there.broken = {"events-": fault}
    with pytest.raises(DevOpsError) as raised:
        await found(there, timeout_s=0.3 if fault is slow else 60)
    assert raised.value.code == code


async def test_an_unknown_environment_is_said_and_a_known_one_filters() -> None:
    there = world()
    there.traffic.append(Traffic(ago(90), NOW, errors=500, environment="staging"))
    service = VersionedService("checkout", environment="production")
    assert (await found(there, service)).error_events[Arm.BASELINE] == 60
    with pytest.raises(DevOpsError) as raised:
        await found(there, VersionedService("checkout", environment="nowhere"))
    assert raised.value.code == "NOT_FOUND"
    own = await found(there, WHOLE, environment="staging")
    assert own.error_events[Arm.BASELINE] == 15_000


async def test_the_project_is_the_named_one_else_the_services_else_the_configured_ones() -> None:
    there = world()
    there.traffic.append(Traffic(ago(90), NOW, errors=7, project="web"))
    async with sentry(there, projects=("web",)) as client:
        own = await compare(client, WHOLE, DEPLOYED, RULE)
        named = await compare(client, WHOLE, DEPLOYED, RULE, "web")
        other = await compare(client, VersionedService("basket"), DEPLOYED, RULE)
        with pytest.raises(DevOpsError) as unseen:
            await compare(client, WHOLE, DEPLOYED, RULE, "secret")
    assert own is not None and own.projects == ("checkout",)
    assert named is not None and named.projects == ("web",)
    assert other is not None and other.projects == ("web",)
    assert other.error_events[Arm.BASELINE] == 210
    assert unseen.value.code == "NOT_FOUND" and "checkout" in unseen.value.fix
    async with sentry(there) as client:
        with pytest.raises(NoData) as raised:
            await compare(client, VersionedService("basket"), DEPLOYED, RULE)
    assert "checkout" in raised.value.fix and "web" in raised.value.fix


async def test_queries_are_the_exact_requests_without_the_token() -> None:
    there = world()
    comparison = await found(there)
    query = arm(comparison, Arm.NEW).queries[0]
    told = urlsplit(query.removeprefix("GET "))
    sent = [urlsplit(p) for p in there.paths("dataset=spans")]
    assert (told.path, parse_qs(told.query)) in [(s.path, parse_qs(s.query)) for s in sent]
    asked = parse_qs(told.query)
    assert asked["query"] == [f'is_transaction:true release:"{NEW}"']
    assert asked["disableAggregateExtrapolation"] == ["1"] and asked["interval"] == ["1m"]


async def test_a_release_with_a_slash_and_a_plus_stays_one_segment_of_the_path() -> None:
    there = world(spans=False)
    odd = "team/checkout@1+build/7"
    there.releases.append(release(odd, NOW))
    there.traffic.append(Traffic(DEPLOYED, NOW, errors=5, release=odd))
    comparison = await found(there, VersionedService("checkout", new=odd, old=OLD))
    assert comparison.error_events[Arm.NEW] == 70
    assert any("team%2Fcheckout%401%2Bbuild%2F7" in p for p in there.paths("releases/"))


async def test_a_release_cannot_become_part_of_the_query() -> None:
    there = world()
    with_quote = VersionedService("checkout", new='x" OR release:"*', old=OLD)
    assert Arm.NEW not in arms(await found(there, with_quote))
    with pytest.raises(DevOpsError) as raised:
        async with sentry(there) as client:
            await compare(client, VersionedService("checkout", new="a\nb", old="a"), DEPLOYED, RULE)
    assert raised.value.code == "INVALID_ARGUMENTS"


async def test_seconds_are_read_as_milliseconds() -> None:
    there = world(unit="second")
    there.traffic = [Traffic(ago(90), NOW, requests=10, p99_ms=2)]
    assert arms(await found(there, WHOLE))[Arm.AFTER].p99_ms == 2000


async def test_too_early_is_nothing_until_a_settled_bucket_lies_behind_the_grace() -> None:
    there = world()
    there.clock = FixedClock(DEPLOYED + timedelta(minutes=6, seconds=59))
    async with sentry(there) as client:
        assert await compare(client, WHOLE, DEPLOYED, RULE) is None
    assert there.asked == []
    there.clock = FixedClock(DEPLOYED + timedelta(minutes=7))
    assert len(arm(await found(there, WHOLE), Arm.AFTER).buckets) == 1


def test_windows_lie_on_the_marks_of_sentrys_buckets_and_never_straddle() -> None:
    odd = DEPLOYED + timedelta(seconds=17.5)
    windows = aligned(odd, NOW, RULE, 180)
    assert windows is not None
    assert windows.baseline == Window(start=ago(60), end=ago(30))
    assert windows.after.start == ago(16)


def context_args(**more: Any) -> CompareErrorRates:
    return CompareErrorRates(service="checkout", deployed_at=DEPLOYED, **more)


async def test_the_tool_tells_rates_where_there_are_requests() -> None:
    async with sentry(world()) as client:
        context = context_for(client)
        short = await compare_error_rates.run(
            context_args(release=NEW, previous_release=OLD), context
        )
        long = await compare_error_rates.run(
            context_args(response_format=ResponseFormat.DETAILED, baseline_minutes=10), context
        )
    assert short.headline.startswith("checkout: errors 1% (old revision) -> 20% (new revision)")
    assert short.series == () and short.projects == ("checkout",)
    assert len(short.text()) < 4000
    assert long.series and long.windows.baseline.seconds == 600


async def test_the_tool_tells_counts_and_no_rate_where_nobody_counted_requests() -> None:
    there = world(spans=False)
    async with sentry(there) as client:
        told = await compare_error_rates.run(context_args(), context_for(client))
    assert "60 in 30 min (2/min) (before)" in told.headline
    assert "588 in 14 min (42/min) (after)" in told.headline and "no rate" in told.headline
    assert told.error_events == {"baseline": 60, "after": 588}


async def test_the_tool_says_when_to_ask_again() -> None:
    there = world()
    there.clock = FixedClock(DEPLOYED + timedelta(minutes=1))
    async with sentry(there) as client:
        with pytest.raises(NoData) as raised:
            await compare_error_rates.run(context_args(), context_for(client))
    assert "11:47:00" in raised.value.fix
