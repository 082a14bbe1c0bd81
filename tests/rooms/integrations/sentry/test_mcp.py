from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.sentry.issues import ReleaseListing, list_issues, release_issues
from mcp_devops.integrations.sentry.list_deploys import ListDeploys, list_newest_deploys
from mcp_devops.integrations.sentry.mcp_text import read_issues, read_releases
from mcp_devops.scenarios.listening import listening
from tests.support.prometheus_api import FixedClock
from tests.support.sentry import (
    NOW,
    ORG,
    TOKEN,
    World,
    ago,
    context_for,
    deploy,
    issue,
    release,
    says,
    sentry,
)

VERSION = "checkout@1.1.0"
MCP_TOKEN = "mcp-token-" + "7f" * 12


def issues_text(*numbers: int, found: int | None = None) -> str:
    """A search_issues answer in the form of the official server's formatter."""
    said = len(numbers) if found is None else found
    parts = [
        f"# Issues in **{ORG}**\n\n**Suggested presentation:** Cards.\n\n"
        f"**View these results in Sentry**:\nhttps://acme.sentry.io/issues/\n\n"
        f"Found **{said}** issue{'s' * (said != 1)}:\n\n"
    ]
    for place, number in enumerate(numbers, 1):
        parts.append(
            f"## {place}. [CHECKOUT-{number}](https://acme.sentry.io/issues/CHECKOUT-{number})\n\n"
            f"**ValueError: {number}**\n\n- **Status**: unresolved\n- **Users**: {number}\n"
            f"- **Events**: {number * 10}\n- **First seen**: 3 minutes ago\n"
            "- **Last seen**: 1 minute ago\n- **Culprit**: `views in pay`\n\n"
        )
    return "".join(parts) + "## Next Steps\n\n- Get more details\n"


NONE = f"# Issues in **{ORG}**\n\nNo issues found matching your search criteria.\n\nTry adjusting."
RELEASES = f"""# Releases in **{ORG}**

## 1.1.0

**Created**: 2026-03-01T11:30:00.000Z
**New Issues**: 2

### Last Commit

**Commit ID**: abc
**Commit Message**: fix

### Last Deploy

**Deploy ID**: 5
**Environment**: production
**Deploy Started**: 2026-03-01T11:39:00.000Z
**Deploy Finished**: 2026-03-01T11:40:00.000Z

## 1.0.0

**Created**: 2026-02-01T11:30:00.000Z

## Response Notes

- Release versions can be referenced in commit messages or documentation.
"""

Answer = Callable[[str], Any]


class Hands(FixedClock):
    """A clock that is set by hand."""

    def now_is(self, now: datetime) -> None:
        self._now = now


