"""What ended long ago is deleted; what is under way, and what anything is judged by, is kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.incidents.outcomes import NEWEST, history_of, target_key
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import EntryKind, stamp
from mcp_devops.journal.journal import Journal
from mcp_devops.model.target import Workload
from mcp_devops.responder import housekeeping
from mcp_devops.responder.bookmarks import (
    bookmark_in,
    restoring_in,
    seen_in,
    set_bookmark_in,
    take_note_in,
)
from mcp_devops.responder.housekeeping import BATCH, Housekeeping
from mcp_devops.responder.settings import HousekeepingSettings
from mcp_devops.responder.watching.rollouts import Rollout
from mcp_devops.text.secrets import Redactor
from tests.rooms.responder.test_service import ALONE, night
from tests.support.moved_clock import Hands
from tests.support.postgres import postgres, postgres_url
from tests.support.waiting import until

__all__ = ["postgres", "postgres_url"]

CART = Workload(cluster="here", namespace="shop", name="cart")


@dataclass
class Beside:
    """DBOS and the watch, as far as a sweep knows them."""

    uids: Collection[str] = ()
    forgotten: list[datetime] = field(default_factory=list)
    looked: int = 0

    async def forget(self, before: datetime, most: int) -> int:
        self.forgotten.append(before)
        return 0

    async def tell_lost(self) -> int:
        self.looked += 1
        return 0


async def no_pause(seconds: float) -> None:
    """A rest that the test does not wait for."""


def keeper(database: Database, clock: Hands, beside: Beside | None = None) -> Housekeeping:
    settings = HousekeepingSettings(keep_days=30, keep_steps_days=7)
    beside = beside or Beside()
    return Housekeeping(database, clock, settings, beside, beside, no_pause)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    where: Path | str = tmp_path / "state.db"
    if request.param == "postgresql":
        where = str(request.getfixturevalue("postgres_url"))
    async with open_database(where) as opened:
        yield opened


def delivery(connection: Connection, key: str, at: datetime) -> None:
    connection.execute(
        "INSERT INTO deliveries (source, key, at) VALUES ('slack', ?, ?)", (key, at.isoformat())
    )


def message(
    connection: Connection, key: str, at: datetime, status: str = "told", incident: str = "inc-0"
) -> None:
    connection.execute(
        "INSERT INTO outbox (key, incident_id, channel, body, status, attempts, made_at, next_at)"
        " VALUES (?, ?, 'Slack', '{}', ?, 1, ?, ?)",
        (key, incident, status, stamp(at), stamp(at)),
    )


def run(
    connection: Connection, key: str, at: datetime, *, ended: bool = True, name: str = "cart"
) -> None:
    target = target_key(CART.model_copy(update={"name": name}))
    body = json.dumps({"ended_at": at.isoformat()}) if ended else "{}"
    connection.execute(
        "INSERT INTO runs (id, target, template_hash, status, started_at, updated_at, body)"
        " VALUES (?, ?, ?, 'healthy', ?, ?, ?)",
        (key, target, key, at.isoformat(), at.isoformat(), body),
    )


def incident(connection: Connection, key: str, at: datetime) -> None:
    connection.execute(
        "INSERT INTO incidents (id, namespace, name, status, opened_at, updated_at, body)"
        " VALUES (?, 'else', 'where', 'closed', ?, ?, '{}')",
        (key, at.isoformat(), at.isoformat()),
    )


async def left(database: Database, table: str, column: str) -> list[str]:
    query = f"SELECT {column} FROM {table} ORDER BY 1"  # noqa: S608 - ours
    return await database.read(lambda c: [str(r[0]) for r in c.execute(query).fetchall()])


async def put(database: Database, *writes: Callable[[Connection], object]) -> None:
    def all_of_them(connection: Connection) -> None:
        for write in writes:
            write(connection)

    await database.run(all_of_them)


async def test_old_deliveries_and_messages_go_and_what_is_owed_or_goes_on_stays(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Hands()
    now = clock.now()
    old, new = now - timedelta(days=31), now - timedelta(days=29)
    await put(
        database,
        lambda c: delivery(c, "old", old),
        lambda c: delivery(c, "new", new),
        lambda c: incident(c, "inc-open", new),
        lambda c: incident(c, "inc-done", old),
        lambda c: message(c, "told", old, incident="inc-done"),
        lambda c: message(c, "failed", old, "failed"),
        lambda c: message(c, "dropped", old, "dropped"),
        lambda c: message(c, "owed", old, "owed"),
        lambda c: message(c, "its incident goes on", old, incident="inc-open"),
        lambda c: message(c, "young", new),
    )
    with caplog.at_level("INFO", logger=housekeeping.__name__):
        gone = await keeper(database, clock).sweep()
    assert await left(database, "deliveries", "key") == ["new"]
    assert await left(database, "outbox", "key") == ["its incident goes on", "owed", "young"]
    assert (gone["webhook deliveries"], gone["messages to people"]) == (1, 3)
    (line,) = [r.getMessage() for r in caplog.records if r.name == housekeeping.__name__]
    assert "1 webhook deliveries, 3 messages to people" in line
    assert f"{now - timedelta(days=30):%Y-%m-%dT%H:%M}" in line


async def test_what_people_answer_for_is_never_deleted(database: Database) -> None:
    clock = Hands()
    old = clock.now() - timedelta(days=4000)
    journal = Journal(database, Redactor(), lambda: old)

    def write(connection: Connection) -> None:
        incident(connection, "inc-0", old)
        connection.execute(
            "INSERT INTO approvals (id, digest, plan, summary, requested_by, requested_at,"
            " expires_at, status) VALUES ('apr-0', 'd', '{}', '', 'x', ?, ?, 'used')",
            (old.isoformat(), old.isoformat()),
        )
        connection.execute(
            "INSERT INTO actions (digest, tool, status, started_at, owner)"
            " VALUES ('d', 'incident_roll_back', 'done', ?, 'x')",
            (old.isoformat(),),
        )
        connection.execute(
            "INSERT INTO outcomes (incident_id, verdict_id, target, automatic, was_right, by_whom,"
            " note, at) VALUES ('inc-0', 'v', 't', 1, 1, 'ann', '', ?)",
            (old.isoformat(),),
        )
        connection.execute(
            "INSERT INTO switches (name, is_on, by_whom, reason, at) VALUES ('breaker', 1, 'x', '',"
            " ?)",
            (old.isoformat(),),
        )
        journal.append_in(connection, EntryKind.NOTE, actor="ann", subject="x", body={})

    await put(database, write)
    await keeper(database, clock).sweep()
    for table in ("entries", "incidents", "approvals", "actions", "outcomes", "switches"):
        assert len(await left(database, table, "*")) == 1, table


async def test_runs_go_except_those_under_way_and_the_past_a_workload_is_judged_by(
    database: Database,
) -> None:
    clock = Hands()
    old = clock.now() - timedelta(days=40)

    def many(connection: Connection) -> None:
        for number in range(NEWEST + 50):
            run(connection, f"cart-{number:03}", old - timedelta(minutes=number))
        run(connection, "cart-under-way", old - timedelta(days=1), ended=False)
        run(connection, "web", old, name="web")
        run(connection, "gone", clock.now() - timedelta(days=400), name="preview-17")

    await put(database, many)
    before = await history_of(database, CART)
    gone = await keeper(database, clock).sweep()
    ids = await left(database, "runs", "id")
    past = [f"cart-{number:03}" for number in range(NEWEST)]
    assert gone["runs"] == 51
    assert ids == [*past, "cart-under-way", "web"]
    assert await history_of(database, CART) == before


async def test_bookmarks_of_workloads_that_are_there_stay_and_others_go(
    database: Database,
) -> None:
    clock = Hands()
    old = clock.now() - timedelta(days=32)
    nothing = await database.read(lambda c: seen_in(c, "here"))
    lately = clock.now() - timedelta(days=2)
    await put(
        database,
        *(
            lambda c, uid=uid: take_note_in(c, uid, "v1", nothing, old, 7)
            for uid in ("here", "gone")
        ),
        lambda c: restoring_in(c, "here", "v0", lately),
        lambda c: set_bookmark_in(c, "sentry:deploys", "x", old),
    )
    keep = keeper(database, clock, Beside(uids=["here"]))
    for _ in range(2):
        await keep.sweep()
        clock.move(31 * 86_400)
    there = await database.read(lambda c: seen_in(c, "here"))
    assert (there.template, there.rollouts, there.generation) == ("v1", 1, 7)
    assert there.restored is None, "nobody brings it back any more"
    assert await database.read(lambda c: seen_in(c, "gone")) == nothing
    assert await database.read(lambda c: bookmark_in(c, "sentry:deploys")) == "x"


async def test_where_an_incident_stands_in_slack_and_pagerduty_is_known_while_it_goes_on(
    database: Database,
) -> None:
    clock = Hands()
    old, new = (clock.now() - timedelta(days=d) for d in (32, 2))
    names = {
        "slack:inc-open": "{}",
        "slack:apr-1": "{}",
        "pagerduty:P1": "inc-open",
        "pagerduty:P2": "inc-0",
    }

    def write(connection: Connection) -> None:
        incident(connection, "inc-open", new)
        for name, value in names.items():
            set_bookmark_in(connection, name, value, old)

    await put(database, write)
    await keeper(database, clock).sweep()
    assert await left(database, "bookmarks", "name") == ["pagerduty:P1", "slack:inc-open"]


async def test_more_than_one_transaction_may_hold_is_deleted_in_several(
    database: Database,
) -> None:
    clock = Hands()
    old = clock.now() - timedelta(days=31)

    def many(connection: Connection) -> None:
        for number in range(2 * BATCH + 1):
            delivery(connection, str(number), old)

    await put(database, many)
    gone = await keeper(database, clock).sweep()
    assert gone["webhook deliveries"] == 2 * BATCH + 1


async def test_of_two_replicas_one_sweeps_and_both_look_for_lost_runs(
    database: Database,
) -> None:
    clock = Hands()
    one, two = Beside(), Beside()

    async def both_looked() -> bool:
        return one.looked > 2 and two.looked > 2

    async with (
        keeper(database, clock, one).running(),
        keeper(database, clock, two).running(),
    ):
        await until(both_looked)
    assert len([*one.forgotten, *two.forgotten]) == 1
    clock.move(housekeeping.EVERY.total_seconds())
    async with keeper(database, clock, two).running():

        async def swept_again() -> bool:
            return len([*one.forgotten, *two.forgotten]) == 2

        await until(swept_again)


@pytest.mark.parametrize("shared", [False, True], ids=["sqlite", "postgresql"])
async def test_the_steps_of_ended_runs_are_forgotten_and_no_run_begins_anew_or_is_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    shared: bool,
) -> None:
    from dbos import DBOS

    url = request.getfixturevalue("postgres_url") if shared else None
    given: dict[str, Any] = {} if url is None else {"database_url": url}
    async with night("crash-loop", tmp_path, monkeypatch, ALONE, **given) as it:
        (cart,) = [await it.ended("cart")]
        runs = it.responder.runs
        before = await DBOS.list_workflows_async(workflow_id_prefix="run-")
        (mine,) = [w for w in before if w.workflow_id == cart["id"]]
        later = datetime.now(UTC) + timedelta(hours=1)

        async def forgotten() -> int:
            # Its end is written a moment after its row.
            return await runs.forget(later, 5)

        await until(forgotten)
        kept = await DBOS.list_workflows_async(workflow_id_prefix="run-")
        steps = await DBOS.list_workflow_steps_async(cart["id"])
        assert mine.input is not None
        await runs.start(Rollout.model_validate(mine.input["args"][0]))
        again = await DBOS.list_workflows_async(workflow_ids=[cart["id"]])
        rows = await it.rows("SELECT status FROM runs WHERE target LIKE '%/cart %'")
    assert cart["id"] not in {w.workflow_id for w in kept} and not steps
    assert again == [], "a webhook that comes late begins no second run"
    assert [r["status"] for r in rows] == ["recovered"]
