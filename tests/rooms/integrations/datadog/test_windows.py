from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import DevOpsError, InvalidArguments, NoData
from mcp_devops.integrations.datadog.client import DatadogClient
from mcp_devops.integrations.datadog.compare_windows import CompareWindows, compare_windows
from mcp_devops.integrations.datadog.series import NO_ERRORS_SERIES, compare, rule_on_grid
from mcp_devops.model.arms import ArmSummary, summarise
from mcp_devops.model.evidence import Arm, RequestSeries
from mcp_devops.model.window import Window, WindowRule, windows_around
from mcp_devops.toolkit.answer import ResponseFormat
from mcp_devops.toolkit.comparing import RequestComparison, VersionedService
from mcp_devops.toolkit.context import Caller, ToolContext
from tests.support.datadog import NOW, DatadogApi, Traffic, datadog, minutes_ago

DEPLOYED = minutes_ago(6) + timedelta(seconds=20)
"""Inside the bucket that begins six minutes ago: that one is neither side's."""
MICROSECOND = timedelta(microseconds=1)
RULE = WindowRule(baseline_s=1800, buffer_s=600, step_s=60)
SPLIT = VersionedService("checkout", "prod", "1.1", "1.0")


def rollout(error_rate: float = 0.2, p99_s: float = 0.9, **new: Any) -> list[Traffic]:
    """An old version that serves on, and a new one that is worse since the deployment."""
    fresh = {"error_rate": error_rate, "p99_s": p99_s, "mean_s": 0.2, **new}
    return [
        Traffic(minutes_ago(60), NOW, "1.0"),
        Traffic(DEPLOYED, NOW, "1.1", **fresh),
    ]


async def compared(
    traffic: list[Traffic],
    service: VersionedService = SPLIT,
    api: dict[str, Any] | None = None,
    **settings: Any,
) -> RequestComparison:
    async with datadog(DatadogApi(traffic, **(api or {})), **settings) as client:
        found = await compare(client, service, DEPLOYED, RULE)
    assert found is not None
    return found


def arms(found: RequestComparison) -> dict[Arm, ArmSummary]:
    return {s.arm: summarise(s) for s in found.series}


def series(found: RequestComparison, arm: Arm) -> RequestSeries:
    return next(s for s in found.series if s.arm is arm)


async def test_windows_lie_on_whole_minutes_and_the_straddling_bucket_is_neither_sides() -> None:
    found = await compared(rollout())
    assert found.windows.after == Window(start=minutes_ago(5), end=minutes_ago(0))
    assert found.windows.baseline == Window(start=minutes_ago(46), end=minutes_ago(16))
    assert found.windows.deployed_at == DEPLOYED
    assert series(found, Arm.BASELINE).buckets[-1].start == minutes_ago(7)
    assert summarise(series(found, Arm.BASELINE)).buckets == 30
    assert all(s.windows == found.windows and s.source == "datadog" for s in found.series)


@given(
    st.integers(0, 10**15).map(lambda us: datetime(2020, 1, 1, tzinfo=UTC) + us * MICROSECOND),
    st.floats(5, 3600),
    st.floats(0, 3600),
    st.floats(0, 86_400),
)
def test_windows_always_lie_on_the_grid_and_apart(
    at: datetime, step: float, grace: float, buffer: float
) -> None:
    rule = WindowRule(baseline_s=1800, buffer_s=buffer, step_s=step, grace_s=grace)
    laid = rule_on_grid(at, rule)
    windows = windows_around(at, at + timedelta(hours=4), laid)
    assert windows is not None
    for edge in (windows.baseline.start, windows.baseline.end, windows.after.start):
        assert edge.microsecond == 0 and int(edge.timestamp()) % laid.step_s == 0
    assert windows.after.start >= at + timedelta(seconds=grace)
    assert windows.baseline.end <= at - timedelta(seconds=buffer)
    assert windows.baseline.seconds >= 1800


@pytest.mark.parametrize("lacks_v2", [False, True])
async def test_old_and_new_version_are_told_apart_in_the_same_minutes(lacks_v2: bool) -> None:
    by_arm = arms(await compared(rollout(), api={"lacks_v2": lacks_v2}))
    assert by_arm[Arm.NEW].error_rate == pytest.approx(0.2)
    assert by_arm[Arm.NEW].p99_ms == 900 and by_arm[Arm.CONTROL].p99_ms == 250
    assert by_arm[Arm.CONTROL].error_rate == 0
    assert by_arm[Arm.AFTER].error_rate == pytest.approx(0.1)
    assert by_arm[Arm.AFTER].requests == 6000 and by_arm[Arm.BASELINE].requests == 18_000


