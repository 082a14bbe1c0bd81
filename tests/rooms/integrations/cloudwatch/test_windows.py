from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import DevOpsError, InvalidArguments, NoData, NotFound
from mcp_devops.integrations.cloudwatch.client import CloudWatchClient
from mcp_devops.integrations.cloudwatch.compare_windows import CompareWindows, compare_windows
from mcp_devops.integrations.cloudwatch.metrics import TARGET_GROUP_NOTE, metrics_of
from mcp_devops.integrations.cloudwatch.series import NO_ERRORS, compare, period_of, rule_for
from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings
from mcp_devops.model.arms import ArmSummary, summarise
from mcp_devops.model.evidence import Arm, RequestSeries
from mcp_devops.model.window import Window, WindowRule, windows_around
from mcp_devops.toolkit.answer import ResponseFormat
from mcp_devops.toolkit.comparing import RequestComparison, VersionedService
from mcp_devops.toolkit.context import Caller, ToolContext
from tests.rooms.integrations.cloudwatch.wire import (
    NOW,
    Value,
    Wire,
    cloudwatch,
    constant,
    minutes_ago,
)

DEPLOYED = minutes_ago(6) + timedelta(seconds=20)
MICROSECOND = timedelta(microseconds=1)
RULE = WindowRule(baseline_s=1800, buffer_s=600, step_s=60)
CHECKOUT = VersionedService("checkout")
Metrics = dict[tuple[str, str], Value]


def load_balancer(**more: Value) -> Metrics:
    """A service whose errors and latency rise with the deployment."""
    slow = constant(0.9, since=6)
    metrics: Metrics = {
        ("RequestCount", "Sum"): constant(600.0),
        ("HTTPCode_Target_5XX_Count", "Sum"): constant(60.0, since=6),
        ("TargetResponseTime", "p99"): lambda at: slow(at) or 0.25,
        ("TargetResponseTime", "Average"): constant(0.05),
    }
    return metrics | {(name, "Sum"): value for name, value in more.items()}


async def compared(
    wire: Wire, service: VersionedService = CHECKOUT, rule: WindowRule = RULE, **settings: Any
) -> RequestComparison:
    async with cloudwatch(wire, **settings) as client:
        found = await compare(client, service, DEPLOYED, rule)
    assert found is not None
    return found


def arms(found: RequestComparison) -> dict[Arm, ArmSummary]:
    return {s.arm: summarise(s) for s in found.series}


def series(found: RequestComparison, arm: Arm) -> RequestSeries:
    return next(s for s in found.series if s.arm is arm)


async def test_before_and_after_are_compared_in_one_request() -> None:
    wire = Wire(
        load_balancer(),
        dimensions={"LoadBalancer": "app/prod/50dc", "TargetGroup": "targetgroup/a/1"},
    )
    found = await compared(wire)
    by_arm = arms(found)
    assert set(by_arm) == {Arm.BASELINE, Arm.AFTER} and len(wire.asked) == 1
    assert by_arm[Arm.BASELINE].error_rate == 0 and by_arm[Arm.AFTER].error_rate == 0.1
    assert by_arm[Arm.BASELINE].p99_ms == 250 and by_arm[Arm.AFTER].p99_ms == 900
    assert by_arm[Arm.BASELINE].requests == 18_000
    assert {b.mean_ms for b in series(found, Arm.AFTER).buckets} == {50}
    assert series(found, Arm.AFTER).queries[0] == (
        "AWS/ApplicationELB RequestCount Sum period=60"
        " {LoadBalancer=app/prod/50dc,TargetGroup=targetgroup/a/1}"
    )
    assert all(s.windows == found.windows and s.source == "cloudwatch" for s in found.series)


