"""The pages over a real port, with the application that `serve --http` makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn
from pydantic import SecretStr

from mcp_devops.errors import (
    DevOpsError,
    InvalidArguments,
    NotConfigured,
    NotFound,
    UpstreamUnavailable,
)
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.services import Registry
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.model.target import Workload
from mcp_devops.server.http import GracefulServer, http_app
from mcp_devops.server.settings import HttpSettings
from mcp_devops.server.updates import Updates
from mcp_devops.web.routes import HEADERS, page_routes, status_of
from tests.rooms.incidents.conftest import Desk
from tests.rooms.server.test_http import AUDIENCE, ISSUER, Issuer, issuer
from tests.rooms.web.test_incident_page import Structure

__all__ = ["issuer"]

TOKEN = "on-call-token-" + "a1B2" * 6


@asynccontextmanager
async def served(
    gateway: Gateway, settings: HttpSettings | None = None, token: str = ""
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the pages, served on a free port of the loopback in this loop."""
    updates = Updates(gateway)
    app = http_app(
        gateway, updates, settings or HttpSettings(), "127.0.0.1", 0, page_routes(gateway)
    )
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical")
    server = GracefulServer(config, updates)
    running = asyncio.create_task(server._serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers
        ) as client:
            yield client
    finally:
        server.should_exit = True
        await running


async def test_the_list_leads_to_the_page_of_each_incident(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty, served(duty.gateway) as web:
        empty = Structure((await web.get("/incidents")).text)
        incident, _ = await duty.decided()
        listed = Structure((await web.get("/incidents?open=1")).text)
        shown = await web.get(next(link for link in listed.links if incident in link))
        head = await web.head(f"/incidents/{incident}")
        notes = [e.actor async for e in duty.gateway.journal.stream(subject="read /incidents")]
    assert "There is no incident yet." in empty.text
    assert "Deployment shop/payments" in listed.text and "Roll back: not done yet" in listed.text
    assert shown.status_code == 200 and incident in Structure(shown.text).text
    assert "/incidents" in Structure(shown.text).links
    assert head.status_code == 200 and head.content == b""
    assert len(notes) == 2 and all("(http, page)" in actor for actor in notes)


async def test_every_answer_forbids_framing_caching_sniffing_and_scripts(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty, served(duty.gateway) as web:
        incident, _ = await duty.decided()
        paths = ("/incidents", f"/incidents/{incident}", "/incidents/none", "/incidents?x=1")
        answers = [await web.get(path) for path in paths]
    assert [a.status_code for a in answers] == [200, 200, 404, 400]
    for answer in answers:
        assert {k: v for k, v in answer.headers.items() if k in HEADERS} == HEADERS
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answers[0].headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/incidents/inc-00000000", 404, "There is no incident"),
        ("/incidents/%3Cscript%3E", 404, "is no incident's id"),
        ("/incidents?cursor=%00%00", 400, "cursor"),
        ("/incidents?%3Cimg%3E=1", 400, "Unknown: <img>"),
    ],
)
async def test_what_is_not_there_is_a_small_page_with_the_next_move(
    desk: Desk, path: str, status: int, said: str
) -> None:
    async with desk.playing("error-spike") as duty, served(duty.gateway) as web:
        answer = await web.get(path)
    found = Structure(answer.text)
    assert answer.status_code == status and said in found.text
    assert not {"script", "img"} & {tag for tag, _ in found.elements}


