"""The numbers and the health of `watch`, over real sockets."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from mcp_devops.errors import InvalidArguments, PreconditionFailed
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database, open_database
from mcp_devops.responder.metrics import Readiness, parse_address, telling
from mcp_devops.responder.runs.heartbeat import PACE
from mcp_devops.server.metrics import Metrics
from mcp_devops.toolkit.clock import SystemClock
from tests.rooms.responder.test_service import night
from tests.support.postgres import PostgresServer, postgres, postgres_url
from tests.support.process import environment

__all__ = ["postgres", "postgres_url"]


async def render() -> bytes:
    return b"mcp_devops_state_up 1.0\n"


async def beat(database: Database, age_s: float) -> None:
    seen = (SystemClock().now() - timedelta(seconds=age_s)).isoformat()

    def write(connection: Connection) -> Any:
        connection.execute("DELETE FROM replicas")
        return connection.execute(
            "INSERT INTO replicas VALUES ('local', '1', ?, ?)", (seen, seen)
        ).rowcount

    await database.run(write)


async def test_it_is_ready_while_its_heartbeat_is_fresh_and_healthy_all_the_time(
    tmp_path: Path,
) -> None:
    async with open_database(tmp_path / "state.db") as database:
        readiness = Readiness(database, SystemClock())
        async with telling(":0", render, readiness) as url, httpx2.AsyncClient(base_url=url) as web:
            answers = []

            async def look() -> None:
                ready, health = await web.get("/readyz"), await web.get("/healthz")
                answers.append((ready.status_code, ready.json()["status"], health.status_code))

            await look()
            readiness.replica = "local"
            await look()
            await beat(database, 1)
            await look()
            await beat(database, PACE.dead_s + 1)
            await look()
            numbers = await web.get("/metrics")
    silent = f"no heartbeat for {PACE.dead_s:g} s"
    assert answers == [
        (503, "starting", 200),
        (503, silent, 200),
        (200, "ok", 200),
        (503, silent, 200),
    ]
    assert numbers.text == "mcp_devops_state_up 1.0\n"
    assert numbers.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_the_port_is_free_again_afterwards(tmp_path: Path) -> None:
    async with open_database(tmp_path / "state.db") as database:
        readiness = Readiness(database, SystemClock())
        async with telling("127.0.0.1:0", render, readiness) as url:
            port = int(url.rsplit(":", 1)[1])
            with pytest.raises(PreconditionFailed, match="cannot listen"):
                async with telling(f"127.0.0.1:{port}", render, readiness):
                    pass
        async with telling(f"127.0.0.1:{port}", render, readiness) as again:
            assert again == url


def test_addresses_are_split_as_people_write_them() -> None:
    assert parse_address("9095") == parse_address(":9095") == ("127.0.0.1", 9095)
    assert parse_address("[::1]:9095") == ("::1", 9095)
    assert parse_address("0.0.0.0:9095") == ("0.0.0.0", 9095)
    for wrong in ("", "host", "host:", "host:99999", "host:-1"):
        with pytest.raises(InvalidArguments):
            parse_address(wrong)


async def test_it_is_not_ready_but_healthy_while_the_database_is_down(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with open_database(postgres_url) as database:
        readiness = Readiness(database, SystemClock())
        readiness.replica = "local"
        await beat(database, 0)
        async with telling(":0", render, readiness) as url, httpx2.AsyncClient(base_url=url) as web:
            postgres.stop()
            try:
                ready, health = await web.get("/readyz"), await web.get("/healthz")
            finally:
                postgres.start()
    assert ready.status_code == 503 and "UPSTREAM_UNAVAILABLE" in ready.text
    assert health.status_code == 200


async def test_a_night_is_told_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with night("crash-loop", tmp_path, monkeypatch) as it:
        metrics = Metrics(it.gateway)
        await it.ended("cart")
        text = (await metrics.render()).decode()
    for line in (
        'mcp_devops_runs{status="recovered"} 1.0',
        'mcp_devops_approvals{channel="policy",status="used"} 1.0',
        'mcp_devops_actions{status="done",tool="incident_roll_back"} 1.0',
        "mcp_devops_detect_seconds_count 1.0",
        "mcp_devops_recover_seconds_count 1.0",
        "mcp_devops_page_seconds_count 0.0",
        "mcp_devops_breaker_open 0.0",
    ):
        assert f"{line}\n" in text, text
    # The neighbours' runs may have ended meanwhile, or not.
    assert re.search(r"^mcp_devops_decide_seconds_count [123]\.0$", text, re.M)
    assert 'mcp_devops_decisions_total{action="roll_back",cause="new_code_regression"}' in text
    assert 'mcp_devops_decision_confidence_count{action="roll_back"}' in text
    assert 'mcp_devops_replica_heartbeat_age_seconds{replica="local"}' in text
    for system in ("kubernetes", "prometheus"):
        told = rf'^mcp_devops_upstream_duration_seconds_count{{system="{system}"}} [1-9]'
        assert re.search(told, text, re.M), system
    assert "cart" not in text and "shop" not in text, "who scrapes learns no names"


async def test_a_bad_address_is_told_and_nothing_is_watched(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mcp_devops", "watch", "-n", "shop", "--metrics", "nowhere"]
    settings = environment(tmp_path, MCP_DEVOPS_STATE_DIR=str(tmp_path))
    done = await anyio.run_process(command, check=False, env=settings)
    assert done.returncode == 1
    assert b"[INVALID_ARGUMENTS] --metrics: 'nowhere' is not HOST:PORT." in done.stderr
