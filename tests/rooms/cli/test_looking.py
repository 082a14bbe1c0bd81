"""What doctor finds where a cluster answers, with permissions of the test's choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.cli.looking import Line, look
from mcp_devops.gateway.acts import set_breaker_in
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import stamp
from mcp_devops.responder.switches import freeze
from mcp_devops.settings import ServerSettings
from tests.rooms.cli.conftest import Terminal
from tests.support.kubernetes_api import Asked, Reply, ok, serving, status, write_kubeconfig

Allowed = Callable[[str, str], bool]


def cluster(allowed: Allowed, namespaces: set[str]) -> Callable[[Asked], Reply]:
    """A cluster that answers its version, and access reviews by verb and resource."""

    def answer(asked: Asked) -> Reply:
        if asked.path == "/version":
            return ok({"gitVersion": "v1.31.0", "major": "1", "minor": "31"})
        if asked.path.endswith("/selfsubjectaccessreviews"):
            wanted = json.loads(asked.body)["spec"]["resourceAttributes"]
            namespaces.add(wanted.get("namespace", ""))
            resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
            return ok({"status": {"allowed": allowed(wanted["verb"], resource)}}, status=201)
        return status(404, "not found", "NotFound")

    return answer


async def looked(
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    allowed: Allowed,
    namespace: str | None = None,
    **options: Any,
) -> tuple[list[Line], set[str]]:
    """Doctor's lines about the cluster, and the namespaces that were asked about."""
    asked: set[str] = set()
    async with serving(cluster(allowed, asked)) as api:
        folder = terminal.state_dir.parent
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(folder, api.url)))
        settings = ServerSettings(state_dir=terminal.state_dir, toolsets=("kubernetes",), **options)
        lines = await look(settings, namespace, {})
    return [ln for ln in lines if ln.what in ("kubernetes", "permission")], asked


async def test_a_user_with_all_permissions_is_ready(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, asked = await looked(terminal, monkeypatch, lambda verb, resource: True)
    assert [ln.state for ln in lines] == ["ok", "ok"]
    assert asked <= {"shop", ""}, "the context's namespace"


async def test_permissions_are_asked_for_in_the_namespace_that_is_named(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked = await looked(terminal, monkeypatch, lambda verb, resource: True, "team-a")
    assert asked <= {"team-a", ""} and "team-a" in asked


async def test_a_missing_permission_is_bad_and_comes_with_its_grant(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, _ = await looked(terminal, monkeypatch, lambda verb, resource: resource != "pods")
    bad = [ln for ln in lines if ln.state == "bad"]
    assert bad and all("pods" in ln.says and ln.fix for ln in bad)
    assert not [ln for ln in lines if ln.state == "ok" and ln.what == "permission"]


async def test_a_permission_one_can_do_without_is_a_note(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, _ = await looked(terminal, monkeypatch, lambda verb, resource: resource != "pods/log")
    notes = [ln for ln in lines if ln.what == "permission"]
    assert {ln.state for ln in notes} <= {"note", "bad"}
    assert any("pods/log" in ln.says and ln.fix for ln in notes)


async def test_permissions_of_change_tools_count_only_where_writes_are_on(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reader(verb: str, resource: str) -> bool:
        return verb != "patch"

    lines, _ = await looked(terminal, monkeypatch, reader)
    assert [ln.state for ln in lines] == ["ok", "ok"]
    lines, _ = await looked(terminal, monkeypatch, reader, allow_writes=("shop",))
    assert any(ln.state == "bad" and "patch" in ln.says for ln in lines)


async def test_credentials_that_are_refused_are_bad_without_being_told(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with serving(lambda asked: status(401, "Unauthorized", "Unauthorized")) as api:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, api.url)))
        settings = ServerSettings(state_dir=terminal.state_dir, toolsets=("kubernetes",))
        lines = await look(settings, None, {})
    (line,) = [ln for ln in lines if ln.what == "kubernetes"]
    assert line.state == "bad" and line.fix and "test-token" not in line.says + line.fix


async def test_what_stands_in_the_state_is_told_with_its_next_move(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServerSettings(state_dir=terminal.state_dir)
    async with open_gateway(settings, channel="test") as gateway:
        database, now = await gateway.services.get(Database), gateway.clock.now()
        await freeze(database, gateway.journal, now=now, who="ann", reason="sale", pattern="shop")
        await database.run(
            lambda c: set_breaker_in(
                c, gateway.journal, is_open=True, now=now, who="responder", reason="3 in an hour"
            )
        )
        kept = [
            ("k0", "failed", stamp(now), stamp(now), "Slack: NOT_FOUND: The channel is gone."),
            ("k1", "told", stamp(now), stamp(now), None),
        ]

        def write(connection: Connection) -> None:
            for values in kept:
                connection.execute(
                    "INSERT INTO outbox (key, incident_id, channel, body, status, attempts,"
                    " made_at, next_at, problem) VALUES (?, 'inc', 'Slack', '{}', ?, 1, ?, ?, ?)",
                    values,
                )

        await database.run(write)
    told = {ln.what: ln for ln in await look(settings, None, {}) if ln.what in STANDING}
    assert told["freeze"].state == "note" and "frozen in shop by ann" in told["freeze"].says
    assert told["breaker"].state == "bad" and "unfreeze --breaker" in told["breaker"].fix
    assert "3 in an hour" in told["breaker"].says
    assert (
        told["people"].state == "bad" and "Slack: 1 message of the last day" in told["people"].says
    )
    assert "The channel is gone." in told["people"].fix


STANDING = ("freeze", "breaker", "people")
