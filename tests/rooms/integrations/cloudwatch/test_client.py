from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from mcp_devops.errors import DevOpsError, NotConfigured
from mcp_devops.integrations.cloudwatch import INTEGRATION, sdk
from mcp_devops.integrations.cloudwatch.client import CloudWatchClient, Metric, Points
from mcp_devops.integrations.cloudwatch.failures import explained
from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings
from tests.rooms.integrations.cloudwatch.wire import (
    NOW,
    Wire,
    cloudwatch,
    constant,
    error,
    html,
    json_answer,
    minutes_ago,
    slow,
)
from tests.support.prometheus_api import FixedClock

REQUESTS = Metric("AWS/ApplicationELB", "RequestCount", "Sum", (("LoadBalancer", "app/prod/50dc"),))
COUNTED = {("RequestCount", "Sum"): constant(600.0)}


async def ask(client: CloudWatchClient, *metrics: Metric) -> list[Points]:
    return await client.metric_data(metrics or (REQUESTS,), minutes_ago(5), minutes_ago(0), 60)


async def test_points_come_by_the_start_of_their_bucket() -> None:
    wire = Wire(COUNTED)
    async with cloudwatch(wire) as client:
        (points,) = await ask(client)
    assert points == {int(minutes_ago(5 - i).timestamp()): 600.0 for i in range(5)}
    assert len(wire.asked) == 1


async def test_pages_are_joined_by_metric_and_partial_data_is_whole_at_the_end() -> None:
    values = {
        ("RequestCount", "Sum"): constant(600.0),
        ("HTTPCode_Target_5XX_Count", "Sum"): constant(7.0, since=2),
    }
    errors = Metric(REQUESTS.namespace, "HTTPCode_Target_5XX_Count", "Sum", REQUESTS.dimensions)
    async with cloudwatch(Wire(values)) as client:
        whole = await ask(client, REQUESTS, errors)
    wire = Wire(values, page=2)
    async with cloudwatch(wire) as client:
        assert await ask(client, REQUESTS, errors) == whole
    assert [a.get("NextToken") for a in wire.asked] == [None, "2", "4"]
    assert [len(p) for p in whole] == [5, 2]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (Wire(COUNTED, status="PartialData"), "UPSTREAM_UNAVAILABLE"),
        (Wire(COUNTED, status="InternalError"), "UPSTREAM_UNAVAILABLE"),
        (Wire(COUNTED, status="Forbidden"), "PERMISSION_DENIED"),
        (Wire(COUNTED, token="0"), "UPSTREAM_UNAVAILABLE"),
        (Wire(COUNTED, faults=[html]), "UPSTREAM_UNAVAILABLE"),
    ],
    ids=["partial", "internal", "forbidden", "same page again", "html"],
)
async def test_an_answer_that_is_not_whole_is_not_taken_for_data(wire: Wire, code: str) -> None:
    async with cloudwatch(wire) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == code


async def test_pages_without_end_are_not_read_forever() -> None:
    count = 0

    async def another(request: Request) -> Response:
        nonlocal count
        count += 1
        return json_answer({"MetricDataResults": [], "NextToken": str(count)})

    async with cloudwatch(Wire(faults=[another] * 30)) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "UPSTREAM_UNAVAILABLE" and count == 20


@pytest.mark.parametrize(
    "result",
    [
        {"Id": "m7", "Timestamps": [], "Values": []},
        {"Id": "other", "Timestamps": [], "Values": []},
        {"Id": "m0", "Timestamps": [1772366100], "Values": []},
    ],
)
async def test_results_that_fit_no_question_are_refused(result: dict[str, Any]) -> None:
    async def answer(request: Request) -> Response:
        return json_answer({"MetricDataResults": [result]})

    async with cloudwatch(Wire(faults=[answer])) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize(
    ("code", "status", "ours"),
    [
        ("AccessDenied", 403, "PERMISSION_DENIED"),
        ("AccessDeniedException", 400, "PERMISSION_DENIED"),
        ("ExpiredTokenException", 400, "CREDENTIALS_REJECTED"),
        ("InvalidClientTokenId", 403, "CREDENTIALS_REJECTED"),
        ("SignatureDoesNotMatch", 403, "CREDENTIALS_REJECTED"),
        ("InvalidParameterValueException", 400, "INVALID_ARGUMENTS"),
        ("ValidationError", 400, "INVALID_ARGUMENTS"),
        ("SomethingNew", 400, "UPSTREAM_UNAVAILABLE"),
    ],
)
async def test_a_failure_becomes_the_error_of_who_can_fix_it(
    code: str, status: int, ours: str
) -> None:
    wire = Wire(faults=[error(code, status)])
    async with cloudwatch(wire) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == ours and raised.value.upstream == "said"
    assert len(wire.asked) == 1
    if ours == "PERMISSION_DENIED":
        assert raised.value.details["grants"] == ["cloudwatch:GetMetricData"]


