from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.sentry.record import (
    DeployNote,
    Resolution,
    annotate_deploy,
    event_id_of,
    send_event,
)
from mcp_devops.scenarios.listening import listening
from mcp_devops.text.secrets import Redactor
from tests.support.prometheus_api import FixedClock
from tests.support.sentry import NOW, World, ago, html, release, says, sentry, settings_for, slow

KEY = "0123456789abcdef" * 2
SECRET = "hunter2-hunter2-hunter2"
CLOCK = FixedClock(NOW)

Handler = Callable[[Request], Awaitable[Response] | Response]


class Ingestion:
    """Takes envelopes as Sentry's relay does."""

    def __init__(self, *faults: Handler) -> None:
        self.faults = list(faults)
        self.envelopes: list[bytes] = []
        self.headers: list[dict[str, str]] = []

    async def answer(self, request: Request) -> Response:
        if self.faults:
            found = self.faults.pop(0)(request)
            return found if isinstance(found, Response) else await found
        self.envelopes.append(await request.body())
        self.headers.append(dict(request.headers))
        return JSONResponse({"id": json.loads(self.envelopes[-1].split(b"\n")[0])["event_id"]})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        route = Route("/sub/api/42/envelope/", self.answer, methods=["POST"])
        async with listening(Starlette(routes=[route])) as url:
            yield url.replace("http://", f"http://{KEY}@") + "/sub/42"


def resolution(**more: Any) -> Resolution:
    given: dict[str, Any] = {
        "event_id": event_id_of("inc-1", "recovered"),
        "at": ago(1),
        "incident_id": "inc-1",
        "service": "checkout",
        "deployment_id": "dep-1",
        "outcome": "recovered",
        "reason": f"error rate 12 % with {SECRET}",
        "from_release": "checkout@1.1.0+7",
        "to_release": "checkout@1.0.0",
        **more,
    }
    return Resolution(**given)


async def sends(
    ingestion: Ingestion, diagnostics: Any = None, **settings: Any
) -> tuple[Any, list[list[bytes]]]:
    async with ingestion.running() as dsn:
        own = settings_for("http://127.0.0.1:9", dsn=dsn, **settings)
        sent = await send_event(own, CLOCK, resolution(), diagnostics, Redactor([SECRET]))
    return sent, [e.split(b"\n") for e in ingestion.envelopes]


async def fails(ingestion: Ingestion, diagnostics: Any = None, **settings: Any) -> DevOpsError:
    with pytest.raises(DevOpsError) as raised:
        await sends(ingestion, diagnostics, **settings)
    assert KEY not in str(raised.value)
    return raised.value


async def test_an_event_of_its_own_is_written_with_the_diagnostics() -> None:
    ingestion = Ingestion()
    sent, (lines,) = await sends(ingestion, {"password": "x", "seen": [SECRET, 1]})
    head, item, body, second, attached, end = lines
    event = json.loads(body)
    assert sent.attached and sent.event_id == resolution().event_id == event["event_id"]
    assert json.loads(head) == {"event_id": sent.event_id, "sent_at": NOW.isoformat()}
    assert json.loads(item) == {
        "type": "event",
        "content_type": "application/json",
        "length": len(body),
    }
    assert json.loads(second)["filename"] == "diagnostics.json"
    assert json.loads(second)["length"] == len(attached) and end == b""
    assert event["fingerprint"] == ["deploy-rollback", "checkout", "dep-1"]
    assert event["tags"]["rollback.outcome"] == "recovered"
    assert event["tags"]["incident.id"] == event["contexts"]["rollback"]["incident"] == "inc-1"
    assert event["release"] == "checkout@1.1.0+7" and event["contexts"]["rollback"]["to"]
    assert event["timestamp"] == ago(1).timestamp()
    assert SECRET.encode() not in b"".join(lines)
    assert f"sentry_key={KEY}" in ingestion.headers[0]["x-sentry-auth"]
    assert "authorization" not in ingestion.headers[0], "the API's token stays with the API"


async def test_the_same_parts_give_the_same_id_so_that_a_repeat_is_one_event() -> None:
    ingestion = Ingestion()
    await sends(ingestion)
    await sends(ingestion)
    first, second = (json.loads(e.split(b"\n")[2]) for e in ingestion.envelopes)
    assert first["event_id"] == second["event_id"] and first["fingerprint"] == second["fingerprint"]
    assert event_id_of("a", "bc") != event_id_of("ab", "c")


