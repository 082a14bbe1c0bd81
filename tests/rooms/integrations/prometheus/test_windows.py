from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mcp_devops.errors import DevOpsError, NoData
from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.compare_windows import CompareWindows, compare_windows
from mcp_devops.integrations.prometheus.conventions import pod_pattern, quoted
from mcp_devops.integrations.prometheus.series import (
    Comparison,
    Subject,
    compare,
    error_rate,
    neighbour_rates,
)
from mcp_devops.model.arms import ArmSummary, summarise
from mcp_devops.model.evidence import Arm
from mcp_devops.model.window import Window, WindowRule
from mcp_devops.toolkit.answer import ResponseFormat
from mcp_devops.toolkit.context import Caller, ToolContext
from tests.support.prometheus_api import NOW, Pod, minutes_ago, prometheus, samples_of

DEPLOYED = minutes_ago(5)
RULE = WindowRule(baseline_s=1800, buffer_s=600, step_s=60)
SPLIT = Subject("checkout", "shop", "checkout-new", "checkout-old")


def rollout(error_rate: float = 0.2, slow: float = 0.3, **new: Any) -> list[Any]:
    """An old pod that serves on, and a new one that is worse since the deployment."""
    old = Pod("checkout-old-aaaaa", minutes_ago(50), NOW, rps=10)
    fresh = Pod("checkout-new-bbbbb", DEPLOYED, NOW, **{
        "rps": 10, "error_rate": error_rate, "slow": slow, **new
    })  # fmt: skip
    return samples_of(old) + samples_of(fresh)


def arms(found: Comparison | None) -> dict[Arm, ArmSummary]:
    assert found is not None
    return {s.arm: summarise(s, found.windows) for s in found.series}


async def compared(samples: list[Any], subject: Subject = SPLIT, **options: Any) -> Comparison:
    async with prometheus(samples) as client:
        found = await compare(client, subject, DEPLOYED, options.get("rule", RULE))
    assert found is not None
    return found


async def test_the_baseline_is_thirty_minutes_that_end_ten_before_the_deployment() -> None:
    found = await compared(rollout())
    assert found.windows.baseline == Window(start=minutes_ago(45), end=minutes_ago(15))
    assert found.windows.after == Window(start=DEPLOYED, end=NOW)


async def test_old_and_new_revision_are_told_apart_in_the_same_minutes() -> None:
    by_arm = arms(await compared(rollout()))
    assert by_arm[Arm.NEW].error_rate == pytest.approx(0.2, abs=0.01)
    assert by_arm[Arm.CONTROL].error_rate == 0
    assert by_arm[Arm.AFTER].error_rate == pytest.approx(0.1, abs=0.01)
    assert by_arm[Arm.BASELINE].requests == pytest.approx(18_000, rel=0.02)
    assert by_arm[Arm.NEW].p99_ms == pytest.approx(492, rel=0.05)
    assert by_arm[Arm.NEW].slow_share == pytest.approx(0.3, abs=0.02)


async def test_what_began_in_the_buffer_is_kept_with_the_baseline_but_not_counted_in_it() -> None:
    found = await compared(rollout())
    series = next(s for s in found.series if s.arm is Arm.BASELINE)
    assert series.buckets[-1].start == minutes_ago(6)
    assert summarise(series, found.windows).buckets == 30


async def test_mean_latency_is_read_from_the_histogram() -> None:
    found = await compared(rollout())
    series = next(s for s in found.series if s.arm is Arm.NEW)
    means = [b.mean_ms for b in series.buckets if b.mean_ms is not None]
    assert means[-1] == pytest.approx(20 * 0.7 + 400 * 0.3, rel=0.02)


async def test_no_failures_at_all_is_zero_and_no_requests_is_not() -> None:
    by_arm = arms(await compared(rollout(error_rate=0.0)))
    assert by_arm[Arm.AFTER].error_rate == 0.0
    silent = await compared(samples_of(Pod("checkout-old-aaaaa", minutes_ago(50), minutes_ago(6))))
    after = arms(silent)[Arm.AFTER]
    assert after.requests is None and after.error_rate is None


async def test_a_new_revision_without_any_series_is_silent_not_unknown() -> None:
    found = await compared(samples_of(Pod("checkout-old-aaaaa", minutes_ago(50), NOW)))
    new = next(s for s in found.series if s.arm is Arm.NEW)
    assert new.buckets == ()


async def test_pods_that_cannot_be_told_apart_give_no_split() -> None:
    samples = samples_of(Pod("another-name", minutes_ago(50), NOW))
    assert set(arms(await compared(samples))) == {Arm.BASELINE, Arm.AFTER}


async def test_a_step_under_four_scrapes_is_raised() -> None:
    found = await compared(rollout(), rule=WindowRule(baseline_s=1800, buffer_s=600, step_s=5))
    assert found.series[0].step_s == 20


async def test_before_one_whole_bucket_there_is_nothing_to_compare() -> None:
    async with prometheus(rollout()) as client:
        assert await compare(client, SPLIT, NOW - timedelta(seconds=30), RULE) is None