async def test_the_code_of_the_older_protocol_is_understood() -> None:
    fault = error("InvalidParameterCombinationException", query="InvalidParameterCombination")
    async with cloudwatch(Wire(faults=[fault])) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "INVALID_ARGUMENTS"


@pytest.mark.parametrize(
    ("code", "status"),
    [("LimitExceededFault", 400), ("ThrottlingException", 400), ("InternalFailure", 500)],
)
async def test_a_passing_failure_is_asked_again(code: str, status: int) -> None:
    wire = Wire(COUNTED, faults=[error(code, status)])
    async with cloudwatch(wire) as client:
        assert len((await ask(client))[0]) == 5
    assert len(wire.asked) == 2


async def test_a_limit_that_stays_is_told() -> None:
    wire = Wire(faults=[error("LimitExceededFault")] * 9)
    async with cloudwatch(wire) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "RATE_LIMITED" and len(wire.asked) == 3


async def test_a_slow_answer_is_a_timeout() -> None:
    async with cloudwatch(Wire(COUNTED, faults=[slow]), timeout_s=0.2) as client:
        with pytest.raises(DevOpsError) as raised:
            await ask(client)
    assert raised.value.code == "UPSTREAM_TIMEOUT"


async def test_a_cancelled_question_sends_nothing_more_and_leaves_the_client_usable() -> None:
    arrived, goes_on = asyncio.Event(), asyncio.Event()

    async def held(request: Request) -> Response:
        arrived.set()
        await goes_on.wait()
        return await error("InternalFailure", 500)(request)

    wire = Wire(COUNTED, faults=[held])
    # One thread: the second question is answered only after the abandoned one has ended.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with cloudwatch(wire) as client:
        task = asyncio.create_task(ask(client))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()
        assert len((await ask(client))[0]) == 5
    # It would have repeated a failure 500; it saw that nobody waits.
    assert len(wire.asked) == 2


async def test_the_loop_runs_on_while_the_thread_waits() -> None:
    arrived, goes_on = asyncio.Event(), asyncio.Event()
    threads: set[str] = set()

    async def held(request: Request) -> Response:
        arrived.set()
        await goes_on.wait()
        return await error("AccessDenied", 403)(request)

    async with cloudwatch(Wire(faults=[held])) as client:
        task = asyncio.create_task(ask(client))
        await arrived.wait()
        threads |= {t.name for t in threading.enumerate()}
        goes_on.set()
        with pytest.raises(DevOpsError):
            await task
    assert any("asyncio" in name for name in threads)


async def test_an_unreachable_endpoint_is_said() -> None:
    settings = CloudWatchSettings.load(endpoint_url="http://127.0.0.1:9", region="eu-west-1")
    client = CloudWatchClient(settings, FixedClock(NOW))
    with pytest.raises(DevOpsError) as raised:
        await ask(client)
    await client.close()
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"


async def _refused(**settings: Any) -> DevOpsError:
    client = CloudWatchClient(CloudWatchSettings.load(**settings), FixedClock(NOW))
    with pytest.raises(DevOpsError) as raised:
        await ask(client)
    await client.close()
    return raised.value


def test_an_attempt_that_never_ends_is_a_timeout() -> None:
    exceptions = sdk.load().exceptions
    for kind in (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError):
        assert explained(kind(endpoint_url="http://x"), exceptions).code == "UPSTREAM_TIMEOUT"