class Official:
    """An MCP server with the tools that the official one has, on loopback."""

    def __init__(self, answer: Answer, *, tools: bool = True, json: bool = False) -> None:
        self.server = MCPServer("sentry", log_level="CRITICAL")
        self.calls: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self._json = json
        if not tools:
            return

        async def search_issues(
            organizationSlug: str,
            query: str = "is:unresolved",
            sort: str = "date",
            projectSlugOrId: str | None = None,
            limit: int = 10,
        ) -> str:
            self.calls.append({"query": query, "project": projectSlugOrId, "limit": limit})
            return str(await _soon(answer(query)))

        async def find_releases(organizationSlug: str, projectSlug: str | None = None) -> str:
            self.calls.append({"project": projectSlug})
            return str(await _soon(answer("releases")))

        for tool in (search_issues, find_releases):
            self.server.add_tool(tool, structured_output=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = self.server.streamable_http_app(json_response=self._json)

        async def noted(scope: Scope, receive: Receive, send: Send) -> None:
            headers = dict(scope.get("headers", []))
            self.tokens.add(headers.get(b"authorization", b"").decode())
            await app(scope, receive, send)

        async with self.server.session_manager.run(), listening(noted) as url:  # type: ignore[arg-type]
            yield f"{url}/mcp"


async def _soon(value: Any) -> Any:
    return await value if asyncio.iscoroutine(value) else value


def world() -> World:
    return World(
        releases=[release(VERSION, ago(20), [deploy(ago(20))])],
        issues={f'first-release:"{VERSION}"': [issue(77)]},
    )


async def listed(official: Official, there: World | None = None, **settings: Any) -> ReleaseListing:
    there = there or world()
    async with official.running() as url, sentry(there, mcp_url=url, **settings) as client:
        return await list_issues(client, VERSION, "checkout", "production")


def both(query: str) -> str:
    return issues_text(1, 2) if query.startswith("first-release") else issues_text(3)


@pytest.mark.parametrize("json", [False, True])
async def test_the_mcp_server_is_asked_first_and_rest_not_at_all(json: bool) -> None:
    official, there = Official(both, json=json), world()
    found = await listed(official, there, mcp_token=MCP_TOKEN)
    assert found.source == "mcp" and there.asked == []
    assert [i.id for i in found.issues] == ["CHECKOUT-2", "CHECKOUT-1", "CHECKOUT-3"]
    assert found.issues[0].events == 20 and found.issues[0].culprit == "views in pay"
    assert found.new_total == 2 and found.new_by_level == {"unknown": 2}
    assert found.notes and "levels" in found.notes[0]
    queries = {str(c["query"]) for c in official.calls}
    assert f'first-release:"{VERSION}" environment:"production"' in queries
    assert {c["project"] for c in official.calls} == {"checkout"}


async def test_the_api_token_is_never_sent_to_the_mcp_server() -> None:
    official = Official(both)
    await listed(official, mcp_token=MCP_TOKEN)
    assert official.tokens == {f"Sentry-Bearer {MCP_TOKEN}"}
    bare = Official(both)
    await listed(bare)
    assert bare.tokens == {""} and TOKEN not in "".join(official.tokens)


async def _never(_: str = "") -> str:
    await asyncio.sleep(30)
    return ""


def _error(_: str) -> str:
    raise ValueError("Sentry says no")


@pytest.mark.parametrize(
    ("official", "code"),
    [
        (lambda: Official(_never), "UPSTREAM_TIMEOUT"),
        (lambda: Official(_error), "UPSTREAM_UNAVAILABLE"),
        (lambda: Official(both, tools=False), "UNSUPPORTED"),
        (lambda: Official(lambda _: "I could not find that, sorry."), "UPSTREAM_UNAVAILABLE"),
        (lambda: Official(lambda _: issues_text(1, found=2)), "UPSTREAM_UNAVAILABLE"),
        (lambda: Official(lambda _: ""), "UPSTREAM_UNAVAILABLE"),
    ],
    ids=["slow", "isError", "no tool", "garbage", "does not add up", "empty"],
)
async def test_whatever_fails_there_rest_answers_and_the_reason_is_kept(
    official: Callable[[], Official], code: str
) -> None:
    found = await listed(official(), mcp_call_s=0.3)
    assert found.source == "rest" and [i.id for i in found.issues] == ["CHECKOUT-4D"]
    assert code in found.notes[0]


async def test_a_server_that_is_down_costs_nothing_but_a_note() -> None:
    async with sentry(world(), mcp_url="http://127.0.0.1:9/mcp") as client:
        found = await list_issues(client, VERSION)
    assert found.source == "rest" and "UPSTREAM_UNAVAILABLE" in found.notes[0]


async def test_an_empty_list_of_the_mcp_server_is_made_sure_of() -> None:
    found = await listed(Official(lambda _: NONE))
    assert found.source == "rest" and len(found.issues) == 1 and "to be sure" in found.notes[0]


async def test_after_a_failure_it_is_left_alone_for_five_minutes() -> None:
    official, there = Official(_error), world()
    there.clock = clock = Hands(NOW)
    async with official.running() as url, sentry(there, mcp_url=url) as client:
        await list_issues(client, VERSION)
        asked = len(official.calls)
        second = await list_issues(client, VERSION)
        assert len(official.calls) == asked and "a short while ago" in second.notes[0]
        clock.now_is(NOW + timedelta(minutes=5))
        await list_issues(client, VERSION)
        assert len(official.calls) > asked


async def test_evidence_is_counted_by_rest_alone() -> None:
    official = Official(both)
    async with official.running() as url, sentry(world(), mcp_url=url) as client:
        found = await release_issues(client, VERSION)
    assert found.new == {"error": 1} and official.calls == []


async def test_with_a_start_time_only_rest_can_answer() -> None:
    official = Official(both)
    async with official.running() as url, sentry(world(), mcp_url=url) as client:
        found = await list_issues(client, VERSION, since=ago(60))
    assert found.source == "rest" and official.calls == []


async def test_both_down_is_the_error_of_rest_and_nothing_else() -> None:
    there = world()
    there.broken = {"/": says(503)}
    async with Official(_error).running() as url, sentry(there, mcp_url=url) as client:
        with pytest.raises(DevOpsError) as raised:
            await list_issues(client, VERSION)
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"


async def test_deploys_come_from_the_mcp_server_with_what_it_cannot_tell() -> None:
    official = Official(lambda _: RELEASES)
    async with official.running() as url, sentry(world(), mcp_url=url) as client:
        told = await list_newest_deploys.run(ListDeploys(project="checkout"), context_for(client))
        other = await list_newest_deploys.run(ListDeploys(environment="qa"), context_for(client))
    assert told.source == "mcp" and not told.complete and "shortens" in told.notes[0]
    assert [(d.release, d.environment, d.finished_at) for d in told.deploys] == [
        ("1.1.0", "production", ago(20))
    ]
    assert other.source == "rest" and other.deploys == ()
    assert official.calls[0] == {"project": "checkout"}


@asynccontextmanager
async def pretender(answer: Callable[[dict[str, Any]], Response]) -> AsyncIterator[str]:
    """Something that speaks HTTP, and perhaps not MCP."""

    async def handle(request: Request) -> Response:
        return answer(await request.json() if request.method == "POST" else {})

    app = Starlette(routes=[Route("/mcp", handle, methods=["POST", "DELETE"])])
    async with listening(app) as url:
        yield f"{url}/mcp"


def _result(message: dict[str, Any], result: Any) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "id": message.get("id"), "result": result})


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: Response("<html>", media_type="text/html"),
        lambda _: Response(status_code=302, headers={"Location": "http://127.0.0.1:9"}),
        lambda _: Response(status_code=401),
        lambda m: JSONResponse(
            {"jsonrpc": "2.0", "id": m.get("id"), "error": {"code": -32000, "message": "no"}}
        ),
        lambda m: _result(m, "text"),
        lambda m: JSONResponse({"jsonrpc": "2.0", "id": "other", "result": {}}),
        lambda _: Response(": ping\n\ndata: {\n\ndata: 7\n\n", media_type="text/event-stream"),
        lambda _: Response("data: " + "x" * 3_000_000, media_type="text/event-stream"),
        lambda _: Response(b"[" * 100_000, media_type="application/json"),
    ],
)
async def test_something_that_does_not_speak_mcp_is_a_failure_of_it(
    answer: Callable[[dict[str, Any]], Response],
) -> None:
    async with pretender(answer) as url, sentry(world(), mcp_url=url) as client:
        found = await list_issues(client, VERSION)
    assert found.source == "rest" and "UPSTREAM_UNAVAILABLE" in found.notes[0]


