"""The only file that talks to PagerDuty: events in, accepted or our errors out."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    NotConfigured,
    OutcomeUnknown,
    RateLimited,
    UpstreamUnavailable,
)
from mcp_devops.integrations.pagerduty import events
from mcp_devops.integrations.pagerduty.records import Accepted, ChangeEvent, Page
from mcp_devops.integrations.pagerduty.settings import ROUTING_KEY, PagerDutySettings
from mcp_devops.text.clean import clean
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.retrying import Jitter, Pause, wait_s

if TYPE_CHECKING:
    import httpx2

SOURCE = "pagerduty"
FIRST_PAUSE_S = 1.0
"""Seconds before the second attempt; doubled each time."""
LONGEST_PAUSE_S = 20.0
"""Seconds between attempts at most."""


class PagerDutyClient:
    """Sends events. Connections are made on the first one, and kept."""

    def __init__(
        self,
        settings: PagerDutySettings,
        clock: Clock,
        *,
        pause: Pause = asyncio.sleep,
        jitter: Jitter = random.random,  # noqa: S311 - spreads retries
    ) -> None:
        self.settings = settings
        self.clock = clock
        self._pause = pause
        self._jitter = jitter
        self._http: httpx2.AsyncClient | None = None

    def _connection(self) -> httpx2.AsyncClient:
        if self._http is None:
            import httpx2

            self._http = httpx2.AsyncClient(
                base_url=self.settings.base_url,
                headers={"Content-Type": "application/json"},
                # A connection that cannot be made must fail before the whole attempt does: only
                # then is it known that nothing was sent.
                timeout=httpx2.Timeout(
                    self.settings.timeout_s, connect=self.settings.timeout_s / 2
                ),
                follow_redirects=False,
            )
        return self._http

    async def close(self) -> None:
        """End the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def trigger(self, page: Page) -> Accepted:
        """Page a person. Safe to repeat: the same dedup_key joins the alert that is open.

        Raises:
            NotConfigured: No routing key for the page's service.
            InvalidArguments: PagerDuty refuses the event; repeating will not help.
            CredentialsRejected: It refuses the key.
            RateLimited, UpstreamUnavailable: Every attempt within deadline_s failed.
            OutcomeUnknown: The event was sent and no answer came; send it again.
        """
        # Cleaning a large report takes a while: not on the loop.
        raw, cut = await asyncio.to_thread(events.trigger, page, self._key(page.service))
        attempts = await self._send("/v2/enqueue", raw)
        return Accepted(dedup_key=page.dedup_key, attempts=attempts, cut=cut)

    async def acknowledge(self, dedup_key: str, *, service: str = "") -> Accepted:
        """Say that somebody, or something, works on it. An alert that is not open is left alone.

        Raises:
            As trigger.
        """
        return await self._follow_up("acknowledge", dedup_key, service)

    async def resolve(self, dedup_key: str, *, service: str = "") -> Accepted:
        """Close the alert. `service` must be the trigger's: another routing key knows no alert.

        Raises:
            As trigger.
        """
        return await self._follow_up("resolve", dedup_key, service)

    async def record_change(self, event: ChangeEvent) -> Accepted:
        """Put a deployment or a rollback on the service's timeline; nobody is woken.

        A repeated send may show the change twice.

        Raises:
            InvalidArguments: The key is a ruleset's (it starts with R): those take no changes.
            Otherwise as trigger.
        """
        key = self._key(event.service)
        if key.startswith("R"):
            raise InvalidArguments(
                "PagerDuty takes no change events through a ruleset key.",
                fix="Give the service's own integration key in"
                " MCP_DEVOPS_PAGERDUTY__SERVICE_ROUTING_KEYS.",
                source=SOURCE,
            )
        raw, cut = await asyncio.to_thread(events.change, event, key)
        attempts = await self._send("/v2/change/enqueue", raw)
        return Accepted(dedup_key=None, attempts=attempts, cut=cut)

    async def _follow_up(self, action: str, dedup_key: str, service: str) -> Accepted:
        raw = events.follow_up(action, dedup_key, self._key(service))
        return Accepted(dedup_key=dedup_key, attempts=await self._send("/v2/enqueue", raw))

    def _key(self, service: str) -> str:
        key = self.settings.key_for(service)
        if key is None or not ROUTING_KEY.fullmatch(key):
            what = "is not 32 letters and digits" if key else "is missing"
            raise NotConfigured(
                f"The PagerDuty routing key for {service or 'the default service'!r} {what}.",
                fix="Set MCP_DEVOPS_PAGERDUTY__ROUTING_KEY to the service's Events API v2 key.",
                source=SOURCE,
            )
        return key

    async def _send(self, path: str, raw: bytes) -> int:
        """Send until it is accepted; gives the number of attempts."""
        end = self.clock.monotonic() + self.settings.deadline_s
        attempt, unsure = 0, False
        while True:
            attempt += 1
            left = end - self.clock.monotonic()
            problem = await self._once(path, raw, min(self.settings.timeout_s, left))
            if problem is None:
                return attempt
            unsure |= isinstance(problem, OutcomeUnknown)
            asked = problem.details.get("retry_after_s")
            wait = wait_s(attempt, FIRST_PAUSE_S, LONGEST_PAUSE_S, self._jitter, asked)
            if not _worth_repeating(problem) or self.clock.monotonic() + wait >= end:
                raise _unsure(attempt) if unsure and _worth_repeating(problem) else problem
            await self._pause(wait)

    async def _once(self, path: str, raw: bytes, limit_s: float) -> DevOpsError | None:
        import httpx2

        connection = self._connection()  # reads the CA bundle: not on the attempt's time
        try:
            async with asyncio.timeout(limit_s):
                response = await connection.post(path, content=raw)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as down:
            return UpstreamUnavailable(
                f"PagerDuty cannot be reached ({type(down).__name__}).",
                fix="Check the network and the proxy. Nobody was paged by this call.",
                source=SOURCE,
            )
        except (httpx2.HTTPError, OSError):  # TimeoutError is an OSError
            return _unsure(1)
        return None if response.status_code == 202 else _failure(response)