async def test_pages_are_read_only(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty, served(duty.gateway) as web:
        answers = [await web.request(m, "/incidents") for m in ("POST", "PUT", "DELETE")]
    assert {a.status_code for a in answers} == {405}


async def test_a_page_that_takes_too_long_is_given_up(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        hurried = duty.gateway.settings.model_copy(update={"read_deadline_s": 1e-6})
        duty.gateway.settings = hurried
        async with served(duty.gateway) as web:
            answer = await web.get("/incidents")
    assert answer.status_code == 504 and "Too slow" in Structure(answer.text).text


async def test_what_fails_here_is_said_without_a_trace(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        duty.gateway.services = Registry(duty.gateway.catalog, duty.gateway.clock)
        async with served(duty.gateway) as web:
            answer = await web.get("/incidents")
    assert answer.status_code == 500 and "IncidentStore is not available" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("failed", "status"),
    [(NotFound, 404), (InvalidArguments, 400), (UpstreamUnavailable, 503), (NotConfigured, 500)],
)
def test_each_sort_of_failure_has_its_status(failed: type[DevOpsError], status: int) -> None:
    assert status_of(failed("what", fix="fix"))[0] == status


async def test_long_lists_go_on_page_by_page(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty, served(duty.gateway) as web:
        store = await duty.gateway.services.get(IncidentStore)
        for number in range(23):
            await store.open(Workload(namespace="shop", name=f"svc-{number}"), "ann")
        first = Structure((await web.get("/incidents")).text)
        older = next(link for link in first.links if "cursor=" in link)
        second = Structure((await web.get(older)).text)
        narrowed = Structure((await web.get("/incidents?open=1")).text)
        onwards = next(link for link in narrowed.links if "cursor=" in link)
        wrong = await web.get(onwards.replace("open=1&", ""))
    assert "23 incidents" in first.text and "svc-22" in first.text and "svc-1 " not in first.text
    assert "svc-2 " in second.text and "svc-22" not in second.text
    assert "/incidents" in second.links and "open=1" in onwards
    assert wrong.status_code == 400


async def test_where_tokens_are_needed_pages_need_them_too(desk: Desk) -> None:
    settings = HttpSettings(tokens=SecretStr(f"ann={TOKEN}"))
    async with desk.playing("error-spike") as duty:
        async with served(duty.gateway, settings) as web:
            refused = [await web.get(p) for p in ("/incidents", "/incidents/inc-00000000")]
            wrong = await web.get("/incidents", headers={"authorization": "Bearer nope"})
        async with served(duty.gateway, settings, TOKEN) as web:
            shown = await web.get("/incidents")
        readers = [e.actor async for e in duty.gateway.journal.stream(subject="read /incidents")]
    assert [a.status_code for a in (*refused, wrong)] == [401, 401, 401]
    assert "resource_metadata" in refused[0].headers["www-authenticate"]
    assert "incident" not in refused[0].text.replace("/incidents", "")
    assert shown.status_code == 200 and readers == ["ann (http, page)"]


async def test_a_browser_asks_for_the_token_as_a_password_on_the_pages_alone(desk: Desk) -> None:
    settings = HttpSettings(tokens=SecretStr(f"ann={TOKEN}"))
    ask = 'Basic realm="mcp-devops'
    async with desk.playing("error-spike") as duty:
        incident = (await duty.investigate())["incident_id"]
        async with served(duty.gateway, settings) as web:
            for path in ("/incidents", f"/incidents/{incident}"):
                refused = await web.get(path)
                assert refused.status_code == 401
                assert any(v.startswith(ask) for v in refused.headers.get_list("www-authenticate"))
                assert (await web.get(path, auth=("ann", TOKEN))).status_code == 200
                assert (await web.get(path, auth=("ann", "x" * 20))).status_code == 401
                assert (await web.get(path, auth=(TOKEN, ""))).status_code == 401
            for value in ("Basic", "Basic ?", "Basic /w==", "Basic 8J+YgDrwn5iA"):
                answer = await web.get("/incidents", headers={"authorization": value})
                assert answer.status_code == 401
            elsewhere = [
                await web.post("/mcp", auth=("ann", TOKEN), json={}),
                await web.get("/metrics", auth=("ann", TOKEN)),
            ]
        readers = {e.actor async for e in duty.gateway.journal.stream(subject="read /incidents")}
    assert [a.status_code for a in elsewhere] == [401, 401]
    assert not any(ask in str(a.headers) for a in elsewhere)
    assert readers == {"ann (http, page)"}


async def test_a_token_without_the_scope_is_refused(desk: Desk, issuer: Issuer) -> None:
    settings = HttpSettings(
        jwks_url=issuer.url, issuer=ISSUER, audience=AUDIENCE, required_scopes=("incident:read",)
    )
    codes = []
    async with desk.playing("error-spike") as duty:
        for scope in ("incident:read", "other"):
            async with served(duty.gateway, settings, issuer.token(scope=scope)) as web:
                codes.append((await web.get("/incidents")).status_code)
    assert codes == [200, 403]
