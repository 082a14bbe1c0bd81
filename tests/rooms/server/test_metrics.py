"""What /metrics tells: from a real state on SQLite and on PostgreSQL, and from calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mcp_devops.gateway.acts import set_breaker_in
from mcp_devops.gateway.door import CallRecord
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.journal.run_times import delete_runs_in
from mcp_devops.responder.switches import close_breaker, freeze
from mcp_devops.server.families import Buckets
from mcp_devops.server.folding import PAGE, PAGES, run_status
from mcp_devops.server.metrics import Metrics
from mcp_devops.server.state_metrics import CACHE_S, StateMetrics
from mcp_devops.settings import ServerSettings
from mcp_devops.text.secrets import Redactor
from tests.support.postgres import PostgresServer, postgres, postgres_url
from tests.support.promtool import promtool
from tests.support.response import NOW
from tests.support.toy import ToyClient, toy

__all__ = ["postgres", "postgres_url"]


class Standing:
    """A clock that moves when a test says so."""

    def __init__(self) -> None:
        self.at = NOW
        self.elapsed = 0.0

    def now(self) -> Any:
        return self.at

    def monotonic(self) -> float:
        return self.elapsed

    def move(self, seconds: float = CACHE_S) -> None:
        self.elapsed += seconds
        self.at += timedelta(seconds=seconds)


class State:
    """A state with what a night leaves in it, and what is scraped from it."""

    def __init__(self, database: Database, clock: Standing) -> None:
        self.database = database
        self.clock = clock
        self.journal = Journal(database, Redactor([]), clock.now)
        self.metrics = StateMetrics(database, clock)

    async def execute(self, sql: str, *values: Any) -> None:
        def write(connection: Connection) -> int:
            return connection.execute(sql, values).rowcount

        await self.database.run(write)

    async def run(self, name: str, status: str, **times: Any) -> None:
        await self.execute(
            "INSERT INTO runs (id, target, template_hash, status, started_at, updated_at, body)"
            " VALUES (?, 't', 'h', ?, ?, ?, ?)",
            name, status, NOW.isoformat(), self.clock.at.isoformat(), json.dumps(times),
        )  # fmt: skip

    async def ended(self, name: str, status: str, *, seconds: float) -> None:
        """A run that began at NOW; each of its steps came so many seconds later."""
        at = (NOW + timedelta(seconds=seconds)).isoformat()
        fields = ("detected_at", "decided_at", "acted_at", "paged_at", "ended_at")
        await self.run(name, status, began=NOW.timestamp(), **dict.fromkeys(fields, at))

    async def approval(self, name: str, status: str, channel: str | None, minutes: float) -> None:
        await self.execute(
            "INSERT INTO approvals (id, digest, plan, summary, requested_by, requested_at,"
            " expires_at, status, channel) VALUES (?, 'd', '{}', 's', 'ann', ?, ?, ?, ?)",
            name, NOW.isoformat(), (NOW + timedelta(minutes=minutes)).isoformat(), status, channel,
        )  # fmt: skip

    async def replica(self, name: str, seen_at: str) -> None:
        await self.execute("INSERT INTO replicas VALUES (?, '1', ?, ?)", name, seen_at, seen_at)

    async def decided(self, **verdict: Any) -> None:
        await self.journal.append(
            EntryKind.DECISION, actor="engine", subject="shop/cart", body={"verdict": verdict}
        )

    async def missed(self, *missing: dict[str, Any]) -> None:
        await self.journal.append(
            EntryKind.INCIDENT_CHANGED,
            actor="engine",
            subject="shop/cart",
            body={"evidence": {"missing": list(missing)}},
        )

    async def scrape(self, metrics: StateMetrics | None = None) -> dict[str, float]:
        collector = metrics or self.metrics
        await collector.refresh()
        registry = CollectorRegistry()
        registry.register(collector)
        return samples(generate_latest(registry).decode())


def samples(text: str) -> dict[str, float]:
    """Each sample by its name with its labels' values, as `name{a,b}`,
    labels in the order of their names."""
    return {
        sample.name + (f"{{{','.join(sample.labels.values())}}}" if sample.labels else ""): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(params=["sqlite", "postgresql"])
async def state(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[State]:
    where: Path | str = tmp_path / "state.db"
    if request.param == "postgresql":
        where = request.getfixturevalue("postgres_url")
    async with open_database(where) as database:
        yield State(database, Standing())


async def test_runs_are_counted_by_how_they_ended_in_a_few_known_words(state: State) -> None:
    await state.run("a", "observing")
    await state.ended("b", "recovered", seconds=30)
    await state.ended("c", "not approved (no answer)", seconds=600)
    await state.ended("d", "another rollout replaced it", seconds=5)
    await state.ended("e", "whatever an upstream wrote", seconds=5)
    found = await state.scrape()
    counts = {name: value for name, value in found.items() if name.startswith("mcp_devops_runs")}
    assert counts == {
        f"mcp_devops_runs{{{status}}}": 1.0
        for status in ("observing", "recovered", "not_approved", "replaced", "other")
    }


async def test_seconds_are_counted_once_a_run_and_recovery_only_where_it_is_verified(
    state: State,
) -> None:
    await state.ended("a", "recovered", seconds=30)
    await state.ended("b", "not_recovered", seconds=100)
    await state.scrape()
    state.clock.move()
    await state.ended("c", "recovered", seconds=50)
    found = await state.scrape()
    assert found["mcp_devops_detect_seconds_count"] == 3
    assert found["mcp_devops_detect_seconds_sum"] == 180
    assert found["mcp_devops_recover_seconds_count"] == 2
    assert found["mcp_devops_recover_seconds_bucket{30.0}"] == 1
    assert found["mcp_devops_recover_seconds_bucket{60.0}"] == 2
    assert found["mcp_devops_page_seconds_bucket{90.0}"] == 2


async def test_a_restart_and_another_replica_tell_the_same(state: State) -> None:
    await state.ended("a", "recovered", seconds=30)
    await state.decided(action="roll_back", cause="new_code_regression", confidence=0.97)
    first = await state.scrape()
    state.clock.move()
    await state.decided(action="roll_back", cause="new_code_regression", confidence=0.5)
    grown = await state.scrape()
    restarted = await state.scrape(StateMetrics(state.database, state.clock))
    name = "mcp_devops_decisions_total{roll_back,new_code_regression}"
    assert (first[name], grown[name]) == (1, 2)
    assert restarted == grown


async def test_a_run_is_told_once_however_often_it_is_looked_at_in_the_margin(
    state: State,
) -> None:
    for hour in range(4):
        await state.ended(f"run-{hour}", "recovered", seconds=10)
        found = await state.scrape()
        state.clock.move(3600)
    assert found["mcp_devops_recover_seconds_count"] == 4


async def test_times_of_deleted_runs_are_still_told_and_no_count_goes_down(state: State) -> None:
    for number, seconds in enumerate((4, 40, 400, 9000)):
        await state.ended(f"run-{number}", "recovered", seconds=float(seconds))
    before = await state.scrape()
    later = (NOW + timedelta(days=1)).isoformat()
    for most in (3, 3):
        await state.database.run(
            lambda c, most=most: delete_runs_in(  # type: ignore[misc]
                c, "t", before=later, past=later, most=most, now=NOW
            )
        )
    await state.ended("run-new", "recovered", seconds=41.0)
    state.clock.move()
    running = await state.scrape()
    started_anew = await state.scrape(StateMetrics(state.database, state.clock))
    times = [name for name in before if "_seconds" in name and "heartbeat" not in name]
    assert before["mcp_devops_recover_seconds_count"] == 4
    assert running["mcp_devops_recover_seconds_count"] == 5
    assert all(started_anew[name] == running[name] >= before[name] for name in times)
    assert started_anew["mcp_devops_runs{recovered}"] == 1


async def test_decisions_confidence_and_gaps_have_labels_of_a_known_few(state: State) -> None:
    await state.decided(action="roll_back", cause="new_code_regression", confidence=0.97)
    await state.decided(action="drop table", cause=["x"], confidence="high")
    await state.missed(
        {"source": "prometheus", "needed": True}, {"source": "Evil {}\n"}, {"source": "docker"}
    )
    await state.missed(*({"source": f"s{n}"} for n in range(60)))
    found = await state.scrape()
    assert found["mcp_devops_decisions_total{other,other}"] == 1
    assert found["mcp_devops_decision_confidence_bucket{roll_back,0.95}"] == 0
    assert found["mcp_devops_decision_confidence_bucket{roll_back,0.98}"] == 1
    assert found["mcp_devops_missing_evidence_total{yes,prometheus}"] == 1
    assert found["mcp_devops_missing_evidence_total{no,docker}"] == 1
    assert sum("missing_evidence_total" in name for name in found) <= 32


async def test_approvals_actions_and_judgements_are_counted_by_the_database(state: State) -> None:
    await state.approval("a", "used", "policy", 10)
    await state.approval("b", "pending", None, 10)
    await state.approval("c", "pending", None, -1)
    await state.approval("d", "denied", "a channel nobody knows", 10)
    await state.execute(
        "INSERT INTO actions (digest, tool, status, started_at, owner)"
        " VALUES ('d', 'incident_roll_back', 'done', ?, '1:x')", NOW.isoformat(),
    )  # fmt: skip
    await state.execute(
        "INSERT INTO outcomes VALUES ('i', 'v', 't', 1, 0, 'ann', '', ?)", NOW.isoformat()
    )
    found = await state.scrape()
    assert found["mcp_devops_approvals{policy,used}"] == 1
    assert found["mcp_devops_approvals{none,pending}"] == 2
    assert found["mcp_devops_approvals{other,denied}"] == 1
    assert found["mcp_devops_approvals_waiting"] == 1, "what is past its end waits no more"
    assert found["mcp_devops_actions{done,incident_roll_back}"] == 1
    assert found["mcp_devops_judged_outcomes{yes,no}"] == 1


async def test_freezes_breaker_and_heartbeats_are_told(state: State) -> None:
    await freeze(state.database, state.journal, now=NOW, who="ann", reason="sale")
    await freeze(state.database, state.journal, now=NOW, who="ann", reason="x", pattern="shop-*")
    await state.database.run(
        lambda c: set_breaker_in(c, state.journal, is_open=True, now=NOW, who="a", reason="storm")
    )
    await state.replica("alive", (NOW - timedelta(seconds=7)).isoformat())
    await state.replica("left", "1970-01-01T00:00:00+00:00")
    found = await state.scrape()
    assert found["mcp_devops_freezes{all}"] == found["mcp_devops_freezes{pattern}"] == 1
    assert found["mcp_devops_breaker_open"] == 1
    assert found["mcp_devops_replica_heartbeat_age_seconds{alive}"] == 7
    assert not any("left" in name for name in found)
    state.clock.move()
    await close_breaker(state.database, state.journal, now=state.clock.at, who="ann")
    assert (await state.scrape())["mcp_devops_breaker_open"] == 0


async def test_a_look_is_told_again_for_a_few_seconds(state: State) -> None:
    await state.scrape()
    await state.run("a", "observing")
    state.clock.move(CACHE_S / 2)
    assert "mcp_devops_runs{observing}" not in await state.scrape()
    state.clock.move(CACHE_S / 2)
    assert (await state.scrape())["mcp_devops_runs{observing}"] == 1


async def test_what_cannot_be_read_is_left_out_and_never_zero(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with open_database(postgres_url) as database:
        state = State(database, Standing())
        assert (await state.scrape())["mcp_devops_state_up"] == 1
        state.clock.move()
        postgres.stop()
        try:
            assert await state.scrape() == {"mcp_devops_state_up": 0}
        finally:
            postgres.start()
        state.clock.move()
        assert (await state.scrape())["mcp_devops_breaker_open"] == 0


async def test_a_long_journal_is_read_over_several_scrapes_and_told_when_it_is_whole(
    tmp_path: Path,
) -> None:
    count = PAGE * PAGES + 1
    async with open_database(tmp_path / "state.db") as database:
        state = State(database, Standing())

        def write(connection: Connection) -> None:
            for _ in range(count):
                state.journal.append_in(
                    connection,
                    EntryKind.DECISION,
                    actor="engine",
                    subject="s",
                    body={"verdict": {"action": "no_action", "cause": "none", "confidence": 0.1}},
                )

        await database.run(write)
        first = await state.scrape()
        state.clock.move()
        second = await state.scrape()
    name = "mcp_devops_decisions_total{no_action,none}"
    assert first["mcp_devops_journal_unread"] == 1 and name not in first
    assert second["mcp_devops_journal_unread"] == 0 and second[name] == count


async def test_calls_that_fail_by_a_system_are_counted_as_its_errors(tmp_path: Path) -> None:
    settings = ServerSettings(state_dir=tmp_path)
    async with open_gateway(settings, channel="test", integrations=[toy(ToyClient())]) as gateway:
        metrics = Metrics(gateway)
        for outcome in ("ok", "UPSTREAM_TIMEOUT", "NOT_FOUND"):
            metrics.observe(CallRecord("toy_get_lamp", outcome, 0.2))
        metrics.observe(CallRecord("toy_restart_lamp", "ok", 99.0))
        found = samples((await metrics.render()).decode())
        again = samples((await metrics.render()).decode())
    assert found["mcp_devops_upstream_errors_total{UPSTREAM_TIMEOUT,toy}"] == 1
    assert found["mcp_devops_upstream_duration_seconds_count{toy}"] == 2
    assert found["mcp_devops_calls_total{ok,toy_restart_lamp}"] == 1
    assert found["mcp_devops_approvals_waiting"] == 0 and again.keys() == found.keys()


async def test_prometheus_own_tool_has_nothing_against_it(state: State, tmp_path: Path) -> None:
    for number, status in enumerate(("recovered", "healthy", "paged")):
        await state.ended(f"run-{number}", status, seconds=40.0 * (number + 1))
    await state.decided(action="roll_back", cause="new_code_regression", confidence=0.97)
    await state.missed({"source": "sentry", "needed": True})
    await state.approval("a", "used", "slack", 10)
    await state.replica("one", NOW.isoformat())
    await state.metrics.refresh()
    registry = CollectorRegistry()
    registry.register(state.metrics)
    assert promtool("check", "metrics", given=generate_latest(registry)) == ""
    settings = ServerSettings(state_dir=tmp_path)
    async with open_gateway(settings, channel="test", integrations=[toy(ToyClient())]) as gateway:
        metrics = Metrics(gateway)
        metrics.observe(CallRecord("toy_get_lamp", "UPSTREAM_TIMEOUT", 0.2))
        text = await metrics.render()
    assert promtool("check", "metrics", given=text) == ""


async def test_the_journals_newest_number_is_told(state: State) -> None:
    assert (await state.scrape())["mcp_devops_journal_head"] == 0
    await state.missed()
    state.clock.move()
    assert (await state.scrape())["mcp_devops_journal_head"] == 1


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_buckets_count_each_observation_at_or_below_its_bound(values: list[float]) -> None:
    bounds = (1.0, 10.0, 1000.0)
    buckets = Buckets(bounds)
    for value in values:
        buckets.observe(value)
    found = dict(buckets.cumulative())
    assert found["+Inf"] == len(values)
    assert [found[repr(b)] for b in bounds] == [sum(v <= b for v in values) for b in bounds]


@given(st.text(max_size=60))
def test_no_text_makes_a_status_of_its_own(status: str) -> None:
    assert run_status(status) in {
        *("other", "not_approved", "observing", "healthy", "recorded", "paged", "refused"),
        *("stopped", "deleted", "replaced", "nothing_collected", "investigating", "decided"),
        *("awaiting_approval", "rolling_back", "verifying", "recovered", "not_recovered"),
        *("unknown", "closed"),
    }