async def test_windows_lie_on_whole_minutes_and_the_straddling_bucket_is_neither_sides() -> None:
    found = await compared(Wire(load_balancer()))
    assert found.windows.after == Window(start=minutes_ago(5), end=minutes_ago(0))
    assert found.windows.baseline == Window(start=minutes_ago(46), end=minutes_ago(16))
    assert series(found, Arm.BASELINE).buckets[-1].start == minutes_ago(7)


@given(
    st.integers(0, 10**15).map(lambda us: datetime(2020, 1, 1, tzinfo=UTC) + us * MICROSECOND),
    st.floats(5, 3600),
    st.floats(0, 3600),
    st.integers(0, 400),
)
def test_windows_always_lie_on_the_grid_of_a_period_that_is_kept(
    at: datetime, step: float, grace: float, days: int
) -> None:
    rule = WindowRule(baseline_s=1800, buffer_s=600, step_s=step, grace_s=grace)
    now = at + timedelta(days=days, hours=4)
    for high in (False, True):
        settings = CloudWatchSettings(high_resolution=high)
        laid = rule_for(settings, at, now, rule)
        windows = windows_around(at, now, laid)
        assert windows is not None and laid.step_s >= step
        assert laid.step_s % 60 == 0 or (high and days == 0 and laid.step_s in (10, 20, 30))
        for edge in (windows.baseline.start, windows.baseline.end, windows.after.start):
            assert edge.microsecond == 0 and int(edge.timestamp()) % laid.step_s == 0
        assert windows.after.start >= at + timedelta(seconds=grace)


@given(st.text(max_size=30), st.text(max_size=10))
def test_only_the_named_values_of_dimensions_change(name: str, environment: str) -> None:
    settings = CloudWatchSettings.load(
        kind="lambda", dimensions={"Stage": "$environment-x", "Kept": "$other"}
    )
    try:
        found = metrics_of(settings, VersionedService(name, environment))
    except InvalidArguments:
        return
    where = dict(found.requests.dimensions)
    assert where == {"FunctionName": name, "Stage": f"{environment}-x", "Kept": "$other"}
    assert all(v.isascii() and v.isprintable() for v in where.values())


async def test_grace_and_lag_are_left_out() -> None:
    rule = RULE.model_copy(update={"grace_s": 60.0})
    found = await compared(Wire(load_balancer()), rule=rule, settle_s=120)
    assert found.windows.after == Window(start=minutes_ago(4), end=minutes_ago(2))


async def test_no_point_of_errors_is_zero_where_requests_were_counted_and_is_said() -> None:
    found = await compared(Wire(load_balancer()))
    baseline = series(found, Arm.BASELINE)
    assert {b.errors for b in baseline.buckets} == {0.0}
    assert baseline.note == f"{TARGET_GROUP_NOTE}; {NO_ERRORS}"
    assert series(found, Arm.AFTER).note == TARGET_GROUP_NOTE


async def test_no_requests_is_no_data_and_never_zero() -> None:
    stopped = {("RequestCount", "Sum"): constant(600.0, until=8)}
    after = series(await compared(Wire(stopped)), Arm.AFTER)
    assert {(b.requests, b.errors, b.p99_ms) for b in after.buckets} == {(None, None, None)}
    assert after.note == TARGET_GROUP_NOTE and len(after.buckets) == 5


async def test_a_whole_load_balancer_counts_its_own_answers_without_a_target() -> None:
    metrics = load_balancer(HTTPCode_ELB_5XX_Count=constant(300.0, since=5))
    metrics[("RequestCount", "Sum")] = constant(600.0, until=3)
    found = await compared(Wire(metrics), services={"checkout": {"LoadBalancer": "app/prod/50dc"}})
    buckets = series(found, Arm.AFTER).buckets
    assert [(b.requests, b.errors) for b in buckets] == [
        (600, 360), (600, 360), (360, 360), (360, 360), (360, 360)
    ]  # fmt: skip
    assert series(found, Arm.AFTER).note is None