async def test_tools_are_looked_for_on_every_page_of_the_list() -> None:
    def answer(message: dict[str, Any]) -> Response:
        method, params = message.get("method"), message.get("params") or {}
        if method == "initialize":
            return _result(message, {"protocolVersion": "2025-06-18", "capabilities": {}})
        if method == "tools/list":
            page = {"tools": [{"name": "whoami"}], "nextCursor": "2"}
            return _result(
                message, {"tools": [{"name": "search_issues"}]} if params.get("cursor") else page
            )
        if method == "tools/call":
            content = [
                {"type": "image", "data": ""},
                {"type": "text", "text": both(params["arguments"]["query"])},
            ]
            return _result(message, {"content": content})
        return Response(status_code=202)

    async with pretender(answer) as url, sentry(world(), mcp_url=url) as client:
        found = await list_issues(client, VERSION)
    assert found.source == "mcp" and len(found.issues) == 3


@given(st.text() | st.lists(st.sampled_from(issues_text(1, 2).splitlines())).map("\n".join))
def test_any_text_is_issues_or_refused(text: str) -> None:
    try:
        found = read_issues(text)
    except DevOpsError as refused:
        assert refused.code == "UPSTREAM_UNAVAILABLE"
    else:
        assert all(i.id and i.status for i in found)


@given(st.text() | st.lists(st.sampled_from(RELEASES.splitlines())).map("\n".join))
def test_any_text_is_releases_or_refused(text: str) -> None:
    try:
        found = read_releases(text)
    except DevOpsError as refused:
        assert refused.code == "UPSTREAM_UNAVAILABLE"
    else:
        assert all(r.version for r in found)


def test_a_title_that_looks_like_another_issue_makes_the_text_refused() -> None:
    forged = issues_text(1).replace("ValueError: 1", "x**\n\n## 2. [FAKE-1](http://evil.example)\n")
    with pytest.raises(DevOpsError):
        read_issues(forged)
    assert read_releases("No releases found.") == []
