"""What is written down in Sentry of a rollback, whoever had it done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.incidents.sentry_record import record_in_sentry, write_down
from mcp_devops.incidents.store import Stored
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.journal.database import open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.change import Change, ChangeArea, Revision, TemplateDifference
from mcp_devops.model.evidence import DiagnosticContext
from mcp_devops.model.incident import Incident, IncidentStatus
from mcp_devops.model.target import Workload
from mcp_devops.text.secrets import Redactor
from tests.rooms.incidents.conftest import Desk, yes
from tests.rooms.incidents.test_roll_back import FAST
from tests.rooms.integrations.sentry.test_record import Ingestion
from tests.support.sentry import World, ago, release, says, sentry, settings_for

CHECKOUT = Workload(namespace="shop", name="checkout")
SECRET = "hunter2-hunter2-hunter2"
DSN = "MCP_DEVOPS_SENTRY__DSN"


class Only:
    """A program in which nothing but Sentry is connected."""

    def __init__(self, client: SentryClient | None, journal: Journal | None = None) -> None:
        self._known = {SentryClient: client, Journal: journal}

    async def find(self, kind: type[Any]) -> Any:
        return self._known.get(kind)

    async def get(self, kind: type[Any]) -> Any:
        raise LookupError(kind)


def revision(number: int) -> Revision:
    return Revision(
        number=number, name=f"checkout-{number}", template_hash=str(number) * 64, created_at=ago(9)
    )


def rolled_back(status: IncidentStatus = IncidentStatus.RECOVERED) -> Stored:
    version = TemplateDifference(
        area=ChangeArea.ENVIRONMENT,
        path="containers[checkout].env[SENTRY_RELEASE]",
        before="1.0.0",
        after="1.1.0",
    )
    change = Change(
        workload=CHECKOUT,
        uid="uid-1",
        started_at=ago(5),
        revision=revision(8),
        previous=revision(7),
        differences=(version,),
    )
    return Stored(
        incident=Incident(
            id="inc-0000000a",
            target=CHECKOUT,
            status=status,
            opened_at=ago(5),
            updated_at=ago(1),
            opened_by="watch",
        ),
        context=DiagnosticContext(target=CHECKOUT, collected_at=ago(4), change=change),
        plan=ActionPlan(tool="t", target=CHECKOUT, uid="uid-1", summary=f"Undo {SECRET}"),
    )


async def test_a_rollback_is_an_event_of_its_own_project_and_a_deploy_of_what_is_back() -> None:
    there = World(releases=[release("checkout@1.0.0", ago(60)), release("checkout@1.1.0", ago(6))])
    mine, others = Ingestion(), Ingestion()
    async with mine.running() as own, others.running() as common, sentry(there) as client:
        settings = settings_for("http://127.0.0.1:9", dsn=common, service_dsns={"checkout": own})
        found = [
            await record_in_sentry(
                Only(client), settings, there.clock, Redactor([SECRET]), rolled_back()
            )
            for _ in range(2)
        ]
    assert [f.lost for f in found] == [(), ()] and [f.sent for f in found] == [2, 2]
    assert others.envelopes == [] and len(mine.envelopes) == 2
    first, second = (e.split(b"\n")[0] for e in mine.envelopes)
    assert first.split(b'"event_id"')[1][:40] == second.split(b'"event_id"')[1][:40]
    assert b"uid-1-8" in mine.envelopes[0] and b"recovered" in mine.envelopes[0]
    assert SECRET.encode() not in mine.envelopes[0]
    assert [p["name"] for p in there.posted] == ["rollback inc-0000000a"], "a repeat counts once"
    assert there.paths("1.0.0/deploys") and not there.paths("1.1.0/deploys")


async def test_the_event_says_where_and_leads_to_the_page_and_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_RESPONSE__PUBLIC_URL", "https://ops.example/mcp-devops/")
    there = World(releases=[release("checkout@1.0.0", ago(60))])
    mine = Ingestion()
    page = "https://ops.example/mcp-devops/incidents/inc-0000000a"
    async with mine.running() as dsn, sentry(there) as client, open_database(tmp_path / "d") as db:
        journal = Journal(db, Redactor(), there.clock.now)
        entry = await journal.append(EntryKind.NOTE, actor="a", subject="s", body={})
        settings = settings_for("http://127.0.0.1:9", dsn=dsn, environment="staging")
        await record_in_sentry(
            Only(client, journal), settings, there.clock, Redactor(), rolled_back()
        )
    event = json.loads(mine.envelopes[0].split(b"\n")[2])
    assert event["environment"] == "staging"
    assert event["contexts"]["rollback"]["link"] == page
    assert event["contexts"]["rollback"]["journal_head"] == f"1:{entry.hash}"
    assert [posted["url"] for posted in there.posted] == [page]


async def test_what_sentry_does_not_take_is_said_and_stops_nothing() -> None:
    there = World(releases=[release("checkout@1.0.0", ago(60))], broken={"deploys": says(403)})
    down = Ingestion(*[lambda _: says(403)(_)] * 9)
    async with down.running() as dsn, sentry(there) as client:
        settings = settings_for("http://127.0.0.1:9", dsn=dsn)
        found = await record_in_sentry(
            Only(client), settings, there.clock, Redactor(), rolled_back()
        )
    assert [says_.split(":")[1].strip() for says_ in found.lost] == [
        "CREDENTIALS_REJECTED",
        "PERMISSION_DENIED",
    ]


async def test_nothing_is_annotated_for_releases_that_nobody_names_or_an_unknown_outcome() -> None:
    nameless, unknown = World(), World(releases=[release("checkout@1.0.0", ago(60))])
    async with sentry(nameless) as client:
        found = await record_in_sentry(
            Only(client), client.settings, nameless.clock, Redactor(), rolled_back()
        )
    async with sentry(unknown) as client:
        await record_in_sentry(
            Only(client),
            client.settings,
            unknown.clock,
            Redactor(),
            rolled_back(IncidentStatus.UNKNOWN),
        )
    assert found.sent == 0, "the timeline would say that it was recorded"
    assert found.lost == () and nameless.posted == [] and unknown.posted == []


async def test_a_rollback_of_an_agent_is_recorded_once_and_said_in_the_timeline(
    desk: Desk,
) -> None:
    there = Ingestion()
    async with (
        there.running() as dsn,
        desk.playing("error-spike", variables={**FAST, DSN: dsn}) as duty,
    ):
        incident, _ = await duty.decided()
        done = await duty.call("incident_roll_back", ask=yes, incident_id=incident)
        services, clock = duty.gateway.services, duty.gateway.clock
        again = await write_down(services, clock, incident, "responder")
        told = await duty.call("incident_get", incident_id=incident)
    assert done.data is not None and done.data["status"] == "recovered"
    event = json.loads(there.envelopes[0].split(b"\n")[2])
    assert len(there.envelopes) == 1 and event["tags"]["incident.id"] == incident
    assert again == ()
    assert told.data is not None
    lines = [entry["what"] for entry in told.data["incident"]["timeline"]]
    assert lines.count("recorded in Sentry: recovered") == 1


async def test_a_sentry_that_is_down_takes_nothing_from_a_rollback_and_is_said(
    desk: Desk,
) -> None:
    there = Ingestion(*[says(403)] * 9)
    async with (
        there.running() as dsn,
        desk.playing("error-spike", variables={**FAST, DSN: dsn}) as duty,
    ):
        incident, _ = await duty.decided()
        done = await duty.call("incident_roll_back", ask=yes, incident_id=incident)
        told = await duty.call("incident_get", incident_id=incident)
    assert done.data is not None and done.data["status"] == "recovered"
    assert any("Sentry: CREDENTIALS_REJECTED" in w for w in done.data["warnings"])
    assert told.data is not None
    assert any("not recorded" in e["what"] for e in told.data["incident"]["timeline"])