async def test_what_is_missing_is_named_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    region = await _refused()
    assert region.code == "NOT_CONFIGURED" and "REGION" in region.fix
    profile = await _refused(profile="nobody", region="eu-west-1")
    assert profile.code == "NOT_CONFIGURED" and "PROFILE" in profile.fix
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    partial = await _refused(region="eu-west-1")
    assert partial.code == "NOT_CONFIGURED"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for role in (None, "arn:aws:iam::123456789012:role/reader"):
        missing = await _refused(region="eu-west-1", role_arn=role)
        assert missing.code == "NOT_CONFIGURED" and "AWS_ACCESS_KEY_ID" in missing.fix


async def test_a_single_sign_on_that_has_expired_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "config").write_text(
        "[profile sso]\nsso_start_url = https://example.org\nsso_region = eu-west-1\n"
        "sso_account_id = 123456789012\nsso_role_name = reader\nregion = eu-west-1\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    expired = await _refused(profile="sso")
    assert expired.code == "CREDENTIALS_REJECTED" and "sso login" in expired.fix


async def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    missing = await _refused(region="eu-west-1")
    assert missing.code == "NOT_CONFIGURED" and "mcp-devops[aws]" in missing.fix


async def test_no_request_with_its_token_is_written_into_a_debug_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-123456")
    with caplog.at_level("DEBUG"):
        async with cloudwatch(Wire(COUNTED)) as client:
            await ask(client)
    assert "token-123456" not in caplog.text and "Signature" not in caplog.text


async def test_ping_needs_the_same_permission_as_the_tool() -> None:
    assert INTEGRATION.ping is not None
    async with cloudwatch(Wire()) as client:
        assert (await INTEGRATION.ping(client)).ok
    async with cloudwatch(Wire(faults=[error("AccessDenied", 403)])) as client:
        health = await INTEGRATION.ping(client)
    assert not health.ok and "cloudwatch:GetMetricData" in health.fix
    unset = CloudWatchClient(CloudWatchSettings(), FixedClock(NOW))
    assert not (await INTEGRATION.ping(unset)).ok


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, "KIND"),
        ({"kind": "load_balancer"}, "DIMENSIONS"),
        ({"kind": "http_api"}, "DIMENSIONS"),
        ({"kind": "own"}, "NAMESPACE"),
        ({"kind": "own", "namespace": "Shop"}, "REQUESTS_METRIC"),
        ({"kind": "own", "namespace": "Shop", "requests_metric": "Requests"}, "DIMENSIONS"),
        ({"kind": "lambda"}, None),
        ({"kind": "load_balancer", "dimensions": {"LoadBalancer": "app/$service/1"}}, None),
    ],
)
def test_it_is_off_until_it_can_know_a_service(settings: Any, missing: str | None) -> None:
    why = INTEGRATION.why_off(CloudWatchSettings.load(**settings))
    assert why == (missing and f"MCP_DEVOPS_CLOUDWATCH__{missing} is not set")


def test_it_is_off_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert "mcp-devops[aws]" in (INTEGRATION.why_off(CloudWatchSettings(kind="lambda")) or "")


def test_asking_why_it_is_off_does_not_import_boto3() -> None:
    import subprocess

    code = (
        "import sys; from mcp_devops.integrations.cloudwatch import INTEGRATION as i;"
        " from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings as s;"
        " assert i.why_off(s(kind='lambda')) is None; i.connect(s(kind='lambda'), None);"
        " assert not {'boto3', 'botocore'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_secrets_of_the_environment_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-123456")
    secrets = list(INTEGRATION.secrets(CloudWatchSettings()))
    assert secrets == ["wJalrXUtnFEMI/EXAMPLEKEY", "token-123456"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"region": "nowhere"},
        {"role_arn": "reader"},
        {"endpoint_url": "http://monitoring.example.org"},
        {"dimensions": '{"LoadBalancer": '},
        {"dimensions": {"LoadBalancer": ""}},
        {"services": {"checkout": "app/1"}},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NotConfigured):
        CloudWatchSettings.load(**wrong)


def test_tables_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_DEVOPS_CLOUDWATCH__SERVICES", '{"checkout": {"ApiId": "a1"}}')
    assert CloudWatchSettings.load().services == {"checkout": {"ApiId": "a1"}}
