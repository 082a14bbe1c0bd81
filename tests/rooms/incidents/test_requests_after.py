"""Recovery is told by the source that showed the failure, whichever it was."""

from __future__ import annotations

from datetime import datetime, timedelta

from mcp_devops.incidents.requests_after import Rates, rates_of, watch_requests
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.integrations.datadog.client import DatadogClient
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.model.evidence import Arm
from mcp_devops.toolkit.context import Caller, ToolContext
from tests.rooms.incidents.test_request_sources import Found
from tests.support import datadog as dd
from tests.support import evidence as ev
from tests.support import prometheus_api as prom
from tests.support import sentry as sn

NOW = prom.NOW
UNDONE = NOW - timedelta(minutes=10)
"""When the rollback was done."""
BEFORE = Rates("datadog", "checkout", 0.001, 0.2)


def context(clients: dict[type, object]) -> ToolContext[IncidentSettings]:
    settings = IncidentSettings(verify_step_s=1)
    return ToolContext(
        settings, Found(clients), prom.FixedClock(UNDONE), Caller("ann", "test"), "call-1"
    )


async def outcome_with(errors: float, until: datetime = NOW) -> tuple[str, float | None, str]:
    api = dd.DatadogApi(
        traffic=[
            dd.Traffic(NOW - timedelta(hours=2), NOW, version="1.0.0", error_rate=errors),
        ]
    )
    async with dd.datadog(api, until, environment="prod") as client:
        return await watch_requests(context({DatadogClient: client}), "shop", BEFORE, end=0)


async def test_datadog_says_that_requests_are_good_again() -> None:
    outcome, rate, says = await outcome_with(errors=0.001)
    assert outcome == "recovered" and rate is not None and rate < 0.005
    assert "datadog" in says and "baseline 0.1%" in says


async def test_datadog_says_that_they_still_fail() -> None:
    outcome, rate, says = await outcome_with(errors=0.2)
    assert outcome == "not_recovered" and rate is not None and rate > 0.1
    assert says.startswith("Errors are still 20")


async def test_numbers_that_are_not_in_yet_are_no_recovery() -> None:
    outcome, rate, says = await outcome_with(errors=0, until=UNDONE + timedelta(seconds=30))
    assert (outcome, rate) == ("unknown", None) and "not yet" in says


async def test_a_source_that_is_off_or_refuses_leaves_the_outcome_unknown() -> None:
    off, _, why = await watch_requests(context({}), "shop", BEFORE, end=0)
    api = dd.DatadogApi(faults=[dd.fault("forbidden")] * 9)
    async with dd.datadog(api, NOW) as client:
        refused, _, says = await watch_requests(
            context({DatadogClient: client}), "shop", BEFORE, end=0
        )
    other, _, _ = await watch_requests(
        context({}), "shop", BEFORE._replace(source="prometheus"), end=0
    )
    assert (off, refused, other) == ("unknown",) * 3
    assert "datadog" in why and "cannot be read" in says


async def test_sentry_is_asked_where_it_counted_and_is_slower_than_the_check() -> None:
    world = sn.World(clock=prom.FixedClock(UNDONE + timedelta(minutes=3)))
    async with sn.sentry(world) as client:
        outcome, _, says = await watch_requests(
            context({SentryClient: client}), "shop", BEFORE._replace(source="sentry"), end=0
        )
    assert outcome == "unknown" and says.startswith("sentry")


def test_rates_of_two_sources_are_never_compared_with_each_other() -> None:
    quiet, bad = [1.0] * 30, [200.0] * 10
    found = ev.context(
        ev.series(Arm.BASELINE, ev.buckets(-2400, 60, None, quiet), source="sentry"),
        ev.baseline(quiet),
        ev.after(Arm.NEW, bad),
        ev.series(Arm.AFTER, ev.buckets(0, 60, 1000, [0.0] * 10), source="datadog"),
    )
    rates = rates_of(found)
    assert rates == Rates("prometheus", "checkout", 0.001, 0.2)
    assert rates_of(None) is None and rates_of(ev.context()) is None
