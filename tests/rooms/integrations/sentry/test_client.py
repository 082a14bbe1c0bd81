from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.sentry import INTEGRATION
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.settings import SentrySettings
from mcp_devops.scenarios.listening import listening
from tests.support.prometheus_api import FixedClock
from tests.support.sentry import (
    NOW,
    ORG,
    TOKEN,
    World,
    html,
    missing,
    no_route,
    redirect,
    says,
    sentry,
    settings_for,
    slow,
)


class HangUp(Response):
    """Promises more than it sends."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def hang_up(_: Request) -> Response:
    return HangUp()


async def fails(world: World, code: str, path: str = "projects/", **settings: Any) -> DevOpsError:
    async with sentry(world, **settings) as client:
        with pytest.raises(DevOpsError) as raised:
            await client.get(client.path(path), scope="org:read", what="a thing")
    assert raised.value.code == code
    assert TOKEN not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (html(), "UPSTREAM_UNAVAILABLE"),
        (html(502), "UPSTREAM_UNAVAILABLE"),
        (says(500), "UPSTREAM_UNAVAILABLE"),
        (says(401), "CREDENTIALS_REJECTED"),
        (says(400, {"detail": "Invalid query"}), "INVALID_ARGUMENTS"),
        (says(418), "UPSTREAM_UNAVAILABLE"),
        (slow, "UPSTREAM_TIMEOUT"),
    ],
)
async def test_a_failure_becomes_the_error_of_who_can_fix_it(fault: Any, code: str) -> None:
    limit_s = 0.4 if fault is slow else 10
    problem = await fails(World(broken={"projects/": fault}), code, timeout_s=limit_s)
    if code == "INVALID_ARGUMENTS":
        assert problem.upstream == "Invalid query"


async def test_a_refused_scope_is_named() -> None:
    body = {"detail": {"code": "x", "message": "You do not have permission"}}
    problem = await fails(World(broken={"projects/": says(403, body)}), "PERMISSION_DENIED")
    assert problem.details["grants"] == ["org:read"] and "org:read" in problem.fix
    assert problem.upstream == "You do not have permission"


async def test_a_missing_thing_a_missing_path_and_a_missing_organisation_are_told_apart() -> None:
    problem = await fails(World(broken={"projects/": lambda _: missing()}), "NOT_FOUND")
    assert "a thing" in problem.what
    await fails(World(broken={"projects/": lambda _: no_route()}), "UNSUPPORTED")
    problem = await fails(World(), "NOT_FOUND", organization="nobody")
    assert "'nobody'" in problem.what


async def test_a_short_pause_is_waited_for_and_the_question_repeated() -> None:
    world = World(faults=[("projects/", says(429, Retry_After="0"))] * 2)
    async with sentry(world) as client:
        assert len(await client.projects()) == 2
    assert len(world.paths("projects/")) == 3


async def test_the_reset_time_of_the_limit_is_a_pause_too() -> None:
    reset = str(int(NOW.timestamp()))
    world = World(faults=[("projects/", says(429, X_Sentry_Rate_Limit_Reset=reset))])
    async with sentry(world) as client:
        await client.get(client.path("projects/"))
    assert len(world.asked) == 2


async def test_a_pause_longer_than_the_deadline_is_given_to_the_caller() -> None:
    world = World(broken={"projects/": says(429, Retry_After="60")})
    problem = await fails(world, "RATE_LIMITED")
    assert problem.details["retry_after_s"] == 60 and len(world.asked) == 1


async def test_a_limit_that_does_not_end_is_given_up() -> None:
    world = World(broken={"projects/": says(429)})
    await fails(world, "RATE_LIMITED")
    assert len(world.asked) == 3


async def test_a_failure_of_the_server_is_tried_a_few_times() -> None:
    world = World(faults=[("projects/", says(503)), ("projects/", says(502))])
    async with sentry(world) as client:
        assert await client.projects()
    world = World(broken={"projects/": says(500)})
    await fails(world, "UPSTREAM_UNAVAILABLE")
    assert len(world.asked) == 3


async def test_pages_are_followed_to_the_last_which_also_names_a_next_one() -> None:
    world = World(projects={f"p{n}": str(n) for n in range(5)}, page=2)
    async with sentry(world) as client:
        assert [p.slug for p in await client.projects()] == ["p0", "p1", "p2", "p3", "p4"]
        assert await client.projects() is await client.projects()
    assert len(world.asked) == 3


async def test_a_list_that_is_longer_than_was_read_says_so() -> None:
    world = World(projects={f"p{n}": str(n) for n in range(5)}, page=2)
    async with sentry(world) as client:
        rows, more, hits = await client.pages(client.path("projects/"), most=2)
    assert len(rows) == 4 and more and hits is None


@pytest.mark.parametrize(
    "elsewhere", ["http://127.0.0.1:9", "https://evil.example", "http://[broken"]
)
async def test_a_next_page_on_another_host_is_not_asked_for(elsewhere: str) -> None:
    world = World(projects={"a": "1", "b": "2"}, page=1, elsewhere=elsewhere)
    async with sentry(world) as client:
        with pytest.raises(DevOpsError) as raised:
            await client.projects()
    assert raised.value.code == "UPSTREAM_UNAVAILABLE" and len(world.asked) == 1


async def test_regions_of_sentrys_own_service_name_each_other_and_are_asked_where_they_are() -> (
    None
):
    world = World(projects={"a": "1", "b": "2"}, page=1)
    async with sentry(world) as client:
        port = client.settings.base.rpartition(":")[2]
        world.elsewhere = f"http://us.127.0.0.1:{port}"
        assert len(await client.projects()) == 2
    assert len(world.asked) == 2


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    seen: list[Request] = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        seen.append(Request(scope))
        await JSONResponse({})(scope, receive, send)

    async with listening(other) as elsewhere:  # type: ignore[arg-type]  # any ASGI application
        problem = await fails(
            World(broken={"projects/": redirect(elsewhere)}), "UPSTREAM_UNAVAILABLE"
        )
    assert seen == [] and "redirects" in problem.what


async def test_an_unreachable_server_is_said() -> None:
    client = SentryClient(settings_for("http://127.0.0.1:9"), FixedClock(NOW))
    with pytest.raises(DevOpsError) as raised:
        await client.projects()
    await client.close()
    assert raised.value.code == "UPSTREAM_UNAVAILABLE" and "127.0.0.1:9" in raised.value.what


async def test_an_answer_without_end_is_refused() -> None:
    world = World(broken={"projects/": lambda _: Response(b" " * 17_000_000, 200)})
    await fails(world, "UPSTREAM_UNAVAILABLE")


async def test_json_that_is_none_is_not_believed() -> None:
    broken = Response(b'{"a": ', 200, media_type="application/json")
    await fails(World(broken={"projects/": lambda _: broken}), "UPSTREAM_UNAVAILABLE")


async def test_few_questions_are_under_way_at_once() -> None:
    now, most = 0, 0

    async def counted(_: Request) -> Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return JSONResponse([])

    world = World(broken={"projects/": counted})
    async with sentry(world) as client:
        await asyncio.gather(*(client.get(client.path("projects/")) for _ in range(20)))
    assert most <= 5


async def test_a_post_is_not_sent_twice_unless_sentry_took_nothing() -> None:
    async def posts(world: World, **settings: Any) -> str:
        async with sentry(world, **settings) as client:
            try:
                await client.post(client.path("x/"), {"a": 1}, scope="s", what="x")
            except DevOpsError as problem:
                return problem.code
        return ""

    failing = World(broken={"x/": says(503)})
    assert await posts(failing) == "UPSTREAM_UNAVAILABLE" and len(failing.asked) == 1
    limited = World(faults=[("x/", says(429, Retry_After="0"))], broken={"x/": says(201, {})})
    assert await posts(limited) == "" and len(limited.asked) == 2
    late = World(broken={"x/": slow})
    assert await posts(late, timeout_s=1) == "OUTCOME_UNKNOWN" and len(late.asked) == 1
    cut = World(broken={"x/": hang_up})
    assert await posts(cut) == "OUTCOME_UNKNOWN" and len(cut.asked) == 1
    down = SentryClient(settings_for("http://127.0.0.1:9"), FixedClock(NOW))
    with pytest.raises(DevOpsError) as raised:
        await down.post("/api/0/x/", {}, scope="s", what="x")
    await down.close()
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"


async def test_ping_tells_the_organisation_and_the_scopes_that_are_missing() -> None:
    assert INTEGRATION.ping is not None
    async with sentry(World()) as client:
        health = await INTEGRATION.ping(client)
    assert health.ok and "Acme" in health.says and "2 projects" in health.says
    async with sentry(World(scopes=["org:read"], projects={})) as client:
        health = await INTEGRATION.ping(client)
    assert not health.ok and "event:read" in health.fix and "access to a project" in health.fix
    async with sentry(World(broken={"/api/0/?": html()}, scopes=["org:read"])) as client:
        assert "event:read" in (await INTEGRATION.ping(client)).fix
    async with sentry(World(broken={"/api/0/?": html()}, scopes=[])) as client:
        health = await INTEGRATION.ping(client)
    assert health.ok and "not told" in health.says
    async with sentry(World(broken={"/": says(401)})) as client:
        health = await INTEGRATION.ping(client)
    assert not health.ok and "TOKEN" in health.fix


async def test_ping_tells_the_region_that_could_be_asked_directly() -> None:
    assert INTEGRATION.ping is not None
    links = {"regionUrl": "http://eu.localhost:1"}
    body = {"name": "Acme", "links": links, "access": []}
    world = World(broken={f"{ORG}/?detailed": says(200, body)})
    async with sentry(world) as client:
        assert "its data is" not in (await INTEGRATION.ping(client)).says


def test_it_is_off_without_organisation_or_token_and_its_credentials_are_known() -> None:
    off = INTEGRATION.why_off(SentrySettings())
    assert off and "SENTRY__ORGANIZATION" in off and "SENTRY__TOKEN" in off
    half = INTEGRATION.why_off(SentrySettings(organization="acme"))
    assert half and "ORGANIZATION" not in half
    settings = SentrySettings.load(
        organization="acme", token="t-123456", mcp_token="m-123456", dsn="https://k@h/1"
    )
    assert INTEGRATION.why_off(settings) is None
    assert list(INTEGRATION.secrets(settings)) == ["t-123456", "m-123456", "https://k@h/1"]
    assert "t-123456" not in repr(settings)


@pytest.mark.parametrize(
    "url", ["https://user:pw@sentry.io", "ftp://sentry.io", "https://sentry.io?x=1", "sentry.io"]
)
def test_an_address_with_credentials_or_without_a_scheme_is_refused(url: str) -> None:
    with pytest.raises(DevOpsError) as raised:
        SentrySettings.load(url=url)
    assert raised.value.code == "NOT_CONFIGURED" and "pw" not in str(raised.value)


def test_the_rule_follows_the_settings_and_ignores_three_minutes() -> None:
    rule = SentrySettings().rule
    assert (rule.baseline_s, rule.buffer_s, rule.grace_s, rule.step_s) == (1800, 600, 180, 60)
    assert SentrySettings(url="https://s.example/sub/api/0/").base == "https://s.example/sub"


async def test_a_ca_bundle_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("", encoding="utf-8")
    client = SentryClient(settings_for("https://127.0.0.1:9", ca_file=empty), FixedClock(NOW))
    with pytest.raises(DevOpsError) as raised:
        await client.projects()
    assert raised.value.code == "NOT_CONFIGURED"
