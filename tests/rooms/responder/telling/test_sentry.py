"""What the unattended server hears from Sentry, and writes down there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
from mcp_devops.responder.telling.sentry_record import record_in_sentry
from mcp_devops.responder.watching.sentry_deploys import service_of, tell_new_deploys
from mcp_devops.text.secrets import Redactor
from tests.rooms.integrations.sentry.test_record import Ingestion
from tests.support.sentry import NOW, World, ago, deploy, release, says, sentry, settings_for

CHECKOUT = Workload(namespace="shop", name="checkout")
SECRET = "hunter2-hunter2-hunter2"


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
    assert found == [(), ()]
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
        lost = await record_in_sentry(
            Only(client), settings, there.clock, Redactor(), rolled_back()
        )
    assert [says_.split(":")[1].strip() for says_ in lost] == [
        "CREDENTIALS_REJECTED",
        "PERMISSION_DENIED",
    ]


async def test_nothing_is_annotated_for_releases_that_nobody_names_or_an_unknown_outcome() -> None:
    nameless, unknown = World(), World(releases=[release("checkout@1.0.0", ago(60))])
    async with sentry(nameless) as client:
        lost = await record_in_sentry(
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
    assert lost == () and nameless.posted == [] and unknown.posted == []


async def test_a_new_deploy_in_sentry_wakes_its_service_once_and_an_old_one_never(
    tmp_path: Path,
) -> None:
    there = World(releases=[release("checkout@1.0.0", ago(60), [deploy(ago(50), id="1")])])
    woken: list[str] = []

    def rouse(service: str) -> int:
        woken.append(service)
        return 1

    async with open_database(tmp_path / "state.db") as database, sentry(there) as client:
        await tell_new_deploys(client, database, there.clock, rouse)
        at_first = list(woken)
        later = deploy(NOW.replace(minute=1), id="2")
        there.releases.append(release("checkout@1.1.0", NOW, [later]))
        there.releases.append(release("just-a-hash", NOW, [{**later, "id": "3"}]))
        new = await tell_new_deploys(client, database, there.clock, rouse)
        again = await tell_new_deploys(client, database, there.clock, rouse)
    assert at_first == [] and woken == ["checkout"]
    assert {d.release for d in new} == {"checkout@1.1.0", "just-a-hash"} and again == ()


@pytest.mark.parametrize(
    ("name", "service"),
    [("checkout@1.0", "checkout"), ("@scope/web@2.0", "@scope/web"), ("abc", None), ("@1", None)],
)
def test_a_release_names_its_service_by_sentrys_convention(name: str, service: str | None) -> None:
    assert service_of(name) == service
