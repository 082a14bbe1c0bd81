"""What Slack sends when people click or type: is it really Slack, and what do they want. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from pydantic import SecretStr

from mcp_devops.errors import InvalidArguments
from mcp_devops.integrations.slack.approvals import ACTIONS, APPROVAL_ID, read_value
from mcp_devops.integrations.slack.records import Click, Command, MessageRef, Verb
from mcp_devops.text.clean import clean

SIGNATURE = "x-slack-signature"
TIMESTAMP = "x-slack-request-timestamp"
WINDOW_S = 300
"""Seconds that a signed request may be old, or ahead: Slack's own figure."""
MAX_BODY_BYTES = 1_000_000
"""Bytes of a request that are looked at; real ones are some kilobytes."""
USAGE = "approve ID | reject ID | status"
"""What follows the slash command."""

Interaction = Click | Command


def genuine(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Whether Slack signed exactly this body within the last five minutes.

    The same request may be replayed within those minutes: remember `delivery_key`.

    Args:
        secret: The app's signing secret.
        headers: Any case.
        body: The bytes as they came, before any parsing.
        now: The present.
    """
    given = {k.lower(): v for k, v in headers.items() if k.lower() in (SIGNATURE, TIMESTAMP)}
    stamp = given.get(TIMESTAMP, "")
    if not secret or not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        return False
    if abs(now.timestamp() - int(stamp)) > WINDOW_S:
        return False
    base = b"v0:" + stamp.encode() + b":" + body
    want = b"v0=" + hmac.new(secret.encode(), base, hashlib.sha256).hexdigest().encode()
    return hmac.compare_digest(want, given.get(SIGNATURE, "").encode())


def parse_body(body: bytes) -> Interaction | None:
    """Read a request whose signature was found genuine: a click or a slash command.

    Returns:
        The interaction, or None for one that is not ours (another button, a view, ...).

    Raises:
        InvalidArguments: It is neither.
    """
    if len(body) > MAX_BODY_BYTES:
        raise _junk(f"larger than {MAX_BODY_BYTES:,} bytes")
    try:
        form = parse_qs(body.decode(), max_num_fields=100, keep_blank_values=True)
    except ValueError as problem:  # UnicodeDecodeError is one
        raise _junk("not a form") from problem
    if "payload" in form:
        try:
            payload = json.loads(form["payload"][0])
        except (ValueError, RecursionError) as problem:
            raise _junk("not JSON") from problem
        return parse_payload(payload)
    return parse_command({name: values[0] for name, values in form.items()})


def parse_payload(payload: Any) -> Click | None:
    """Read an interactive payload, as HTTP and Socket Mode carry it.

    Returns:
        The click on Approve or Reject, or None where nothing of ours was clicked.

    Raises:
        InvalidArguments: It has not the shape of one, or our button carries another's value.
    """
    if not isinstance(payload, Mapping):
        raise _junk("not an object")
    if payload.get("type") != "block_actions":
        return None
    actions = payload.get("actions")
    action = actions[0] if isinstance(actions, list) and actions else None
    if not isinstance(action, Mapping):
        raise _junk("without an action")
    decision = ACTIONS.get(str(action.get("action_id"))[:255])
    if decision is None:
        return None
    value = read_value(str(action.get("value"))[:255])
    if value is None:
        raise _junk("a button whose value is not ours")
    user = _mapping(payload.get("user"))
    user_id = _word(user.get("id"))
    if not user_id:
        raise _junk("without a user")
    return Click(
        decision=decision,
        approval_id=value[0],
        plan_digest=value[1],
        user_id=user_id,
        user_name=_line(user.get("username")) or _line(user.get("name")) or user_id,
        team_id=_word(_mapping(payload.get("team")).get("id")) or _word(user.get("team_id")),
        user_team_id=_word(user.get("team_id")),
        message=_message(payload),
        clicked_ts=_word(action.get("action_ts")),
        response_url=_url(payload.get("response_url")),
    )


def parse_command(form: Mapping[str, Any]) -> Command:
    """Read a slash command, as HTTP and Socket Mode carry it.

    Raises:
        InvalidArguments: It has not the shape of one.
    """
    if not isinstance(form, Mapping) or not isinstance(form.get("command"), str):
        raise _junk("neither a click nor a command")
    user_id = _word(form.get("user_id"))
    if not user_id:
        raise _junk("without a user")
    verb, subject = _verb(form.get("text"))
    return Command(
        verb=verb,
        subject=subject,
        user_id=user_id,
        user_name=_line(form.get("user_name")) or user_id,
        team_id=_word(form.get("team_id")),
        channel=_word(form.get("channel_id")),
        trigger=_word(form.get("trigger_id"), 200),
        response_url=_url(form.get("response_url")),
    )


def delivery_key(interaction: Interaction) -> str:
    """The same for repeated deliveries of one click or command."""
    if isinstance(interaction, Command):
        return f"command:{interaction.user_id}:{interaction.trigger}"
    parts = (interaction.user_id, interaction.clicked_ts, interaction.approval_id)
    return ":".join(("click", interaction.decision.value, *parts))


def _verb(text: Any) -> tuple[Verb, str]:
    words = _line(text, 200).split()
    verb = words[0].lower() if words else Verb.STATUS.value
    subject = words[1] if len(words) > 1 else ""
    if len(words) > 2 or (subject and not APPROVAL_ID.fullmatch(subject)):
        return Verb.HELP, ""
    if verb == Verb.STATUS.value:
        return Verb.STATUS, subject
    if verb == "deny":  # the terminal's word
        verb = Verb.REJECT.value
    if verb in (Verb.APPROVE.value, Verb.REJECT.value) and subject:
        return Verb(verb), subject
    return Verb.HELP, ""


def _message(payload: Mapping[str, Any]) -> MessageRef | None:
    held = _mapping(payload.get("container"))
    channel = _word(_mapping(payload.get("channel")).get("id")) or _word(held.get("channel_id"))
    ts = _word(_mapping(payload.get("message")).get("ts")) or _word(held.get("message_ts"))
    return MessageRef(channel=channel, ts=ts) if channel and ts else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _word(value: Any, max_chars: int = 64) -> str:
    """An identifier of Slack's; anything with another letter in it is none."""
    if not isinstance(value, str) or len(value) > max_chars or not value.isascii():
        return ""
    return value if value.replace(".", "").replace("-", "").replace("_", "").isalnum() else ""


def _line(value: Any, max_chars: int = 80) -> str:
    if not isinstance(value, str):
        return ""
    return " ".join(clean(value[:1000]).split())[:max_chars]


def _url(value: Any) -> SecretStr | None:
    return SecretStr(value) if isinstance(value, str) and 0 < len(value) <= 500 else None


def _junk(why: str) -> InvalidArguments:
    return InvalidArguments(
        f"The request from Slack cannot be read: it is {why}.",
        fix="Point only interactivity and the slash command at this address.",
        source="slack",
    )
