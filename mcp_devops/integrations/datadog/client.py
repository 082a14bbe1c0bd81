"""The only file that talks to Datadog: queries in, points out, failures as our errors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    RateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.datadog.answers import (
    SOURCE,
    Points,
    check_spacing,
    read_v1,
    read_v2,
    refused,
)
from mcp_devops.integrations.datadog.settings import DatadogSettings
from mcp_devops.toolkit.clock import Clock

if TYPE_CHECKING:
    import httpx2

V2 = "/api/v2/query/timeseries"
V1 = "/api/v1/query"
VALIDATE = "/api/v1/validate"
CONCURRENT = 4
"""Requests under way at once; Datadog limits by the hour, not by connections."""
MOST_PAUSES = 2
"""Pauses one request makes when a rate limit asks for them and the deadline has room."""


class DatadogClient:
    """Asks one Datadog site. Connections are made on the first query, and kept."""

    def __init__(self, settings: DatadogSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self._http: httpx2.AsyncClient | None = None
        self._gate = asyncio.Semaphore(CONCURRENT)
        self._lacks_v2 = False

    def _connection(self) -> httpx2.AsyncClient:
        if self._http is None:
            import httpx2

            keys = {
                "DD-API-KEY": self.settings.api_key,
                "DD-APPLICATION-KEY": self.settings.app_key,
            }
            self._http = httpx2.AsyncClient(
                base_url=self.settings.base_url,
                headers={n: k.get_secret_value() for n, k in keys.items() if k},
                timeout=self.settings.timeout_s,
                follow_redirects=False,
            )
        return self._http

    async def close(self) -> None:
        """End the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def timeseries(
        self, queries: Sequence[str], start: datetime, end: datetime, step_s: int
    ) -> list[Points]:
        """Several queries over one stretch of time [start, end), in one request.

        Asks the second version of the API, and the first where there is no second.

        Returns:
            One Points for each query, in their order.

        Raises:
            InvalidArguments: Datadog cannot run a query, one gives several series, or the
                buckets answered are not of step_s.
            CredentialsRejected, RateLimited, UpstreamTimeout, UpstreamUnavailable: As named.
        """
        if not self._lacks_v2:
            response = await self._send("POST", V2, json=_body(queries, start, end, step_s))
            if response.status_code != 404:
                answer = read_v2(_unwrap(response), len(queries))
                check_spacing(answer, step_s)
                return answer
        params = {
            "from": str(int(start.timestamp())),
            "to": str(int(end.timestamp())),
            "query": ",".join(queries),
        }
        answer = read_v1(_unwrap(await self._send("GET", V1, params=params)), len(queries))
        self._lacks_v2 = True
        check_spacing(answer, step_s)
        return answer

    async def validate(self) -> bool:
        """Whether the site knows the API key; says nothing about the application key.

        Raises:
            CredentialsRejected, RateLimited, UpstreamTimeout, UpstreamUnavailable: As named.
        """
        body = _unwrap(await self._send("GET", VALIDATE))
        return isinstance(body, Mapping) and body.get("valid") is True

    async def _send(self, method: str, path: str, **parts: Any) -> httpx2.Response:
        import httpx2

        settings = self.settings
        try:
            async with asyncio.timeout(settings.timeout_s), self._gate:
                return await self._patiently(method, path, parts)
        except (httpx2.TimeoutException, TimeoutError) as late:
            raise UpstreamTimeout(
                f"Datadog did not answer within {settings.timeout_s:g} s.",
                fix="Raise MCP_DEVOPS_DATADOG__TIMEOUT_S, or ask for shorter windows.",
                source=SOURCE,
            ) from late
        except (httpx2.HTTPError, OSError) as down:
            raise UpstreamUnavailable(
                f"Datadog at {self._address()} cannot be reached ({type(down).__name__}).",
                fix="Check MCP_DEVOPS_DATADOG__SITE and the network; see `mcp-devops doctor`.",
                source=SOURCE,
            ) from down

    async def _patiently(self, method: str, path: str, parts: dict[str, Any]) -> httpx2.Response:
        """Send, and wait out a rate limit where the deadline has room for it."""
        room = self.settings.timeout_s
        for pauses in range(MOST_PAUSES + 1):
            response = await self._connection().request(method, path, **parts)
            if response.status_code != 429:
                return response
            wait = _reset(response)
            if wait is None or wait >= room or pauses == MOST_PAUSES:
                break
            room -= wait
            await asyncio.sleep(wait)
        raise RateLimited(
            "Datadog's limit of queries is reached (HTTP 429).",
            fix="Wait and repeat." if wait is None else f"Repeat after {wait} s.",
            source=SOURCE,
            retry_after_s=wait,
            limit_name=response.headers.get("X-RateLimit-Name", "")[:80],
        )

    def _address(self) -> str:
        """The address without credentials that somebody may have put into it."""
        import httpx2

        url = httpx2.URL(self.settings.base_url)
        return f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")


def _body(queries: Sequence[str], start: datetime, end: datetime, step_s: int) -> dict[str, Any]:
    names = [f"q{i}" for i in range(len(queries))]
    attributes = {
        "from": int(start.timestamp() * 1000),
        "to": int(end.timestamp() * 1000),
        "interval": step_s * 1000,
        "queries": [
            {"data_source": "metrics", "name": n, "query": q}
            for n, q in zip(names, queries, strict=True)
        ],
        "formulas": [{"formula": n} for n in names],
    }
    return {"data": {"type": "timeseries_request", "attributes": attributes}}


def _reset(response: httpx2.Response) -> int | None:
    """Seconds until the limit is lifted: seconds to go, not a time of day."""
    said = str(response.headers.get("X-RateLimit-Reset", ""))
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 7 else None


def _unwrap(response: httpx2.Response) -> Any:
    """The body of an answer, or our error for what is not one; proxies answer HTML with 200."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if response.status_code == 200 and isinstance(body, dict):
        return body
    raise _failure(response.status_code, body)


def _failure(status: int, body: Any) -> DevOpsError:
    said = body.get("errors") if isinstance(body, dict) else None
    upstream = "; ".join(map(str, said)) if isinstance(said, list) else ""
    if status in (401, 403):
        return CredentialsRejected(
            f"Datadog refused the keys (HTTP {status}).",
            fix="Check MCP_DEVOPS_DATADOG__API_KEY, __APP_KEY and __SITE; the application key's"
            " owner needs the permission timeseries_query, a scoped key that scope.",
            source=SOURCE,
            upstream=upstream,
        )
    if status in (400, 422):
        return refused(upstream)
    what = "did not answer with its API" if body is None else "failed"
    return UpstreamUnavailable(
        f"Datadog {what} (HTTP {status}).",
        fix="Wait and repeat; if it stays, check MCP_DEVOPS_DATADOG__SITE.",
        source=SOURCE,
        upstream=upstream,
    )
