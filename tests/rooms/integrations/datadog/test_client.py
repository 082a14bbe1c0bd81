from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_devops.errors import DevOpsError, NotConfigured
from mcp_devops.integrations.datadog import INTEGRATION
from mcp_devops.integrations.datadog.client import DatadogClient
from mcp_devops.integrations.datadog.settings import DatadogSettings
from tests.support.datadog import (
    API_KEY,
    APP_KEY,
    NOW,
    DatadogApi,
    Traffic,
    datadog,
    fault,
    limited,
    minutes_ago,
)
from tests.support.prometheus_api import FixedClock

WRONG_KEYS: list[dict[str, Any]] = [{"api_key": "nope"}, {"app_key": "nope"}]
HITS = "sum:trace.flask.request.hits{service:checkout}.as_count().rollup(sum, 60)"


def traffic() -> list[Traffic]:
    return [Traffic(minutes_ago(60), NOW)]


async def ask(client: DatadogClient, *queries: str) -> list[dict[int, float | None]]:
    found = await client.timeseries(queries or (HITS,), minutes_ago(5), minutes_ago(0), 60)
    return [dict(points.values) for points in found]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("html", "UPSTREAM_UNAVAILABLE"),
        ("redirect", "UPSTREAM_UNAVAILABLE"),
        ("broken", "UPSTREAM_UNAVAILABLE"),
        ("overloaded", "UPSTREAM_UNAVAILABLE"),
        ("unlimited", "RATE_LIMITED"),
        ("forbidden", "CREDENTIALS_REJECTED"),
        ("unauthorized", "CREDENTIALS_REJECTED"),
        ("bad_query", "INVALID_ARGUMENTS"),
        ("errors_in_ok", "INVALID_ARGUMENTS"),
    ],
)
async def test_a_failure_becomes_the_error_of_who_can_fix_it(kind: str, code: str) -> None:
    async with datadog(DatadogApi(traffic(), faults=[fault(kind)])) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == code
    if code == "CREDENTIALS_REJECTED":
        assert "timeseries_query" in raised.value.fix
    assert API_KEY not in str(raised.value) and APP_KEY not in str(raised.value)


async def test_both_keys_are_sent_and_a_wrong_one_is_refused() -> None:
    async with datadog(DatadogApi(traffic())) as client:
        assert (await ask(client))[0][int(minutes_ago(3).timestamp())] == 600
    for wrong in WRONG_KEYS:
        async with datadog(DatadogApi(traffic()), **wrong) as client:
            with pytest.raises(DevOpsError) as raised:
                await ask(client)
        assert raised.value.code == "CREDENTIALS_REJECTED"


async def test_a_slow_answer_is_a_timeout() -> None:
    async with datadog(DatadogApi(faults=[fault("slow")]), timeout_s=0.05) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "UPSTREAM_TIMEOUT"


async def test_a_cancelled_question_leaves_the_client_usable() -> None:
    arrived = asyncio.Event()

    async def held(request: Request) -> Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with datadog(DatadogApi(traffic(), faults=[held])) as client:
        task = asyncio.create_task(ask(client))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len((await ask(client))[0]) == 5


async def test_a_limit_that_is_lifted_within_the_deadline_is_waited_out() -> None:
    async with datadog(DatadogApi(traffic(), faults=[limited("0"), limited("0")])) as client:
        assert len((await ask(client))[0]) == 5


@pytest.mark.parametrize(("reset", "known"), [("3600", 3600), ("soon", None), ("", None)])
async def test_a_longer_limit_is_told_with_its_seconds(reset: str, known: int | None) -> None:
    api = DatadogApi(traffic(), faults=[limited(reset)])
    async with datadog(api) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "RATE_LIMITED"
    assert raised.value.details["retry_after_s"] == known
    assert raised.value.details["limit_name"] == "metrics_query"


async def test_a_limit_that_never_ends_is_not_waited_for_forever() -> None:
    api = DatadogApi(traffic(), faults=[limited("0")] * 9)
    async with datadog(api) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "RATE_LIMITED" and len(api.faults) == 6


async def test_an_unreachable_site_is_said_without_credentials() -> None:
    settings = DatadogSettings.load(url="http://127.0.0.1:9", api_key=API_KEY, app_key=APP_KEY)
    client = DatadogClient(settings, FixedClock())
    with pytest.raises(DevOpsError) as raised:
        await ask(client)
    await client.close()
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"
    assert "127.0.0.1:9" in str(raised.value) and API_KEY not in str(raised.value)


