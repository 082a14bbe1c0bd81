"""The other tables bear witness: an end that was cut off is missed where a row tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mcp_devops.gateway.approvals import ApprovalDesk, ApprovalStatus
from mcp_devops.gateway.ledger import Ledger
from mcp_devops.incidents.outcomes import record_outcome
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.chain import ChainProblem
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import ShiftedClock
from tests.support.response import CART, NOW, verdict

Tamper = Callable[[str], None]


class Night:
    """What the real desk, ledger and store write in one incident, step by step."""

    def __init__(self, db: Database) -> None:
        clock = ShiftedClock(NOW)
        self.db = db
        self.journal = Journal(db, Redactor(()), clock.now)
        self.store = IncidentStore(db, self.journal, clock)
        self.desk = ApprovalDesk(db, self.journal, clock, 600)
        self.ledger = Ledger(db, self.journal, self.desk, clock, 60)

    async def play(self, answer: ApprovalStatus = ApprovalStatus.APPROVED, uid: str = "u") -> None:
        """From the opening to a person's judgement; a no ends it earlier."""
        stored = await self.store.open(CART, "ann")
        judged = stored.incident.model_copy(update={"verdict": verdict()})
        stored = await self.store.save(
            stored.model_copy(update={"incident": judged}), "judged", "ann"
        )
        plan = ActionPlan(
            tool="incident_roll_back", target=CART, uid=uid, summary="back",
            incident_id=stored.incident.id,
        )  # fmt: skip
        asked = await self.desk.request(plan, "ann")
        await self.desk.answer(asked.id, answer, who="bob", channel="terminal")
        if answer is ApprovalStatus.APPROVED:
            await self.ledger.start(plan, await self.desk.get(asked.id), "ann", "c-1")
            await self.ledger.finish(plan, "done", {}, "ann", "c-1")
        await self.store.note(stored.incident.id, "told in Slack", "people")
        await record_outcome(
            self.db, self.journal, stored, was_right=False, who="ann", now=NOW, note=""
        )

    async def last(self, kind: EntryKind) -> int:
        found = await self.journal.list(kind=kind, newest_first=True, limit=1)
        return found.entries[0].seq


@pytest.fixture
async def night(db: Database) -> Night:
    made = Night(db)
    await made.play()
    return made


async def test_what_the_desk_the_ledger_and_the_store_write_agrees(night: Night) -> None:
    assert (await night.journal.verify()).ok
    await night.play(ApprovalStatus.DENIED)
    assert (await night.journal.verify()).ok


async def test_beside_many_writers_nothing_is_ever_contradicted(
    where: Path | str, db: Database
) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(120):
        nights = [Night(await stack.enter_async_context(open_database(where))) for _ in range(4)]

        async def write(number: int) -> None:
            for turn in range(5):
                await nights[number].play(uid=f"u-{number}-{turn}")

        writing = asyncio.gather(*map(write, range(len(nights))))
        journal, looks = Journal(db, Redactor(()), lambda: NOW), []
        while not writing.done():
            looks.append(await journal.verify())
        await writing
        looks.append(await journal.verify())
    assert [look.says for look in looks if not look.ok] == []
    assert looks[-1].entries == 4 * 5 * 8


@pytest.mark.parametrize(
    ("kind", "missed"),
    [
        (EntryKind.NOTE, "judgement"),
        (EntryKind.ACTION_FINISHED, "is done in its table"),
        (EntryKind.ACTION_STARTED, "was used"),
        (EntryKind.APPROVAL_ANSWERED, "is used in its table"),
        (EntryKind.APPROVAL_REQUESTED, "was asked for"),
        (EntryKind.INCIDENT_CHANGED, "was asked for"),
    ],
)
async def test_an_end_that_was_cut_off_is_missed_without_an_anchor(
    night: Night, tamper: Tamper, kind: EntryKind, missed: str
) -> None:
    tamper(f"DELETE FROM entries WHERE seq >= {await night.last(kind)}")  # noqa: S608
    report = await night.journal.verify()
    assert (report.ok, report.problem) == (False, ChainProblem.CONTRADICTED)
    assert missed in report.says


@pytest.mark.parametrize(
    "script",
    [
        "UPDATE approvals SET status = 'denied'",
        "UPDATE actions SET status = 'failed'",
        "UPDATE outcomes SET was_right = 1",
        "INSERT INTO actions (digest, tool, status, started_at, owner)"
        " VALUES ('d', 't', 'done', '2026', 'o')",
    ],
)
async def test_a_table_that_says_otherwise_than_the_journal_is_told(
    night: Night, tamper: Tamper, script: str
) -> None:
    tamper(script)
    report = await night.journal.verify()
    assert (report.ok, report.problem) == (False, ChainProblem.CONTRADICTED)


async def test_a_line_of_an_incident_that_no_entry_tells_is_missed(
    night: Night, tamper: Tamper
) -> None:
    tamper(
        "DELETE FROM entries WHERE seq >= 2;"
        "DELETE FROM approvals; DELETE FROM actions; DELETE FROM outcomes"
    )
    report = await night.journal.verify()
    assert report.problem is ChainProblem.CONTRADICTED and "lines in its timeline" in report.says
