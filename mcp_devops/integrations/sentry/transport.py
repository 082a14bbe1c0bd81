"""Connections that follow no redirect and read no more than they should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcp_devops.errors import NotConfigured
from mcp_devops.integrations.sentry.failures import SOURCE, too_much
from mcp_devops.integrations.sentry.settings import SentrySettings

if TYPE_CHECKING:
    import httpx2

MAX_BYTES = 16_000_000
"""Bytes of one answer; a hundred issues have some 400 KB."""


def connection(
    settings: SentrySettings, headers: Mapping[str, str], timeout_s: float
) -> httpx2.AsyncClient:
    """A pool of connections that sends these headers to whatever address it is given.

    Raises:
        NotConfigured: The CA bundle cannot be read.
    """
    import ssl

    import httpx2

    verify: Any = True
    if settings.ca_file:
        try:
            verify = ssl.create_default_context(cafile=str(settings.ca_file))
        except OSError as problem:
            raise NotConfigured(
                f"The CA bundle {str(settings.ca_file)!r} cannot be read.",
                fix="Correct MCP_DEVOPS_SENTRY__CA_FILE.",
                source=SOURCE,
            ) from problem
    return httpx2.AsyncClient(
        headers=dict(headers), verify=verify, timeout=timeout_s, follow_redirects=False
    )


async def bounded(response: httpx2.Response, most: int = MAX_BYTES) -> bytes:
    """A body that is read to its end, or refused.

    Raises:
        UpstreamUnavailable: It is larger than `most` bytes.
    """
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most:
            raise too_much(most)
        parts.append(part)
    return b"".join(parts)
