"""The record of a rollback in Sentry: an event of its own, and a deploy of what serves again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import Field

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    NotConfigured,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.sentry.client import ATTEMPTS, SentryClient
from mcp_devops.integrations.sentry.failures import SOURCE, detail, limited
from mcp_devops.integrations.sentry.foreign import shown
from mcp_devops.integrations.sentry.pauses import pause
from mcp_devops.integrations.sentry.settings import SentrySettings
from mcp_devops.integrations.sentry.transport import bounded, connection
from mcp_devops.model.record import Moment, Record, canonical_json
from mcp_devops.text.clean import clean_data
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import Clock

ATTACHMENT = "diagnostics.json"
MAX_ATTACHMENT = 10_000_000
"""Bytes; half of what Sentry takes for one attachment."""
MAX_ANSWER = 100_000


class Resolution(Record):
    """What is recorded of a rollback."""

    event_id: str = Field(pattern="^[0-9a-f]{32}$")
    """Made by `event_id_of`: the same id again is the same event, so a repeat counts once."""
    at: Moment
    """When it was decided."""
    incident_id: str
    """The incident, as every tool here takes it."""
    service: str
    """Whose deployment."""
    deployment_id: str
    """The deployment that was rolled back."""
    outcome: str
    """recovered, failed, unknown, ..."""
    reason: str
    """Why, in a sentence."""
    from_release: str
    """Release that was rolled back."""
    to_release: str
    """Release that serves again."""
    environment: str = "production"
    """Where."""
    journal_head: str | None = None
    """`seq:hash` of the journal at that moment: `audit verify --anchor` takes it."""
    link: str | None = None
    """Page of the incident."""


class DeployNote(Record):
    """A deploy of the restored release, which points at the incident."""

    release: str = Field(min_length=1, max_length=250)
    """Full version of the release that serves again."""
    environment: str = Field(min_length=1, max_length=64)
    """Where."""
    name: str = Field(min_length=1, max_length=64)
    """Such as `rollback inc-12`: also what a repeat is recognised by."""
    url: str | None = Field(None, pattern=r"^https?://\S+$", max_length=500)
    """Page of the incident."""
    started_at: Moment | None = None
    """When the rollback began."""
    finished_at: Moment | None = None
    """When it was done; null: now."""
    projects: tuple[str, ...] = ()
    """Project slugs; empty: all of the release."""


@dataclass(frozen=True)
class Sent:
    """An event that Sentry took.

    Attributes:
        event_id: Its id.
        attached: Whether the diagnostics went with it.
    """

    event_id: str
    attached: bool


@dataclass(frozen=True)
class Noted:
    """A deploy that stands in Sentry.

    Attributes:
        id: Its id.
        repeated: Whether it stood there already.
    """

    id: str
    repeated: bool


def event_id_of(*parts: str) -> str:
    """An event id that is the same for the same parts, such as incident and outcome."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]


async def send_event(
    settings: SentrySettings,
    clock: Clock,
    resolution: Resolution,
    diagnostics: Mapping[str, Any] | None,
    redactor: Redactor,
) -> Sent:
    """Record a rollback as an event of the project that `dsn` names.

    Sent again on a pause or a failure inside the deadline: the id makes that harmless. Too large,
    it is sent without the diagnostics.

    Args:
        settings: With a `dsn`; organisation and token are not needed.
        clock: For the envelope's time.
        resolution: What is recorded; its texts are cleaned with `redactor`.
        diagnostics: JSON-like data for the attachment; None: no attachment.
        redactor: Knows the configured secrets.

    Raises:
        NotConfigured: There is no `dsn`, or it is not one.
        CredentialsRejected: Sentry does not know its key, or the project is gone.
        InvalidArguments: Sentry does not take the event.
        RateLimited, UpstreamTimeout, UpstreamUnavailable: As named; a repeat is safe.
    """
    url, headers = await asyncio.to_thread(_where, settings)
    event = _event(clean_data(resolution.model_dump(mode="json"), redactor), resolution)
    attachment = None
    if diagnostics is not None:
        attachment = canonical_json(clean_data(dict(diagnostics), redactor))
        if len(attachment) > MAX_ATTACHMENT:
            attachment = None
    http = connection(settings, headers, settings.timeout_s)
    try:
        async with http, asyncio.timeout(settings.timeout_s):
            return await _send(http, settings, clock, url, event, attachment)
    except TimeoutError as late:
        raise UpstreamTimeout(
            f"Sentry did not confirm the event within {settings.timeout_s:g} s.",
            fix="Send it again: with the same id it counts once.",
            source=SOURCE,
        ) from late


async def annotate_deploy(client: SentryClient, note: DeployNote) -> Noted:
    """Write a deploy of the restored release, unless the same one stands there.

    Raises:
        NotFound: Sentry does not have the release.
        PermissionDenied: The token lacks project:releases.
        OutcomeUnknown: It was sent and no answer came; calling again looks first.
        CredentialsRejected, Unsupported, RateLimited, UpstreamTimeout, UpstreamUnavailable: As
            named.
    """
    path = client.path(f"releases/{quote(note.release, safe='')}/deploys/")
    what = f"release {note.release!r}"
    standing, _, _ = await client.pages(path, scope="project:releases", what=what, most=1)
    for row in standing:
        if row.get("name") == note.name and row.get("environment") == note.environment:
            return Noted(shown(str(row.get("id", "")), 40), repeated=True)
    body = note.model_dump(mode="json", include={"environment", "name", "url"}, exclude_none=True)
    for key, at in (("dateStarted", note.started_at), ("dateFinished", note.finished_at)):
        if at is not None:
            body[key] = at.isoformat()
    if note.projects:
        body["projects"] = list(note.projects)
    reply = await client.post(path, body, scope="project:releases", what=what)
    found = reply.data.get("id", "") if isinstance(reply.data, dict) else ""
    return Noted(shown(str(found), 40), repeated=False)


