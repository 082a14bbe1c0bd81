"""Sentry's webhooks: is it really Sentry, and what does it say. Pure; nothing here answers HTTP.

Only the body is signed: the request id and the time may be forged in a replay. A receiver drops
what it has seen, by `body_sha256` as well as by `request_id`, and answers within one second.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from mcp_devops.errors import CredentialsRejected, InvalidArguments
from mcp_devops.integrations.sentry.foreign import number, own_link, record, shown
from mcp_devops.model.record import Record

WINDOW_S = 300.0
"""Seconds that the header's time may be away from ours."""
MAX_BYTES = 1_000_000
"""Bytes of a body; an event with its stack trace has some 200 KB."""
CHECK = "Check what sends to this address."
MOST_TAGS = 30
MOST_PROJECTS = 20


class MetricAlert(Record):
    """A metric alert changed its state."""

    status: str
    """critical, warning or resolved."""
    title: str = ""
    """Sentry's title; data."""
    link: str | None = None
    """Its page."""
    aggregate: str = ""
    """What the rule measures, such as count()."""
    dataset: str = ""
    """Of which events."""
    query: str = ""
    """Filtered by."""
    environment: str = ""
    """In which environment; empty: all."""
    projects: tuple[str, ...] = ()
    """Project slugs of the rule."""


class IssueChange(Record):
    """An issue was created, resolved, assigned, archived or came back."""

    action: str
    """What happened to it."""
    id: str
    """Its number."""
    short_id: str = ""
    """Such as CHECKOUT-1A."""
    title: str = ""
    """What happened; data."""
    level: str = ""
    """fatal, error, warning, ..."""
    substatus: str = ""
    """new, regressed, escalating, ..."""
    project: str = ""
    """Project slug."""
    link: str | None = None
    """Its page."""


class EventAlert(Record):
    """An issue alert fired for one event."""

    event_id: str
    """The event."""
    issue_id: str = ""
    """Its issue's number."""
    rule: str = ""
    """Name of the rule that fired; data."""
    title: str = ""
    """What happened; data."""
    level: str = ""
    """fatal, error, warning, ..."""
    release: str = ""
    """Release of the event."""
    environment: str = ""
    """Environment of the event."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Its tags; data."""
    link: str | None = None
    """Its page."""


class Hook(Record):
    """One verified webhook."""

    resource: str
    """metric_alert, issue, event_alert, or what this server has no use for."""
    request_id: str
    """Sentry's id of the delivery; not signed, and missing in some installations."""
    body_sha256: str
    """What to recognise a repeated body by."""
    what: MetricAlert | IssueChange | EventAlert | None
    """The content; null: a resource or action without use here."""


def verify(secret: str, raw: bytes, headers: Mapping[str, str], now: datetime) -> bool:
    """Whether the body was signed with the client secret, and the header's time is not stale.

    Args:
        secret: Client secret of the internal integration; an empty one verifies nothing.
        raw: The body as it came, before any parsing.
        headers: With names in any case.
        now: Our time.
    """
    named = {name.lower(): value for name, value in headers.items()}
    signature = named.get("sentry-hook-signature") or named.get("x-sentry-hook-signature") or ""
    if not secret or not signature.isascii():
        return False
    expected = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, signature):
        return False
    sent = number(named.get("sentry-hook-timestamp"))
    return sent is not None and abs(now.timestamp() - sent) <= WINDOW_S


def receive(secret: str, raw: bytes, headers: Mapping[str, str], now: datetime, base: str) -> Hook:
    """Verify a webhook and read it.

    Args:
        secret: Client secret of the internal integration.
        raw: The body as it came.
        headers: With names in any case.
        now: Our time.
        base: Address of the configured Sentry: links that lead elsewhere are left out.

    Raises:
        CredentialsRejected: The signature is wrong, or the time stale.
        InvalidArguments: It is signed, and too large or not a webhook's body.
    """
    if len(raw) > MAX_BYTES:
        raise InvalidArguments("The webhook's body is too large.", fix=CHECK, source="sentry")
    if not verify(secret, raw, headers, now):
        raise CredentialsRejected(
            "The webhook's signature is wrong, or it is stale.",
            fix="Check the client secret of the internal integration, and both clocks.",
            source="sentry",
        )
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidArguments(
            "The webhook's body is not a JSON object.", fix=CHECK, source="sentry"
        )
    named = {name.lower(): value for name, value in headers.items()}
    resource = shown(named.get("sentry-hook-resource"), 40)
    return Hook(
        resource=resource,
        request_id=shown(named.get("request-id"), 80),
        body_sha256=hashlib.sha256(raw).hexdigest(),
        what=parse(resource, body, base),
    )


def parse(
    resource: str, body: Mapping[str, Any], base: str
) -> MetricAlert | IssueChange | EventAlert | None:
    """The content of a webhook's body; None where it is of no use here, or lacks its subject."""
    action, data = shown(body.get("action"), 40), record(body.get("data"))
    if resource == "metric_alert" and action in ("critical", "warning", "resolved"):
        return _metric_alert(action, data, base)
    if resource == "issue" and action:
        return _issue(action, record(data.get("issue")), base)
    if resource == "event_alert" and action == "triggered":
        return _event_alert(data, base)
    return None


def _metric_alert(action: str, data: dict[str, Any], base: str) -> MetricAlert | None:
    alert = record(data.get("metric_alert"))
    rule = record(alert.get("alert_rule"))
    if not rule:
        return None
    projects = rule.get("projects")
    names = projects[:MOST_PROJECTS] if isinstance(projects, list) else []
    return MetricAlert(
        status=action,
        title=shown(data.get("description_title")),
        link=own_link(data.get("web_url"), base),
        aggregate=shown(rule.get("aggregate")),
        dataset=shown(rule.get("dataset"), 40),
        query=shown(rule.get("query"), 300),
        environment=shown(rule.get("environment"), 64),
        projects=tuple(shown(p, 100) for p in names if isinstance(p, str)),
    )


def _issue(action: str, issue: dict[str, Any], base: str) -> IssueChange | None:
    found = shown(str(issue.get("id") or ""), 40)
    if not found:
        return None
    return IssueChange(
        action=action,
        id=found,
        short_id=shown(issue.get("shortId"), 60),
        title=shown(issue.get("title")),
        level=shown(issue.get("level"), 20),
        substatus=shown(issue.get("substatus"), 40),
        project=shown(record(issue.get("project")).get("slug"), 100),
        link=own_link(issue.get("web_url"), base) or own_link(issue.get("permalink"), base),
    )


def _event_alert(data: dict[str, Any], base: str) -> EventAlert | None:
    event = record(data.get("event"))
    found = shown(event.get("event_id"), 40)
    if not found:
        return None
    rows = event.get("tags")
    tags = {
        shown(row[0], 60): shown(row[1], 200)
        for row in (rows[:MOST_TAGS] if isinstance(rows, list) else [])
        if isinstance(row, list) and len(row) == 2
    }
    tags.pop("", None)
    return EventAlert(
        event_id=found,
        issue_id=shown(str(event.get("issue_id") or ""), 40),
        rule=shown(data.get("triggered_rule")),
        title=shown(event.get("title")),
        level=shown(event.get("level"), 20) or tags.get("level", ""),
        release=shown(event.get("release"), 250) or tags.get("release", ""),
        environment=shown(event.get("environment"), 64) or tags.get("environment", ""),
        tags=tags,
        link=own_link(event.get("web_url"), base),
    )
