from __future__ import annotations

import json
import traceback

import pytest

from mcp_devops.catalog import build_catalog
from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.pagerduty import INTEGRATION
from mcp_devops.integrations.pagerduty.records import Link, Page
from mcp_devops.integrations.pagerduty.reports import change_of, page_of
from mcp_devops.integrations.pagerduty.settings import PagerDutySettings
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.report import Report
from tests.support.pagerduty import KEY, NOW, TARGET, incident, pagerduty


def page(**changes: object) -> Page:
    fields: dict[str, object] = {"summary": "errors", "source": "shop/checkout", "dedup_key": "k1"}
    return Page.model_validate(fields | changes)


async def test_an_incident_pages_with_its_report_and_pages_once() -> None:
    async with pagerduty() as (client, fake, _):
        asked = page_of(
            incident(),
            why="a person must approve the rollback",
            do_next="mcp-devops approve apr-0011223344",
            links=(Link(href="https://example.com/inc", text="Incident"),),
            report=Report(pods="0 of 3 are ready", collected_at="03:10:00 UTC"),
        )
        first = await client.trigger(asked)
        await client.trigger(asked)
    assert first.dedup_key == "mcp-devops:inc-0a1b2c3d" and first.attempts == 1
    assert fake.pages == 1 and len(fake.events) == 2
    payload = fake.events[0]["payload"]
    assert payload["summary"] == "shop/checkout: a person must approve the rollback"
    assert payload["severity"] == "critical" and payload["source"] == "prod-eu/shop/checkout"
    details = payload["custom_details"]
    assert details["findings"] == ["12% > 1% failed"] and details["confidence"] == "93%"
    assert details["stopped_by"] == ["only 40 s of metrics"]
    assert list(details)[:2] == ["why", "do_next"]
    assert details["report"]["pods"] == "0 of 3 are ready" and "deployed" not in details["report"]
    assert fake.events[0]["links"] == [{"href": "https://example.com/inc", "text": "Incident"}]


async def test_acknowledge_and_resolve_reach_the_same_alert() -> None:
    async with pagerduty() as (client, fake, _):
        await client.trigger(page())
        await client.acknowledge("k1")
        assert fake.alerts == {"k1": "acknowledged"}
        await client.resolve("k1")
        await client.resolve("unknown")
    assert fake.alerts == {"k1": "resolved"}


async def test_a_change_wakes_nobody() -> None:
    async with pagerduty() as (client, fake, _):
        event = change_of(TARGET, "Rolled back to 6 " * 200, NOW, details={"by": "ann"})
        done = await client.record_change(event)
    assert done.dedup_key is None and fake.pages == 0
    assert fake.changes[0]["payload"]["custom_details"] == {"by": "ann"}
    assert len(fake.changes[0]["payload"]["summary"]) <= 1024


async def test_a_ruleset_key_takes_no_changes() -> None:
    async with pagerduty(routing_key="R" * 32) as (client, _, _):
        with pytest.raises(DevOpsError) as raised:
            await client.record_change(change_of(TARGET, "x", NOW))
    assert raised.value.code == "INVALID_ARGUMENTS"


async def test_it_comes_back_after_failures_and_waits_as_long_as_it_is_told() -> None:
    async with pagerduty("limited", "500", "503") as (client, fake, clock):
        done = await client.trigger(page())
    assert done.attempts == 4 and fake.pages == 1
    assert clock.paused == [7.0, 1.5, 3.0]


@pytest.mark.parametrize(
    ("fault", "code"), [("limited", "RATE_LIMITED"), ("502", "UPSTREAM_UNAVAILABLE")]
)
async def test_it_gives_up_at_the_deadline(fault: str, code: str) -> None:
    async with pagerduty(*[fault] * 50, deadline_s=30) as (client, fake, clock):
        with pytest.raises(DevOpsError) as raised:
            await client.trigger(page())
    assert raised.value.code == code
    assert sum(clock.paused) < 30 and len(fake.sizes) < 8


@pytest.mark.parametrize(
    ("fault", "code"),
    [("400", "INVALID_ARGUMENTS"), ("403", "CREDENTIALS_REJECTED"), ("302", "INVALID_ARGUMENTS")],
)
async def test_a_refusal_is_not_repeated(fault: str, code: str) -> None:
    async with pagerduty(fault) as (client, fake, clock):
        with pytest.raises(DevOpsError) as raised:
            await client.trigger(page())
    assert raised.value.code == code
    assert len(fake.sizes) == 1 and clock.paused == []


async def test_a_refused_event_says_why_and_never_the_key() -> None:
    wrong = "F" * 32
    async with pagerduty(routing_key=wrong) as (client, _, _):
        with pytest.raises(DevOpsError) as raised:
            await client.trigger(page())
    assert "'routing_key' is invalid" in raised.value.upstream
    assert wrong not in "".join(traceback.format_exception(raised.value))


async def test_silence_after_sending_is_an_unknown_outcome() -> None:
    async with pagerduty("taken_then_silent", timeout_s=1.5, deadline_s=0.74) as (client, fake, _):
        with pytest.raises(DevOpsError) as raised:
            await client.trigger(page())
    assert raised.value.code == "OUTCOME_UNKNOWN" and fake.pages == 1