async def test_mean_latency_is_given_and_no_latency_without_requests() -> None:
    found = await compared(rollout())
    assert [b.mean_ms for b in series(found, Arm.NEW).buckets] == [200] * 5
    quiet = await compared([Traffic(minutes_ago(60), minutes_ago(8), "1.0")])
    assert {b.p99_ms for b in series(quiet, Arm.AFTER).buckets} == {None}


async def test_it_takes_two_requests_however_many_arms() -> None:
    api = DatadogApi(rollout())
    async with datadog(api) as client:
        await compare(client, SPLIT, DEPLOYED, RULE)
    assert [path for _, path, _ in api.asked] == ["/api/v2/query/timeseries"] * 2
    assert len(api.asked[1][2]) == 12


async def test_no_series_of_errors_is_zero_where_requests_were_counted_and_is_said() -> None:
    found = await compared(rollout(error_rate=0.0))
    assert arms(found)[Arm.NEW].error_rate == 0.0
    assert series(found, Arm.NEW).note == NO_ERRORS_SERIES
    assert series(await compared(rollout()), Arm.NEW).note is None


async def test_no_requests_is_no_data_and_never_zero() -> None:
    quiet = await compared([Traffic(minutes_ago(60), minutes_ago(8), "1.0")])
    after = series(quiet, Arm.AFTER)
    assert {(b.requests, b.errors) for b in after.buckets} == {(None, None)}
    assert after.note is None and len(after.buckets) == 5
    assert {s.arm for s in quiet.series} == {Arm.BASELINE, Arm.AFTER}


async def test_a_new_version_without_points_is_silent_while_the_old_one_serves() -> None:
    found = await compared([Traffic(minutes_ago(60), NOW, "1.0")])
    assert series(found, Arm.NEW).buckets == ()
    assert series(found, Arm.CONTROL).buckets


async def test_versions_that_are_not_tagged_give_no_split() -> None:
    found = await compared([Traffic(minutes_ago(60), NOW, "")])
    assert {s.arm for s in found.series} == {Arm.BASELINE, Arm.AFTER}


async def test_the_same_version_twice_is_no_split() -> None:
    same = VersionedService("checkout", "prod", "1.0", "1.0")
    assert len((await compared(rollout(), same)).series) == 2


async def test_the_newest_bucket_is_left_until_the_lag_has_passed() -> None:
    lagging = {"lag": 80}
    hasty = await compared(rollout(), api=lagging)
    assert series(hasty, Arm.AFTER).buckets[-1].requests == 200
    patient = await compared(rollout(), api=lagging, settle_s=60)
    assert patient.windows.after.end == minutes_ago(1)
    assert {b.requests for b in series(patient, Arm.AFTER).buckets} == {1200}


async def test_before_one_whole_settled_bucket_there_is_nothing_to_compare() -> None:
    async with datadog(DatadogApi(rollout())) as client:
        for ago in (30, 89):
            at = NOW - timedelta(seconds=ago)
            assert await compare(client, SPLIT, at, RULE) is None
        assert await compare(client, SPLIT, NOW - timedelta(seconds=90), RULE) is not None


async def test_the_first_operation_with_requests_is_the_services() -> None:
    outgoing = Traffic(minutes_ago(60), NOW, operation="http.request", error_rate=1.0)
    found = await compared([*rollout(error_rate=0.0), outgoing])
    assert arms(found)[Arm.AFTER].error_rate == 0
    only = await compared([outgoing])
    assert arms(only)[Arm.AFTER].error_rate == 1
    named = await compared([*rollout(), outgoing], operations="http.request, flask.request")
    assert arms(named)[Arm.AFTER].error_rate == 1


async def test_an_unknown_service_says_what_was_looked_for() -> None:
    async with datadog(DatadogApi(rollout())) as client:
        with pytest.raises(NoData) as raised:
            await compare(client, VersionedService("nope", "prod"), DEPLOYED, RULE)
        with pytest.raises(NoData):
            await compare(client, VersionedService("checkout", "staging"), DEPLOYED, RULE)
    assert "OPERATIONS" in raised.value.fix and "'prod'" in raised.value.what


