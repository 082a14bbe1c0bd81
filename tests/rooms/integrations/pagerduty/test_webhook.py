from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import InvalidArguments
from mcp_devops.integrations.pagerduty.webhook import genuine, parse
from tests.support.pagerduty import note_webhook, signed, webhook

SECRET = "whsec-correct-horse"


def test_any_one_right_signature_proves_it() -> None:
    body = json.dumps(webhook()).encode()
    good, old = signed(SECRET, body), signed("old-secret", body)
    for header in (good, f"{old},{good}", f"{good}, {old}", f"v2=aa,,v1=bb , {good}"):
        assert genuine([SECRET], {"X-PagerDuty-Signature": header}, body)
    assert genuine(["other", SECRET], {"x-pagerduty-signature": good}, body)


def test_forged_changed_or_missing_signatures_prove_nothing() -> None:
    body = json.dumps(webhook()).encode()
    good = signed(SECRET, body)
    assert not genuine([SECRET], {"X-PagerDuty-Signature": good}, body + b" ")
    assert not genuine([SECRET], {"X-PagerDuty-Signature": good[:-1]}, body)
    assert not genuine([SECRET], {"X-PagerDuty-Signature": good.removeprefix("v1=")}, body)
    assert not genuine([SECRET], {"X-PagerDuty-Signature": "v1=\u20ac"}, body)
    assert not genuine([SECRET], {}, body)
    assert not genuine([], {"X-PagerDuty-Signature": good}, body)
    assert not genuine([""], {"X-PagerDuty-Signature": signed("", body)}, body)


def test_hundreds_of_signatures_are_not_all_compared() -> None:
    body = b"{}"
    header = ",".join(["v1=aa"] * 500 + [signed(SECRET, body)])
    assert not genuine([SECRET], {"X-PagerDuty-Signature": header}, body)


@pytest.mark.parametrize("kind", ["incident.acknowledged", "incident.resolved"])
def test_a_persons_answer_is_read(kind: str) -> None:
    event = parse(json.dumps(webhook(kind)).encode())
    assert event is not None and event.by_person
    assert (event.kind, event.person_id, event.person_name) == (kind, "PUSER01", "Ann Example")
    assert event.dedup_key == "mcp-devops:inc-0a1b2c3d" and event.incident_id == "QINC0001"
    assert event.url.startswith("https://example.pagerduty.com/")


def test_the_same_delivery_twice_has_the_same_id() -> None:
    body = json.dumps(webhook()).encode()
    first, second = parse(body), parse(body)
    assert first and second and first.id == second.id


@pytest.mark.parametrize(
    "agent", [None, {"id": "PSVC", "type": "service_reference"}, "x", {"type": "user_reference"}]
)
def test_what_automation_does_is_nobodys_decision(agent: Any) -> None:
    event = parse(json.dumps(webhook("incident.resolved", agent=agent)).encode())
    assert event is not None and not event.by_person and event.person_name == ""


def test_a_note_and_a_new_assignee_are_read_as_data() -> None:
    note = parse(json.dumps(note_webhook("DB is full\n\x1b[2J<!here>")).encode())
    assert note is not None and note.incident_id == "QINC0001" and note.dedup_key is None
    assert note.says == 'a note was written in PagerDuty (data): "DB is full <!here>"'
    about = webhook()["event"]["data"] | {"assignees": [{"summary": "Bob"}, 1, {"summary": None}]}
    moved = parse(json.dumps(webhook("incident.reassigned", data=about)).encode())
    assert moved is not None and moved.says == "reassigned in PagerDuty, to Bob"


@pytest.mark.parametrize("kind", ["pagey.ping", "incident.priority_updated", "service.updated"])
def test_other_events_say_nothing(kind: str) -> None:
    assert parse(json.dumps(webhook(kind)).encode()) is None


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"event": 1}', b'{"event": {}}', b"[" * 100_000, b"\xff",
        json.dumps(webhook(occurred_at="yesterday")).encode(),
        json.dumps(webhook(occurred_at="2026-03-01T03:12:30")).encode(),
        json.dumps(webhook(id=None)).encode(),
        json.dumps(webhook(data=[])).encode(),
        b" " * 1_000_001,
    ],
)  # fmt: skip
def test_junk_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArguments):
        parse(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["id", "event_type", "occurred_at", "agent", "data", "client"])


@given(st.dictionaries(NAMES, JSON | st.just("incident.resolved")))
def test_whatever_an_event_holds_it_is_read_or_refused(changes: dict[str, Any]) -> None:
    body = json.dumps(webhook() | {"event": webhook()["event"] | changes}).encode()
    try:
        parse(body)
    except InvalidArguments as refused:
        assert len(str(refused)) < 400


@given(st.binary(max_size=200), st.text(max_size=100))
def test_random_bytes_never_pass_as_genuine(body: bytes, header: str) -> None:
    assert not genuine([SECRET], {"X-PagerDuty-Signature": header}, body)
    with contextlib.suppress(InvalidArguments):
        parse(body)