def _where(settings: SentrySettings) -> tuple[str, dict[str, str]]:
    """Address and headers that a DSN stands for; the DSN itself is never repeated."""
    from sentry_sdk.utils import Dsn

    if settings.dsn is None:
        raise NotConfigured(
            "There is no DSN for the records of rollbacks.",
            fix="Set MCP_DEVOPS_SENTRY__DSN to the DSN of a project for them.",
            source=SOURCE,
        )
    dsn: Dsn | None
    try:
        dsn = Dsn(settings.dsn.get_secret_value())
    except ValueError:  # its text holds the key, so it is not passed on
        dsn = None
    if dsn is None or not re.fullmatch(r"[A-Za-z0-9]{1,64}", dsn.public_key):
        raise NotConfigured(
            "MCP_DEVOPS_SENTRY__DSN is not a DSN.",
            fix="Copy it from the project's client keys: https://KEY@HOST/PROJECT.",
            source=SOURCE,
        )
    if ":" in dsn.host:
        dsn.host = f"[{dsn.host}]"
    auth = dsn.to_auth("mcp-devops/1")
    return auth.get_api_url(), {
        "Content-Type": "application/x-sentry-envelope",
        "X-Sentry-Auth": auth.to_header(),
    }


def _event(told: dict[str, Any], resolution: Resolution) -> dict[str, Any]:
    rollback = {
        "type": "rollback",
        "incident": resolution.incident_id,
        "reason": told["reason"],
        "from": told["from_release"],
        "to": told["to_release"],
        "journal_head": resolution.journal_head,
        "link": told["link"],
    }
    return {
        "event_id": resolution.event_id,
        "timestamp": resolution.at.timestamp(),
        "platform": "other",
        "level": "warning",
        "logger": "mcp-devops",
        "message": f"Deployment {told['deployment_id']} of {told['service']} rolled back",
        # One issue a deployment, whatever the texts are.
        "fingerprint": ["deploy-rollback", told["service"], told["deployment_id"]],
        "tags": {
            "deployment.id": told["deployment_id"],
            "incident.id": resolution.incident_id,
            "rollback.outcome": told["outcome"],
            "service": told["service"],
        },
        "contexts": {"rollback": {k: v for k, v in rollback.items() if v is not None}},
        "release": told["from_release"],
        "environment": told["environment"],
    }


def envelope(event: Mapping[str, Any], attachment: bytes | None, sent_at: str) -> bytes:
    """The lines of an envelope with an event and, where there is one, the diagnostics.

    Nothing but the wire format is the SDK's: its client would hook into the whole process.
    """
    from sentry_sdk.envelope import Envelope, Item, PayloadRef

    made = Envelope({"event_id": event["event_id"], "sent_at": sent_at})
    made.add_item(Item(PayloadRef(json=event), type="event"))
    if attachment is not None:
        head = {"filename": ATTACHMENT, "content_type": "application/json"}
        made.add_item(Item(attachment, head, type="attachment"))
    return made.serialize()


async def _send(
    http: Any,
    settings: SentrySettings,
    clock: Clock,
    url: str,
    event: Mapping[str, Any],
    attachment: bytes | None,
) -> Sent:
    import httpx2

    loop = asyncio.get_running_loop()
    ends = loop.time() + settings.timeout_s
    attempt = 0
    while True:
        attempt += 1
        sent_at = clock.now().isoformat()
        content = await asyncio.to_thread(envelope, event, attachment, sent_at)
        wait = settings.backoff_s * 2 ** (attempt - 1)
        try:
            async with http.stream("POST", url, content=content) as response:
                body = await bounded(response, MAX_ANSWER)
                status, headers = response.status_code, response.headers
        except httpx2.TimeoutException as late:
            raise TimeoutError from late
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as down:
            problem: DevOpsError = UpstreamUnavailable(
                f"Sentry's ingestion cannot be reached ({type(down).__name__}).",
                fix="Check MCP_DEVOPS_SENTRY__DSN and the network, and send it again.",
                source=SOURCE,
            )
        else:
            if status == 413 and attachment is not None:
                attachment, attempt = None, 0
                continue
            if 200 <= status < 300 and _taken(headers, body):
                return Sent(str(event["event_id"]), attached=attachment is not None)
            problem = _refused(status, body)
            if status == 429:
                asked = pause(headers, clock.now())
                wait = wait if asked is None else asked
                problem = limited(wait)
        if not problem.retryable or attempt == ATTEMPTS or loop.time() + wait >= ends:
            raise problem
        await asyncio.sleep(wait)


def _taken(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether it was Sentry that answered, and not a page in its place."""
    return "json" in headers.get("content-type", "") or not body.strip()


def _refused(status: int, body: bytes) -> DevOpsError:
    try:
        said = detail(json.loads(body))
    except (ValueError, RecursionError):
        said = ""
    if status in (401, 403, 404):
        return CredentialsRejected(
            f"Sentry does not know the DSN's key or project (HTTP {status}).",
            fix="Check MCP_DEVOPS_SENTRY__DSN.",
            source=SOURCE,
            upstream=said,
        )
    if status in (400, 413):
        return InvalidArguments(
            f"Sentry does not take the event (HTTP {status}).",
            fix="Shorten its texts.",
            source=SOURCE,
            upstream=said,
        )
    return UpstreamUnavailable(
        f"Sentry's ingestion failed (HTTP {status}).",
        fix="Send it again: with the same id it counts once.",
        source=SOURCE,
        upstream=said,
    )