async def test_a_page_that_was_taken_in_silence_is_not_paged_twice() -> None:
    async with pagerduty("taken_then_silent", timeout_s=1.5) as (client, fake, _):
        done = await client.trigger(page())
    assert done.attempts == 2 and fake.pages == 1


async def test_nobody_listening_is_said_to_have_paged_nobody() -> None:
    async with pagerduty(url="http://127.0.0.1:9", deadline_s=5) as (client, _, _):
        with pytest.raises(DevOpsError) as raised:
            await client.trigger(page())
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize("letter", ["x", "\u20ac", '"', "\u0001"])
async def test_a_report_of_any_size_fits_and_says_what_was_cut(letter: str) -> None:
    async with pagerduty() as (client, fake, _):
        details = {"why": "small", "logs": [letter * 3000] * 400, "deep": {"a": [letter * 90_000]}}
        done = await client.trigger(page(summary=letter * 5000 + "s", details=details))
    assert fake.sizes[0] <= 512_000
    sent = fake.events[0]["payload"]["custom_details"]
    assert sent["why"] == "small"
    if letter != "\u0001":
        assert done.cut and sent["shortened"] == list(done.cut)


async def test_secrets_in_a_report_do_not_leave() -> None:
    token = "xoxb-" + "1234567890-abcdefghij"
    async with pagerduty() as (client, fake, _):
        await client.trigger(
            page(summary=f"token {token}", details={"log": token, "password": "a"})
        )
    assert token not in json.dumps(fake.events)


async def test_each_service_is_paged_with_its_own_key() -> None:
    keys = f"shop/checkout={'A' * 32}, shop/*={'B' * 32}, s*={'C' * 32}"
    settings = PagerDutySettings.load(routing_key=KEY, service_routing_keys=keys)
    assert settings.key_for("shop/checkout") == "A" * 32
    assert settings.key_for("shop/cart") == "B" * 32
    assert settings.key_for("stage/cart") == "C" * 32
    assert settings.key_for("other/x") == settings.key_for("") == KEY
    assert set(INTEGRATION.secrets(settings)) == {KEY, "A" * 32, "B" * 32, "C" * 32}
    assert "A" * 32 not in repr(settings)


@pytest.mark.parametrize("keys", ["loose", "shop=", "=k3y", 'x={"a"'])
def test_keys_that_cannot_be_read_are_refused_without_being_repeated(keys: str) -> None:
    try:
        settings = PagerDutySettings.load(service_routing_keys=keys)
    except DevOpsError as problem:
        assert problem.code == "NOT_CONFIGURED" and keys not in str(problem)
    else:
        assert settings.service_routing_keys.keys() == {"x"}


@pytest.mark.parametrize("key", [None, "short"])
async def test_without_a_usable_key_nothing_is_sent(key: str | None) -> None:
    async with pagerduty(routing_key=key) as (client, fake, _):
        with pytest.raises(DevOpsError) as raised:
            await client.trigger(page())
    assert raised.value.code == "NOT_CONFIGURED" and fake.sizes == []
    assert "short" not in str(raised.value)


def test_regions_and_addresses() -> None:
    assert PagerDutySettings().base_url == "https://events.pagerduty.com"
    assert PagerDutySettings.load(region="eu").base_url == "https://events.eu.pagerduty.com"
    for url in ("http://events.example.com", "https://u:p@example.com", "ftp://x"):
        with pytest.raises(DevOpsError):
            PagerDutySettings.load(url=url)


async def test_ping_tells_that_it_is_configured_and_no_more() -> None:
    assert INTEGRATION.ping is not None
    async with pagerduty() as (client, fake, _):
        health = await INTEGRATION.ping(client)
        assert health.ok and "configured" in health.says and fake.sizes == []
    async with pagerduty(routing_key="short") as (client, _, _):
        health = await INTEGRATION.ping(client)
    assert not health.ok and health.fix and "short" not in health.says


def test_it_is_off_without_a_key_and_the_catalog_takes_it_without_tools() -> None:
    assert INTEGRATION.why_off(PagerDutySettings()) is not None
    settings = PagerDutySettings.load(service_routing_keys=f"a/b={KEY}", webhook_secret="whsec-1")
    assert INTEGRATION.why_off(settings) is None
    assert list(INTEGRATION.secrets(settings)) == [KEY, "whsec-1"]
    catalog = build_catalog(ServerSettings(), [INTEGRATION])
    assert catalog.members[0].why_off and not catalog.tools


async def test_an_unclear_incident_says_so_on_the_page() -> None:
    told = page_of(
        incident(status="unknown", verdict=None, approval_id=None), why="look now", do_next=""
    )
    assert "was not seen" in told.details["status"] and told.details["verdict"] == "none yet"


def test_a_very_long_incident_id_keeps_its_own_key() -> None:
    from mcp_devops.integrations.pagerduty.events import dedup_key

    one, two = dedup_key("i" * 400 + "1"), dedup_key("i" * 400 + "2")
    assert one != two and len(one) <= 255
