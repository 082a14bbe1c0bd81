"""What Slack's error words mean for whoever must fix them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    Unsupported,
    UpstreamUnavailable,
)

SOURCE = "slack"
_WORD = re.compile(r"[a-z0-9_.:-]{1,80}")
_SCOPES = re.compile(r"[a-z0-9_.:, -]{1,200}")

_TOKENS = frozenset(
    {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired",
     "not_allowed_token_type", "no_permission", "org_login_required", "access_denied"}
)  # fmt: skip
_MESSAGES = frozenset(
    {"msg_too_long", "msg_blocks_too_long", "invalid_blocks", "invalid_blocks_format", "no_text",
     "invalid_arguments", "invalid_arg_name", "invalid_json", "json_not_object", "too_many_members"}
)  # fmt: skip
_GONE = frozenset(
    {"message_not_found", "cant_update_message", "edit_window_closed", "is_inactive",
     "thread_not_found", "user_not_found", "users_not_found", "user_not_visible"}
)  # fmt: skip
_BUSY = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout",
                   "team_added_to_org"})  # fmt: skip


def ratelimited(retry_after: str) -> RateLimited:
    """The error of HTTP 429, or of its word."""
    known = retry_after.isdecimal() and len(retry_after) < 6
    return RateLimited(
        "Slack asks for a pause.",
        fix="Wait and repeat.",
        source=SOURCE,
        retry_after_s=int(retry_after) if known else None,
    )


def failure(method: str, body: Mapping[str, Any], token: str, retry_after: str = "") -> DevOpsError:
    """The error for an answer with `ok: false`.

    Args:
        method: Web API method that was called.
        body: The answer.
        token: Setting that held the token: BOT_TOKEN or APP_TOKEN.
        retry_after: Header of that name, where there was one.
    """
    word = _matched(_WORD, body.get("error")) or "no reason given"
    if word in ("ratelimited", "rate_limited"):
        return ratelimited(retry_after)
    if word in _TOKENS:
        return CredentialsRejected(
            f"Slack refuses the token ({word}).",
            fix=f"Check MCP_DEVOPS_SLACK__{token}: install the app again and copy its token.",
            source=SOURCE,
        )
    if word == "missing_scope":
        needed = _matched(_SCOPES, body.get("needed")) or "one that it does not name"
        return PermissionDenied(
            f"Slack's {method} needs the scope {needed}, which the token does not have.",
            fix=f"Add the scope {needed} under OAuth & Permissions and install the app again.",
            source=SOURCE,
            grants=[needed],
        )
    if word == "not_in_channel":
        return PermissionDenied(
            "The Slack app is not a member of the channel.",
            fix="Invite it there: /invite @its-name.",
            source=SOURCE,
        )
    if word in ("channel_not_found", "is_archived"):
        what = "is archived" if word == "is_archived" else "does not exist for the app"
        return NotFound(
            f"The Slack channel {what} ({word}).",
            fix="Set MCP_DEVOPS_SLACK__CHANNEL to a channel id; invite the app if it is private.",
            source=SOURCE,
        )
    return _other(method, word)


def _other(method: str, word: str) -> DevOpsError:
    if word in _GONE:
        return PreconditionFailed(
            f"Slack does not have what {method} is about any more ({word}).",
            fix="Post a new message.",
            source=SOURCE,
            word=word,
        )
    if word in _MESSAGES:
        return InvalidArguments(
            f"Slack refuses the message ({word}).",
            fix="Send a shorter one, and report this: messages are built to fit.",
            source=SOURCE,
        )
    if word in _BUSY:
        return UpstreamUnavailable(f"Slack failed ({word}).", fix="Repeat it.", source=SOURCE)
    return Unsupported(
        f"Slack refuses {method} ({word}).",
        fix="Look the word up under that method in Slack's documentation.",
        source=SOURCE,
    )


def _matched(pattern: re.Pattern[str], value: Any) -> str:
    """A word of Slack's that may stand in our sentence; anything else is left out."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""
