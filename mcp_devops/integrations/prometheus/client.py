"""The only file that talks to Prometheus: queries in, numbers out, failures as our errors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    RateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.prometheus.settings import PrometheusSettings
from mcp_devops.toolkit.clock import Clock

if TYPE_CHECKING:
    import httpx2

SOURCE = "prometheus"
MAX_SERIES = 2000
"""Series one answer may hold: beyond it the query lacks an aggregation, and memory is at risk."""
CONCURRENT = 8
"""Queries under way at once; Prometheus' own default limit is 20."""


class Series(NamedTuple):
    """One series of an answer: labels, and (epoch seconds, value) pairs; NaN is None."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float | None]]


class PrometheusClient:
    """Asks one Prometheus-compatible API. Connections are made on the first query, and kept."""

    def __init__(self, settings: PrometheusSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self._http: httpx2.AsyncClient | None = None
        self._gate = asyncio.Semaphore(CONCURRENT)

    def _connection(self) -> httpx2.AsyncClient:
        if self._http is None:
            import ssl

            import httpx2

            settings = self.settings
            headers = {"X-Scope-OrgID": settings.org_id} if settings.org_id else {}
            if settings.bearer_token:
                headers["Authorization"] = f"Bearer {settings.bearer_token.get_secret_value()}"
            basic = None
            if settings.username:
                secret = settings.password.get_secret_value() if settings.password else ""
                basic = httpx2.BasicAuth(settings.username, secret)
            verify: Any = True
            if settings.ca_file:
                verify = ssl.create_default_context(cafile=str(settings.ca_file))
            self._http = httpx2.AsyncClient(
                base_url=(settings.url or "").rstrip("/"),
                headers=headers,
                auth=basic,
                verify=verify,
                timeout=settings.timeout_s,
                follow_redirects=False,
            )
        return self._http

    async def close(self) -> None:
        """End the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def query(self, query: str, at: datetime | None = None) -> list[Series]:
        """An instant query.

        Raises:
            InvalidArguments: Prometheus cannot parse or execute it.
            CredentialsRejected, RateLimited, UpstreamTimeout, UpstreamUnavailable: As named.
        """
        form = {"query": query, "timeout": f"{self.settings.timeout_s:g}s"}
        if at is not None:
            form["time"] = f"{at.timestamp():.3f}"
        data = await self._post("/api/v1/query", form)
        if data.get("resultType") == "scalar":
            return [Series({}, [_point(data["result"])])]
        return [Series(s["metric"], [_point(s["value"])]) for s in _bounded(data) if "value" in s]

    async def query_range(
        self, query: str, start: datetime, end: datetime, step_s: float
    ) -> list[Series]:
        """A range query: one value at `start` and each step after it, to `end` inclusive.

        Raises:
            As query.
        """
        form = {
            "query": query,
            "start": f"{start.timestamp():.3f}",
            "end": f"{end.timestamp():.3f}",
            "step": f"{step_s:g}",
            "timeout": f"{self.settings.timeout_s:g}s",
        }
        data = await self._post("/api/v1/query_range", form)
        return [
            Series(s["metric"], [_point(p) for p in s["values"]])
            for s in _bounded(data)
            if "values" in s
        ]

    async def series(
        self, selectors: Sequence[str], start: datetime, end: datetime
    ) -> list[Mapping[str, str]]:
        """Label sets of the series that fit any of the selectors.

        Raises:
            As query.
        """
        form: dict[str, Any] = {
            "match[]": list(selectors),
            "start": f"{start.timestamp():.0f}",
            "end": f"{end.timestamp():.0f}",
            "limit": str(MAX_SERIES),
        }
        data = await self._post("/api/v1/series", form)
        return list(data)[:MAX_SERIES]

    async def version(self) -> str:
        """The server's version, for `doctor`; stores that only speak the query API have none.

        Raises:
            As query.
        """
        try:
            data = await self._post("/api/v1/status/buildinfo", {})
        except (InvalidArguments, UpstreamUnavailable):
            await self.query("vector(1)")
            return "unknown version"
        return f"version {data.get('version', 'unknown')}"

    async def _post(self, path: str, form: Mapping[str, Any]) -> Any:
        import httpx2

        async with self._gate:
            try:
                connection = self._connection()
                if form:
                    response = await connection.post(path, data=dict(form))
                else:
                    response = await connection.get(path)
            except httpx2.TimeoutException as late:
                raise UpstreamTimeout(
                    f"Prometheus did not answer within {self.settings.timeout_s:g} s.",
                    fix="Raise MCP_DEVOPS_PROMETHEUS__TIMEOUT_S, or look at its load.",
                    source=SOURCE,
                ) from late
            except (httpx2.HTTPError, OSError) as down:
                raise UpstreamUnavailable(
                    f"Prometheus at {self._address()} cannot be reached ({type(down).__name__}).",
                    fix="Check MCP_DEVOPS_PROMETHEUS__URL and the network; see"
                    " `mcp-devops doctor`.",
                    source=SOURCE,
                ) from down
        return _unwrap(response)

    def _address(self) -> str:
        """The address without credentials that somebody may have put into it."""
        import httpx2

        url = httpx2.URL(self.settings.url or "")
        return f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")


def _point(pair: Sequence[Any]) -> tuple[float, float | None]:
    value = float(pair[1])
    return float(pair[0]), None if math.isnan(value) else value


def _bounded(data: Mapping[str, Any]) -> list[Any]:
    result: list[Any] = data.get("result", [])
    if len(result) > MAX_SERIES:
        raise InvalidArguments(
            f"The query gives {len(result)} series, limit {MAX_SERIES}.",
            fix="Aggregate it: sum, or sum by (a label).",
            source=SOURCE,
        )
    return result


def _unwrap(response: httpx2.Response) -> Any:
    """The data of an answer, or our error for what is not one.

    Proxies in front of Prometheus answer HTML, also with status 200.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("status") == "success":
        return body.get("data", {})
    raise _failure(response.status_code, body, response.headers.get("Retry-After", ""))


def _failure(status: int, body: Any, retry_after: str) -> DevOpsError:
    said = str(body.get("error", "")) if isinstance(body, dict) else ""
    if status in (401, 403):
        return CredentialsRejected(
            f"Prometheus refused the credentials (HTTP {status}).",
            fix="Check MCP_DEVOPS_PROMETHEUS__BEARER_TOKEN, or USERNAME and PASSWORD.",
            source=SOURCE,
        )
    if status == 429:
        return RateLimited(
            "Prometheus asks for a pause (HTTP 429).",
            fix="Wait and repeat.",
            source=SOURCE,
            retry_after_s=int(retry_after) if retry_after.isdecimal() else None,
        )
    if status in (400, 422) and said:
        return InvalidArguments(
            f"Prometheus cannot run the query (HTTP {status}).",
            fix="Correct the query, in the arguments or in the settings.",
            source=SOURCE,
            upstream=said,
        )
    what = "did not answer with its API" if body is None else "failed"
    return UpstreamUnavailable(
        f"Prometheus {what} (HTTP {status}).",
        fix="Check that MCP_DEVOPS_PROMETHEUS__URL is the API's base address.",
        source=SOURCE,
        upstream=said,
    )
