"""The only file that asks Sentry's API: requests in, JSON out, failures as our errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp_devops.errors import (
    NotFound,
    OutcomeUnknown,
    Unsupported,
    UpstreamUnavailable,
)
from mcp_devops.integrations.sentry.failures import (
    SOURCE,
    address,
    cannot_reach,
    failure,
    limited,
    not_json,
    too_late,
)
from mcp_devops.integrations.sentry.foreign import at_home, listed
from mcp_devops.integrations.sentry.mcp_source import McpSource
from mcp_devops.integrations.sentry.pauses import next_page, pause
from mcp_devops.integrations.sentry.projects import Project, read_projects
from mcp_devops.integrations.sentry.settings import SentrySettings
from mcp_devops.integrations.sentry.transport import bounded, connection
from mcp_devops.toolkit.clock import Clock

if TYPE_CHECKING:
    import httpx2

CONCURRENT = 5
"""Requests under way at once; Sentry allows 15 on its slowest endpoints."""
ATTEMPTS = 3
"""Times one request is sent at the most."""
PROJECTS_KEPT_S = 300.0
"""Seconds the list of projects is believed."""

NO_ORGANIZATION = "organization"
"""`details["missing"]` where the whole organisation is not found."""

Params = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        data: Its JSON.
        cursor: Of the following page; None: this was the last.
        hits: How many entries the whole list has, where it says.
        status: HTTP status.
    """

    data: Any
    cursor: str | None
    hits: int | None
    status: int


