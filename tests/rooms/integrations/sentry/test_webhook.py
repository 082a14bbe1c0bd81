from __future__ import annotations

import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.sentry.webhook import (
    EventAlert,
    IssueChange,
    MetricAlert,
    parse,
    receive,
    verify,
)
from tests.support.sentry import NOW

SECRET = "client-secret"
BASE = "https://sentry.io"


def signed(raw: bytes, resource: str = "issue", **more: str) -> dict[str, str]:
    return {
        "Sentry-Hook-Resource": resource,
        "Sentry-Hook-Timestamp": str(int(NOW.timestamp())),
        "Sentry-Hook-Signature": hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest(),
        "Request-ID": "r-1",
    } | {name.replace("_", "-"): value for name, value in more.items()}


METRIC = {
    "action": "critical",
    "data": {
        "description_title": "Critical: errors",
        "web_url": "https://acme.sentry.io/alerts/1/",
        "metric_alert": {
            "alert_rule": {
                "aggregate": "count()",
                "dataset": "events",
                "query": "level:error",
                "environment": "production",
                "projects": ["checkout", 7],
            },
            "status": 20,
        },
    },
}
ISSUE = {
    "action": "created",
    "data": {
        "issue": {
            "id": "12",
            "shortId": "CHECKOUT-C",
            "title": "Boom\x1b[0m",
            "level": "error",
            "substatus": "new",
            "project": {"slug": "checkout"},
            "permalink": "https://evil.example/12",
        }
    },
}
EVENT = {
    "action": "triggered",
    "data": {
        "triggered_rule": "High priority",
        "event": {
            "event_id": "e" * 32,
            "issue_id": 12,
            "title": "Boom",
            "web_url": "https://sentry.io/x",
            "tags": [["release", "checkout@1"], ["environment", "production"], "junk", [1, 2]],
        },
    },
}


def test_only_a_fresh_body_with_the_right_signature_is_sentrys() -> None:
    raw = json.dumps(ISSUE).encode()
    assert verify(SECRET, raw, signed(raw), NOW)
    assert verify(SECRET, raw, {k.lower(): v for k, v in signed(raw).items()}, NOW)
    assert not verify(SECRET, raw + b" ", signed(raw), NOW)
    assert not verify("other", raw, signed(raw), NOW)
    assert not verify("", raw, signed(raw), NOW)
    assert not verify(SECRET, raw, {}, NOW)
    assert not verify(SECRET, raw, signed(raw, Sentry_Hook_Signature="ü"), NOW)
    for stamp in ("", "soon", "nan", "0"):
        assert not verify(SECRET, raw, signed(raw, Sentry_Hook_Timestamp=stamp), NOW)
    assert not verify(SECRET, raw, signed(raw), NOW + timedelta(minutes=6))


def test_the_header_of_old_service_hooks_is_taken_too() -> None:
    raw = b"{}"
    headers = signed(raw)
    headers["X-Sentry-Hook-Signature"] = headers.pop("Sentry-Hook-Signature")
    assert verify(SECRET, raw, headers, NOW)


def test_a_replayed_body_is_recognised_under_a_new_request_id() -> None:
    raw = json.dumps(ISSUE).encode()
    first = receive(SECRET, raw, signed(raw), NOW, BASE)
    again = receive(SECRET, raw, signed(raw, Request_ID="r-2"), NOW, BASE)
    assert first.request_id != again.request_id and first.body_sha256 == again.body_sha256


def test_what_is_signed_and_no_webhook_is_refused() -> None:
    for raw in (b"", b"[]", b"\xff", b"[" * 5000):
        with pytest.raises(DevOpsError) as raised:
            receive(SECRET, raw, signed(raw), NOW, BASE)
        assert raised.value.code == "INVALID_ARGUMENTS"
    with pytest.raises(DevOpsError) as forged:
        receive(SECRET, b"{}", {}, NOW, BASE)
    assert forged.value.code == "CREDENTIALS_REJECTED" and SECRET not in str(forged.value)
    with pytest.raises(DevOpsError):
        receive(SECRET, b" " * 1_000_001, {}, NOW, BASE)


def test_a_metric_alert_is_read() -> None:
    found = parse("metric_alert", METRIC, BASE)
    assert isinstance(found, MetricAlert) and found.status == "critical"
    assert found.projects == ("checkout",) and found.environment == "production"
    assert found.link == "https://acme.sentry.io/alerts/1/"
    assert parse("metric_alert", METRIC | {"action": "opened"}, BASE) is None
    assert parse("metric_alert", {"action": "critical", "data": {}}, BASE) is None


def test_an_issue_is_read_without_links_that_lead_elsewhere() -> None:
    found = parse("issue", ISSUE, BASE)
    assert isinstance(found, IssueChange) and found.short_id == "CHECKOUT-C"
    assert found.title == "Boom" and found.project == "checkout" and found.link is None
    assert parse("issue", {"action": "created", "data": {"issue": {}}}, BASE) is None


def test_an_event_alert_is_read_with_its_tags() -> None:
    found = parse("event_alert", EVENT, BASE)
    assert isinstance(found, EventAlert) and found.rule == "High priority"
    assert found.release == "checkout@1" and found.environment == "production"
    assert found.issue_id == "12" and set(found.tags) == {"release", "environment"}
    assert parse("event_alert", {"action": "triggered"}, BASE) is None
    assert parse("comment", EVENT, BASE) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
KEYS = st.sampled_from(["metric_alert", "alert_rule", "issue", "event", "tags", "id", "event_id"])


@given(
    st.sampled_from(["metric_alert", "issue", "event_alert", "x"]),
    st.sampled_from(["critical", "created", "triggered", "", None]),
    st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON)),
)
def test_any_body_is_read_or_left(resource: str, action: Any, data: Any) -> None:
    found = parse(resource, {"action": action, "data": data}, BASE)
    assert found is None or len(found.model_dump_json()) < 50_000


@given(st.binary(), st.dictionaries(st.text(), st.text()))
def test_junk_is_never_verified(raw: bytes, headers: dict[str, str]) -> None:
    assert not verify(SECRET, raw, headers, NOW)
