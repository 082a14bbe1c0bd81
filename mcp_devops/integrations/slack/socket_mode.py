"""Socket Mode: Slack's clicks over a connection that we open, kept alive for as long as it runs."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mcp_devops.errors import (
    DevOpsError,
    InvalidArguments,
    NotConfigured,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.failures import SOURCE
from mcp_devops.integrations.slack.interactions import (
    Interaction,
    delivery_key,
    parse_command,
    parse_payload,
)
from mcp_devops.integrations.slack.seen import Seen

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Seconds between two attempts to connect, at most."""
HELLO_S = 10.0
"""Seconds within which Slack greets a connection that works."""
SHORT_S = 5.0
"""Seconds: a connection that Slack ends sooner counts as a failure."""
HEARTBEAT_S = 20.0
"""Seconds between our pings: a connection that died in silence is noticed within two."""
MAX_MESSAGE_BYTES = 1_000_000
MAX_HANDLING = 50
"""Interactions handled at once; more wait, already acknowledged."""
_ENVELOPE = re.compile(r"[A-Za-z0-9-]{1,100}")
_SLACK_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.slack(-gov)?\.com")

Handle = Callable[[Interaction], Awaitable[None]]
log = logging.getLogger(__name__)


class SocketModeClient:
    """Listens for clicks and slash commands of one app.

    Slack gives each envelope to one of an app's connections at random: run one listener an app
    token, or let every listener write to the same store.
    """

    def __init__(self, client: SlackClient, handle: Handle) -> None:
        """Make one; nothing is connected before `run`.

        Args:
            client: Its settings hold the app token.
            handle: Called once an interaction, after it was acknowledged. A DevOpsError of it is
                logged; anything else ends `run`.
        """
        self._client = client
        self._handle = handle
        self._seen = Seen(client.clock)
        self._room = asyncio.Semaphore(MAX_HANDLING)
        self.connected = asyncio.Event()
        """Set while Slack's greeting stands."""
        self.problem: DevOpsError | None = None
        """Why the newest attempt failed; None: it did not."""

    async def run(self) -> None:
        """Listen until cancelled; lost connections are made anew.

        Raises:
            NotConfigured: No app token, or Socket Mode is switched off in the app.
            CredentialsRejected, PermissionDenied, Unsupported: The token will not do.
        """
        import aiohttp

        async with asyncio.TaskGroup() as handling, aiohttp.ClientSession(trust_env=True) as web:
            final = await self._keep_listening(web, handling)
        # Raised out here: a task group would wrap it.
        raise final

    async def _keep_listening(self, web: Any, handling: asyncio.TaskGroup) -> DevOpsError:
        """Listen again and again; gives what waiting does not mend."""
        failures = 0
        while True:
            began = self._client.clock.monotonic()
            try:
                await self._listen(web, handling)
            except UpstreamError as lost:
                self.problem = lost
                log.warning("slack socket lost: %s", lost.what)
                failures = 1 if self.connected.is_set() else failures + 1
            except DevOpsError as final:
                self.problem = final
                return final
            else:
                # Asked to come back: at once, but not in a circle.
                lasted = self._client.clock.monotonic() - began
                failures = 0 if lasted >= SHORT_S else failures + 1
            finally:
                self.connected.clear()
            if failures:
                base = min(FIRST_PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S)
                await self._client.pause(base / 2 + base / 2 * self._client.jitter())

    async def _listen(self, web: Any, handling: asyncio.TaskGroup) -> None:
        """One connection, until Slack asks for a new one; raises where it is lost."""
        import aiohttp

        opened = await self._client.call("apps.connections.open", {}, app=True)
        url = _checked(opened.get("url"), self._client.settings.api_url)
        try:
            async with asyncio.timeout(HELLO_S) as limit:
                async with web.ws_connect(
                    url, heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES
                ) as socket:
                    await self._converse(socket, handling, limit)
        except TimeoutError as late:
            raise UpstreamTimeout(
                f"Slack did not greet the connection within {HELLO_S:g} s.",
                fix="It is tried again by itself.",
                source=SOURCE,
            ) from late
        except (aiohttp.ClientError, OSError) as down:
            # No `from`: the address it names holds a ticket.
            raise _lost(type(down).__name__) from None

    async def _converse(
        self, socket: ClientWebSocketResponse, handling: asyncio.TaskGroup, limit: asyncio.Timeout
    ) -> None:
        import aiohttp

        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                continue
            envelope = _envelope(frame.data)
            kind = envelope.get("type")
            if kind == "hello":
                limit.reschedule(None)
                self.problem = None
                self.connected.set()
            elif kind == "disconnect":
                if envelope.get("reason") == "link_disabled":
                    raise NotConfigured(
                        "Socket Mode is switched off for the Slack app.",
                        fix="Switch it on in the app's settings, or unset"
                        " MCP_DEVOPS_SLACK__APP_TOKEN.",
                        source=SOURCE,
                    )
                return
            else:
                await self._take(socket, envelope, handling)
        raise _lost(f"closed, code {socket.close_code}")

    async def _take(
        self,
        socket: ClientWebSocketResponse,
        envelope: Mapping[str, Any],
        handling: asyncio.TaskGroup,
    ) -> None:
        name = envelope.get("envelope_id")
        if not isinstance(name, str) or not _ENVELOPE.fullmatch(name):
            return
        # Before anything else: without it Slack shows the person a failure after 3 seconds.
        await socket.send_str(json.dumps({"envelope_id": name}))
        try:
            interaction = _interaction(envelope)
        except InvalidArguments as junk:
            log.warning("slack socket: %s", junk.what)
            return
        if interaction is None:
            return
        # Both, not either: each must be remembered.
        fresh = [self._seen.first(f"envelope:{name}"), self._seen.first(delivery_key(interaction))]
        if all(fresh):
            handling.create_task(self._hand_over(interaction))

    async def _hand_over(self, interaction: Interaction) -> None:
        async with self._room:
            try:
                await self._handle(interaction)
            except DevOpsError as problem:
                log.warning("an answer from slack was not taken: %s", problem.what)


def _interaction(envelope: Mapping[str, Any]) -> Interaction | None:
    payload = envelope.get("payload")
    if envelope.get("type") == "interactive":
        return parse_payload(payload)
    if envelope.get("type") == "slash_commands":
        return parse_command(payload if isinstance(payload, Mapping) else {})
    return None


def _envelope(data: Any) -> Mapping[str, Any]:
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        read = None
    return read if isinstance(read, Mapping) else {}


def _checked(url: Any, api_url: str) -> str:
    """The address of the socket, if it is TLS to Slack or to the configured API's host."""
    own = urlsplit(api_url)
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    known = host == own.hostname or bool(_SLACK_HOST.fullmatch(host))
    local = (
        own.scheme == "http" and host == own.hostname
    )  # settings allow that to this machine only
    safe = parts.scheme == "wss" or (local and parts.scheme == "ws")
    if not (host and known and safe):
        raise UpstreamUnavailable(
            "Slack gave a socket address that is not Slack's; it was not used.",
            fix="Check MCP_DEVOPS_SLACK__API_URL and the proxy.",
            source=SOURCE,
        )
    return str(url)


def _lost(why: str) -> UpstreamUnavailable:
    return UpstreamUnavailable(
        f"The connection to Slack was lost ({why}).",
        fix="It is made anew by itself.",
        source=SOURCE,
    )
