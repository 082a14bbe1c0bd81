"""Against moto: what stored points give back. It has no percentiles and no partial pages."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.cloudwatch import INTEGRATION
from mcp_devops.integrations.cloudwatch.client import CloudWatchClient, Metric
from mcp_devops.integrations.cloudwatch.series import NO_ERRORS, compare
from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings
from mcp_devops.model.arms import summarise
from mcp_devops.model.evidence import Arm
from mcp_devops.model.window import WindowRule
from mcp_devops.scenarios.listening import listening
from mcp_devops.toolkit.comparing import VersionedService
from tests.rooms.integrations.cloudwatch.wire import NOW, Wire, cloudwatch, constant, minutes_ago
from tests.support.prometheus_api import FixedClock

DEPLOYED = minutes_ago(6)
RULE = WindowRule(baseline_s=1800, buffer_s=600, step_s=60)
NAMESPACE = "Shop"


def put(url: str, name: str, value: float, since: int, service: str = "checkout") -> None:
    """One point a minute since then, up to now."""
    boto3 = importlib.import_module("boto3")
    connection = boto3.client("cloudwatch", region_name="eu-west-1", endpoint_url=url)
    data = [
        {
            "MetricName": name,
            "Dimensions": [{"Name": "Service", "Value": service}],
            "Timestamp": minutes_ago(minute) + timedelta(seconds=7),
            "Value": value,
        }
        for minute in range(since, 0, -1)
    ]
    connection.put_metric_data(Namespace=NAMESPACE, MetricData=data)
    connection.close()


@asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[CloudWatchClient]:
    options: dict[str, Any] = {
        "kind": "own", "namespace": NAMESPACE, "requests_metric": "Requests",
        "errors_metric": "Errors", "dimensions": {"Service": "$service"},
        "region": "eu-west-1", "settle_s": 0, "grace_s": 0,
    } | settings  # fmt: skip
    client = CloudWatchClient(CloudWatchSettings.load(endpoint_url=url, **options), FixedClock(NOW))
    try:
        yield client
    finally:
        await client.close()


async def test_stored_metrics_are_compared(moto: str) -> None:
    put(moto, "Requests", 600, since=60)
    put(moto, "Errors", 60, since=6)
    put(moto, "Requests", 5, since=60, service="cart")
    async with client_of(moto) as client:
        found = await compare(client, VersionedService("checkout"), DEPLOYED, RULE)
        cart = await compare(client, VersionedService("cart"), DEPLOYED, RULE)
    assert found is not None and cart is not None
    by_arm = {s.arm: summarise(s) for s in found.series}
    assert by_arm[Arm.BASELINE].requests == 18_000 and by_arm[Arm.BASELINE].error_rate == 0
    assert by_arm[Arm.AFTER].requests == 3600 and by_arm[Arm.AFTER].error_rate == 0.1
    assert {s.note for s in cart.series} == {NO_ERRORS}


async def test_averages_are_read(moto: str) -> None:
    put(moto, "Took", 0.25, since=5)
    metric = Metric(NAMESPACE, "Took", "Average", (("Service", "checkout"),))
    async with client_of(moto) as client:
        (points,) = await client.metric_data([metric], minutes_ago(5), minutes_ago(0), 60)
    assert points == {int(minutes_ago(5 - i).timestamp()): 0.25 for i in range(5)}


async def test_what_is_not_stored_is_no_data(moto: str) -> None:
    async with client_of(moto) as client:
        with pytest.raises(DevOpsError) as raised:
            await compare(client, VersionedService("unknown"), DEPLOYED, RULE)
    assert raised.value.code == "NO_DATA"


async def test_ping_is_answered(moto: str) -> None:
    assert INTEGRATION.ping is not None
    async with client_of(moto) as client:
        assert (await INTEGRATION.ping(client)).ok


async def test_a_role_is_assumed_and_signs(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    wire = Wire({("RequestCount", "Sum"): constant(600.0)})
    async with cloudwatch(wire, role_arn="arn:aws:iam::123456789012:role/reader") as client:
        assert await compare(client, VersionedService("checkout"), DEPLOYED, RULE) is not None
    assert wire.keys[0].startswith("ASIA")


async def test_a_role_that_may_not_be_assumed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def denied(request: Request) -> Response:
        body = (
            '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender'
            "</Type><Code>AccessDenied</Code><Message>said</Message></Error></ErrorResponse>"
        )
        return Response(body, 403, media_type="text/xml")

    wire = Wire()
    async with listening(Starlette(routes=[Route("/", denied, methods=["POST"])])) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts)
        async with cloudwatch(wire, role_arn="arn:aws:iam::123456789012:role/reader") as client:
            with pytest.raises(DevOpsError) as raised:
                await compare(client, VersionedService("checkout"), DEPLOYED, RULE)
    assert raised.value.code == "PERMISSION_DENIED" and wire.asked == []
    assert raised.value.details["grants"] == ["sts:AssumeRole"]
