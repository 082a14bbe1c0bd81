"""A Sentry on loopback: answers in the published shapes, checks its requests, fails on request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.settings import SentrySettings
from mcp_devops.scenarios.listening import listening
from mcp_devops.toolkit.context import Caller, ToolContext
from tests.support.kubernetes_api import NoServices
from tests.support.prometheus_api import FixedClock
from tests.support.sentry_shapes import (
    DATASETS,
    ISSUES_PARAMETERS,
    RELEASES_PARAMETERS,
    TIMESERIES_PARAMETERS,
    DeployRow,
    IssueRow,
    OldStats,
    OrganizationRow,
    ProjectRow,
    ReleaseRow,
    TimeSeriesAnswer,
    checked,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOKEN = "sntryu_" + "5e" * 20
ORG = "acme"
SCOPES = ["org:read", "project:read", "event:read", "project:releases"]
INCOMPLETE_S = 90
"""Seconds within which Sentry calls a bucket incomplete."""

Handler = Callable[[Request], Awaitable[Response] | Response]


def ago(minutes: float) -> datetime:
    """A moment before NOW."""
    return NOW - timedelta(minutes=minutes)


@dataclass(frozen=True)
class Traffic:
    """Steady traffic of one release: per minute, from when to when."""

    start: datetime
    end: datetime
    errors: float = 0.0
    """Error events a minute."""
    requests: float = 0.0
    """Stored transactions a minute."""
    failed: float = 0.0
    """Share of them that failed."""
    p99_ms: float = 120.0
    project: str = "checkout"
    release: str = "checkout@1.0.0"
    environment: str = "production"


def deploy(finished: datetime, environment: str = "production", **more: Any) -> dict[str, Any]:
    """A deploy row."""
    return {
        "id": more.get("id", str(abs(hash((finished, environment))) % 10**6)),
        "environment": environment,
        "dateStarted": more.get("started"),
        "dateFinished": finished.isoformat(),
        "name": more.get("name"),
        "url": more.get("url"),
    }


def release(version: str, created: datetime, deploys: Sequence[dict[str, Any]] = ()) -> Any:
    """A release row with its deploys, newest first."""
    newest = sorted(deploys, key=lambda d: str(d["dateFinished"]), reverse=True)
    row = {
        "version": version,
        "shortVersion": version.rpartition("@")[2],
        "dateCreated": created.isoformat(),
        "dateReleased": None,
        "newGroups": 0,
        "deployCount": len(newest),
        "lastDeploy": newest[0] if newest else None,
        "projects": [{"id": 11, "slug": "checkout", "name": "checkout"}],
    }
    return row, newest


def issue(number: int, level: str = "error", **more: Any) -> dict[str, Any]:
    """An issue row."""
    return {
        "id": str(number),
        "shortId": f"CHECKOUT-{number:X}",
        "title": f"ValueError: number {number}",
        "culprit": "checkout.views in pay",
        "level": level,
        "status": "unresolved",
        "substatus": "new",
        "count": "12",
        "userCount": 3,
        "firstSeen": "2026-03-01T11:50:00Z",
        "lastSeen": "2026-03-01T11:59:00.000000Z",
        "permalink": f"https://{ORG}.sentry.io/issues/{number}/",
        "project": {"id": "11", "slug": "checkout", "name": "checkout"},
        **more,
    }


@dataclass
class World:
    """What this Sentry holds, and how it misbehaves."""

    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    traffic: list[Traffic] = field(default_factory=list)
    projects: dict[str, str] = field(default_factory=lambda: {"checkout": "11", "web": "12"})
    silent: set[str] = field(default_factory=set)
    environments: set[str] = field(default_factory=lambda: {"production", "staging"})
    scopes: list[str] = field(default_factory=lambda: list(SCOPES))
    releases: list[Any] = field(default_factory=list)
    issues: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By search term, such as first-release:"X"."""
    lag_s: float = 0.0
    """Events that are younger are not there yet."""
    timeseries: bool = True
    """Whether events-timeseries exists."""
    datasets: set[str] = field(default_factory=lambda: {"errors", "spans"})
    interval: int | None = None
    """Bucket length in seconds that it uses whatever is asked."""
    page: int = 100
    """Entries of a page."""
    elsewhere: str | None = None
    """Host that next links lead to."""
    unit: str = "millisecond"
    faults: list[tuple[str, Handler]] = field(default_factory=list)
    """(part of the path or query, answer), each used once."""
    broken: dict[str, Handler] = field(default_factory=dict)
    """Part of the path or query, and what it answers always."""
    asked: list[Request] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What was wrong with the requests."""
    posted: list[dict[str, Any]] = field(default_factory=list)

    def paths(self, part: str = "") -> list[str]:
        """Raw paths and queries of the requests that hold a part, as sent."""
        found = [_address(r) for r in self.asked]
        return [p for p in found if part in p]

    async def answer(self, request: Request) -> Response:
        """Any request."""
        self.asked.append(request)
        path = request.scope["raw_path"].decode()
        whole = _address(request)
        for index, (part, fault) in enumerate(self.faults):
            if part in whole:
                del self.faults[index]
                return await _given(fault, request)
        for part, fault in self.broken.items():
            if part in whole:
                return await _given(fault, request)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"detail": "Invalid token"}, 401)
        if path == "/api/0/":
            return JSONResponse({"version": "0", "auth": {"scopes": self.scopes}, "user": None})
        match = re.fullmatch(rf"/api/0/organizations/{ORG}/(.*)", path)
        if match is None:
            return missing() if path.startswith("/api/0/organizations/") else no_route()
        return await self._of_organization(match[1], request)

    async def _of_organization(self, rest: str, request: Request) -> Response:
        if rest == "":
            return JSONResponse(checked(OrganizationRow, self._organization()))
        if rest == "projects/":
            rows = [
                {"id": n, "slug": s, "name": s, "firstEvent": None if s in self.silent else "x"}
                for s, n in self.projects.items()
            ]
            return self._page([checked(ProjectRow, r) for r in rows], request)
        if rest == "events-timeseries/" and self.timeseries:
            return self._timeseries(request)
        if rest == "events-stats/":
            return self._stats(request)
        if rest == "issues/":
            return self._issues(request)
        if rest == "releases/":
            self._allowed(request, RELEASES_PARAMETERS)
            rows = [checked(ReleaseRow, row) for row, _ in self.releases]
            wanted = request.query_params.getlist("project")
            return missing() if set(wanted) - set(self.projects.values()) else self._page(
                rows, request
            )  # fmt: skip
        if found := re.fullmatch(r"releases/([^/]+)/(deploys/)?", rest):
            return await self._release(unquote(found[1]), bool(found[2]), request)
        return no_route()

    def _organization(self) -> dict[str, Any]:
        links = {"organizationUrl": f"https://{ORG}.sentry.io", "regionUrl": "https://de.sentry.io"}
        return {"id": "1", "slug": ORG, "name": "Acme", "links": links, "access": self.scopes}

    def _allowed(self, request: Request, known: set[str]) -> None:
        for name in set(request.query_params) - known:
            self.wrong.append(f"{request.url.path}: unknown parameter {name}")
        for value in request.query_params.getlist("project"):
            if not value.isdecimal():
                self.wrong.append(f"project {value!r} is no number")

    def _question(self, request: Request) -> tuple[list[float], int, Callable[..., float]] | None:
        """Bucket starts, step, and the counter of a time-series request; None: refused."""
        query = request.query_params
        if set(query.getlist("environment")) - self.environments:
            return None
        try:
            start = datetime.fromisoformat(query["start"]).replace(tzinfo=UTC).timestamp()
            end = datetime.fromisoformat(query["end"]).replace(tzinfo=UTC).timestamp()
            length = re.fullmatch(r"(\d+)([hdmsw]?)", query["interval"])
            assert length is not None
        except (KeyError, ValueError, AssertionError):
            self.wrong.append(f"start, end or interval: {dict(query)}")
            return None
        step = int(length[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[
            length[2]
        ]  # fmt: skip
        step = self.interval or step
        starts = [float(t) for t in range(int(start // step * step), int(end), step)]
        wanted = re.findall(r'release:"((?:[^"\\]|\\.)*)"', query.get("query", ""))
        versions = {re.sub(r"\\(.)", r"\1", v) for v in wanted}
        slugs = {s for s, n in self.projects.items() if n in query.getlist("project")}
        until = self.clock.now().timestamp() - self.lag_s

        def total(at: float, pick: Callable[[Traffic], float]) -> float:
            minutes = 0.0
            for t in self.traffic:
                if t.project not in slugs or (versions and t.release not in versions):
                    continue
                if query.getlist("environment") and t.environment not in query.getlist(
                    "environment"
                ):
                    continue
                inside = min(at + step, t.end.timestamp(), until) - max(at, t.start.timestamp())
                minutes += max(0.0, inside) / 60 * pick(t)
            return round(minutes)

        return starts, step, total

    def _pick(self, axis: str, dataset: str, query: str) -> Callable[[Traffic], float]:
        if dataset == "errors":
            if axis != "count()":
                self.wrong.append(f"axis {axis} of errors")
            return lambda t: t.errors
        if "is_transaction:true" not in query:
            self.wrong.append("spans without is_transaction:true")
        return {
            "count()": lambda t: t.requests,
            "failure_count()": lambda t: t.requests * t.failed,
            "p99(span.duration)": lambda t: t.p99_ms if t.requests else 0.0,
        }[axis]

    def _timeseries(self, request: Request) -> Response:
        self._allowed(request, TIMESERIES_PARAMETERS)
        query = request.query_params
        dataset = query.get("dataset", "")
        if dataset not in DATASETS:
            self.wrong.append(f"dataset {dataset!r}")
        if dataset not in self.datasets:
            return JSONResponse({"detail": f"dataset must be one of: {self.datasets}"}, 400)
        asked = self._question(request)
        if asked is None:
            return missing()
        starts, step, total = asked
        now = self.clock.now().timestamp()
        series: list[dict[str, Any]] = []
        for axis in query.getlist("yAxis"):
            pick = self._pick(axis, dataset, query.get("query", ""))
            values: list[dict[str, Any]] = []
            for at in starts:
                row: dict[str, Any] = {
                    "timestamp": at * 1000,
                    "value": total(at, pick),
                    "incomplete": at + step >= now - INCOMPLETE_S,
                }
                if row["incomplete"]:
                    row["incompleteReason"] = "INGESTION_PENDING"
                values.append(row)
            p99 = axis.startswith("p99")
            meta = {
                "valueType": "duration" if p99 else "integer",
                "valueUnit": self.unit if p99 else None,
                "interval": step * 1000,
                "dataScanned": "full",
            }
            series.append({"yAxis": axis, "meta": meta, "values": values})
        outer = {"dataset": dataset, "start": starts[0] * 1000, "end": (starts[-1] + step) * 1000}
        return JSONResponse(checked(TimeSeriesAnswer, {"meta": outer, "timeSeries": series}))

    def _stats(self, request: Request) -> Response:
        self._allowed(request, {*TIMESERIES_PARAMETERS, "partial"})
        query = request.query_params
        dataset = query.get("dataset", "")
        if dataset not in self.datasets:
            return JSONResponse({"detail": "dataset is being deprecated"}, 400)
        asked = self._question(request)
        if asked is None:
            return missing()
        starts, _, total = asked
        axes = query.getlist("yAxis")
        by_axis = {}
        for axis in axes:
            pick = self._pick(axis, dataset, query.get("query", ""))
            rows = [
                (int(at), [{"count": total(at, pick)}] if total(at, pick) else []) for at in starts
            ]
            by_axis[axis] = checked(
                OldStats, {"data": rows, "start": starts[0], "end": starts[-1], "meta": {}}
            )
        return JSONResponse(by_axis if len(axes) > 1 else by_axis[axes[0]])

    def _issues(self, request: Request) -> Response:
        self._allowed(request, ISSUES_PARAMETERS)
        query = request.query_params.get("query")
        if query is None:
            self.wrong.append("no query: the default is is:unresolved")
        if set(request.query_params.getlist("environment")) - self.environments:
            return missing()
        rows = [checked(IssueRow, row) for row in self.issues.get(query or "", [])]
        answer = self._page(rows, request, size=int(request.query_params.get("limit", "100")))
        answer.headers["X-Hits"] = str(len(rows))
        return answer

    async def _release(self, version: str, deploys: bool, request: Request) -> Response:
        for row, rows in self.releases:
            if row["version"] != version:
                continue
            if request.method == "POST":
                body = await request.json()
                self.posted.append(body)
                new = deploy(self.clock.now(), body["environment"], id="77")
                rows.insert(0, {**new, "name": body.get("name"), "url": body.get("url")})
                return JSONResponse(checked(DeployRow, rows[0]), 201)
            if deploys:
                return self._page([checked(DeployRow, r) for r in rows], request)
            return JSONResponse(row)
        return missing()

    def _page(self, rows: list[Any], request: Request, size: int | None = None) -> Response:
        size = min(size or self.page, self.page)
        start = int(request.query_params.get("cursor", "0:0:0").split(":")[1])
        end = start + size
        host = self.elsewhere or f"{request.url.scheme}://{request.url.netloc}"
        kept = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
        pairs = "&".join(f"{quote(k)}={quote(v)}" for k, v in kept)
        link = f"{host}{request.scope['raw_path'].decode()}?{pairs}&cursor=0:"

        def part(rel: str, at: int, more: bool) -> str:
            told = "true" if more else "false"
            return f'<{link}{at}:0>; rel="{rel}"; results="{told}"; cursor="0:{at}:0"'

        both = [
            part("previous", max(0, start - size), start > 0),
            part("next", end, end < len(rows)),
        ]
        return JSONResponse(rows[start:end], headers={"Link": ", ".join(both)})


def _address(request: Request) -> str:
    return f"{request.scope['raw_path'].decode()}?{request.scope['query_string'].decode()}"


async def _given(fault: Handler, request: Request) -> Response:
    found = fault(request)
    return found if isinstance(found, Response) else await found


def missing() -> Response:
    """404 of a thing."""
    return JSONResponse({"detail": "The requested resource does not exist"}, 404)


def no_route() -> Response:
    """404 of a path that this version lacks."""
    return PlainTextResponse("Route not found, did you forget a trailing slash?", 404)


def says(status: int, body: Any = None, **headers: str) -> Handler:
    """An answer in JSON, headers with - written as _."""
    named = {k.replace("_", "-"): v for k, v in headers.items()}
    return lambda _: JSONResponse(body if body is not None else {"detail": "no"}, status, named)


def html(status: int = 200) -> Handler:
    """A login page."""
    return lambda _: HTMLResponse("<html>sign in</html>", status)


def redirect(to: str) -> Handler:
    """Somewhere else."""
    return lambda _: Response(status_code=302, headers={"Location": to})


async def slow(_: Request) -> Response:
    """No answer that anybody would wait for."""
    await asyncio.sleep(30)
    return JSONResponse({})


def settings_for(url: str, **settings: Any) -> SentrySettings:
    """Settings of this Sentry."""
    given = {"url": url, "organization": ORG, "token": TOKEN, "backoff_s": 0.01, **settings}
    return TypeAdapter(SentrySettings).validate_python(given)


@asynccontextmanager
async def sentry(world: World, **settings: Any) -> AsyncIterator[SentryClient]:
    """A client of this Sentry; at the end nothing may have been asked wrongly."""
    app = Starlette(
        routes=[Route("/{path:path}", world.answer, methods=["GET", "POST", "PUT", "DELETE"])]
    )
    async with listening(app) as url:
        client = SentryClient(settings_for(url, **settings), world.clock)
        try:
            yield client
        finally:
            await client.close()
    assert world.wrong == []


def context_for(client: SentryClient) -> ToolContext[SentryClient]:
    """What a tool is handed."""
    return ToolContext(client, NoServices(), client.clock, Caller("ann", "test"), "call-1")
