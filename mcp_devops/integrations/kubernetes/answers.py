"""What the API server's refusals mean: a status and its body become one of our errors. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    Unsupported,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.kubernetes.paths import Target, grant_command

SOURCE = "kubernetes"
_USER = re.compile(r'User "([^"\n]{1,253})" cannot ')
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
DEFAULT_RETRY_AFTER_S = 1.0


def parse_status(body: bytes) -> Mapping[str, Any]:
    """The body as a Status object; an empty mapping where it is none."""
    try:
        status = json.loads(body)
    except ValueError:
        return {}
    return status if isinstance(status, Mapping) else {}


def said(status: Mapping[str, Any], body: bytes = b"") -> str:
    """The server's own words, without control characters."""
    message = status.get("message") or body[:1024].decode("utf-8", "replace")
    return _CONTROL.sub(" ", str(message)).strip()


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a 429 asks to wait; one second where it says nothing usable."""
    try:
        return max(0.0, float(headers.get("retry-after", DEFAULT_RETRY_AFTER_S)))
    except ValueError:
        return DEFAULT_RETRY_AFTER_S


def causes(status: Mapping[str, Any]) -> list[dict[str, str]]:
    """The causes of a 422 as field and message."""
    details = status.get("details")
    found = details.get("causes") if isinstance(details, Mapping) else None
    return [
        {"field": str(c.get("field", "")), "message": str(c.get("message", ""))[:300]}
        for c in (found or [])[:10]
        if isinstance(c, Mapping)
    ]


def refusal(
    code: int,
    body: bytes,
    headers: Mapping[str, str],
    target: Target,
    *,
    context: str,
    sent_change: bool,
) -> DevOpsError:
    """The error for an answer that is not a success.

    Args:
        code: HTTP status.
        body: Start of the body.
        headers: Lower-case keys.
        target: What was asked.
        context: Kubeconfig context, for the sentence.
        sent_change: Whether the request may have changed something (a write, no dry run).
    """
    status = parse_status(body)
    words = said(status, body)
    at = f"context {context}"
    if code == 403 and status.get("kind") == "Status":
        return _denied(words, target, at)
    if code in (401, 403):
        return CredentialsRejected(
            f"The API server of {at} does not accept the credentials ({code}).",
            fix="Log in again or renew the token; `kubectl auth whoami` shows who you are.",
            source=SOURCE,
            upstream=words,
            status=code,
        )
    if code == 404:
        return NotFound(
            f"Not found: {_thing(target)}.",
            fix=f"Check name, namespace and context; this was {at}.",
            source=SOURCE,
            upstream=words,
        )
    if code in (409, 422):
        return PreconditionFailed(
            f"The API server refused to {target}: "
            + ("it changed in the meantime." if code == 409 else "the change is not valid."),
            fix="Read the object again and decide anew."
            if code == 409
            else "See details.causes; nothing was changed.",
            source=SOURCE,
            upstream=words,
            status=code,
            causes=causes(status),
        )
    if code == 410:
        return PreconditionFailed(
            "The list position is too old.", fix="List again.", source=SOURCE, status=code
        )
    if code == 429:
        return RateLimited(
            f"The API server of {at} asks for a pause.",
            fix="Wait and repeat the call.",
            source=SOURCE,
            upstream=words,
            retry_after_s=retry_after(headers),
        )
    if code in (405, 406, 415, 501):
        return Unsupported(
            f"The API server cannot {target}.", fix="It may be too old.", source=SOURCE,
            upstream=words,
        )  # fmt: skip
    if 400 <= code < 500:
        return InvalidArguments(
            f"The API server refused to {target} ({code}).",
            fix="See what it said.",
            source=SOURCE,
            upstream=words,
            status=code,
        )
    # A webhook that fails refuses before anything is stored; other 5xx may come after.
    if sent_change and "failed calling webhook" not in words:
        return outcome_unknown(target, f"it answered {code}", words)
    if code == 504 and status.get("reason") == "Timeout":
        return UpstreamTimeout(
            f"The API server of {at} ran out of time ({target}).",
            fix="Repeat the call.",
            source=SOURCE,
            upstream=words,
        )
    return UpstreamUnavailable(
        f"The API server of {at} failed with {code} ({target}).",
        fix="Repeat the call; if it stays, look at the control plane or the proxy before it.",
        source=SOURCE,
        upstream=words,
        status=code,
    )


def outcome_unknown(target: Target, why: str, upstream: str = "") -> OutcomeUnknown:
    """A change was sent and nobody knows whether it happened."""
    return OutcomeUnknown(
        f"Sent, outcome unknown ({target}): {why}.",
        fix="Read the object to see whether the change is there; do not repeat it blindly.",
        source=SOURCE,
        upstream=upstream,
    )


def not_the_api(target: Target, context: str, content_type: str, status: int) -> DevOpsError:
    """A success that is not the Kubernetes API's: a login page, a proxy's greeting."""
    return UpstreamUnavailable(
        f"The server of context {context} answered {target} with {status} and"
        f" {_CONTROL.sub('', content_type)[:60] or 'no content type'} that is not Kubernetes JSON.",
        fix="Check the server address; a proxy or a login page may stand before it.",
        source=SOURCE,
        status=status,
    )


def _denied(words: str, target: Target, at: str) -> DevOpsError:
    match = _USER.search(words)
    user = match[1] if match else ""
    if user == "system:anonymous":
        return CredentialsRejected(
            f"The API server of {at} takes us for anonymous.",
            fix="The context's user entry has no credential that it accepts; log in again.",
            source=SOURCE,
            upstream=words,
        )
    grant = grant_command(target.verb, target.resource, target.group, target.namespace, user)
    return PermissionDenied(
        f"User {user or '(unnamed)'} may not {target} ({at}).",
        fix=f"An administrator can grant it: {grant}",
        source=SOURCE,
        upstream=words,
        grants=[grant],
        user=user,
        verb=target.verb,
        resource=target.resource,
        group=target.group,
        namespace=target.namespace,
    )


def _thing(target: Target) -> str:
    where = f" in namespace {target.namespace}" if target.namespace else ""
    return f"{target.resource} {target.name or ''}".strip() + where
