"""What on-call hears of the server itself: a refused policy, an open breaker, deployments."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mcp_devops.gateway.acts import set_breaker_in
from mcp_devops.journal.database import Database
from mcp_devops.journal.journal import Journal
from mcp_devops.model.incident import Verification
from mcp_devops.responder.switches import close_breaker
from mcp_devops.responder.telling.lookout import Lookout
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.server.metrics import Metrics
from tests.support.channels import Shift, response, shift, until
from tests.support.pagerduty import TARGET

VALID = """version: 1
defaults:
  page: {slack_channel: C0OTHER11, email: [team@example.com]}
"""


async def lookout(it: Shift) -> Lookout:
    policy, database = (
        await it.gateway.services.get(PolicyFile),
        await it.gateway.services.get(Database),
    )
    return Lookout(it.people, policy, database)


def written(it: Shift, folder: Path, text: str) -> None:
    """The team pushes a version of the file."""
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    it.clock.move(2)


async def settled(it: Shift, rows: int) -> None:
    """Wait until so many messages were taken."""

    async def taken() -> bool:
        owed = list((await it.owed()).values())
        return owed == ["told"] * rows

    async with asyncio.timeout(30):
        while not await taken():
            await asyncio.sleep(0.02)


async def test_a_refused_policy_is_told_once_through_every_channel_and_the_last_valid_one_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch, VALID) as it:
        it.channels.slack.members.add("C0OTHER11")
        watch, restarted = await lookout(it), await lookout(it)
        await watch.look()
        assert await it.owed() == {}
        written(it, tmp_path, VALID + "limits: {rollbacks_per_hour: -1}\n")
        for _ in range(3):
            await watch.look()
        await restarted.look()
        await settled(it, 3)
        policy = await it.gateway.services.get(PolicyFile)
        kept = policy.current.explain(TARGET).rules.page.slack_channel
        (event,) = it.channels.pages.events
        (_, said) = it.channels.slack.find("refused") or ("", {})
        ((to, mail),) = it.channels.mail.taken
    assert kept == "C0OTHER11"
    assert event["event_action"] == "trigger" and event["payload"]["severity"] == "warning"
    assert "policy.yaml:4:10: limits.rollbacks_per_hour" in json.dumps(event)
    assert "mcp-devops policy check" in event["payload"]["custom_details"]["do_next"]
    assert said["channel"] == "C0OTHER11" and "limits.rollbacks_per_hour" in json.dumps(said)
    assert "team@example.com" in to and "refused" in str(mail["Subject"])


async def test_the_numbers_say_whether_the_policy_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        numbers = Metrics(it.gateway)
        assert b"mcp_devops_policy_refused 0.0" in await numbers.render()
        written(it, tmp_path, "version: 2\n")
        assert b"mcp_devops_policy_refused 1.0" in await numbers.render()


async def test_a_policy_that_is_valid_again_ends_its_alert_and_a_later_one_is_a_new_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        watch = await lookout(it)
        for _ in range(2):
            written(it, tmp_path, "version: 2\n")
            await watch.look()
            written(it, tmp_path, "version: 1\n")
            await watch.look()
        await settled(it, 12)
        (first, _), (second, _) = it.channels.pages.alerts.items()
        assert [e["event_action"] for e in it.channels.pages.events] == [
            "trigger", "resolve", "trigger", "resolve",
        ]  # fmt: skip
        assert it.channels.pages.pages == 2 and first != second
        assert set(it.channels.pages.alerts.values()) == {"resolved"}
        assert it.channels.slack.find("valid again") and not it.channels.slack.find("refused")
        subjects = [str(m["Subject"]) for _, m in it.channels.mail.taken]
    assert sum("refused" in s for s in subjects) == sum("valid again" in s for s in subjects) == 2


async def test_another_broken_version_is_told_under_the_same_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        watch = await lookout(it)
        for text in ("version: 2\n", "version: 3\n"):
            written(it, tmp_path, text)
            await watch.look()
        await settled(it, 6)
        assert it.channels.pages.pages == 1 and len(it.channels.pages.events) == 2
        assert len(it.channels.mail.taken) == 2


async def test_a_server_that_starts_with_a_corrected_policy_ends_the_alert_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        before = await lookout(it)
        written(it, tmp_path, "version: 2\n")
        await before.look()
        written(it, tmp_path, "version: 1\n")
        await (await lookout(it)).look()
        await settled(it, 6)
        assert set(it.channels.pages.alerts.values()) == {"resolved"}


async def test_an_open_breaker_pages_once_and_its_end_resolves_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        database, journal = (
            await it.gateway.services.get(Database),
            await it.gateway.services.get(Journal),
        )
        now = it.clock.now()
        await database.run(
            lambda c: set_breaker_in(
                c, journal, is_open=True, now=now, who="responder", reason="3 within an hour"
            )
        )
        watch, other = await lookout(it), await lookout(it)
        for each in (watch, other, watch):
            await each.look()
        await settled(it, 3)
        (event,) = it.channels.pages.events
        assert event["payload"]["severity"] == "critical"
        assert "unfreeze --breaker" in json.dumps(event) and "3 within an hour" in json.dumps(event)
        await close_breaker(database, journal, now=it.clock.now(), who="ann")
        await watch.look()
        await settled(it, 6)
        assert set(it.channels.pages.alerts.values()) == {"resolved"}


async def test_a_deployment_is_shown_in_pagerduty_without_anybody_waiting_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        it.channels.pages.faults += ["silent"]
        await it.people.change(TARGET, f"{TARGET} was rolled out")
        assert it.channels.pages.changes == [], "nobody waited"
        await until(lambda: it.channels.pages.changes)
    (change,) = it.channels.pages.changes
    assert "was rolled out" in change["payload"]["summary"]


async def test_a_verified_rollback_is_a_change_in_pagerduty_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shift(tmp_path, monkeypatch) as it:
        stored = await it.store.get(it.incident_id)
        checked = Verification(
            outcome="recovered",
            checked_at=it.clock.now(),
            took_s=12,
            template_restored=True,
            pods="3 of 3 are ready.",
            says="It is well.",
        )
        seen = stored.incident.model_copy(update={"verification": checked})
        await it.store.save(stored.model_copy(update={"incident": seen}), "verified", "test")
        await it.people.close(it.incident_id, response(), recovered=True)
        await until(lambda: it.channels.pages.changes)
    assert "was rolled back: recovered" in it.channels.pages.changes[0]["payload"]["summary"]
