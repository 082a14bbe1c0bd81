from __future__ import annotations

import pytest

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.prometheus import INTEGRATION
from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.settings import PrometheusSettings
from tests.support.prometheus_api import (
    NOW,
    FixedClock,
    Pod,
    failing,
    minutes_ago,
    prometheus,
    samples_of,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("html", "UPSTREAM_UNAVAILABLE"),
        ("limited", "RATE_LIMITED"),
        ("unauthorized", "CREDENTIALS_REJECTED"),
        ("forbidden", "CREDENTIALS_REJECTED"),
        ("bad_query", "INVALID_ARGUMENTS"),
        ("overloaded", "UPSTREAM_UNAVAILABLE"),
        ("flood", "INVALID_ARGUMENTS"),
    ],
)
async def test_a_failure_becomes_the_error_of_who_can_fix_it(kind: str, code: str) -> None:
    async with failing(kind) as client:
        with pytest.raises(DevOpsError) as raised:
            await client.query("up")
    assert raised.value.code == code
    if kind == "limited":
        assert raised.value.details["retry_after_s"] == 7
    if kind == "bad_query":
        assert raised.value.upstream == "parse error at 1:2"


async def test_a_slow_answer_is_a_timeout() -> None:
    async with failing("slow", timeout_s=0.05) as client:
        with pytest.raises(DevOpsError) as raised:
            await client.query("up")
    assert raised.value.code == "UPSTREAM_TIMEOUT"


async def test_an_unreachable_server_is_said_without_credentials_in_the_address() -> None:
    settings = PrometheusSettings(url="http://ann:hunter2hunter2@127.0.0.1:9")
    client = PrometheusClient(settings, FixedClock())
    with pytest.raises(DevOpsError) as raised:
        await client.query("up")
    await client.close()
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"
    assert "127.0.0.1:9" in str(raised.value) and "hunter2" not in str(raised.value)


async def test_scalars_and_vectors_are_read_and_nan_is_no_number() -> None:
    pod = Pod("checkout-1-a", minutes_ago(20), NOW)
    async with prometheus(samples_of(pod)) as client:
        scalar = await client.query("1")
        empty = await client.query('sum(increase(http_requests_total{service="nope"}[60s]))')
        ratio = await client.query(
            'sum(increase(http_requests_total{service="checkout"}[60s])) * 0'
            ' / (sum(increase(http_requests_total{service="checkout"}[60s])) * 0)'
        )
    assert scalar[0].points[0][1] == 1.0
    assert empty == []
    assert ratio[0].points[0][1] is None


async def test_ping_tells_whether_it_answers() -> None:
    assert INTEGRATION.ping is not None
    async with prometheus([]) as client:
        assert (await INTEGRATION.ping(client)).ok
    async with failing("html") as client:
        health = await INTEGRATION.ping(client)
    assert not health.ok and health.fix


def test_it_is_off_without_an_address_and_its_credentials_are_known_secrets() -> None:
    assert INTEGRATION.why_off(PrometheusSettings()) is not None
    settings = PrometheusSettings.load(
        url="https://p.example", bearer_token="token-abc", username="u", password="pw-123456"
    )
    assert INTEGRATION.why_off(settings) is None
    assert list(INTEGRATION.secrets(settings)) == ["token-abc", "pw-123456"]


async def test_credentials_and_tenant_are_sent() -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from mcp_devops.scenarios.listening import listening

    seen: list[dict[str, str]] = []

    async def answer(request: Request) -> JSONResponse:
        seen.append(dict(request.headers))
        data = {"resultType": "scalar", "result": [0, "1"]}
        return JSONResponse({"status": "success", "data": data})

    app = Starlette(routes=[Route("/api/v1/query", answer, methods=["POST"])])
    async with listening(app) as url:
        for settings in (
            PrometheusSettings.load(url=url, bearer_token="abc", org_id="team-a"),
            PrometheusSettings.load(url=url, username="ann", password="pw"),
        ):
            client = PrometheusClient(settings, FixedClock())
            await client.query("1")
            await client.close()
    assert seen[0]["authorization"] == "Bearer abc" and seen[0]["x-scope-orgid"] == "team-a"
    assert seen[1]["authorization"].startswith("Basic ")