async def test_errors_beyond_the_requests_of_a_target_group_are_not_more_than_all() -> None:
    metrics = load_balancer(HTTPCode_Target_5XX_Count=constant(900.0, since=6))
    assert arms(await compared(Wire(metrics)))[Arm.AFTER].error_rate == 1


async def test_nothing_at_all_says_what_was_asked() -> None:
    wire = Wire(load_balancer(), dimensions={"LoadBalancer": "another"})
    async with cloudwatch(wire) as client:
        with pytest.raises(NoData) as raised:
            await compare(client, CHECKOUT, DEPLOYED, RULE)
    assert "RequestCount" in raised.value.what and len(raised.value.details["queries"]) == 4


async def test_another_period_than_asked_is_refused() -> None:
    async with cloudwatch(Wire(load_balancer(), shift_s=20)) as client:
        with pytest.raises(DevOpsError) as raised:
            await compare(client, CHECKOUT, DEPLOYED, RULE)
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize(
    ("settings", "metrics", "dimensions"),
    [
        ({"kind": "lambda"}, ("Invocations", "Errors", "Duration"), {"FunctionName": "checkout"}),
        (
            {"kind": "api_gateway", "dimensions": {"Stage": "$environment"}},
            ("Count", "5XXError", "Latency"),
            {"ApiName": "checkout", "Stage": "prod"},
        ),
        (
            {"kind": "http_api", "services": {"checkout": {"ApiId": "a1"}}},
            ("Count", "5xx", "Latency"),
            {"ApiId": "a1"},
        ),
        (
            {
                "kind": "own", "namespace": "Shop", "requests_metric": "Requests",
                "errors_metric": "Failures", "latency_metric": "Took",
                "dimensions": {"Service": "${service}.$namespace"},
            },
            ("Requests", "Failures", "Took"),
            {"Service": "checkout.prod"},
        ),
    ],
    ids=["lambda", "api_gateway", "http_api", "own"],
)  # fmt: skip
async def test_other_kinds_have_their_metrics_and_dimensions(
    settings: dict[str, Any], metrics: tuple[str, str, str], dimensions: dict[str, str]
) -> None:
    requests, errors, latency = metrics
    wire = Wire(
        {
            (requests, "Sum"): constant(100.0),
            (errors, "Sum"): constant(5.0),
            (latency, "p99"): constant(250.0),
            (latency, "Average"): constant(50.0),
        },
        dimensions=dimensions,
    )
    service = VersionedService("checkout", "prod")
    after = arms(await compared(wire, service, **({"services": {}} | settings)))[Arm.AFTER]
    assert after.error_rate == 0.05 and after.p99_ms == 250 and after.note is None


async def test_own_metrics_without_errors_or_latency_leave_them_unknown() -> None:
    own: dict[str, Any] = {
        "kind": "own", "namespace": "Shop", "requests_metric": "Requests",
    }  # fmt: skip
    found = await compared(Wire({("Requests", "Sum"): constant(100.0)}), **own)
    after = series(found, Arm.AFTER)
    assert after.buckets[0].requests == 100
    assert after.buckets[0].errors is None and after.buckets[0].p99_ms is None


async def test_a_load_balancer_may_be_given_by_its_arn() -> None:
    prefix = "arn:aws:elasticloadbalancing:eu-west-1:123456789012"
    services = {
        "checkout": {
            "LoadBalancer": f"{prefix}:loadbalancer/app/prod/50dc",
            "TargetGroup": f"{prefix}:targetgroup/a/1",
        }
    }
    wire = Wire(
        load_balancer(),
        dimensions={"LoadBalancer": "app/prod/50dc", "TargetGroup": "targetgroup/a/1"},
    )
    assert arms(await compared(wire, services=services))[Arm.AFTER].requests == 3000