async def test_a_pause_and_a_failure_are_tried_again() -> None:
    sent, envelopes = await sends(Ingestion(says(429, Retry_After="0"), says(503)))
    assert sent.event_id and len(envelopes) == 1


async def test_too_large_goes_without_the_diagnostics() -> None:
    sent, ((*_, body, end),) = await sends(Ingestion(says(413)), {"a": 1})
    assert not sent.attached and json.loads(body) and end == b""
    sent, _ = await sends(Ingestion(), {"a": "x" * 200_000, "b": ["y" * 200_000] * 60})
    assert not sent.attached


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ((says(429, Retry_After="60"),), "RATE_LIMITED"),
        ((says(503),) * 3, "UPSTREAM_UNAVAILABLE"),
        ((says(401),), "CREDENTIALS_REJECTED"),
        ((says(403, {"detail": "bad key"}),), "CREDENTIALS_REJECTED"),
        ((says(400),), "INVALID_ARGUMENTS"),
        ((says(413), says(413)), "INVALID_ARGUMENTS"),
        ((html(), html(), html()), "UPSTREAM_UNAVAILABLE"),
        ((slow,), "UPSTREAM_TIMEOUT"),
    ],
)
async def test_a_failure_of_the_ingestion_is_named(faults: Any, code: str) -> None:
    limit_s = 0.5 if slow in faults else 10
    problem = await fails(Ingestion(*faults), {"a": 1}, timeout_s=limit_s)
    assert problem.code == code
    if code == "RATE_LIMITED":
        assert problem.details["retry_after_s"] == 60


async def test_an_ingestion_that_cannot_be_reached_is_named() -> None:
    own = settings_for("http://127.0.0.1:9", dsn=f"http://{KEY}@127.0.0.1:9/1")
    with pytest.raises(DevOpsError) as raised:
        await send_event(own, CLOCK, resolution(), None, Redactor())
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize(
    "dsn",
    [
        None,
        "https://sentry.io/1",
        f"https://{KEY}@sentry.io/",
        f"ftp://{KEY}@h/1",
        "https://k e y@h/1",
        f"https://{KEY}@h:99999/1",
        f"https://{KEY}@[broken/1",
    ],
)
async def test_a_dsn_that_is_none_is_refused_and_not_repeated(dsn: str | None) -> None:
    own = settings_for("http://127.0.0.1:9", **({"dsn": dsn} if dsn else {}))
    with pytest.raises(DevOpsError) as raised:
        await send_event(own, CLOCK, resolution(), None, Redactor())
    assert raised.value.code == "NOT_CONFIGURED" and KEY not in str(raised.value)


def note(**more: Any) -> DeployNote:
    given: dict[str, Any] = {
        "release": "team/checkout@1.0.0+1",
        "environment": "production",
        "name": "rollback inc-1",
        "url": "https://mcp.example/incidents/inc-1",
        "started_at": ago(3),
        "finished_at": ago(1),
        "projects": ("checkout",),
        **more,
    }
    return DeployNote(**given)


async def test_a_deploy_of_the_restored_release_is_written_once() -> None:
    there = World(releases=[release("team/checkout@1.0.0+1", ago(900))])
    async with sentry(there) as client:
        first = await annotate_deploy(client, note())
        second = await annotate_deploy(client, note())
        await annotate_deploy(client, note(name="rollback inc-2", projects=(), finished_at=None))
    assert (first.repeated, second.repeated) == (False, True) and first.id == second.id == "77"
    assert there.posted[0] == {
        "environment": "production",
        "name": "rollback inc-1",
        "url": "https://mcp.example/incidents/inc-1",
        "dateStarted": (NOW - timedelta(minutes=3)).isoformat(),
        "dateFinished": (NOW - timedelta(minutes=1)).isoformat(),
        "projects": ["checkout"],
    }
    assert len(there.posted) == 2 and "dateFinished" not in there.posted[1]


async def test_without_the_scope_it_is_named_and_an_unknown_release_is_not_found() -> None:
    there = World(broken={"deploys": says(403)})
    async with sentry(there) as client:
        with pytest.raises(DevOpsError) as refused:
            await annotate_deploy(client, note())
        there.broken = {}
        with pytest.raises(DevOpsError) as unknown:
            await annotate_deploy(client, note())
    assert refused.value.details["grants"] == ["project:releases"]
    assert unknown.value.code == "NOT_FOUND"
