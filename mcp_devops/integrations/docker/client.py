"""The only file that talks to the engine: GET requests in, JSON or bytes out, read-only.

The engine's socket is as good as root on its host, so no other verb is spoken here. Podman's
compatible API answers the same requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp_devops.errors import InvalidArguments, NotFound, Unsupported, UpstreamUnavailable
from mcp_devops.integrations.docker import answers
from mcp_devops.integrations.docker.hosts import SOURCE, Endpoint, find_endpoint
from mcp_devops.integrations.docker.references import near_names, quoted
from mcp_devops.integrations.docker.settings import DockerSettings
from mcp_devops.integrations.docker.tunnel import Tunnel
from mcp_devops.toolkit.clock import Clock

if TYPE_CHECKING:
    import ssl

    import httpx2

NEWEST_API = (1, 51)
"""Newest API version whose answers are known to be the ones read here."""
OLDEST_API = (1, 24)
"""Oldest one: Docker 1.12 of 2016, the last that current clients speak."""
MAX_BODY = 32 * 1024 * 1024
"""Bytes of one JSON answer; the list of some ten thousand containers."""

Json = dict[str, Any]


@dataclass(frozen=True)
class EngineVersion:
    """Which engine answers, and which version of its API is spoken with it."""

    engine: str
    """Version of the engine."""
    api: str
    """Version that requests use."""
    name: str = "Docker"
    """Docker or Podman."""


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
            self._spoken = _agreed(told)
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
        try:
            await self._probe_again_if_changed(spoken)
            async with self._opened(f"/v{spoken.api}{path}", params or {}) as response:
                yield response
        except InvalidArguments as refused:
            if "client version" in refused.upstream:
                # The engine was exchanged for another one behind the same address.
                self._spoken = None
                raise UpstreamUnavailable(
                    "The engine's version changed.", fix="Repeat the call.", source=SOURCE
                ) from refused
            raise

    async def image(self, name: str) -> Json:
        """An image's configuration and layers.

        Raises:
            NotFound: There is none of that name; with near names.
            As get.
        """
        return await self._named("image", name, f"/images/{quoted(name)}/json")

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
        return await self._named("container", name, f"/containers/{quoted(name)}/json")