async def test_a_service_that_is_not_listed_never_gets_anothers_numbers() -> None:
    async with cloudwatch(Wire(load_balancer()), dimensions={"LoadBalancer": "app/p/1"}) as client:
        with pytest.raises(NotFound) as raised:
            await compare(client, VersionedService("cart"), DEPLOYED, RULE)
    assert raised.value.details["candidates"] == ["checkout"]


@pytest.mark.parametrize(
    "service",
    [VersionedService("a b", "prod"), VersionedService("checkout"), VersionedService("ä", "prod")],
)
async def test_a_name_that_does_not_fit_a_dimension_is_refused(service: VersionedService) -> None:
    settings: dict[str, Any] = {"kind": "lambda", "dimensions": {"Stage": "$environment"}}
    wire = Wire()
    async with cloudwatch(wire, services={}, **settings) as client:
        with pytest.raises(InvalidArguments):
            await compare(client, service, DEPLOYED, RULE)
    assert wire.asked == []


async def test_before_one_whole_settled_bucket_there_is_nothing_to_compare() -> None:
    async with cloudwatch(Wire(load_balancer())) as client:
        at = NOW - timedelta(seconds=89)
        assert await compare(client, CHECKOUT, at, RULE) is None
        assert await compare(client, CHECKOUT, at - timedelta(seconds=1), RULE) is not None


HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize(
    ("step", "age", "high", "period"),
    [
        (60, HOUR, False, 60),
        (5, HOUR, False, 60),
        (90, HOUR, False, 120),
        (5, HOUR, True, 10),
        (25, HOUR, True, 30),
        (45, HOUR, True, 60),
        (10, 4 * HOUR, True, 60),
        (60, 16 * DAY, False, 300),
        (400, 16 * DAY, False, 600),
        (60, 64 * DAY, False, 3600),
    ],
)
def test_the_period_is_one_that_cloudwatch_keeps(
    step: float, age: float, high: bool, period: int
) -> None:
    assert period_of(step, age, high) == period


async def test_an_old_deployment_is_compared_in_the_periods_that_are_left() -> None:
    wire = Wire({("RequestCount", "Sum"): lambda at: 600.0})
    at = NOW - timedelta(days=20)
    async with cloudwatch(wire) as client:
        found = await compare(client, CHECKOUT, at, RULE)
    assert found is not None and found.series[0].step_s == 300
    assert summarise(found.series[0]).buckets == 6


def _context(client: CloudWatchClient) -> ToolContext[CloudWatchClient]:
    class Nothing:
        async def get(self, kind: type[Any]) -> Any:
            raise AssertionError(kind)

        async def find(self, kind: type[Any]) -> Any:
            return None

    return ToolContext(client, Nothing(), client.clock, Caller("ann", "test"), "call-1")


async def test_the_tool_tells_both_sides_in_a_sentence_and_buckets_on_request() -> None:
    args: dict[str, Any] = {"service": "checkout", "deployed_at": DEPLOYED}
    async with cloudwatch(Wire(load_balancer())) as client:
        short = await compare_windows.run(CompareWindows(**args), _context(client))
        long = await compare_windows.run(
            CompareWindows(
                **args, baseline_minutes=10, step_s=30, response_format=ResponseFormat.DETAILED
            ),
            _context(client),
        )
    assert short.headline == ("checkout: errors 0% (before) -> 10% (after); p99 250 ms -> 900 ms.")
    assert short.series == () and long.series and long.series[0].queries
    assert long.windows.baseline.seconds == 600 and long.step_s == 60


async def test_the_tool_says_when_to_ask_again() -> None:
    async with cloudwatch(Wire(load_balancer()), grace_s=60, settle_s=180) as client:
        with pytest.raises(DevOpsError) as early:
            await compare_windows.run(
                CompareWindows(service="checkout", deployed_at=minutes_ago(2.5)),
                _context(client),
            )
    # 11:57:30, the grace to 11:58:30, the whole bucket 11:59-12:00, three minutes to settle.
    assert early.value.code == "NO_DATA" and "12:03:00" in early.value.fix
