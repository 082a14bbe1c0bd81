"""What PagerDuty tells us: is it really PagerDuty, and who acknowledged or resolved what."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mcp_devops.errors import InvalidArguments
from mcp_devops.integrations.pagerduty.events import one_line
from mcp_devops.model.record import Moment, Record

SIGNATURE = "x-pagerduty-signature"
MAX_BODY_BYTES = 1_000_000
"""Bytes of a webhook that are looked at; real ones are a few kilobytes."""
MAX_SIGNATURES = 10
"""Signatures of one request that are compared; PagerDuty sends one, two while a secret rotates."""
NOTE = "incident.annotated"
SAYS = {
    "incident.triggered": "opened",
    "incident.acknowledged": "acknowledged",
    "incident.unacknowledged": "taken back to unacknowledged",
    "incident.reassigned": "reassigned",
    "incident.reopened": "reopened",
    "incident.resolved": "resolved",
    NOTE: "a note was written",
}
"""Event types that are heard, and what happened in words. None of them is an approval."""
NOTE_CHARS = 300

_MOMENT: TypeAdapter[Any] = TypeAdapter(Moment)


class WebhookEvent(Record):
    """An incident at PagerDuty changed."""

    id: str
    """The event's id: repeated deliveries have the same one, so deduplicate on it."""
    kind: str
    """incident.acknowledged, incident.resolved, ..."""
    occurred_at: Moment
    """When it happened."""
    incident_id: str
    """PagerDuty's id of the incident."""
    dedup_key: str | None
    """Key that we triggered it with; null: not ours, or not told (notes do not tell it)."""
    title: str = ""
    """The incident's title: data."""
    url: str = ""
    """The incident's page."""
    person_id: str | None = None
    """Who did it; null: automation, which is never a person's decision."""
    person_name: str = ""
    """Their name, where it is told."""
    more: str = ""
    """The note's text, or whom it was assigned to: data."""

    @property
    def by_person(self) -> bool:
        """Whether a person did it."""
        return self.person_id is not None

    @property
    def says(self) -> str:
        """What happened, in a line for a timeline."""
        what = f"{SAYS[self.kind]} in PagerDuty"
        if self.kind == NOTE:
            return f'{what} (data): "{self.more}"'
        return f"{what}, to {self.more}" if self.more else what


def genuine(secrets: Sequence[str], headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the signatures is made of one of our secrets over exactly this body.

    A genuine body says nothing about when: deduplicate on WebhookEvent.id.

    Args:
        secrets: The subscription's secrets; two while one is being replaced.
        headers: Any case.
        body: The bytes as they came, before any parsing.
    """
    given = next((v for k, v in headers.items() if k.lower() == SIGNATURE), "")
    signatures = [s.strip().encode() for s in given.split(",")][:MAX_SIGNATURES]
    found = False
    for secret in secrets:
        if not secret:
            continue
        want = b"v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
        for signature in signatures:
            # No early way out: the time taken must not tell which one was right.
            found |= hmac.compare_digest(want, signature)
    return found


def parse(body: bytes) -> WebhookEvent | None:
    """Read a webhook whose signature was found genuine.

    Returns:
        The event, or None for one that says nothing about an answer (pings, priorities, ...).

    Raises:
        InvalidArguments: It is not a v3 webhook.
    """
    if len(body) > MAX_BODY_BYTES:
        raise _junk(f"larger than {MAX_BODY_BYTES:,} bytes")
    try:
        event = _mapping(_mapping(json.loads(body)).get("event"))
    except (ValueError, RecursionError) as problem:
        raise _junk("not JSON of the v3 shape") from problem
    kind = _text(event.get("event_type"))
    if not kind:
        raise _junk("without an event type")
    if kind not in SAYS:
        return None
    return _event(event, kind)


def _event(event: Mapping[str, Any], kind: str) -> WebhookEvent:
    data, agent = event.get("data"), event.get("agent")
    data = data if isinstance(data, Mapping) else {}
    agent = agent if isinstance(agent, Mapping) else {}
    # A note tells of its incident by reference only.
    about = data.get("incident") if kind == NOTE else data
    about = about if isinstance(about, Mapping) else {}
    person = _text(agent.get("id")) if _text(agent.get("type")) == "user_reference" else ""
    try:
        return WebhookEvent(
            id=_text(event.get("id")) or _missing("id"),
            kind=kind,
            occurred_at=_MOMENT.validate_python(event.get("occurred_at")),
            incident_id=_text(about.get("id")) or _missing("the incident's id"),
            dedup_key=_text(data.get("incident_key"), 255) or None,
            title=_text(data.get("title"), 300),
            url=_https(_text(about.get("html_url"), 500)),
            person_id=person or None,
            person_name=_text(agent.get("summary"), 120) if person else "",
            more=_more(kind, data),
        )
    except ValidationError as problem:
        raise _junk("without a time of day that can be read") from problem


def _more(kind: str, data: Mapping[str, Any]) -> str:
    if kind == NOTE:
        return _text(data.get("content"), NOTE_CHARS)
    listed = data.get("assignees") if kind == "incident.reassigned" else None
    people = listed if isinstance(listed, list) else []
    names = [_text(p.get("summary"), 80) for p in people[:5] if isinstance(p, Mapping)]
    return ", ".join(n for n in names if n)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("not an object")
    return value


def _text(value: Any, max_chars: int = 120) -> str:
    return one_line(value, max_chars) if isinstance(value, str) else ""


def _https(url: str) -> str:
    return url if url.startswith("https://") else ""


def _missing(field: str) -> str:
    raise _junk(f"without {field}")


def _junk(why: str) -> InvalidArguments:
    return InvalidArguments(
        f"The webhook cannot be read: it is {why}.",
        fix="Send PagerDuty v3 webhooks of incidents only.",
        source="pagerduty",
    )
