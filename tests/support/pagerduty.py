"""PagerDuty's Events API on loopback, and the incident that every channel's tests tell of.

It checks events as the published schema does, and keeps alerts by dedup_key.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mcp_devops.integrations.pagerduty.client import PagerDutyClient
from mcp_devops.integrations.pagerduty.settings import PagerDutySettings
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.change import ChangeArea, TemplateDifference
from mcp_devops.model.incident import Incident, IncidentStatus, TimelineEntry
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Action, Cause, CauseProbability, Finding, Verdict, Veto
from mcp_devops.scenarios.listening import listening

NOW = datetime(2026, 3, 1, 3, 12, tzinfo=UTC)
KEY = "0123456789abcdef0123456789ABCDEF"
TARGET = Workload(cluster="prod-eu", namespace="shop", name="checkout")
SEVERITIES = {"critical", "error", "warning", "info"}


class SteppedClock:
    """Moves only when something pauses on it, or a test moves it."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at
        self.paused: list[float] = []

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.move(seconds)
        await asyncio.sleep(0)


@dataclass
class FakePagerDuty:
    """What it was sent, the alerts it keeps, and the failures it plays first."""

    faults: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    alerts: dict[str, str] = field(default_factory=dict)
    """dedup_key -> status."""
    pages: int = 0
    """How often somebody would have been called."""
    sizes: list[int] = field(default_factory=list)
    url: str = ""

    async def enqueue(self, request: Request) -> Response:
        raw = await request.body()
        body = _read(raw)
        self.sizes.append(len(raw))
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "taken_then_silent":
            self._take(body)
        if fault in ("silent", "taken_then_silent"):
            await asyncio.sleep(30)
        if fault == "limited":
            return JSONResponse({"status": "throttle exceeded"}, 429, {"Retry-After": "7"})
        if fault.isdigit():
            return HTMLResponse("<html>oops</html>", int(fault))
        wrong = _wrong(body, len(raw))
        if wrong:
            said = {"status": "invalid event", "message": "Event object is invalid"}
            return JSONResponse({**said, "errors": wrong}, 400)
        self._take(body)
        key = body.get("dedup_key")
        return JSONResponse(
            {"status": "success", "message": "Event processed", "dedup_key": key}, 202
        )

    def _take(self, body: dict[str, Any]) -> None:
        self.events.append(body)
        action, key = body["event_action"], body["dedup_key"]
        if action == "trigger":
            if self.alerts.get(key) in (None, "resolved"):
                self.pages += 1
                self.alerts[key] = "triggered"
        elif self.alerts.get(key) in ("triggered", "acknowledged"):
            # For an alert that is not open it is taken and dropped.
            self.alerts[key] = f"{action}d"

    async def change(self, request: Request) -> Response:
        body = _read(await request.body())
        payload = body.get("payload", {})
        summary = payload.get("summary", "")
        key = body.get("routing_key", "")
        if key != KEY or key.startswith("R") or not 0 < len(summary) <= 1024 or _links(body):
            return JSONResponse({"status": "invalid event"}, 400)
        self.changes.append(body)
        return JSONResponse({"status": "success"}, 202)


def _read(raw: bytes) -> dict[str, Any]:
    """A body; what is no JSON object is an event without anything."""
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _links(body: dict[str, Any]) -> list[str]:
    links = body.get("links", [])
    if all(isinstance(x, dict) and str(x.get("href", "")).startswith("http") for x in links):
        return []
    return ["'links' is invalid"]


def _wrong(body: dict[str, Any], size: int) -> list[str]:
    wrong = _links(body)
    if size > 512 * 1024:
        wrong.append("Event is larger than 512 KB")
    if body.get("routing_key") != KEY:
        wrong.append("'routing_key' is invalid")
    if body.get("event_action") not in ("trigger", "acknowledge", "resolve"):
        wrong.append("'event_action' is invalid")
    if len(body.get("dedup_key", "")) > 255:
        wrong.append("'dedup_key' is too long")
    if body.get("event_action") in ("acknowledge", "resolve") and not body.get("dedup_key"):
        wrong.append("'dedup_key' is missing")
    if body.get("event_action") == "trigger":
        payload = body.get("payload", {})
        blank = [n for n in ("summary", "source", "severity") if not payload.get(n)]
        wrong += [f"'payload.{name}' is missing or blank" for name in blank]
        if len(payload.get("summary", "")) > 1024:
            wrong.append("'payload.summary' is too long")
        if payload.get("severity") not in SEVERITIES:
            wrong.append("'payload.severity' is invalid")
        stamp = payload.get("timestamp")
        if stamp is not None and datetime.fromisoformat(stamp).tzinfo is None:
            wrong.append("'payload.timestamp' has no zone")
        if not isinstance(payload.get("custom_details", {}), dict):
            wrong.append("'payload.custom_details' is invalid")
    return wrong


