from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mcp_devops.gateway.approvals import ApprovalDesk, ApprovalStatus
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.target import Workload
from mcp_devops.responder.history import claim_act, past_acts, release_act
from mcp_devops.responder.switches import breaker_of, close_breaker
from mcp_devops.response_policy.limits import Allowed, Limits, PastAct, Reset, Stopped
from mcp_devops.text.secrets import Redactor
from tests.support.postgres import postgres, postgres_url
from tests.support.response import CART, NOW, SEARCH

__all__ = ["postgres", "postgres_url"]

LIMITS = Limits(rollbacks_per_hour=2, rollbacks_per_service_per_day=9, cooldown_minutes=0)


class Office:
    """An open state whose clock the test moves."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.time = NOW
        self.journal = Journal(db, Redactor(()), self.now)
        self.desk = ApprovalDesk(db, self.journal, self, 600)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return 0.0

    async def claim(
        self, incident: str, target: Workload = CART, limits: Limits = LIMITS
    ) -> Allowed | Stopped:
        return await claim_act(
            self.db,
            self.journal,
            now=self.time,
            target=target,
            incident_id=incident,
            limits=limits,
        )

    async def policy_approves(self, incident: str | None) -> None:
        plan = ActionPlan(
            tool="incident_roll_back",
            target=SEARCH,
            uid=f"uid-{incident}",
            summary="Roll back",
            incident_id=incident,
        )
        asked = await self.desk.request(plan, "agent")
        yes = ApprovalStatus.APPROVED
        await self.desk.answer(asked.id, yes, who="policy", channel="policy")

    async def acts(self) -> tuple[PastAct, ...]:
        return await past_acts(self.db, self.time)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the state is: a file, or a database of its own on a real server."""
    if request.param == "sqlite":
        return str(tmp_path / "state.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def office(place: str) -> AsyncIterator[Office]:
    async with open_database(place) as database:
        yield Office(database)


async def test_a_claim_is_an_act_and_a_journal_entry(office: Office) -> None:
    assert await office.acts() == ()
    assert await office.claim("inc-1") == Allowed(left_this_hour=1)
    assert await office.acts() == (PastAct(at=NOW, target=CART),)
    (entry,) = [e async for e in office.journal.stream()]
    assert (entry.actor, entry.incident_id, entry.body["act"]) == ("responder", "inc-1", "claimed")


async def test_simultaneous_incidents_cannot_pass_the_limit_together(office: Office) -> None:
    found = await asyncio.gather(*(office.claim(f"inc-{n}", SEARCH) for n in range(20)))
    assert sum(isinstance(f, Allowed) for f in found) == LIMITS.rollbacks_per_hour
    assert len(await office.acts()) == LIMITS.rollbacks_per_hour


async def test_two_processes_share_the_limit(office: Office, place: str) -> None:
    async with open_database(place) as database:
        other = Office(database)
        found = await asyncio.gather(
            *(
                place.claim(f"inc-{n}-{i}")
                for n in range(4)
                for i, place in enumerate((office, other))
            )
        )
    assert sum(isinstance(f, Allowed) for f in found) == LIMITS.rollbacks_per_hour


async def test_the_same_incident_may_claim_again_for_a_while_without_a_second_act(
    office: Office,
) -> None:
    await office.claim("inc-1")
    await office.claim("inc-2")
    assert isinstance(await office.claim("inc-1"), Allowed), "a resumed run"
    assert len(await office.acts()) == 2
    office.time += timedelta(minutes=20)
    assert isinstance(await office.claim("inc-1"), Stopped), "woken much later: another act"


async def test_an_act_that_was_not_done_is_given_back(office: Office) -> None:
    await office.claim("inc-1")
    await release_act(
        office.db, office.journal, now=NOW, target=CART, incident_id="inc-1", why="frozen"
    )
    assert await office.acts() == ()
    before = [e.seq async for e in office.journal.stream()]
    await release_act(
        office.db, office.journal, now=NOW, target=CART, incident_id="inc-1", why="again"
    )
    assert [e.seq async for e in office.journal.stream()] == before, "nothing left to give back"


async def test_what_a_policy_approved_for_an_agent_counts_once(office: Office) -> None:
    await office.claim("inc-1")
    await office.policy_approves("inc-1")
    assert len(await office.acts()) == 1
    await office.policy_approves("inc-2")
    await office.policy_approves(None)
    assert [a.target for a in await office.acts()] == [CART, SEARCH, SEARCH]
    assert isinstance(await office.claim("inc-3"), Stopped)


async def test_the_last_act_of_the_hour_opens_the_breaker_for_all_to_see(office: Office) -> None:
    await office.claim("inc-1")
    assert not (await breaker_of(office.db)).is_open
    await office.claim("inc-2")
    found = await breaker_of(office.db)
    assert found.is_open and found.reason == "2 automatic rollbacks within an hour"
    office.time += timedelta(days=3)
    stopped = await office.claim("inc-3")
    assert isinstance(stopped, Stopped) and stopped.breaker
    await close_breaker(office.db, office.journal, now=office.time, who="ann")
    office.time += timedelta(seconds=1)
    assert isinstance(await office.claim("inc-3"), Allowed)


async def test_where_the_window_closes_it_the_breaker_is_not_set(office: Office) -> None:
    limits = LIMITS.model_copy(update={"breaker": Reset.WINDOW})
    for incident in ("inc-1", "inc-2", "inc-3"):
        await office.claim(incident, limits=limits)
    assert not (await breaker_of(office.db)).is_open
    office.time += timedelta(hours=1)
    assert isinstance(await office.claim("inc-3", limits=limits), Allowed)


async def test_a_breaker_that_waits_is_not_forgotten_with_its_switch(office: Office) -> None:
    await office.claim("inc-1")
    await office.claim("inc-2")
    await office.db.run(lambda c: c.execute("DELETE FROM switches"))
    office.time += timedelta(days=30)
    stopped = await office.claim("inc-3")
    assert isinstance(stopped, Stopped) and stopped.breaker
    assert (await breaker_of(office.db)).is_open, "seen again"


async def test_an_act_whose_target_cannot_be_read_still_counts(office: Office) -> None:
    await office.policy_approves("inc-1")
    await office.db.run(
        lambda c: c.execute('UPDATE approvals SET plan = \'{"target": {"name": 3}}\'')
    )
    (found,) = await office.acts()
    assert found.target.name == ""


async def test_a_clock_that_is_set_back_gives_nothing_back(office: Office) -> None:
    await office.claim("inc-1")
    office.time -= timedelta(hours=3)
    await office.claim("inc-2", SEARCH)
    assert isinstance(await office.claim("inc-3"), Stopped)
    assert isinstance(await office.claim("inc-1"), Stopped), "its claim is of another time"
    office.time += timedelta(hours=3)
    assert isinstance(await office.claim("inc-3"), Stopped)


async def test_a_breaker_that_was_closed_by_a_clock_ahead_opens_again(office: Office) -> None:
    office.time += timedelta(days=3)
    await close_breaker(office.db, office.journal, now=office.time, who="ann")
    office.time = NOW
    for incident in ("inc-1", "inc-2", "inc-3"):
        await office.claim(incident)
    assert (await breaker_of(office.db)).is_open
    office.time += timedelta(hours=2)
    stopped = await office.claim("inc-4")
    assert isinstance(stopped, Stopped) and stopped.breaker


async def test_a_breaker_that_was_closed_by_a_clock_a_little_ahead_is_closed(
    office: Office,
) -> None:
    await office.claim("inc-1")
    await office.claim("inc-2")
    office.time += timedelta(hours=2)
    ahead = office.time + timedelta(seconds=20)
    await close_breaker(office.db, office.journal, now=ahead, who="ann")
    assert isinstance(await office.claim("inc-3"), Allowed)


async def test_a_workload_that_is_deployed_again_after_each_rollback_is_left_to_people(
    office: Office,
) -> None:
    limits = Limits(rollbacks_per_hour=9)
    allowed = []
    for turn in range(20):
        found = await office.claim(f"inc-{turn}", limits=limits)
        allowed.append(isinstance(found, Allowed))
        office.time += timedelta(minutes=20)
    assert allowed == [True, False, True] + [False] * 17, "the cooldown, then the day's limit"
    assert isinstance(await office.claim("inc-other", SEARCH, limits), Allowed)


async def test_claims_are_found_without_reading_the_verdicts_of_all_times(office: Office) -> None:
    if office.db.many_hosts:
        pytest.skip("PostgreSQL plans by how full the table is")
    query = (
        "EXPLAIN QUERY PLAN SELECT incident_id, body FROM entries WHERE kind = 'decision'"
        " AND actor = 'responder' AND at >= '' ORDER BY seq DESC LIMIT 2000"
    )
    plan = await office.db.read(lambda c: [str(row[3]) for row in c.execute(query).fetchall()])
    assert len(plan) == 1 and "(kind=? AND actor=?)" in plan[0]
