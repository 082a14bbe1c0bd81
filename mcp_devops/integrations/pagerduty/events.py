"""Events as PagerDuty's API wants them, within its limits. Pure: records in, JSON out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mcp_devops.integrations.pagerduty.records import ChangeEvent, Link, Page
from mcp_devops.text.budget import MIN_SHRINK_CHARS, cut_end, shrink
from mcp_devops.text.clean import clean, clean_data

SUMMARY_CHARS = 1024
"""Characters of a summary that PagerDuty takes."""
MAX_BYTES = 512_000
"""Bytes of one event: PagerDuty's 512 KB, read as the smaller kilobyte."""
DEDUP_CHARS = 255
"""Characters of a dedup_key that PagerDuty takes."""
CLIENT = "mcp-devops"

Encoded = tuple[bytes, tuple[str, ...]]
"""The request's body, and what was shortened in it."""


def dedup_key(incident_id: str) -> str:
    """The alert's key of an incident: the same incident always joins the same alert.

    A key that would be too long ends in its digest, so that two long ones stay two.
    """
    key = f"{CLIENT}:{incident_id}"
    if len(key) <= DEDUP_CHARS:
        return key
    tail = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{key[: DEDUP_CHARS - 33]}:{tail}"


def incident_of(key: str) -> str | None:
    """The incident of one of our keys; None: the key is another's, or was too long to be read."""
    name, _, incident_id = key.partition(":")
    return incident_id if name == CLIENT and incident_id and ":" not in incident_id else None


def one_line(text: str, max_chars: int) -> str:
    """Foreign text on one line: no escapes, no known secrets, cut at the end."""
    return cut_end(" ".join(clean(text).split()), max_chars)


def trigger(page: Page, routing_key: str) -> Encoded:
    """The body of a `trigger` event."""
    payload: dict[str, Any] = {
        "summary": one_line(page.summary, SUMMARY_CHARS) or "Something is wrong.",
        "source": one_line(page.source, 255) or "unknown",
        "severity": page.severity.value,
    }
    if page.component:
        payload["component"] = one_line(page.component, 255)
    if page.at:
        payload["timestamp"] = page.at.isoformat()
    body: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": page.dedup_key,
        "payload": payload,
        "client": CLIENT,
    }
    return _encoded(body, page.details, page.links)


def follow_up(action: str, key: str, routing_key: str) -> bytes:
    """The body of an `acknowledge` or `resolve` event: it needs no payload."""
    return _bytes({"routing_key": routing_key, "event_action": action, "dedup_key": key})


def change(event: ChangeEvent, routing_key: str) -> Encoded:
    """The body of a change event."""
    payload: dict[str, Any] = {
        "summary": one_line(event.summary, SUMMARY_CHARS) or "Something changed.",
        "source": one_line(event.source, 255) or "unknown",
        "timestamp": event.at.isoformat(),
    }
    body: dict[str, Any] = {"routing_key": routing_key, "payload": payload}
    return _encoded(body, event.details, event.links)


def _encoded(body: dict[str, Any], details: Mapping[str, Any], links: tuple[Link, ...]) -> Encoded:
    if links:
        body["links"] = [
            {"href": x.href, "text": one_line(x.text, 255) or x.href[:255]} for x in links
        ]
    if not details:
        return _bytes(body), ()
    whole = clean_data(dict(details))
    tidy, cut = whole, tuple[str, ...]()
    limit = MAX_BYTES
    while True:
        body["payload"]["custom_details"] = tidy if not cut else {"shortened": list(cut), **tidy}
        raw = _bytes(body)
        if len(raw) <= MAX_BYTES:
            return raw, cut
        # Characters are not bytes: the limit goes down until the bytes fit.
        limit = max(int(limit * MAX_BYTES / len(raw) * 0.95), MIN_SHRINK_CHARS)
        tidy, notes = shrink(whole, limit)
        cut = tuple(notes) or ("The report was shortened.",)


def _bytes(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, default=str).encode()
