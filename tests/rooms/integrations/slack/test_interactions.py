from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import InvalidArguments
from mcp_devops.integrations.slack.interactions import (
    delivery_key,
    genuine,
    parse_body,
    parse_command,
    parse_payload,
)
from mcp_devops.integrations.slack.records import Click, Command, Decision, Verb
from mcp_devops.integrations.slack.seen import Seen
from tests.support.pagerduty import NOW, SteppedClock
from tests.support.slack import CHANNEL, SIGNING, body_of, click, command, signed


def test_a_signed_request_is_genuine_for_five_minutes() -> None:
    body = body_of(click())
    headers = signed(body)
    for seconds in (0, 300, -300):
        assert genuine(SIGNING, headers, body, NOW + timedelta(seconds=seconds))
    for seconds in (301, -301, 86_400):
        assert not genuine(SIGNING, headers, body, NOW + timedelta(seconds=seconds))
    lower = {k.lower(): v for k, v in headers.items()}
    assert genuine(SIGNING, lower, body, NOW)


def test_a_forged_or_changed_request_is_not() -> None:
    body = body_of(click())
    good = signed(body)
    assert not genuine(SIGNING, good, body + b"&", NOW)
    assert not genuine(SIGNING, signed(body, "other"), body, NOW)
    assert not genuine("", signed(body, ""), body, NOW)
    assert not genuine(SIGNING, {}, body, NOW)
    later = str(int(NOW.timestamp()) + 5)
    assert not genuine(SIGNING, good | {"X-Slack-Request-Timestamp": later}, body, NOW)
    assert not genuine(SIGNING, good | {"X-Slack-Signature": "v0=\u20ac"}, body, NOW)


@pytest.mark.parametrize("stamp", ["", "soon", "-5", "1e9", "\u0661\u0662", "9" * 400, "1.5"])
def test_a_junk_timestamp_is_refused_quietly(stamp: str) -> None:
    body = b"payload={}"
    assert not genuine(SIGNING, signed(body, stamp=stamp), body, NOW)


def test_a_replayed_request_is_recognised() -> None:
    clock = SteppedClock()
    seen = Seen(clock)
    first, second = parse_body(body_of(click())), parse_body(body_of(click()))
    assert first and second and delivery_key(first) == delivery_key(second)
    assert seen.first(delivery_key(first)) and not seen.first(delivery_key(second))
    clock.move(601)
    assert seen.first(delivery_key(second))


def test_what_is_remembered_is_bounded() -> None:
    seen = Seen(SteppedClock())
    assert all(seen.first(str(n)) for n in range(2001))
    assert seen.first("0") and not seen.first("2000")


@pytest.mark.parametrize("decision", list(Decision))
def test_a_click_says_who_wants_what(decision: Decision) -> None:
    payload = click()
    payload["actions"][0]["action_id"] = f"mcp_devops_{decision.value}"
    read = parse_body(body_of(payload))
    assert isinstance(read, Click)
    assert read.decision is decision and read.approval_id == "apr-0011223344"
    assert read.plan_digest == "0123456789abcdef"
    assert (read.user_id, read.user_name, read.team_id) == ("U0ANN", "ann", "T1")
    assert read.message and read.message.channel == CHANNEL
    assert "secretsecret" not in repr(read) and "secretsecret" not in read.model_dump_json()


def test_two_clicks_of_one_person_are_two() -> None:
    again = click()
    again["actions"][0]["action_ts"] = "1772334726.000001"
    one, two = parse_payload(click()), parse_payload(again)
    assert one and two and delivery_key(one) != delivery_key(two)


def test_a_click_whose_message_or_name_is_not_told_is_still_a_click() -> None:
    read = parse_payload(
        click(message=None, container=None, channel=None, team=None, response_url=None,
              user={"id": "U0ANN", "team_id": "T2", "name": "\x1b[1m"})
    )  # fmt: skip
    assert read and read.message is None and read.response_url is None
    assert read.team_id == "T2" and read.user_name == "U0ANN"


@pytest.mark.parametrize("payload", [click(type="view_submission"), click(type=None)])
def test_other_interactions_are_not_ours(payload: dict[str, Any]) -> None:
    assert parse_body(body_of(payload)) is None


def test_another_button_is_not_ours() -> None:
    payload = click()
    payload["actions"][0]["action_id"] = "open_dashboard"
    assert parse_payload(payload) is None


@pytest.mark.parametrize("value", ["", "apr-1", "apr-1:XYZ", "apr 1:0123456789abcdef", None, 3])
def test_our_button_with_another_value_is_refused(value: Any) -> None:
    payload = click()
    payload["actions"][0]["value"] = value
    with pytest.raises(InvalidArguments):
        parse_payload(payload)


@pytest.mark.parametrize("user", [None, {}, {"id": ""}, {"id": "U 1"}, {"id": "U" * 99}, "U1"])
def test_a_click_of_nobody_is_refused(user: Any) -> None:
    with pytest.raises(InvalidArguments):
        parse_payload(click(user=user))


@pytest.mark.parametrize(
    ("text", "verb", "subject"),
    [
        ("approve apr-0011223344", Verb.APPROVE, "apr-0011223344"),
        ("  REJECT   apr-1 ", Verb.REJECT, "apr-1"),
        ("deny apr-1", Verb.REJECT, "apr-1"),
        ("status", Verb.STATUS, ""),
        ("", Verb.STATUS, ""),
        ("status inc-1", Verb.STATUS, "inc-1"),
        ("approve", Verb.HELP, ""),
        ("approve apr-1 please", Verb.HELP, ""),
        ("approve ../etc", Verb.HELP, ""),
        ("reject <@U1>", Verb.HELP, ""),
        ("delete apr-1", Verb.HELP, ""),
    ],
)
def test_a_command_is_read_and_never_guessed(text: str, verb: Verb, subject: str) -> None:
    read = parse_body(urlencode(command(text)).encode())
    assert isinstance(read, Command)
    assert (read.verb, read.subject) == (verb, subject)
    assert read.user_id == "U0ANN" and read.channel == CHANNEL
    assert "secretsecret" not in repr(read)
    assert delivery_key(read) == delivery_key(parse_command(command(text)))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff\xfe", b"payload=", b"payload=[]", b"payload=" + b"[" * 50_000, b"a=b",
        b"command=%2Fmcp-devops", b"&".join(b"a=1" for _ in range(200)), b"x" * 1_000_001,
        body_of(click(actions=[])), body_of(click(actions="x")), body_of(click(actions=[1])),
    ],
)  # fmt: skip
def test_junk_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArguments):
        parse_body(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(click())), JSON), st.integers(0, 4))
def test_whatever_a_payload_holds_it_is_read_or_refused(changes: dict[str, Any], how: int) -> None:
    payload = click() | (changes if how else {})
    try:
        read = parse_body(body_of(payload))
    except InvalidArguments as refused:
        assert len(str(refused)) < 300
    else:
        assert read is None or (isinstance(read, Click) and read.user_id)


@given(st.binary(max_size=300) | st.text().map(lambda t: b"payload=" + t.encode("utf-8", "ignore")))
def test_random_bytes_are_refused_and_never_genuine(body: bytes) -> None:
    assert not genuine(SIGNING, {"X-Slack-Signature": "v0=00"}, body, NOW)
    with contextlib.suppress(InvalidArguments):
        parse_body(body)


@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    for parse in (parse_payload, parse_command):
        with contextlib.suppress(InvalidArguments):
            parse(json.loads(json.dumps(value)))