async def test_several_queries_are_one_request() -> None:
    api = DatadogApi(traffic())
    async with datadog(api) as client:
        found = await ask(client, HITS, HITS.replace("hits", "errors"), HITS)
    assert [len(f) for f in found] == [5, 0, 5] and len(api.asked) == 1


async def test_the_first_version_answers_the_same_where_there_is_no_second() -> None:
    queries = (HITS, HITS.replace("hits", "errors"), HITS.replace("service:", "env:prod,service:"))
    async with datadog(DatadogApi(traffic())) as client:
        second = await ask(client, *queries)
    api = DatadogApi(traffic(), lacks_v2=True)
    async with datadog(api) as client:
        assert await ask(client, *queries) == second
        await ask(client, *queries)
    assert [path for _, path, _ in api.asked] == ["/api/v1/query"] * 2


async def test_an_error_inside_an_ok_is_an_error() -> None:
    api = DatadogApi(traffic(), faults=[fault("missing"), fault("error_in_ok")])
    async with datadog(api) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "INVALID_ARGUMENTS"
    assert raised.value.upstream == "Rule 'x' is invalid"


@pytest.mark.parametrize("lacks_v2", [True, False])
@pytest.mark.parametrize("coarse", [20, 120, 90])
async def test_buckets_of_another_length_are_refused(coarse: int, lacks_v2: bool) -> None:
    async with datadog(DatadogApi(traffic(), coarse=coarse, lacks_v2=lacks_v2)) as client:
        with pytest.raises(DevOpsError) as raised:
            await client.timeseries([HITS], minutes_ago(40), minutes_ago(0), 60)
    assert raised.value.code == "INVALID_ARGUMENTS"
    assert raised.value.details["answered_s"] == coarse


async def test_a_query_that_is_not_aggregated_is_refused() -> None:
    async with datadog(DatadogApi(traffic(), split=True)) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "INVALID_ARGUMENTS"


async def test_ping_looks_at_both_keys() -> None:
    assert INTEGRATION.ping is not None
    api = DatadogApi()
    async with datadog(api) as client:
        assert (await INTEGRATION.ping(client)).ok
    assert {path for _, path, _ in api.asked} == {"/api/v1/validate", "/api/v2/query/timeseries"}
    for wrong in WRONG_KEYS:
        async with datadog(DatadogApi(), **wrong) as client:
            health = await INTEGRATION.ping(client)
        assert not health.ok and "APP_KEY" in health.fix


async def test_ping_does_not_take_an_answer_that_says_invalid_for_health() -> None:
    async def invalid(request: Request) -> Response:
        if request.url.path == "/api/v1/validate":
            return JSONResponse({"valid": False})
        return JSONResponse({"data": {"attributes": {"times": [], "series": [], "values": []}}})

    assert INTEGRATION.ping is not None
    async with datadog(DatadogApi(faults=[invalid, invalid])) as client:
        health = await INTEGRATION.ping(client)
    assert not health.ok and "API_KEY" in health.fix


def test_it_is_off_without_both_keys_and_they_are_known_secrets() -> None:
    assert "API_KEY and" in (INTEGRATION.why_off(DatadogSettings()) or "")
    assert "APP_KEY is" in (INTEGRATION.why_off(DatadogSettings.load(api_key="k1")) or "")
    settings = DatadogSettings.load(api_key=" k1-abcdef\n", app_key="k2-abcdef")
    assert INTEGRATION.why_off(settings) is None
    assert list(INTEGRATION.secrets(settings)) == ["k1-abcdef", "k2-abcdef"]


@pytest.mark.parametrize("site", ["datadoghq.com", "us5.datadoghq.com", "datadoghq.eu",
                                  "uk1.datadoghq.com", "us2.ddog-gov.com"])  # fmt: skip
def test_the_known_sites_are_reached_under_their_api_host(site: str) -> None:
    assert DatadogSettings(site=site).base_url == f"https://api.{site}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"site": "datadoghq.com.example.org"},
        {"site": "example.org/datadoghq.com"},
        {"site": "https://datadoghq.com"},
        {"url": "http://proxy.example.org"},
        {"url": "http://127.0.0.1.example.org/"},
        {"url": "https://ann:pw@proxy.example.org"},
        {"api_key": "two words"},
        {"api_key": "line\nbreak"},
        {"app_key": "schlüssel"},
        {"app_key": ""},
    ],
)
def test_keys_go_to_known_sites_only_and_fit_into_a_header(wrong: dict[str, str]) -> None:
    with pytest.raises(NotConfigured) as raised:
        DatadogSettings.load(**wrong)
    assert next(iter(wrong.values())) not in str(raised.value) or wrong == {"app_key": ""}