@pytest.mark.parametrize(
    ("label", "code"),
    [("app", "code"), ("job", "status_code"), ("service_name", "http_response_status_code")],
)
async def test_other_label_conventions_are_found_by_looking(label: str, code: str) -> None:
    pod = Pod("checkout-old-aaaaa", minutes_ago(50), NOW, error_rate=0.1)
    by_arm = arms(await compared(samples_of(pod, label, code), Subject("checkout", "shop")))
    assert by_arm[Arm.AFTER].error_rate == pytest.approx(0.1, abs=0.005)


async def test_another_namespace_of_the_same_name_is_left_out() -> None:
    other = Pod("checkout-x-a", minutes_ago(50), NOW, error_rate=1.0, extra={"namespace": "other"})
    by_arm = arms(await compared([*rollout(error_rate=0.0), *samples_of(other)]))
    assert by_arm[Arm.AFTER].error_rate == 0.0


async def test_an_unknown_service_says_what_was_looked_for() -> None:
    async with prometheus(rollout()) as client:
        with pytest.raises(NoData) as raised:
            await compare(client, Subject("nope", "shop"), DEPLOYED, RULE)
    assert "service_labels".upper() in raised.value.fix


async def test_own_queries_replace_the_conventions() -> None:
    own: dict[str, Any] = {
        "requests_query": 'sum(increase(http_requests_total{service="$service",pod=~"$pods"}[$range]))',  # noqa: E501
        "errors_query": 'sum(increase(http_requests_total{service="$service",pod=~"$pods",status="500"}[$range]))',  # noqa: E501
        "p99_query": 'histogram_quantile(0.99, sum by (le) (increase(http_request_duration_seconds_bucket{pod=~"$pods"}[$range])))',  # noqa: E501
    }
    async with prometheus(rollout(), **own) as client:
        by_arm = arms(await compare(client, SPLIT, DEPLOYED, RULE))
    assert by_arm[Arm.NEW].error_rate == pytest.approx(0.2, abs=0.01)
    assert by_arm[Arm.CONTROL].p99_ms == pytest.approx(49.5, rel=0.02)


async def test_the_rate_of_one_window_is_given_with_its_requests() -> None:
    window = Window(start=minutes_ago(2), end=NOW)
    async with prometheus(rollout()) as client:
        rate, requests = await error_rate(client, Subject("checkout", "shop"), DEPLOYED, window)
        none, zero = await error_rate(
            client,
            Subject("checkout", "shop", new="checkout-gone"),
            DEPLOYED,
            window,
        )
    assert rate == pytest.approx(0.1, abs=0.01) and requests == pytest.approx(2400, rel=0.02)
    assert none is None and zero == 0


async def test_neighbours_are_counted_in_the_same_windows() -> None:
    sick = Pod("cart-1-a", minutes_ago(50), NOW, error_rate=0.5, service="cart")
    async with prometheus([*rollout(), *samples_of(sick)]) as client:
        found = await compare(client, SPLIT, DEPLOYED, RULE)
        assert found is not None and found.convention is not None
        rates = await neighbour_rates(client, found.convention, found.windows)
    assert set(rates) == {"cart", "checkout"}
    before, after, requests = rates["cart"]
    assert before == after == pytest.approx(0.5, abs=0.01)
    assert requests == pytest.approx(3000, rel=0.02)


def test_labels_cannot_break_out_of_a_query() -> None:
    assert quoted('a"} or up{x="\n\\') == '"a\\"} or up{x=\\"\\n\\\\"'
    assert pod_pattern("checkout.v1-5b") == "checkout\\.v1-5b-[a-z0-9]+"


def _context(client: PrometheusClient) -> ToolContext[PrometheusClient]:
    class Nothing:
        async def get(self, kind: type[Any]) -> Any:
            raise AssertionError(kind)

        async def find(self, kind: type[Any]) -> Any:
            return None

    return ToolContext(client, Nothing(), client.clock, Caller("ann", "test"), "call-1")


async def test_the_tool_tells_both_sides_in_a_sentence_and_buckets_on_request() -> None:
    args = {"service": "checkout", "namespace": "shop", "deployed_at": DEPLOYED}
    async with prometheus(rollout()) as client:
        short = await compare_windows.run(
            CompareWindows(**args, new_owner="checkout-new", old_owner="checkout-old"),
            _context(client),
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
        with pytest.raises(DevOpsError) as early:
            await compare_windows.run(
                CompareWindows(service="checkout", deployed_at=NOW), _context(client)
            )
    assert short.headline.startswith("checkout: errors 0% (old revision) -> 20% (new revision)")
    assert short.series == () and long.series and long.series[0].queries
    assert long.windows.baseline.seconds == 600 and long.step_s == 30
    assert early.value.code == "NO_DATA"


def test_the_rule_follows_the_settings() -> None:
    from mcp_devops.integrations.prometheus.settings import PrometheusSettings

    rule = PrometheusSettings(baseline_s=120, buffer_s=15, step_s=10, grace_s=5).rule
    assert (rule.baseline_s, rule.buffer_s, rule.step_s, rule.grace_s) == (120, 15, 10, 5)