@dataclass(frozen=True)
class _Raw:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body; None where it is not JSON."""
        if "json" not in self.headers.get("content-type", ""):
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class SentryClient:
    """Asks one organisation. Connections are made on the first request, and kept."""

    def __init__(self, settings: SentrySettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self._http: httpx2.AsyncClient | None = None
        self._gate = asyncio.Semaphore(CONCURRENT)
        self._projects: tuple[float, tuple[Project, ...]] | None = None
        self.mcp = McpSource(settings, clock)

    def _connection(self) -> httpx2.AsyncClient:
        if self._http is None:
            token = self.settings.token
            headers = {"Accept": "application/json"}
            if token:
                headers["Authorization"] = f"Bearer {token.get_secret_value()}"
            self._http = connection(self.settings, headers, self.settings.timeout_s)
        return self._http

    async def close(self) -> None:
        """End the connections."""
        await self.mcp.close()
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def path(self, rest: str = "") -> str:
        """Path of something of the organisation; `rest` ends with a slash."""
        return f"/api/0/organizations/{self.settings.organization}/{rest}"

    async def get(
        self, path: str, params: Params = (), *, scope: str = "org:read", what: str = ""
    ) -> Reply:
        """Ask for one thing, or for the first page of a list.

        Args:
            path: From `/api/0/` on.
            params: Query parameters, repeated where a name occurs twice.
            scope: What a token needs for it; named where it is refused.
            what: What is not there if the answer is 404, in words; empty: the path.

        Raises:
            NotFound: The organisation, or `what`, does not exist, or the token does not see it.
            Unsupported: This version of Sentry has no such path.
            InvalidArguments: It does not take the query.
            CredentialsRejected, PermissionDenied: As named.
            RateLimited, UpstreamTimeout, UpstreamUnavailable: As named, after the repeats.
        """
        raw = await self._send("GET", self.settings.base + path, params)
        return await self._reply(raw, scope, what or path)

    async def pages(
        self,
        path: str,
        params: Params = (),
        *,
        scope: str = "org:read",
        what: str = "",
        most: int = 5,
    ) -> tuple[list[dict[str, Any]], bool, int | None]:
        """Ask for a list, page by page.

        Returns:
            The entries, whether more pages follow, and how many there are where Sentry says.

        Raises:
            As get.
        """
        reply = await self.get(path, params, scope=scope, what=what)
        found = listed(reply.data)
        for _ in range(most - 1):
            if reply.cursor is None:
                break
            following = [*params, ("cursor", reply.cursor)]
            reply = await self.get(path, following, scope=scope, what=what)
            found += listed(reply.data)
        return found, reply.cursor is not None, reply.hits

    async def post(self, path: str, body: Mapping[str, Any], *, scope: str, what: str) -> Reply:
        """Create something. Sent again only where Sentry said that it took nothing.

        Raises:
            OutcomeUnknown: It was sent and no answer came.
            As get.
        """
        raw = await self._send("POST", self.settings.base + path, (), body)
        return await self._reply(raw, scope, what)

    async def projects(self) -> tuple[Project, ...]:
        """The projects that the token sees; kept for five minutes.

        Raises:
            As get.
        """
        now = self.clock.monotonic()
        if self._projects is None or now - self._projects[0] > PROJECTS_KEPT_S:
            rows, _, _ = await self.pages(self.path("projects/"), what="project", most=20)
            self._projects = (now, read_projects(rows))
        return self._projects[1]

    async def _reply(self, raw: _Raw, scope: str, what: str) -> Reply:
        body = raw.json()
        if 200 <= raw.status < 300:
            if body is None:
                raise not_json(self.settings, raw.status)
            return Reply(body, self._follow(raw), _hits(raw.headers), raw.status)
        if raw.status == 404:
            raise await self._absent(body, what)
        raise failure(self.settings, raw.status, body, scope)

    def _follow(self, raw: _Raw) -> str | None:
        """The cursor of the next page, which is asked for where this one was.

        Its address is looked at all the same: one that leads elsewhere is of another Sentry.
        """
        following = next_page(raw.headers.get("link"))
        if following is None:
            return None
        url, cursor = following
        if not at_home(url, self.settings.base):
            raise UpstreamUnavailable(
                "Sentry's next page lies on another host; the token is not sent there.",
                fix="Set MCP_DEVOPS_SENTRY__URL to the address that Sentry itself uses.",
                source=SOURCE,
            )
        return cursor

    async def _absent(self, body: Any, what: str) -> NotFound | Unsupported:
        """Tell a missing organisation, a missing thing and a missing path apart."""
        if not isinstance(body, dict) or "detail" not in body:
            return Unsupported(
                "This version of Sentry does not have the path (HTTP 404).",
                fix="Upgrade Sentry, or check MCP_DEVOPS_SENTRY__URL.",
                source=SOURCE,
            )
        organization = self.settings.organization
        raw = await self._send("GET", self.settings.base + self.path(), (("detailed", "0"),))
        if raw.status == 404:
            return NotFound(
                f"Sentry at {address(self.settings)} has no organisation {organization!r}"
                " that the token sees.",
                fix="Correct MCP_DEVOPS_SENTRY__ORGANIZATION: its slug, not its name.",
                source=SOURCE,
                missing=NO_ORGANIZATION,
            )
        return NotFound(
            f"Sentry does not have it, or the token does not see it: {what}.",
            fix="sentry_list_deploys shows what the token sees.",
            source=SOURCE,
        )

    async def _send(
        self, method: str, url: str, params: Params, body: Mapping[str, Any] | None = None
    ) -> _Raw:
        """Send, and send again while Sentry asks for a pause or fails, inside the deadline."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        ends = loop.time() + settings.timeout_s
        sent = False
        try:
            async with asyncio.timeout_at(ends):
                for attempt in range(1, ATTEMPTS + 1):
                    sent = True
                    raw = await self._once(method, url, params, body)
                    wait = self._wait(raw, attempt, method)
                    if wait is None:
                        break
                    sent = False
                    if attempt == ATTEMPTS or loop.time() + wait >= ends:
                        if isinstance(raw, _Raw) and raw.status == 429:
                            raise limited(wait)
                        break
                    await asyncio.sleep(wait)
        except TimeoutError as late:
            if method != "GET" and sent:
                raise _unknown(settings) from late
            raise too_late(settings) from late
        if isinstance(raw, _Raw):
            return raw
        if method != "GET" and not _never_sent(raw):
            raise _unknown(settings) from raw
        raise cannot_reach(settings, raw) from raw

    def _wait(self, raw: _Raw | Exception, attempt: int, method: str) -> float | None:
        """Seconds until it may be sent again; None: this answer is the answer."""
        backoff = self.settings.backoff_s * 2 ** (attempt - 1)
        if isinstance(raw, Exception):
            return backoff if method == "GET" or _never_sent(raw) else None
        if raw.status == 429:
            asked = pause(raw.headers, self.clock.now())
            return backoff if asked is None else asked
        return backoff if raw.status >= 500 and method == "GET" else None

    async def _once(
        self, method: str, url: str, params: Params, body: Mapping[str, Any] | None
    ) -> _Raw | Exception:
        """One request; a failure to reach the other side is a value, because it is tried again."""
        import httpx2

        async with self._gate:
            try:
                async with self._connection().stream(
                    method,
                    url,
                    params=httpx2.QueryParams(list(params)),
                    json=dict(body) if body is not None else None,
                ) as response:
                    return _Raw(
                        response.status_code,
                        {k.lower(): v for k, v in response.headers.items()},
                        await bounded(response),
                    )
            except httpx2.TimeoutException as late:
                if method != "GET" and not _never_sent(late):
                    raise _unknown(self.settings) from late
                raise too_late(self.settings) from late
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as down:
                return down


def _hits(headers: Mapping[str, str]) -> int | None:
    said = headers.get("x-hits", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 10 else None


def _never_sent(problem: BaseException) -> bool:
    import httpx2

    return isinstance(problem, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)


def _unknown(settings: SentrySettings) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"Sentry got the request and did not answer within {settings.timeout_s:g} s.",
        fix="Look with sentry_list_deploys whether it was taken before it is sent again.",
        source=SOURCE,
    )
