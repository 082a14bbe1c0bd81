"""Sentry's MCP server as a first source that may fail: then it is left alone for five minutes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.sentry.mcp_session import Call, conversation
from mcp_devops.integrations.sentry.settings import SentrySettings
from mcp_devops.integrations.sentry.transport import connection
from mcp_devops.toolkit.clock import Clock

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

OPEN_S = 300.0
"""Seconds that it is not asked after a failure."""


class McpSource:
    """Asks the MCP server, and remembers when it failed."""

    def __init__(self, settings: SentrySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._http: httpx2.AsyncClient | None = None
        self._failed_at: float | None = None
        self._why = ""

    @property
    def configured(self) -> bool:
        """Whether there is such a server."""
        return self._settings.mcp_url is not None

    async def close(self) -> None:
        """End the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def ask(self, work: Callable[[Call], Awaitable[T]]) -> tuple[T | None, str | None]:
        """Do some work with the server's tools.

        Returns:
            What the work found; or None and why REST has to be asked.
        """
        now = self._clock.monotonic()
        if self._failed_at is not None and now - self._failed_at < OPEN_S:
            return None, f"the MCP server failed a short while ago ({self._why}); asked REST"
        try:
            async with conversation(self._connection(), self._settings) as call:
                found = await work(call)
        except DevOpsError as problem:
            self._failed_at, self._why = self._clock.monotonic(), problem.code
            return None, f"the MCP server failed ({problem.code}: {problem.what}); asked REST"
        self._failed_at = None
        return found, None

    def _connection(self) -> httpx2.AsyncClient:
        if self._http is None:
            settings = self._settings
            headers: dict[str, str] = {}
            if settings.mcp_token:
                secret = settings.mcp_token.get_secret_value()
                headers["Authorization"] = f"{settings.mcp_token_scheme} {secret}"
            self._http = connection(settings, headers, settings.mcp_call_s)
        return self._http