async def test_the_environment_of_the_settings_counts_unless_the_caller_names_one() -> None:
    other = Traffic(minutes_ago(60), NOW, env="staging", error_rate=1.0)
    anywhere = await compared([*rollout(0.0), other], VersionedService("checkout"))
    assert (arms(anywhere)[Arm.AFTER].error_rate or 0) > 0
    own = await compared([*rollout(0.0), other], VersionedService("checkout"), environment="prod")
    assert arms(own)[Arm.AFTER].error_rate == 0
    named = await compared(
        [*rollout(0.0), other], VersionedService("checkout", "staging"), environment="prod"
    )
    assert arms(named)[Arm.AFTER].error_rate == 1


async def test_own_queries_replace_the_trace_metrics() -> None:
    scope = "{service:$service,env:$env,version:$version}"
    own: dict[str, Any] = {
        "requests_query": f"sum:trace.flask.request.hits{scope}.as_count().rollup(sum, $step)",
        "errors_query": f"sum:trace.flask.request.errors{scope}.as_count().rollup(sum, $step)",
        "p99_query": f"p99:trace.flask.request{scope}.rollup($step)",
    }
    found = await compared(rollout(), VersionedService("checkout", None, "1.1", "1.0"), **own)
    by_arm = arms(found)
    assert by_arm[Arm.NEW].error_rate == pytest.approx(0.2) and by_arm[Arm.NEW].p99_ms == 900
    assert series(found, Arm.NEW).queries[0] == (
        "sum:trace.flask.request.hits{service:checkout,env:*,version:1.1}.as_count()"
        ".rollup(sum, 60)"
    )
    assert "version:*" in series(found, Arm.BASELINE).queries[0]


async def test_own_queries_without_a_version_or_errors_leave_them_unknown() -> None:
    query = "sum:trace.flask.request.hits{service:$service}.as_count().rollup(sum, $step)"
    found = await compared(rollout(), requests_query=query)
    assert {s.arm for s in found.series} == {Arm.BASELINE, Arm.AFTER}
    after = series(found, Arm.AFTER)
    assert after.buckets[0].requests == 1200 and after.buckets[0].errors is None
    assert after.note is None


@pytest.mark.parametrize(
    "service",
    [
        VersionedService("a} by {host"),
        VersionedService("a,env:other"),
        VersionedService("checkout", "prod OR env:x"),
        VersionedService("checkout", None, "1.1}", "1.0"),
        VersionedService("*"),
    ],
)
async def test_a_name_that_would_change_the_query_is_refused(service: VersionedService) -> None:
    query = "sum:x{service:$service,env:$env,version:$version}"
    choices: list[dict[str, Any]] = [{}, {"requests_query": query}]
    for own in choices:
        api = DatadogApi(rollout())
        async with datadog(api, **own) as client:
            with pytest.raises(InvalidArguments):
                await compare(client, service, DEPLOYED, RULE)
        assert api.asked == []


def _context(client: DatadogClient) -> ToolContext[DatadogClient]:
    class Nothing:
        async def get(self, kind: type[Any]) -> Any:
            raise AssertionError(kind)

        async def find(self, kind: type[Any]) -> Any:
            return None

    return ToolContext(client, Nothing(), client.clock, Caller("ann", "test"), "call-1")


async def test_the_tool_tells_both_sides_in_a_sentence_and_buckets_on_request() -> None:
    args: dict[str, Any] = {"service": "checkout", "deployed_at": DEPLOYED, "environment": "prod"}
    async with datadog(DatadogApi(rollout())) as client:
        short = await compare_windows.run(
            CompareWindows(**args, new_version="1.1", old_version="1.0"), _context(client)
        )
        long = await compare_windows.run(
            CompareWindows(
                **args,
                baseline_minutes=10,
                buffer_minutes=0,
                step_s=30,
                response_format=ResponseFormat.DETAILED,
            ),
            _context(client),
        )
    assert short.headline == (
        "checkout: errors 0% (old revision) -> 20% (new revision); p99 250 ms -> 900 ms."
    )
    assert short.series == () and long.series and long.series[0].queries
    assert long.windows.baseline.seconds == 600 and long.step_s == 30


async def test_the_tool_says_when_to_ask_again() -> None:
    async with datadog(DatadogApi(rollout()), settle_s=60) as client:
        with pytest.raises(DevOpsError) as early:
            await compare_windows.run(
                CompareWindows(service="checkout", deployed_at=minutes_ago(1.5)),
                _context(client),
            )
    # The whole bucket 11:59-12:00, and the minute until it has settled.
    assert early.value.code == "NO_DATA" and "12:01:00" in early.value.fix
