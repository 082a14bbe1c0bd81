from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from mcp_devops.errors import InvalidArguments, PreconditionFailed
from mcp_devops.gateway.freezes import require_unfrozen_in
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.target import Workload
from mcp_devops.responder import switches
from mcp_devops.text.secrets import Redactor
from tests.support.postgres import postgres, postgres_url
from tests.support.response import CART, NOW

__all__ = ["postgres", "postgres_url"]

ELSEWHERE = Workload(namespace="billing", name="cart")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the state is: a file, or a database of its own on a real server."""
    if request.param == "sqlite":
        return str(tmp_path / "state.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def db(place: str) -> AsyncIterator[Database]:
    async with open_database(place) as database:
        yield database


@pytest.fixture
def journal(db: Database) -> Journal:
    return Journal(db, Redactor(()), lambda: NOW)


async def frozen(db: Database, target: Workload, after_s: float = 0) -> bool:
    return await switches.is_frozen(db, target, NOW + timedelta(seconds=after_s))


async def test_nothing_is_frozen_at_first(db: Database) -> None:
    assert not await frozen(db, CART)
    await switches.require_unfrozen(db, CART, NOW)


async def test_a_freeze_holds_everywhere_until_it_is_lifted(db: Database, journal: Journal) -> None:
    await switches.freeze(db, journal, now=NOW, who="ann", reason="Black  Friday\n")
    assert await frozen(db, CART, 10**8) and await frozen(db, ELSEWHERE)
    with pytest.raises(PreconditionFailed) as refused:
        await switches.require_unfrozen(db, CART, NOW)
    assert "frozen everywhere by ann" in refused.value.what
    assert "Black Friday" in refused.value.what and "mcp-devops unfreeze`" in refused.value.fix
    (lifted,) = await switches.unfreeze(db, journal, now=NOW, who="bob")
    assert lifted.reason == "Black Friday" and not await frozen(db, CART)


async def test_a_freeze_of_a_pattern_holds_for_its_namespaces_only(
    db: Database, journal: Journal
) -> None:
    await switches.freeze(db, journal, now=NOW, who="ann", reason="x", pattern="sh*")
    assert await frozen(db, CART) and not await frozen(db, ELSEWHERE)
    with pytest.raises(PreconditionFailed) as refused:
        await switches.require_unfrozen(db, CART, NOW)
    assert "unfreeze --namespace 'sh*'" in refused.value.fix
    assert await switches.unfreeze(db, journal, now=NOW, who="bob") == []
    assert await frozen(db, CART), "another freeze than the one that was lifted"
    assert len(await switches.unfreeze(db, journal, now=NOW, who="bob", pattern="sh*")) == 1
    assert not await frozen(db, CART)


async def test_a_freeze_ends_by_itself_when_it_was_to(db: Database, journal: Journal) -> None:
    until = NOW + timedelta(hours=2)
    await switches.freeze(db, journal, now=NOW, who="ann", reason="x", until=until)
    assert await frozen(db, CART, 7199) and not await frozen(db, CART, 7200)
    (found,) = await switches.freezes(db, NOW)
    assert found.until == until and "until 2026-03-04 14:00 UTC" in found.says()
    later = NOW + timedelta(hours=3)
    assert await switches.unfreeze(db, journal, now=later, who="bob") == []


async def test_freezing_again_replaces_reason_and_end(db: Database, journal: Journal) -> None:
    until = NOW + timedelta(minutes=1)
    await switches.freeze(db, journal, now=NOW, who="ann", reason="short", until=until)
    await switches.freeze(db, journal, now=NOW, who="bob", reason="long")
    (found,) = await switches.freezes(db, NOW)
    assert (found.reason, found.by_whom, found.until) == ("long", "bob", None)


async def test_all_freezes_are_lifted_at_once_if_asked_for(db: Database, journal: Journal) -> None:
    for pattern in (None, "shop", "team-*"):
        await switches.freeze(db, journal, now=NOW, who="ann", reason="x", pattern=pattern)
    lifted = await switches.unfreeze(db, journal, now=NOW, who="bob", every=True)
    assert {f.pattern for f in lifted} == {None, "shop", "team-*"}
    assert await switches.freezes(db, NOW) == []


async def test_every_switch_is_in_the_journal_with_who_and_why(
    db: Database, journal: Journal
) -> None:
    await switches.freeze(db, journal, now=NOW, who="ann", reason="Black Friday", pattern="shop")
    await switches.unfreeze(db, journal, now=NOW, who="bob", pattern="shop")
    await switches.close_breaker(db, journal, now=NOW, who="bob", reason="looked at it")
    entries = [e async for e in journal.stream()]
    assert [(e.kind, e.actor, e.subject) for e in entries] == [
        (EntryKind.NOTE, "ann", "freeze:shop"),
        (EntryKind.NOTE, "bob", "freeze:shop"),
        (EntryKind.NOTE, "bob", "breaker"),
    ]
    assert "Black Friday" in entries[0].body["what"] and "lifted" in entries[1].body["what"]
    assert (await journal.verify()).ok


@pytest.mark.parametrize(
    "wrong",
    [
        {"reason": " \n"},
        {"reason": "x", "until": NOW},
        {"reason": "x", "pattern": ""},
        {"reason": "x", "pattern": "Shop"},
        {"reason": "x", "pattern": "a%b"},
        {"reason": "x", "pattern": "a" * 64},
    ],
)
async def test_a_freeze_that_would_hold_for_nothing_is_refused(
    db: Database, journal: Journal, wrong: dict[str, object]
) -> None:
    with pytest.raises(InvalidArguments):
        await switches.freeze(db, journal, now=NOW, who="ann", **wrong)  # type: ignore[arg-type]
    assert [e async for e in journal.stream()] == []


@pytest.mark.parametrize("kept", ["typed by hand", "[1]", '{"reason": "x", "until": "soon"}', "{}",
                                  '{"reason": "x", "until": "2020-01-01"}'])  # fmt: skip
@pytest.mark.parametrize("at", ["2026-03-01T00:00:00+00:00", "yesterday", "2026-03-01"])
async def test_a_switch_that_cannot_be_read_counts_as_frozen(
    db: Database, kept: str, at: str
) -> None:
    await db.run(
        lambda c: c.execute(
            "INSERT INTO switches (name, is_on, by_whom, reason, at) VALUES (?, 1, 'x', ?, ?)",
            ("freeze", kept, at),
        )
    )
    assert await frozen(db, CART)


async def test_a_freeze_is_seen_inside_the_transaction_that_would_begin_an_action(
    db: Database, journal: Journal
) -> None:
    await db.run(lambda c: require_unfrozen_in(c, CART, NOW))
    await switches.freeze(db, journal, now=NOW, who="ann", reason="x")
    with pytest.raises(PreconditionFailed):
        await db.run(lambda c: require_unfrozen_in(c, CART, NOW))


async def test_another_process_sees_a_freeze_at_once(
    db: Database, journal: Journal, place: str
) -> None:
    async with open_database(place) as other:
        assert not await frozen(other, CART)
        await switches.freeze(db, journal, now=NOW, who="ann", reason="x")
        assert await frozen(other, CART)


async def test_the_breaker_is_closed_at_first_and_knows_when_it_was_closed(
    db: Database, journal: Journal
) -> None:
    assert (await switches.breaker_of(db)).closed_at is None
    await switches.close_breaker(db, journal, now=NOW, who="ann")
    found = await switches.breaker_of(db)
    assert (found.is_open, found.closed_at, found.reason) == (False, NOW, "closed by a person")