def _worth_repeating(problem: DevOpsError) -> bool:
    return problem.retryable or isinstance(problem, OutcomeUnknown)


def _unsure(attempts: int) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"The event was sent to PagerDuty ({attempts}x) and no answer came:"
        " somebody may or may not have been paged.",
        fix="Send it again: the same dedup_key cannot page twice.",
        source=SOURCE,
    )


def _failure(response: httpx2.Response) -> DevOpsError:
    status = response.status_code
    said = _said(response)
    if status == 429:
        after = response.headers.get("Retry-After", "")
        return RateLimited(
            "PagerDuty takes no more events for now (HTTP 429).",
            fix="Wait some minutes and send it again.",
            source=SOURCE,
            retry_after_s=int(after) if after.isdecimal() and len(after) < 6 else None,
        )
    if status == 400:
        return InvalidArguments(
            "PagerDuty refuses the event (HTTP 400). Nobody was paged.",
            fix="Look at what it says; most often the routing key belongs to no Events API v2"
            " integration of this region.",
            source=SOURCE,
            upstream=said,
        )
    if status in (401, 403):
        return CredentialsRejected(
            f"PagerDuty refuses the routing key (HTTP {status}). Nobody was paged.",
            fix="Check MCP_DEVOPS_PAGERDUTY__ROUTING_KEY and REGION.",
            source=SOURCE,
        )
    if status >= 500:
        return UpstreamUnavailable(
            f"PagerDuty failed (HTTP {status}).",
            fix="Send it again; page by another channel meanwhile.",
            source=SOURCE,
            upstream=said,
        )
    return InvalidArguments(
        f"PagerDuty's address answers something else (HTTP {status}). Nobody was paged.",
        fix="Check MCP_DEVOPS_PAGERDUTY__REGION and URL.",
        source=SOURCE,
    )


def _said(response: httpx2.Response) -> str:
    """What PagerDuty says is wrong, as one bounded line."""
    try:
        body: Any = response.json()
    except (ValueError, RecursionError):
        return ""
    if not isinstance(body, dict):
        return ""
    listed = body.get("errors")
    parts = [body.get("message"), *(listed if isinstance(listed, list) else [])]
    return " ".join(clean("; ".join(p[:500] for p in parts[:10] if isinstance(p, str))).split())
