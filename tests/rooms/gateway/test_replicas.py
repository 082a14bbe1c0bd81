"""Several replicas over one PostgreSQL: one answer counts, one plan runs once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.errors import ApprovalDenied, DevOpsError, PreconditionFailed
from mcp_devops.gateway import ledger as module
from mcp_devops.gateway.approvals import Approval, ApprovalStatus
from mcp_devops.gateway.door import Gateway
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.target import Workload
from tests.rooms.gateway.conftest import Opened
from tests.rooms.gateway.test_approvals import RESTART
from tests.support.moved_clock import Hands
from tests.support.postgres import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

REPLICAS = 4


@pytest.fixture
def opened(tmp_path: Path, postgres_url: str) -> Opened:
    return Opened(tmp_path, postgres_url)


@pytest.fixture
async def doors(opened: Opened) -> AsyncIterator[list[Gateway]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened.door()) for _ in range(REPLICAS)]


def plan(**more: Any) -> ActionPlan:
    fields = {"tool": "toy_restart_lamp", "uid": "u", "summary": "Restart"} | more
    return ActionPlan(target=Workload(namespace="house", name="hall"), **fields)


async def outcomes(calls: list[Any]) -> tuple[list[Any], list[DevOpsError]]:
    found = await asyncio.gather(*calls, return_exceptions=True)
    refused = [f for f in found if isinstance(f, DevOpsError)]
    done = [f for f in found if not isinstance(f, BaseException)]
    assert len(refused) + len(done) == len(found), found
    return done, refused


async def approved(door: Gateway, wanted: ActionPlan) -> Approval:
    asked = await door.consent.desk.request(wanted, "alice")
    return await door.consent.desk.answer(
        asked.id, ApprovalStatus.APPROVED, who="bob", channel="terminal"
    )


async def test_the_question_is_stored_once_whichever_replica_is_asked(doors: list[Gateway]) -> None:
    wanted = plan()
    asked, _ = await outcomes([d.consent.desk.request(wanted, "alice") for d in doors])
    assert len({approval.id for approval in asked}) == 1 and len(asked) == REPLICAS


async def test_exactly_one_of_two_answers_at_once_counts(doors: list[Gateway]) -> None:
    for number in range(5):
        asked = await doors[0].consent.desk.request(plan(uid=f"u{number}"), "alice")
        answers = [ApprovalStatus.APPROVED, ApprovalStatus.DENIED] * (REPLICAS // 2)
        done, refused = await outcomes(
            [
                d.consent.desk.answer(asked.id, status, who=f"p{n}", channel="terminal")
                for n, (d, status) in enumerate(zip(doors, answers, strict=True))
            ]
        )
        assert len(done) == 1 and all(isinstance(r, PreconditionFailed) for r in refused)
        for door in doors:
            assert (await door.consent.desk.get(asked.id)).answered_by == done[0].answered_by
    entries = (await doors[0].journal.list(kind=EntryKind.APPROVAL_ANSWERED)).entries
    assert len(entries) == 5
    assert (await doors[0].journal.verify()).ok


async def test_exactly_one_replica_spends_an_approval(doors: list[Gateway]) -> None:
    for number in range(5):
        wanted = plan(uid=f"u{number}")
        approval = await approved(doors[0], wanted)
        done, refused = await outcomes(
            [d.ledger.start(wanted, approval, "alice", f"c-{number}-{n}")
             for n, d in enumerate(doors)]
        )  # fmt: skip
        assert len(done) == 1 and len(refused) == REPLICAS - 1
        assert all(isinstance(r, PreconditionFailed | ApprovalDenied) for r in refused)
        state = (await doors[-1].consent.desk.get(approval.id)).status
        assert state is ApprovalStatus.USED
    started = (await doors[0].journal.list(kind=EntryKind.ACTION_STARTED)).entries
    assert len(started) == 5


async def test_a_call_repeated_at_every_replica_acts_once(
    doors: list[Gateway], opened: Opened
) -> None:
    first = await doors[0].call(*RESTART)
    assert first.error is not None
    await doors[1].consent.desk.answer(
        first.error["details"]["approval_id"],
        ApprovalStatus.APPROVED,
        who="bob",
        channel="terminal",
    )
    await asyncio.gather(*[door.call(*RESTART) for door in doors])
    assert opened.client.switched == ["hall"]


async def started_elsewhere(door: Gateway, wanted: ActionPlan) -> None:
    """As a process of another machine has started it."""
    await door.ledger.start(wanted, None, "alice", "c-1")
    database = await door.services.get(Database)

    def elsewhere(connection: Connection) -> None:
        owner = f"{os.getpid()}:0123456789ab@another/pid:[1]"
        connection.execute("UPDATE actions SET owner = ?", (owner,))

    await database.run(elsewhere)


async def test_a_change_of_another_machine_counts_as_running_as_long_as_it_may_take(
    opened: Opened,
) -> None:
    from mcp_devops.gateway.opening import open_gateway
    from tests.support.toy import toy

    clock, wanted = Hands(), plan()
    settings = opened.settings(change_deadline_s=100)
    async with open_gateway(
        settings, channel="test", clock=clock, integrations=[toy(opened.client)]
    ) as door:
        await started_elsewhere(door, wanted)
        clock.offset = timedelta(seconds=100 + module.MARGIN_S - 5)
        with pytest.raises(PreconditionFailed):
            await door.ledger.find(wanted)
        with pytest.raises(PreconditionFailed):
            await door.ledger.start(wanted, None, "alice", "c-2")
        clock.offset = timedelta(seconds=100 + module.MARGIN_S + 5)
        assert await door.ledger.find(wanted) is None
        await door.ledger.start(wanted, None, "alice", "c-3")


async def test_a_process_of_this_machine_that_is_gone_holds_nothing_up(
    doors: list[Gateway],
) -> None:
    wanted = plan()
    await doors[0].ledger.start(wanted, None, "alice", "c-1")
    database = await doors[0].services.get(Database)

    def gone(connection: Connection) -> None:
        owner = connection.execute("SELECT owner FROM actions").fetchone()["owner"]
        connection.execute(
            "UPDATE actions SET owner = ?", (f"4194999:0@{owner.partition('@')[2]}",)
        )

    await database.run(gone)
    await doors[1].ledger.start(wanted, None, "alice", "c-2")
    assert await doors[2].ledger.find(plan(uid="another")) is None


async def test_what_a_process_of_another_machine_began_goes_on_once_it_is_known_to_be_dead(
    doors: list[Gateway],
) -> None:
    wanted = plan()
    approval = await approved(doors[0], wanted)
    await doors[0].ledger.start(wanted, approval, "alice", "c-1")
    database = await doors[0].services.get(Database)
    elsewhere = f"{os.getpid()}:0123456789ab@another/pid:[1]"
    await database.run(lambda c: c.execute("UPDATE actions SET owner = ?", (elsewhere,)).rowcount)
    assert await doors[1].ledger.interrupted(wanted) is None
    await database.run(lambda c: module.gone_in(c, elsewhere))
    goes_on = await doors[1].ledger.interrupted(wanted)
    assert goes_on is not None and goes_on.id == approval.id
    await doors[1].ledger.start(wanted, goes_on, "bob", "c-2")
    assert (await doors[1].journal.verify()).ok
