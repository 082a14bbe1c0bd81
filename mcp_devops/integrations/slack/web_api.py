"""The transport of Slack's Web API: one call in, its answer or our error out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mcp_devops.errors import (
    DevOpsError,
    NotConfigured,
    OutcomeUnknown,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.slack.failures import SOURCE, failure, ratelimited
from mcp_devops.integrations.slack.settings import SlackSettings
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.retrying import Jitter, Pause, wait_s

if TYPE_CHECKING:
    import httpx2

FIRST_PAUSE_S = 0.5
"""Seconds before the second attempt; doubled each time."""
LONGEST_PAUSE_S = 10.0
"""Seconds between attempts at most, unless Slack asks for more."""
MAX_ANSWER_BYTES = 4_000_000
"""Bytes of one answer that are read as JSON."""


class WebApi:
    """Calls methods as one Slack app. Connections are made on the first call, and kept."""

    def __init__(
        self,
        settings: SlackSettings,
        clock: Clock,
        *,
        pause: Pause = asyncio.sleep,
        jitter: Jitter = random.random,  # noqa: S311 - spreads retries
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.pause = pause
        self.jitter = jitter
        self._http: httpx2.AsyncClient | None = None

    def connection(self) -> httpx2.AsyncClient:
        """The connections, made on the first use: reads the CA bundle, some 50 ms."""
        if self._http is None:
            import httpx2

            limit = self.settings.timeout_s
            self._http = httpx2.AsyncClient(
                # Connecting must fail before the whole attempt does: only then is it known that
                # nothing was sent.
                timeout=httpx2.Timeout(limit, connect=limit / 2),
                follow_redirects=False,
            )
        return self._http

    async def close(self) -> None:
        """End the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def call(
        self,
        method: str,
        body: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        *,
        form: bool = False,
        app: bool = False,
        repeatable: bool = True,
        end: float | None = None,
    ) -> Mapping[str, Any]:
        """Call a Web API method; 429 and failures that surely changed nothing are repeated.

        Args:
            method: Such as conversations.replies.
            body: The arguments, or what gives them at each attempt.
            form: Send them as a form: methods that read take no JSON.
            app: Use the app-level token.
            repeatable: Whether it may be sent again though it may have worked.
            end: Monotonic second at which it gives up; None: deadline_s from now.

        Raises:
            NotConfigured: No token.
            CredentialsRejected, PermissionDenied, NotFound, PreconditionFailed, InvalidArguments,
            Unsupported: As Slack says.
            RateLimited, UpstreamTimeout, UpstreamUnavailable: Until the end.
            OutcomeUnknown: It was sent once, is not repeatable, and no clear answer came.
        """
        if end is None:
            end = self.clock.monotonic() + self.settings.deadline_s
        attempt = 0
        while True:
            attempt += 1
            given = body() if callable(body) else body
            left = min(self.settings.timeout_s, end - self.clock.monotonic())
            try:
                return await self._once(method, given, form, app, repeatable, left)
            except DevOpsError as problem:
                asked = problem.details.get("retry_after_s")
                wait = wait_s(attempt, FIRST_PAUSE_S, LONGEST_PAUSE_S, self.jitter, asked)
                if not problem.retryable or self.clock.monotonic() + wait >= end:
                    raise
            await self.pause(wait)

    def _token(self, app: bool) -> tuple[str, str]:
        name = "APP_TOKEN" if app else "BOT_TOKEN"
        token = self.settings.app_token if app else self.settings.bot_token
        if token is None:
            raise NotConfigured(
                f"MCP_DEVOPS_SLACK__{name} is not set.",
                fix="Create a Slack app, install it, and copy its token.",
                source=SOURCE,
            )
        return name, token.get_secret_value().strip()

    async def _once(
        self,
        method: str,
        body: Mapping[str, Any],
        form: bool,
        app: bool,
        repeatable: bool,
        limit_s: float,
    ) -> Mapping[str, Any]:
        import httpx2

        name, token = self._token(app)
        url = f"{self.settings.api_url.rstrip('/')}/{method}"
        how: dict[str, Any] = {"data": dict(body)} if form or app else {"json": dict(body)}
        headers = {"Authorization": f"Bearer {token}"}
        connection = self.connection()  # reads the CA bundle: not on the attempt's time
        try:
            async with asyncio.timeout(limit_s):
                response = await connection.post(url, headers=headers, **how)
        except (httpx2.HTTPError, OSError) as down:
            if not repeatable and not isinstance(
                down, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout
            ):
                raise unknown(method) from down
            raise down_error(down) from down
        if response.status_code == 429:
            raise ratelimited(response.headers.get("Retry-After", ""))
        if response.status_code >= 500 and not repeatable:
            raise unknown(method)
        return _unwrap(method, response, name, repeatable)


def _unwrap(
    method: str, response: httpx2.Response, token: str, repeatable: bool
) -> Mapping[str, Any]:
    try:
        body: Any = response.json() if len(response.content) <= MAX_ANSWER_BYTES else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("ok"), bool):
        raise UpstreamUnavailable(
            f"Slack's address did not answer with its API (HTTP {response.status_code}).",
            fix="Check MCP_DEVOPS_SLACK__API_URL and the proxy.",
            source=SOURCE,
        )
    if body["ok"]:
        return body
    problem = failure(method, body, token, response.headers.get("Retry-After", ""))
    if isinstance(problem, UpstreamUnavailable) and not repeatable:
        raise unknown(method)
    raise problem


def unknown(method: str) -> OutcomeUnknown:
    """The error for a write that may have worked."""
    return OutcomeUnknown(
        f"Slack's {method} was sent and no clear answer came: the message may stand there.",
        fix="Look into the channel, or post again: the worst is a second message.",
        source=SOURCE,
    )


def down_error(problem: Exception) -> DevOpsError:
    """The error for a call that got no answer; names no address."""
    import httpx2

    if isinstance(problem, TimeoutError | httpx2.TimeoutException):
        return UpstreamTimeout(
            "Slack did not answer in time.", fix="Repeat it; see status.slack.com.", source=SOURCE
        )
    return UpstreamUnavailable(
        f"Slack cannot be reached ({type(problem).__name__}).",
        fix="Check the network and the proxy.",
        source=SOURCE,
    )
