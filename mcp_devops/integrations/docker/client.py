"""The only file that talks to the engine: GET requests in, JSON or bytes out, read-only.

The engine's socket is as good as root on its host, so no other verb is spoken here. Podman's
compatible API answers the same requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcp_devops.errors import (
    DevOpsError,
    InvalidArguments,
    NotFound,
    UpstreamUnavailable,
)
from mcp_devops.integrations.docker import answers
from mcp_devops.integrations.docker.engineversion import EngineVersion, agreed
from mcp_devops.integrations.docker.hosts import (
    SOURCE,
    Endpoint,
    find_endpoint,
    names_engine,
    tls_context,
)
from mcp_devops.integrations.docker.references import near_names, quoted
from mcp_devops.integrations.docker.settings import DockerSettings
from mcp_devops.integrations.docker.tunnel import Tunnel
from mcp_devops.integrations.docker.vulnerabilities import ScanReport
from mcp_devops.toolkit.clock import Clock

if TYPE_CHECKING:
    import httpx2

MAX_BODY = 32 * 1024 * 1024
"""Bytes of one JSON answer; the list of some ten thousand containers."""

Json = dict[str, Any]


class DockerClient:
    """Asks one engine. Connects on the first request, and keeps the connection."""

    def __init__(self, settings: DockerSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self._endpoint: Endpoint | None = None
        self._http: httpx2.AsyncClient | None = None
        self._tunnel: Tunnel | None = None
        self._spoken: EngineVersion | None = None
        self._opening = asyncio.Lock()
        self.scans: dict[tuple[str, int, int], ScanReport] = {}
        """Scan reports by path, time and size, so that an investigation reads each once."""

    @property
    def has_engine(self) -> bool:
        """Whether an engine is named at all; scan reports can be compared without one."""
        return names_engine(self.settings)

    @property
    def endpoint(self) -> Endpoint:
        """The engine in force.

        Raises:
            NotConfigured, Unsupported: As find_endpoint.
        """
        if self._endpoint is None:
            self._endpoint = find_endpoint(self.settings)
        return self._endpoint

    async def close(self) -> None:
        """End the connection."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        if self._tunnel is not None:
            await self._tunnel.close()
            self._tunnel = None
        self._spoken = None

    async def version(self) -> EngineVersion:
        """The engine's version, and the API version that both sides know; asked for once.

        Raises:
            Unsupported: The engine is older than this client.
            UpstreamUnavailable, UpstreamTimeout, PermissionDenied, CredentialsRejected: As named.
        """
        if self._spoken is None:
            async with self._opened("/version", {}) as response:
                told = answers.parsed(await _body(response))
            self._spoken = agreed(told)
        return self._spoken

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """One JSON answer.

        Args:
            path: Path below the API version, quoted.
            params: Query.

        Raises:
            NotFound: The engine does not have it.
            InvalidArguments, PreconditionFailed, RateLimited, Unsupported: As named.
            UpstreamUnavailable, UpstreamTimeout, PermissionDenied, CredentialsRejected: As named.
        """
        async with self.stream(path, params) as response:
            return answers.parsed(await _body(response))

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx2.Response]:
        """An answer whose body is still to be read, within the request's deadline.

        Raises:
            As get.
        """
        spoken = await self.version()
        async with self._opened(f"/v{spoken.api}{path}", params or {}) as response:
            yield response

    async def image(self, name: str) -> Json:
        """An image's configuration and layers.

        Raises:
            NotFound: There is none of that name; with near names.
            As get.
        """
        found: Json = await self._named("image", name, f"/images/{quoted(name)}/json")
        return found

    async def history(self, name: str) -> list[Json]:
        """An image's history, newest entry first.

        Raises:
            As image.
        """
        found = await self._named("image", name, f"/images/{quoted(name)}/history")
        return list(found) if isinstance(found, list) else []

    async def container(self, name: str) -> Json:
        """A container's state and configuration.

        Raises:
            NotFound: There is none of that name; with near names.
            As get.
        """
        found: Json = await self._named("container", name, f"/containers/{quoted(name)}/json")
        return found

    async def _named(self, kind: str, name: str, path: str) -> Any:
        try:
            return await self.get(path)
        except NotFound as absent:
            near = near_names(name, await self._known(kind))
            look = f"docker {kind} ls" + (" --all" if kind == "container" else "")
            raise NotFound(
                f"The engine has no {kind} {name!r}.",
                fix=f"Near names: {', '.join(near)}." if near else f"See `{look}` on its host.",
                source=SOURCE,
                near=near,
            ) from absent

    async def _known(self, kind: str) -> list[str]:
        """Names of what there is; none where even that cannot be had: it only helps to guess."""
        try:
            if kind == "image":
                rows = await self.get("/images/json")
                return [str(tag) for row in rows for tag in row.get("RepoTags") or ()]
            rows = await self.get("/containers/json", {"all": "1"})
            return [str(name).lstrip("/") for row in rows for name in row.get("Names") or ()]
        except DevOpsError:
            return []

    @asynccontextmanager
    async def _opened(self, path: str, params: Mapping[str, str]) -> AsyncIterator[httpx2.Response]:
        import httpx2

        seconds = self.settings.request_timeout_s
        try:
            async with asyncio.timeout(seconds):
                response = await self._sent(path, params)
                try:
                    if response.status_code >= 300:
                        raise self._refused(response, await _body(response))
                    yield response
                finally:
                    await response.aclose()
        except (TimeoutError, httpx2.TimeoutException) as late:
            raise answers.too_late(self.endpoint, seconds) from late
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as broken:
            problem = answers.unreachable(self.endpoint, broken)
            if self._tunnel is not None:
                problem.upstream = self._tunnel.complaint or problem.upstream
            raise problem from broken

    async def _sent(self, path: str, params: Mapping[str, str]) -> httpx2.Response:
        import httpx2

        http = await self._connection()
        try:
            return await http.send(http.build_request("GET", path, params=params), stream=True)
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            # The engine ended the kept connection in the moment it was used; reading again is safe.
            return await http.send(http.build_request("GET", path, params=params), stream=True)

    def _refused(self, response: httpx2.Response, body: bytes) -> DevOpsError:
        problem = answers.failure(
            response.status_code, body, response.headers.get("Retry-After", "")
        )
        if isinstance(problem, InvalidArguments) and "client version" in problem.upstream:
            # Another engine stands behind the same address now.
            self._spoken = None
            return UpstreamUnavailable(
                "The engine does not speak the API version that it did.",
                fix="Repeat the call: the version is agreed anew.",
                source=SOURCE,
                upstream=problem.upstream,
            )
        return problem

    async def _connection(self) -> httpx2.AsyncClient:
        async with self._opening:
            if self._http is None:
                import httpx2

                endpoint = self.endpoint
                uds = endpoint.socket if endpoint.scheme == "unix" else None
                if endpoint.scheme == "ssh":
                    self._tunnel = Tunnel(endpoint)
                    uds = await self._tunnel.open()
                transport = httpx2.AsyncHTTPTransport(
                    uds=uds,
                    verify=tls_context(endpoint),
                    trust_env=False,
                    limits=httpx2.Limits(max_connections=8, max_keepalive_connections=1),
                )
                self._http = httpx2.AsyncClient(
                    transport=transport,
                    base_url=endpoint.base_url,
                    timeout=self.settings.request_timeout_s,
                    trust_env=False,
                )
            return self._http


async def _body(response: httpx2.Response) -> bytes:
    held = bytearray()
    async for chunk in response.aiter_bytes():
        held += chunk
        if len(held) > MAX_BODY:
            raise UpstreamUnavailable(
                f"The engine's answer is larger than {MAX_BODY:,} bytes.",
                fix="Remove containers and images that nobody needs.",
                source=SOURCE,
            )
    return bytes(held)
