"""The addresses that providers call: each checks the signature, then hands over at once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcp_devops.errors import CallerError, DevOpsError, UpstreamTimeout
from mcp_devops.integrations.pagerduty import webhook as pagerduty
from mcp_devops.integrations.pagerduty.webhook import WebhookEvent
from mcp_devops.integrations.sentry import webhook as sentry
from mcp_devops.integrations.slack import interactions as slack
from mcp_devops.integrations.slack.interactions import Interaction
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.toolkit.clock import Clock
from mcp_devops.webhooks import deployment
from mcp_devops.webhooks.deployment import Deployed
from mcp_devops.webhooks.settings import WebhookSettings

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000
"""Bytes of a webhook that are read; real ones are some kilobytes, few more than a hundred."""
BODY_S = 10.0
"""Seconds that a body may take to come: senders give up by then, and a drip must not hold us."""
PAGERDUTY_LATE = timedelta(days=3)
"""Age from which what PagerDuty tells is not heard: it repeats a delivery for less. Its signature
has no time and is good for ever, but what is remembered of a delivery is deleted after a week at
the least, and would then be written down twice."""
PAGERDUTY_S = 4.0
"""Seconds until PagerDuty is asked to come again: after 5 it counts the delivery as failed."""
_WEBHOOK_ID = re.compile(r"[A-Za-z0-9-]{8,100}")


@dataclass(frozen=True)
class Hearers:
    """Who is told. Each must be durable when it returns: the sender then forgets the delivery.

    Attributes:
        deployed: A pipeline deployed something; returns what became of it.
        alerted: Sentry raised or resolved a metric alert for these projects.
        answered: A person clicked or typed in Slack.
        slack_secret: Slack's signing secret; None: no clicks over HTTP.
        sentry_base: Address whose links in Sentry's webhooks are kept.
        paged: Something happened to an incident at PagerDuty; returns what became of it.
        pagerduty_secret: Secret of the webhook subscription at PagerDuty; None: it is closed.
    """

    deployed: Callable[[Deployed], Awaitable[str]]
    alerted: Callable[[tuple[str, ...], str], Awaitable[str]]
    answered: Callable[[Interaction], Awaitable[None]]
    slack_secret: str | None = None
    sentry_base: str = "https://sentry.io"
    paged: Callable[[WebhookEvent], Awaitable[str]] | None = None
    pagerduty_secret: str | None = None


def webhook_routes(
    settings: WebhookSettings, database: Database, clock: Clock, hearers: Hearers
) -> list[Route]:
    """`/webhooks/deployment`, `sentry`, `slack` and `pagerduty`: those that have a secret.

    They carry signatures instead of tokens, so they are mounted outside of other authentication.
    """
    hears = _Hears(settings, database, clock, hearers)
    return [
        Route("/webhooks/deployment", _answering(hears.deployment), methods=["POST"]),
        Route("/webhooks/sentry", _answering(hears.sentry), methods=["POST"]),
        Route("/webhooks/slack", _answering(hears.slack), methods=["POST"]),
        Route("/webhooks/pagerduty", _answering(hears.pagerduty), methods=["POST"]),
    ]


@dataclass(frozen=True)
class _Hears:
    """One method a provider."""

    settings: WebhookSettings
    database: Database
    clock: Clock
    hearers: Hearers

    async def deployment(self, request: Request, body: bytes) -> Response:
        secret = self.settings.deployment_secret
        if secret is None:
            return _closed()
        headers, now = _headers(request), self.clock.now()
        if not deployment.genuine(
            secret.get_secret_value(), headers, body, now, self.settings.tolerance_s
        ):
            return _forged()
        told = deployment.parse(body)
        key = f"{headers.get('x-timestamp', '')}:{_digest(body)}"
        return await self._once("deployment", key, hand_over=lambda: self.hearers.deployed(told))

    async def sentry(self, request: Request, body: bytes) -> Response:
        secret = self.settings.sentry_secret
        if secret is None:
            return _closed()
        plain, headers, now = secret.get_secret_value(), _headers(request), self.clock.now()
        if not sentry.verify(plain, body, headers, now):
            return _forged()
        alert = sentry.receive(plain, body, headers, now, self.hearers.sentry_base).what
        if not isinstance(alert, sentry.MetricAlert):
            return JSONResponse({"status": "nothing to do"})
        # The time and the id of a Sentry webhook are not signed; the body is.
        return await self._once(
            "sentry",
            _digest(body),
            hand_over=lambda: self.hearers.alerted(alert.projects, alert.status),
        )

    async def slack(self, request: Request, body: bytes) -> Response:
        secret = self.hearers.slack_secret
        if secret is None:
            return _closed()
        if not slack.genuine(secret, _headers(request), body, self.clock.now()):
            return _forged()
        interaction = slack.parse_body(body)
        if interaction is not None:
            key = slack.delivery_key(interaction)
            if key.endswith(":"):
                # Without Slack's own mark of the delivery, the signed request is one.
                key += f"{_headers(request).get(slack.TIMESTAMP, '')}:{_digest(body)}"
            await self._once("slack", key, hand_over=lambda: self._answered(interaction))
        # Slack shows a body as a message; the answer goes to the response_url.
        return Response(status_code=200)

    async def pagerduty(self, request: Request, body: bytes) -> Response:
        secret, hear = self.hearers.pagerduty_secret, self.hearers.paged
        if secret is None or hear is None:
            return _closed()
        headers = _headers(request)
        if not pagerduty.genuine([secret], headers, body):
            return _forged()
        event = pagerduty.parse(body)
        if event is None:
            return JSONResponse({"status": "nothing to do"})
        if self.clock.now() - event.occurred_at > PAGERDUTY_LATE:
            return JSONResponse({"status": "too late"})
        # The event's id is signed and the delivery's is not: a replay can change that one.
        keys = [f"event:{event.id}"]
        delivery = headers.get("x-webhook-id", "")
        if _WEBHOOK_ID.fullmatch(delivery):
            keys.append(f"delivery:{delivery}")
        try:
            async with asyncio.timeout(PAGERDUTY_S):
                return await self._once("pagerduty", *keys, hand_over=lambda: hear(event))
        except TimeoutError:
            raise UpstreamTimeout(
                "The state is too slow.", fix="It is delivered again.", source="journal"
            ) from None

    async def _answered(self, interaction: Interaction) -> str:
        await self.hearers.answered(interaction)
        return "taken"

    async def _once(
        self, source: str, *keys: str, hand_over: Callable[[], Awaitable[str]]
    ) -> Response:
        """Hand a delivery over unless it came before by any of its names; then remember it.

        A crash in between hands it over again, which every hearer can bear.
        """
        stamp = self.clock.now().isoformat()

        def known(connection: Connection) -> bool:
            query = "SELECT 1 FROM deliveries WHERE source = ? AND key = ?"
            return any(connection.execute(query, (source, key)).fetchone() for key in keys)

        if await self.database.read(known):
            return JSONResponse({"status": "known already"})
        status = await hand_over()

        def remember(connection: Connection) -> None:
            for key in keys:
                connection.execute(
                    "INSERT INTO deliveries (source, key, at) VALUES (?, ?, ?)"
                    " ON CONFLICT (source, key) DO NOTHING",
                    (source, key, stamp),
                )

        await self.database.run(remember)
        return JSONResponse({"status": status}, 202)


def _answering(
    hear: Callable[[Request, bytes], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_S):
                body = await _read(request)
        except TimeoutError:
            what = f"The body took longer than {BODY_S:g} s."
            return JSONResponse({"error": "INVALID_ARGUMENTS", "what": what}, 408)
        except ClientDisconnect:
            # Nobody hears the answer; whoever had something to say sends it again.
            return Response(status_code=400)
        try:
            return _too_large() if body is None else await hear(request, body)
        except CallerError as wrong:
            return JSONResponse({"error": wrong.code, "what": wrong.what, "fix": wrong.fix}, 400)
        except DevOpsError as problem:
            # The sender repeats it: nothing was remembered.
            log.warning("a webhook could not be handed over: %s", problem)
            return JSONResponse({"error": problem.code}, 503)

    return answer


async def _read(request: Request) -> bytes | None:
    """The body; None: it is larger than any real one, and was not read to its end."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            return None
    return body


def _headers(request: Request) -> Mapping[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _closed() -> Response:
    return JSONResponse({"error": "NOT_CONFIGURED", "what": "This webhook has no secret."}, 404)


def _too_large() -> Response:
    what = f"The body is larger than {MAX_BODY_BYTES:,} bytes."
    return JSONResponse({"error": "INVALID_ARGUMENTS", "what": what}, 413)


def _forged() -> Response:
    return JSONResponse({"error": "CREDENTIALS_REJECTED", "what": "The signature is wrong."}, 401)
