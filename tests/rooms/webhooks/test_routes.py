"""Webhooks over a real socket: signed, near in time, once; and what is forged changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.applications import Starlette

from mcp_devops.errors import InvalidArguments, UpstreamUnavailable
from mcp_devops.integrations.slack.interactions import Interaction
from mcp_devops.journal.database import open_database
from mcp_devops.scenarios.listening import listening
from mcp_devops.webhooks import routes
from mcp_devops.webhooks.deployment import Deployed, parse
from mcp_devops.webhooks.routes import Hearers, webhook_routes
from mcp_devops.webhooks.settings import WebhookSettings
from tests.support import slack as fake_slack
from tests.support.pagerduty import NOW, SteppedClock

SECRET = "deployments-are-signed"
SENTRY = "sentry-signs-its-bodies"
BODY = {"namespace": "shop", "workload": "checkout"}


@dataclass
class Heard:
    """What was handed over, and what fails first."""

    deployed: list[Deployed] = field(default_factory=list)
    alerts: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    answers: list[Interaction] = field(default_factory=list)
    down: int = 0

    async def on_deployed(self, told: Deployed) -> str:
        if self.down:
            self.down -= 1
            raise UpstreamUnavailable("The cluster is away.", fix="Wait.", source="kubernetes")
        self.deployed.append(told)
        return "watched"

    async def on_alert(self, services: tuple[str, ...], status: str) -> str:
        self.alerts.append((services, status))
        return "1 runs look now"

    async def on_answer(self, interaction: Interaction) -> None:
        self.answers.append(interaction)


@asynccontextmanager
async def hearing(folder: Path, heard: Heard, *, open_: bool = True) -> AsyncIterator[Any]:
    settings = (
        WebhookSettings(deployment_secret=SecretStr(SECRET), sentry_secret=SecretStr(SENTRY))
        if open_
        else WebhookSettings()
    )
    hearers = Hearers(
        heard.on_deployed,
        heard.on_alert,
        heard.on_answer,
        slack_secret=fake_slack.SIGNING if open_ else None,
    )
    async with open_database(folder / "state.db") as database:
        paths = webhook_routes(settings, database, SteppedClock(), hearers)
        async with (
            listening(Starlette(routes=paths)) as url,
            httpx2.AsyncClient(base_url=url) as http,
        ):
            yield http


def signed(body: bytes, at: float | str = NOW.timestamp(), secret: str = SECRET) -> dict[str, str]:
    stamp = at if isinstance(at, str) else f"{at:.0f}"
    mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Timestamp": stamp, "X-Signature": f"sha256={mac}"}


def raw(body: Any = BODY) -> bytes:
    return json.dumps(body).encode()


async def test_a_signed_deployment_is_handed_over_once(tmp_path: Path) -> None:
    heard = Heard()
    async with hearing(tmp_path, heard) as http:
        first = await http.post("/webhooks/deployment", content=raw(), headers=signed(raw()))
        again = await http.post("/webhooks/deployment", content=raw(), headers=signed(raw()))
    assert (first.status_code, first.json()) == (202, {"status": "watched"})
    assert again.json() == {"status": "known already"}
    assert heard.deployed == [Deployed(namespace="shop", workload="checkout")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(raw(), secret="somebody-else-signs"),
        signed(raw({**BODY, "workload": "payments"})),
        signed(raw(), at=NOW.timestamp() - 301),
        signed(raw(), at=NOW.timestamp() + 301),
        {**signed(raw()), "X-Timestamp": "soon"},
        signed(raw(), at="9" * 400),
        {"X-Signature": "sha256=\xe9".encode("latin-1").decode("latin-1"), "X-Timestamp": "1"},
    ],
    ids=["none", "secret", "body", "old", "early", "junk time", "endless time", "junk signature"],
)
async def test_what_is_forged_or_stale_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    heard = Heard()
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    async with hearing(tmp_path, heard) as http:
        answer = await http.post("/webhooks/deployment", content=raw(), headers=sent)
    assert answer.status_code == 401 and heard.deployed == []


async def test_what_could_not_be_handed_over_may_come_again(tmp_path: Path) -> None:
    heard = Heard(down=1)
    async with hearing(tmp_path, heard) as http:
        first = await http.post("/webhooks/deployment", content=raw(), headers=signed(raw()))
        again = await http.post("/webhooks/deployment", content=raw(), headers=signed(raw()))
    assert (first.status_code, again.status_code) == (503, 202)
    assert len(heard.deployed) == 1


async def test_a_body_that_is_none_is_told_what_is_wrong_without_repeating_it(
    tmp_path: Path,
) -> None:
    body = raw({"namespace": "shop; rm -rf", "workload": "checkout", "token": "hunter2"})
    async with hearing(tmp_path, Heard()) as http:
        answer = await http.post("/webhooks/deployment", content=body, headers=signed(body))
    assert answer.status_code == 400
    assert "namespace" in answer.text and "rm -rf" not in answer.text
    assert "hunter2" not in answer.text


async def test_without_a_secret_an_address_is_closed(tmp_path: Path) -> None:
    async with hearing(tmp_path, Heard(), open_=False) as http:
        answers = await asyncio.gather(
            *(http.post(f"/webhooks/{w}", content=b"{}") for w in ("deployment", "sentry", "slack"))
        )
    assert [a.status_code for a in answers] == [404, 404, 404]


def sentry_hook(status: str = "critical") -> tuple[bytes, dict[str, str]]:
    body = raw(
        {
            "action": status,
            "installation": {"uuid": "u"},
            "data": {
                "metric_alert": {
                    "alert_rule": {"aggregate": "count()", "projects": ["checkout"]},
                    "status": status,
                },
                "description_title": "Errors",
            },
        }
    )
    headers = {
        "Sentry-Hook-Resource": "metric_alert",
        "Sentry-Hook-Timestamp": f"{NOW.timestamp():.0f}",
        "Sentry-Hook-Signature": hmac.new(SENTRY.encode(), body, hashlib.sha256).hexdigest(),
        "Request-ID": "r1",
    }
    return body, headers


async def test_a_metric_alert_of_sentry_wakes_its_services_once(tmp_path: Path) -> None:
    heard = Heard()
    body, headers = sentry_hook()
    async with hearing(tmp_path, heard) as http:
        first = await http.post("/webhooks/sentry", content=body, headers=headers)
        replayed = {**headers, "Request-ID": "r2"}
        again = await http.post("/webhooks/sentry", content=body, headers=replayed)
        forged = {**headers, "Sentry-Hook-Signature": "0" * 64}
        refused = await http.post("/webhooks/sentry", content=body, headers=forged)
    assert (first.status_code, again.json(), refused.status_code) == (
        202,
        {"status": "known already"},
        401,
    )
    assert [services for services, _ in heard.alerts] == [("checkout",)]


async def test_a_click_in_slack_is_taken_once_and_a_forged_one_never(tmp_path: Path) -> None:
    heard = Heard()
    body = fake_slack.body_of(fake_slack.click())
    headers = fake_slack.signed(body, stamp=f"{NOW.timestamp():.0f}")
    async with hearing(tmp_path, heard) as http:
        for _ in range(2):
            taken = await http.post("/webhooks/slack", content=body, headers=headers)
            assert (taken.status_code, taken.content) == (200, b"")
        forged = {**headers, "X-Slack-Signature": "v0=" + "0" * 64}
        refused = await http.post("/webhooks/slack", content=body, headers=forged)
    assert refused.status_code == 401 and len(heard.answers) == 1


def half_a_request() -> bytes:
    head = "POST /webhooks/deployment HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    return head.encode() + b'{"namespace":'


async def test_a_body_that_does_not_come_to_its_end_holds_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "BODY_S", 0.05)
    heard = Heard()
    async with hearing(tmp_path, heard) as http:
        await http.post("/webhooks/slack")
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(half_a_request())
        async with asyncio.timeout(20):
            answer = await reader.readline()
        writer.close()
    assert b" 408 " in answer and heard.deployed == []


async def test_a_sender_that_goes_away_in_the_middle_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with hearing(tmp_path, Heard()) as http:
        await http.post("/webhooks/slack")
        _, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(half_a_request())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        answer = await http.post("/webhooks/deployment", content=raw(), headers=signed(raw()))
    assert answer.status_code == 202
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


@given(st.binary(max_size=200) | st.text(max_size=50).map(lambda t: json.dumps(t).encode()))
def test_any_body_is_a_deployment_or_refused(body: bytes) -> None:
    try:
        told = parse(body)
    except InvalidArguments as refused:
        assert refused.fix
    else:
        assert told.namespace
