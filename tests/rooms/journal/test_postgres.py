"""PostgreSQL: many replicas, a server that goes away, and a password that is never shown."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import anyio
import anyio.lowlevel
import psycopg
import pytest
from anyio.streams.text import TextReceiveStream

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    NotConfigured,
    OutcomeUnknown,
    PermissionDenied,
    Unsupported,
    UpstreamUnavailable,
)
from mcp_devops.journal import postgres as module
from mcp_devops.journal import postgres_rows
from mcp_devops.journal.connection import Connection, ConstraintBroken
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import Entry, EntryKind
from mcp_devops.journal.journal import PAGE_LIMIT, Journal
from mcp_devops.journal.migrations import MIGRATIONS
from mcp_devops.journal.place import PostgresUrl
from mcp_devops.text.secrets import Redactor
from tests.rooms.journal.test_database import count, put
from tests.rooms.journal.test_processes import appender
from tests.support.postgres import PASSWORD, Moment, PostgresServer, Proxy


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[Database]:
    async with open_database(postgres_url) as database:
        yield database


@pytest.fixture
def journal(db: Database) -> Journal:
    return journal_of(db)


def journal_of(db: Database) -> Journal:
    return Journal(db, Redactor(()), lambda: datetime(2026, 3, 1, tzinfo=UTC))


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


async def note(journal: Journal, number: int = 0) -> Entry:
    return await journal.append(EntryKind.NOTE, actor="a", subject="s", body={"n": number})


async def numbers(journal: Journal) -> list[int]:
    return [entry.body["n"] async for entry in journal.stream()]


async def refused(url: str) -> DevOpsError:
    with pytest.raises(DevOpsError) as caught:
        async with open_database(url):
            pass
    whole = "".join(traceback.format_exception(caught.value)) + repr(caught.value.details)
    assert PASSWORD not in whole and quote(PASSWORD, safe="") not in whole
    return caught.value


def cut(server: PostgresServer, url: str) -> None:
    """End every session of a database, as a restart or a failover does."""
    ours = f"usename = 'keeper' AND datname = '{name_of(url)}'"
    server.admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")  # noqa: S608


@pytest.mark.parametrize("in_query", [False, True])
async def test_the_url_shows_no_password_anywhere(postgres_url: str, in_query: bool) -> None:
    secret = quote(PASSWORD, safe="")
    url = postgres_url + "?connect_timeout=4"
    if in_query:
        url = url.replace(f":{secret}@", "@") + f"&password={secret}"
    place = PostgresUrl(url)
    async with open_database(place) as db:
        for shown in (str(place), repr(place), f"{place}", str(db.place), repr(db.place)):
            assert PASSWORD not in shown and secret not in shown
            assert "keeper@127.0.0.1" in shown
    assert place == PostgresUrl(place.reveal) and hash(place) == hash(PostgresUrl(place.reveal))
    assert place != PostgresUrl(postgres_url) and place != postgres_url
    assert PASSWORD in place.secrets and url in place.secrets


@pytest.mark.parametrize("url", ["postgres://h/d", "postgresql:///d", "postgresql://h1:1,h2:2/d"])
def test_urls_of_every_form_are_shown_without_a_login(url: str) -> None:
    assert str(PostgresUrl(url)).removeprefix("postgresql://") in url
    assert PostgresUrl(url).secrets == (PostgresUrl(url).reveal,)


async def test_a_wrong_password_is_told_from_a_server_that_is_down(
    postgres: PostgresServer, postgres_url: str
) -> None:
    wrong = postgres.url(name_of(postgres_url), password=PASSWORD + "x")
    assert isinstance(await refused(wrong), CredentialsRejected)
    assert isinstance(await refused(postgres.url("nowhere")), NotConfigured)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    down = await refused(postgres_url.replace(str(postgres.port), str(port)))
    assert isinstance(down, UpstreamUnavailable) and down.retryable


async def test_a_driver_that_is_not_installed_is_told_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    found = await refused(f"postgresql://keeper:{quote(PASSWORD, safe='')}@127.0.0.1/d")
    assert isinstance(found, NotConfigured) and "mcp-devops[postgres]" in found.fix


async def test_a_long_look_does_not_hold_up_a_short_one(db: Database) -> None:
    go_on = threading.Event()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(db.read, lambda connection: go_on.wait(10))
            await anyio.lowlevel.checkpoint()
            assert await db.read(count) == 0
            go_on.set()


async def test_a_url_that_the_library_cannot_read_is_not_repeated(postgres_url: str) -> None:
    assert isinstance(await refused(postgres_url + "?no_such_option=1"), NotConfigured)


async def test_a_host_that_says_nothing_costs_its_deadline_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 2)
    with socket.socket() as silent, anyio.fail_after(20):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        found = await refused(f"postgresql://keeper:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/d")
        assert isinstance(found, UpstreamUnavailable)


async def test_a_user_without_rights_learns_which_ones(
    postgres: PostgresServer, postgres_url: str
) -> None:
    postgres.admin(f"ALTER DATABASE {name_of(postgres_url)} OWNER TO postgres")
    found = await refused(postgres_url)
    assert isinstance(found, PermissionDenied) and "CREATE" in found.fix


async def test_a_user_that_may_only_use_the_tables_is_enough_after_the_first_start(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = name_of(postgres_url)
    async with open_database(postgres.admin_url(name)):
        pass
    postgres.admin(
        "GRANT USAGE ON SCHEMA mcp_devops TO keeper",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mcp_devops TO keeper",
        "REVOKE UPDATE, DELETE, TRUNCATE ON mcp_devops.entries FROM keeper",
        f"ALTER DATABASE {name} OWNER TO postgres",
        database=name,
    )
    async with open_database(postgres_url) as db:
        await note(journal_of(db))
        await db.run(put)
        with pytest.raises(PermissionDenied):
            await db.run(lambda c: c.execute("DELETE FROM entries"))
        with pytest.raises(PermissionDenied):
            await db.run(lambda c: c.execute("ALTER TABLE entries DISABLE TRIGGER ALL"))


async def test_a_shared_database_keeps_its_other_tables(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = name_of(postgres_url)
    postgres.admin("CREATE TABLE public.migrations (theirs int)", database=name)
    async with open_database(postgres_url) as db:
        await db.run(put)
        assert await db.read(count) == 1


async def test_another_programs_schema_is_refused_and_left_alone(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = name_of(postgres_url)
    postgres.admin(
        "CREATE SCHEMA mcp_devops AUTHORIZATION keeper",
        "CREATE TABLE mcp_devops.theirs (x int)",
        database=name,
    )
    assert isinstance(await refused(postgres_url), Unsupported)
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'mcp_devops'"
    assert postgres.admin(tables, database=name) == [("theirs",)]


async def test_a_server_too_old_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OLDEST_VERSION", 990000)
    assert isinstance(await refused(postgres_url), Unsupported)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE entries",
        "TRUNCATE entries CASCADE",
        "DELETE FROM entries WHERE seq = 1",
        "UPDATE entries SET body = '{}' WHERE false",
        "WITH gone AS (DELETE FROM entries RETURNING seq) SELECT * FROM gone",
        "INSERT INTO entries SELECT seq + 5, at, kind, actor, subject, incident_id, call_id, body,"
        " prev_hash, hash FROM entries",
        "MERGE INTO entries e USING (SELECT 1 AS seq) s ON e.seq = s.seq WHEN MATCHED THEN DELETE",
    ],
)
async def test_the_tables_refuse_to_forget_also_in_replica_mode(
    journal: Journal, postgres: PostgresServer, postgres_url: str, db: Database, statement: str
) -> None:
    await note(journal)
    with pytest.raises(ConstraintBroken):
        await db.run(lambda connection: connection.execute(statement))
    for mode in ("SET session_replication_role = origin", "SET session_replication_role = replica"):
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
            postgres.admin(
                mode, "SET search_path = mcp_devops", statement, database=name_of(postgres_url)
            )
    assert (await journal.verify()).entries == 1


async def test_an_entry_that_is_there_twice_is_found(
    journal: Journal, postgres: PostgresServer, postgres_url: str
) -> None:
    for number in range(3):
        await note(journal, number)
    postgres.admin(
        "SET search_path = mcp_devops",
        "ALTER TABLE entries DISABLE TRIGGER ALL",
        "ALTER TABLE entries DROP CONSTRAINT entries_pkey",
        "INSERT INTO entries SELECT * FROM entries WHERE seq = 2",
        database=name_of(postgres_url),
    )
    report = await journal.verify()
    assert (report.ok, report.problem, report.broken_seq) == (False, "inserted", 2)


async def test_replicas_that_start_at_once_make_the_tables_once(postgres_url: str) -> None:
    async def start() -> None:
        async with open_database(postgres_url) as db:
            await note(journal_of(db))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(start)
    async with open_database(postgres_url) as db:
        names = await db.read(lambda c: [r[0] for r in c.execute("SELECT name FROM migrations")])
        assert names == [migration.name for migration in MIGRATIONS]
        assert (await journal_of(db).verify()).entries == 5


async def test_a_long_journal_is_verified_in_pieces(journal: Journal, db: Database) -> None:
    many = 1_300

    def fill(connection: Connection) -> None:
        for number in range(many):
            journal.append_in(
                connection, EntryKind.NOTE, actor="a", subject="s", body={"n": number}
            )

    await db.run(fill)
    report = await journal.verify()
    assert report.ok and report.entries == many


async def test_sessions_that_are_ended_between_calls_are_made_anew(
    journal: Journal, db: Database, postgres: PostgresServer, postgres_url: str
) -> None:
    await note(journal, 1)
    for number in (2, 3):
        cut(postgres, postgres_url)
        await note(journal, number)
        cut(postgres, postgres_url)
        assert await numbers(journal) == list(range(1, number + 1))
    assert (await journal.verify()).ok


async def test_a_session_that_ends_within_a_transaction_is_done_again_whole(
    journal: Journal, db: Database, postgres: PostgresServer, postgres_url: str
) -> None:
    tries = 0

    def write(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        journal.append_in(connection, EntryKind.NOTE, actor="a", subject="s", body={"n": tries})
        if tries == 1:
            cut(postgres, postgres_url)

    await db.run(write)
    assert tries == 2 and await numbers(journal) == [2]


async def test_a_session_that_always_ends_is_given_up(
    db: Database, postgres: PostgresServer, postgres_url: str
) -> None:
    def write(connection: Connection) -> None:
        put(connection)
        cut(postgres, postgres_url)

    with pytest.raises(UpstreamUnavailable):
        await db.run(write)
    assert await db.read(count) == 0


async def test_while_the_server_is_down_it_says_so_and_afterwards_goes_on(
    journal: Journal, postgres: PostgresServer
) -> None:
    await note(journal, 1)
    postgres.stop(signal.SIGINT)
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable) as caught:
            await note(journal, 99)
        assert "nothing was" in caught.value.what
        with pytest.raises(UpstreamUnavailable):
            await numbers(journal)
    postgres.start()
    await note(journal, 2)
    assert await numbers(journal) == [1, 2]


async def test_closing_while_the_server_is_down_is_no_failure(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with open_database(postgres_url) as db:
        await db.run(put)
        postgres.stop(signal.SIGKILL)
    postgres.start()


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("moment", "tries"), [(Moment.BEFORE_COMMIT, 2), (Moment.AFTER_COMMIT, 1), (Moment.SILENCE, 2)]
)
async def test_a_commit_whose_answer_is_lost_is_looked_up_and_never_guessed(
    proxy: Proxy,
    postgres: PostgresServer,
    postgres_url: str,
    moment: Moment,
    tries: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_rows, "STATEMENT_S", 1.0)
    async with open_database(proxy.before(postgres_url)) as db:
        journal = journal_of(db)
        await note(journal, 1)
        calls = 0

        def write(connection: Connection) -> Entry:
            nonlocal calls
            calls += 1
            return journal.append_in(
                connection, EntryKind.NOTE, actor="a", subject="s", body={"n": 2}
            )

        with anyio.fail_after(30):
            proxy.cut_at(moment)
            entry = await db.run(write)
        assert calls == tries and proxy.cuts == 1
        assert await journal.get(2) == entry
        await note(journal, 3)
        assert await numbers(journal) == [1, 2, 3]
        assert (await journal.verify()).ok


async def test_a_server_that_stays_away_after_a_commit_leaves_the_outcome_unknown(
    proxy: Proxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.5)
    async with open_database(proxy.before(postgres_url)) as db:
        journal = journal_of(db)
        await note(journal, 1)
        proxy.cut_at(Moment.AFTER_COMMIT, stay_down=True)
        with anyio.fail_after(30), pytest.raises(OutcomeUnknown) as caught:
            await note(journal, 2)
        assert not caught.value.retryable and "audit list" in caught.value.fix
        with pytest.raises(UpstreamUnavailable):
            await note(journal, 99)
        proxy.down = False
        await note(journal, 3)
        assert await numbers(journal) == [1, 2, 3]


async def test_a_read_whose_end_is_lost_is_read_again(proxy: Proxy, postgres_url: str) -> None:
    async with open_database(proxy.before(postgres_url)) as db:
        await db.run(put)
        proxy.cut_at(Moment.AFTER_COMMIT)
        assert await db.read(count) == 1
        assert proxy.cuts == 1


async def test_appends_go_on_over_a_crash_of_the_server_without_loss_or_double(
    postgres: PostgresServer, postgres_url: str
) -> None:
    acknowledged: list[int] = []

    async def write(db: Database, actor: str) -> None:
        journal = journal_of(db)
        number = 0
        while number < 40:
            try:
                entry = await journal.append(
                    EntryKind.NOTE, actor=actor, subject="s", body={"n": number}
                )
            except UpstreamUnavailable:
                await anyio.sleep(0.05)  # it was not written: the same number again
                continue
            acknowledged.append(entry.seq)
            number += 1

    async def crash() -> None:
        for least in (10, 40):
            while len(acknowledged) < least:
                await anyio.sleep(0.005)
            await anyio.to_thread.run_sync(postgres.stop, signal.SIGKILL)
            await anyio.to_thread.run_sync(postgres.start)

    with anyio.fail_after(90):
        async with open_database(postgres_url) as one, open_database(postgres_url) as two:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(crash)
                for actor, db in (("one", one), ("two", two)):
                    tasks.start_soon(write, db, actor)
            journal = journal_of(one)
            assert (await journal.verify()).ok
            for actor in ("one", "two"):
                page = await journal.list(actor=actor, limit=PAGE_LIMIT)
                assert [entry.body["n"] for entry in page.entries] == list(range(40))
            assert sorted(acknowledged) == list(range(1, 81))


async def test_a_lock_that_somebody_keeps_is_worth_waiting_for(
    db: Database, postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "_WRITE", module._WRITE.replace(b"lock_timeout = '10s'", b"lock_timeout = '50ms'")
    )
    with psycopg.connect(postgres.admin_url(name_of(postgres_url))) as holder:
        holder.execute(f"SELECT pg_advisory_xact_lock({module._LOCK})".encode())
        with pytest.raises(UpstreamUnavailable) as caught:
            async with open_database(postgres_url):
                pass
        assert caught.value.retryable
        holder.rollback()
    await db.run(put)
    assert await db.read(count) == 1


async def test_a_deadlock_with_a_stranger_is_tried_again(db: Database) -> None:
    tries = 0

    def write(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        put(connection, f"d{tries}")
        if tries < 3:
            connection.execute(
                "DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$"
            )

    await db.run(write)
    assert tries == 3
    assert await db.read(count) == 1


async def test_a_standby_is_named_as_one(postgres: PostgresServer, postgres_url: str) -> None:
    async with open_database(postgres_url) as db:

        def write(connection: Connection) -> None:
            connection.execute("SET TRANSACTION READ ONLY")
            put(connection)

        with pytest.raises(UpstreamUnavailable) as caught:
            await db.run(write)
        assert "read-only" in caught.value.what


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("57014", UpstreamUnavailable),
        ("53100", UpstreamUnavailable),
        ("XX001", Unsupported),
    ],
)
async def test_what_the_server_refuses_is_sorted_by_who_can_fix_it(
    db: Database, code: str, kind: type[DevOpsError]
) -> None:
    raised = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
    with pytest.raises(kind):
        await db.run(lambda connection: connection.execute(raised))
    await db.run(put)
    assert await db.read(count) == 1


async def test_a_mistake_of_ours_comes_through_as_itself(db: Database) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        await db.run(lambda connection: connection.execute("SELECT * FROM nowhere"))
    with pytest.raises(psycopg.errors.UndefinedTable):
        await db.read(lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert await db.read(count) == 0


async def test_a_character_that_postgres_cannot_hold_does_not_stop_a_note(db: Database) -> None:
    await db.run(lambda connection: put(connection, "a\0b"))
    found = await db.read(lambda c: c.execute("SELECT digest FROM actions").fetchone()["digest"])
    assert found == "a\ufffdb"


async def test_a_look_leaves_no_trace_and_closing_takes_the_mark_away(
    postgres: PostgresServer, postgres_url: str
) -> None:
    marks = "SELECT count(*) FROM mcp_devops.commits"
    async with open_database(postgres_url) as db:
        first = postgres.admin(
            "SELECT token FROM mcp_devops.commits", database=name_of(postgres_url)
        )
        await db.run(count)
        tokens = "SELECT token FROM mcp_devops.commits"
        assert postgres.admin(tokens, database=name_of(postgres_url)) == first
        await db.run(put)
        assert postgres.admin(tokens, database=name_of(postgres_url)) != first
        assert postgres.admin(marks, database=name_of(postgres_url)) == [(1,)]
        killed = "INSERT INTO mcp_devops.commits VALUES ('killed', 't', '2026-01-01T00:00:00Z')"
        postgres.admin(killed, database=name_of(postgres_url))
    assert postgres.admin(marks, database=name_of(postgres_url)) == [(0,)]


async def test_many_processes_and_a_crash_of_one_leave_one_sound_chain(postgres_url: str) -> None:
    async def run(actor: str, times: int, kill_after: int | None = None) -> None:
        process = await appender(postgres_url, actor, times)
        assert process.stdout
        lines = 0
        async for text in TextReceiveStream(process.stdout):
            lines += text.count("\n")
            if kill_after is not None and lines >= kill_after:
                process.send_signal(signal.SIGKILL)
                break
        await process.wait()
        await process.aclose()

    with anyio.fail_after(90):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, "doomed", 1_000_000, 10)
            for actor in ("one", "two"):
                tasks.start_soon(run, actor, 50)
    async with open_database(postgres_url) as db:
        journal = journal_of(db)
        assert (await journal.verify()).ok
        for actor in ("one", "two"):
            page = await journal.list(actor=actor, limit=PAGE_LIMIT)
            assert [entry.body["number"] for entry in page.entries] == list(range(50))
