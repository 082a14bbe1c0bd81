"""What people say afterwards, and what the next verdict makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.decision.policy import ChangeHistory
from mcp_devops.errors import PreconditionFailed
from mcp_devops.gateway.approvals import ApprovalDesk, ApprovalStatus
from mcp_devops.incidents.outcomes import (
    Judgement,
    history_of,
    record_of_all,
    record_outcome,
    target_key,
)
from mcp_devops.incidents.store import IncidentStore, Stored
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Action, Verdict
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import ShiftedClock
from tests.support import evidence as ev
from tests.support.postgres import postgres, postgres_url
from tests.support.response import CART, NOW, SEARCH, verdict, veto

__all__ = ["postgres", "postgres_url"]


class Archive:
    """An open state with incidents in it."""

    def __init__(self, db: Database) -> None:
        self.db = db
        clock = ShiftedClock(NOW)
        self.journal = Journal(db, Redactor(()), clock.now)
        self.store = IncidentStore(db, self.journal, clock)
        self.desk = ApprovalDesk(db, self.journal, clock, 600)

    async def incident(
        self,
        template: str,
        status: IncidentStatus = IncidentStatus.DECIDED,
        said: Verdict | None = None,
        target: Workload = CART,
    ) -> Stored:
        stored = await self.store.open(target, "test")
        judged = ev.change().model_copy(update={"revision": ev.revision(8, template)})
        incident = stored.incident.model_copy(
            update={"status": status, "verdict": said or verdict(target=target)}
        )
        context = ev.context(judged=judged).model_copy(update={"target": target})
        changed = Stored(incident=incident, context=context)
        return await self.store.save(changed, "judged", "test")

    async def judge(self, stored: Stored, right: bool, note: str = "") -> Judgement:
        return await record_outcome(
            self.db, self.journal, stored, was_right=right, who="ann", now=NOW, note=note
        )

    async def past(self, target: Workload = CART, **more: Any) -> ChangeHistory:
        return await history_of(self.db, target, **more)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the state is: a file, or a database of its own on a real server."""
    if request.param == "sqlite":
        return str(tmp_path / "state.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def archive(place: str) -> AsyncIterator[Archive]:
    async with open_database(place) as database:
        yield Archive(database)


async def test_a_service_without_a_past_has_none(archive: Archive) -> None:
    assert await archive.past() == ChangeHistory()
    assert await record_of_all(archive.db) == ChangeHistory()


async def test_a_judgement_counts_for_the_service_and_for_all(archive: Archive) -> None:
    said = await archive.judge(await archive.incident("t1"), True, "graphs\n went down")
    assert (said.automatic, said.was_right, said.before) == (True, True, None)
    assert said.note == "graphs went down"
    found = await archive.past()
    assert found == ChangeHistory(deployments=1, failed=1, judged=1, right=1)
    assert await record_of_all(archive.db) == ChangeHistory(judged=1, right=1)
    assert await archive.past(SEARCH) == ChangeHistory()


async def test_a_corrected_judgement_replaces_the_earlier_and_both_are_in_the_journal(
    archive: Archive,
) -> None:
    stored = await archive.incident("t1")
    await archive.judge(stored, True)
    assert (await archive.judge(stored, False, "errors stayed")).before is True
    assert await archive.past() == ChangeHistory(deployments=1, failed=0, judged=1, right=0)
    entries = [
        e async for e in archive.journal.stream(kind=EntryKind.NOTE, incident_id=stored.incident.id)
    ]
    assert [(e.actor, e.body["was_right"]) for e in entries] == [("ann", True), ("ann", False)]
    assert (await archive.journal.verify()).ok


async def test_a_decision_left_to_a_person_does_not_count_as_automatic(archive: Archive) -> None:
    unsure = verdict(Action.HOLD, automatic=False, confidence=0.6)
    said = await archive.judge(await archive.incident("t1", said=unsure), True)
    assert not said.automatic
    assert (await archive.past()).judged == 0


async def test_a_verdict_that_only_a_poor_record_stopped_can_mend_that_record(
    archive: Archive,
) -> None:
    stopped = verdict(automatic=False, vetoes=(veto("record_too_poor"),))
    assert (await archive.judge(await archive.incident("t1", said=stopped), True)).automatic
    both = verdict(automatic=False, vetoes=(veto("record_too_poor"), veto("recovered")))
    assert not (await archive.judge(await archive.incident("t2", said=both), True)).automatic


async def test_what_the_policy_approved_counts_as_automatic(archive: Archive) -> None:
    stored = await archive.incident("t1", said=verdict(automatic=False))
    plan = ActionPlan(tool="x", target=CART, uid="u", summary="s", incident_id=stored.incident.id)
    asked = await archive.desk.request(plan, "agent")
    yes = ApprovalStatus.APPROVED
    await archive.desk.answer(asked.id, yes, who="policy", channel="policy")
    await archive.db.run(lambda c: archive.desk.use_in(c, asked.id, plan.digest))
    assert (await archive.judge(stored, True)).automatic


async def test_an_incident_without_a_verdict_cannot_be_judged(archive: Archive) -> None:
    with pytest.raises(PreconditionFailed):
        await archive.judge(await archive.store.open(CART, "test"), True)


@pytest.mark.parametrize(
    ("status", "failed"),
    [
        (IncidentStatus.DECIDED, 0),
        (IncidentStatus.RECOVERED, 1),
        (IncidentStatus.NOT_RECOVERED, 0),
        (IncidentStatus.UNKNOWN, 0),
        (IncidentStatus.CLOSED, 0),
    ],
)
async def test_a_deployment_failed_if_rolling_it_back_cured_it_not_because_a_verdict_says_so(
    archive: Archive, status: IncidentStatus, failed: int
) -> None:
    await archive.incident("t1", status)
    assert await archive.past() == ChangeHistory(deployments=1, failed=failed)


@pytest.mark.parametrize(
    ("action", "right", "failed"),
    [
        (Action.ROLL_BACK, True, 1),
        (Action.ROLL_BACK, False, 0),
        (Action.FIX_FORWARD, True, 1),
        (Action.NONE, True, 0),
        (Action.NONE, False, 1),
        (Action.HOLD, True, 0),
    ],
)
async def test_a_persons_word_decides_whether_a_deployment_failed(
    archive: Archive, action: Action, right: bool, failed: int
) -> None:
    await archive.judge(await archive.incident("t1", said=verdict(action)), right)
    assert (await archive.past()).failed == failed


async def test_one_deployment_counts_once_and_not_as_its_own_past(archive: Archive) -> None:
    for template in ("t1", "t1", "t2"):
        await archive.incident(template, IncidentStatus.RECOVERED)
    await archive.incident("t9", target=CART.model_copy(update={"cluster": "prod"}))
    assert await archive.past() == ChangeHistory(deployments=2, failed=2)
    assert await archive.past(without_template="t2") == ChangeHistory(deployments=1, failed=1)


async def test_deployments_that_were_watched_without_an_incident_count_too(
    archive: Archive,
) -> None:
    for number in range(3):
        row = (f"run-{number}", target_key(CART), f"t{number}", NOW.isoformat())
        await archive.db.run(
            lambda c, row=row: c.execute(  # type: ignore[misc]
                "INSERT INTO runs (id, target, template_hash, status, started_at, updated_at, body)"
                " VALUES (?, ?, ?, 'done', ?, '', '{}')",
                row,
            )
        )
    await archive.incident("t1", IncidentStatus.RECOVERED)
    found = await archive.past()
    assert found == ChangeHistory(deployments=3, failed=1)
    assert found.failure_rate == pytest.approx(2 / 13)


def test_a_workload_of_a_named_cluster_has_a_key_of_its_own() -> None:
    assert target_key(CART) == "Deployment shop/cart"
    assert target_key(CART.model_copy(update={"cluster": "prod"})) == "Deployment shop/cart @ prod"
