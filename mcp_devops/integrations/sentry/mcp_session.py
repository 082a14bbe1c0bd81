"""One conversation with Sentry's MCP server over streamable HTTP: just enough to call a tool.

Not here: its stdio form, which would need Node.js beside this program.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcp_devops import __version__
from mcp_devops.errors import Unsupported, UpstreamTimeout, UpstreamUnavailable
from mcp_devops.integrations.sentry.foreign import listed, record, shown
from mcp_devops.integrations.sentry.settings import SentrySettings
from mcp_devops.integrations.sentry.transport import bounded

if TYPE_CHECKING:
    import httpx2

PROTOCOL = "2025-06-18"
MAX_BYTES = 2_000_000
"""Bytes of one answer; a hundred issues have some 60 KB."""
MOST_LISTS = 5
"""Pages of tools that are read."""
SOURCE = "sentry mcp"
FIX = "Repair MCP_DEVOPS_SENTRY__MCP_URL, or unset it."

Call = Callable[[str, Mapping[str, Any]], Awaitable[str]]
"""Calls a tool and gives the text of its answer."""


@asynccontextmanager
async def conversation(http: httpx2.AsyncClient, settings: SentrySettings) -> AsyncIterator[Call]:
    """Open a conversation, and end it.

    Raises:
        UpstreamTimeout: It was not open, or a tool had not answered, in time.
        UpstreamUnavailable: No connection, an error, or an answer that is not MCP.
        Unsupported: The server does not offer the tool.
    """
    session = _Session(http, settings.mcp_url or "")
    try:
        async with _limit(settings.mcp_connect_s, "was not ready"):
            tools = await session.open()

        async def call(name: str, arguments: Mapping[str, Any]) -> str:
            if name not in tools:
                raise Unsupported(
                    f"Sentry's MCP server does not offer {name}.", fix=FIX, source=SOURCE
                )
            async with _limit(settings.mcp_call_s, f"did not answer {name}"):
                return await session.call(name, arguments)

        yield call
    finally:
        await session.end()


@asynccontextmanager
async def _limit(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as late:
        raise UpstreamTimeout(
            f"Sentry's MCP server {what} within {seconds:g} s.", fix=FIX, source=SOURCE
        ) from late


class _Session:
    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self._headers = {"Accept": "application/json, text/event-stream"}
        self._ids = itertools.count(1)

    async def open(self) -> frozenset[str]:
        """Shake hands; the names of the tools."""
        about = {"name": "mcp-devops", "version": __version__}
        hello = await self._ask(
            "initialize",
            {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": about},
        )
        spoken = hello.get("protocolVersion")
        if isinstance(spoken, str) and spoken.isascii() and spoken.isprintable():
            self._headers["MCP-Protocol-Version"] = spoken[:20]
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}, None)
        names: set[str] = set()
        page: dict[str, Any] = {}
        for _ in range(MOST_LISTS):
            answer = await self._ask("tools/list", page)
            names |= {str(tool.get("name")) for tool in listed(answer.get("tools"))}
            cursor = answer.get("nextCursor")
            if not isinstance(cursor, str) or not cursor:
                break
            page = {"cursor": cursor}
        return frozenset(names)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool."""
        answer = await self._ask("tools/call", {"name": name, "arguments": dict(arguments)})
        parts = [p.get("text") for p in listed(answer.get("content")) if p.get("type") == "text"]
        text = "\n".join(p for p in parts if isinstance(p, str))
        if answer.get("isError"):
            raise _failed(f"{name} failed", shown(text, 200))
        return text

    async def end(self) -> None:
        """Tell the server that the session is over; it forgets it by itself otherwise."""
        if "Mcp-Session-Id" not in self._headers:
            return
        import httpx2

        try:
            async with asyncio.timeout(1):
                await self._http.delete(self._url, headers=self._headers)
        except (httpx2.HTTPError, OSError, TimeoutError):
            return

    async def _ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}
        answer = await self._post(message, number)
        if "error" in answer:
            said = record(answer["error"]).get("message")
            raise _failed(f"{method} failed", shown(said, 200))
        if not isinstance(answer.get("result"), dict):
            raise _failed(f"{method} was not answered in MCP")
        return record(answer["result"])

    async def _post(self, message: Mapping[str, Any], number: int | None) -> dict[str, Any]:
        import httpx2

        try:
            async with self._http.stream(
                "POST", self._url, json=dict(message), headers=self._headers
            ) as response:
                if not 200 <= response.status_code < 300:
                    raise _failed(f"HTTP {response.status_code}")
                if known := response.headers.get("mcp-session-id"):
                    self._headers["Mcp-Session-Id"] = known
                if number is None:
                    return {}
                if "text/event-stream" in response.headers.get("content-type", ""):
                    return await _from_events(response, number)
                return _message(await bounded(response, MAX_BYTES), number)
        except httpx2.TimeoutException as late:
            raise UpstreamTimeout(
                "Sentry's MCP server did not answer in time.", fix=FIX, source=SOURCE
            ) from late
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as down:
            raise _failed(type(down).__name__) from down


async def _from_events(response: httpx2.Response, number: int) -> dict[str, Any]:
    """Our answer out of a stream of server-sent events."""
    size = 0
    data: list[str] = []
    async for line in response.aiter_lines():
        size += len(line)
        if size > MAX_BYTES:
            raise _failed(f"more than {MAX_BYTES:,} bytes")
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            found = _message("\n".join(data).encode(), number)
            if found:
                return found
            data = []
    return {}


def _message(raw: bytes, number: int) -> dict[str, Any]:
    """The JSON-RPC message, if it answers this request; else an empty object."""
    try:
        message = record(json.loads(raw))
    except (ValueError, RecursionError):
        return {}
    return message if message.get("id") == number and "method" not in message else {}


def _failed(why: str, said: str = "") -> UpstreamUnavailable:
    return UpstreamUnavailable(
        f"Sentry's MCP server: {why}.", fix=FIX, source=SOURCE, upstream=said
    )