@asynccontextmanager
async def pagerduty(
    *faults: str, clock: SteppedClock | None = None, **settings: Any
) -> AsyncIterator[tuple[PagerDutyClient, FakePagerDuty, SteppedClock]]:
    """A client of a PagerDuty that fails in these ways first."""
    clock = clock or SteppedClock()
    fake = FakePagerDuty(list(faults))
    routes = [
        Route("/v2/enqueue", fake.enqueue, methods=["POST"]),
        Route("/v2/change/enqueue", fake.change, methods=["POST"]),
    ]
    async with listening(Starlette(routes=routes)) as url:
        fake.url = url
        given = PagerDutySettings.load(**({"routing_key": KEY, "url": url} | settings))
        client = PagerDutyClient(given, clock, pause=clock.pause, jitter=lambda: 0.5)
        try:
            yield client, fake, clock
        finally:
            await client.close()


def webhook(kind: str = "incident.acknowledged", **changes: Any) -> dict[str, Any]:
    """A v3 webhook, as the published examples have them."""
    event = {
        "id": "01DEN9J1TEST0000000000000A",
        "event_type": kind,
        "resource_type": "incident",
        "occurred_at": "2026-03-01T03:12:30.000Z",
        "agent": {
            "id": "PUSER01",
            "type": "user_reference",
            "summary": "Ann Example",
            "html_url": "https://example.pagerduty.com/users/PUSER01",
        },
        "client": None,
        "data": {
            "id": "QINC0001",
            "type": "incident",
            "html_url": "https://example.pagerduty.com/incidents/QINC0001",
            "title": "shop/checkout: errors",
            "incident_key": "mcp-devops:inc-0a1b2c3d",
            "status": "acknowledged",
        },
    }
    return {"event": event | changes}


def note_webhook(text: str, **changes: Any) -> dict[str, Any]:
    """A note: it tells of its incident by reference only."""
    reference = {"id": "QINC0001", "type": "incident_reference", "summary": "shop/checkout"}
    data = {"id": "PNOTE1", "type": "incident_note", "content": text, "trimmed": False}
    return webhook("incident.annotated", data=data | {"incident": reference}, **changes)


def signed(secret: str, body: bytes) -> str:
    """One signature of the webhook header."""
    return "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verdict(**changes: Any) -> Verdict:
    """A verdict with something of everything."""
    fields: dict[str, Any] = {
        "id": "v" * 64,
        "target": TARGET,
        "decided_at": NOW,
        "revision": 7,
        "action": Action.ROLL_BACK,
        "cause": Cause.NEW_CODE,
        "confidence": 0.93,
        "headline": "Revision 7 fails 12% of requests; revision 6 failed none.",
        "prior": 0.1,
        "findings": (
            Finding(rule="errors", group="errors", says="12% > 1% failed", weight=3.0),
            Finding(rule="late", group="errors", says="not counted", weight=1.0, counted=False),
        ),
        "vetoes": (Veto(code="young", says="only 40 s of metrics"),),
        "causes": (CauseProbability(cause=Cause.NEW_CODE, probability=1),),
        "runner_up": "the database",
        "ask_next": "errors of revision 6 in the same minutes",
        "evidence_complete": True,
        "policy_version": "1",
    }
    return Verdict(**(fields | changes))


def incident(**changes: Any) -> Incident:
    """An incident that waits for a person."""
    fields: dict[str, Any] = {
        "id": "inc-0a1b2c3d",
        "target": TARGET,
        "status": IncidentStatus.AWAITING_APPROVAL,
        "opened_at": NOW,
        "updated_at": NOW,
        "opened_by": "responder",
        "revision": 7,
        "verdict": verdict(),
        "approval_id": "apr-0011223344",
        "timeline": (
            TimelineEntry(at=NOW, what="Opened", who="responder"),
            TimelineEntry(at=NOW, what="Judged: roll back"),
        ),
    }
    return Incident(**(fields | changes))


def plan(**changes: Any) -> ActionPlan:
    """A rollback that waits for a yes."""
    fields: dict[str, Any] = {
        "tool": "incident_roll_back",
        "target": TARGET,
        "uid": "u-1",
        "from_revision": 7,
        "to_revision": 6,
        "incident_id": "inc-0a1b2c3d",
        "summary": "Roll back shop/checkout from revision 7 to 6",
        "reason": "12% of requests fail since revision 7.",
        "differences": (
            TemplateDifference(
                area=ChangeArea.IMAGE, path="containers[app].image", before="app:6", after="app:7"
            ),
            TemplateDifference(
                area=ChangeArea.ENVIRONMENT, path="containers[app].env[X]", before=None, after="1"
            ),
        ),
        "warnings": ("Argo CD will apply revision 7 again.",),
        "confidence": 0.93,
        "evidence_complete": True,
    }
    return ActionPlan(**(fields | changes))
