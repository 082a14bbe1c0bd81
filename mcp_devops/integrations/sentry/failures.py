"""What a failed request to Sentry means, and who can fix it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    PermissionDenied,
    RateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.sentry.foreign import shown
from mcp_devops.integrations.sentry.settings import SentrySettings

SOURCE = "sentry"


def address(settings: SentrySettings) -> str:
    """Scheme, host and port."""
    url = urlsplit(settings.base)
    return f"{url.scheme}://{url.netloc}"


def failure(settings: SentrySettings, status: int, body: Any, scope: str) -> DevOpsError:
    """The error for an answer that is neither a success nor a 404."""
    said = detail(body)
    if status == 401:
        return CredentialsRejected(
            "Sentry does not know the token (HTTP 401).",
            fix="Check MCP_DEVOPS_SENTRY__TOKEN: a token of an internal integration.",
            source=SOURCE,
            upstream=said,
        )
    if status == 403:
        return PermissionDenied(
            f"The token may not do this (HTTP 403); it needs the scope {scope}, or access to the"
            " project.",
            fix=f"Give the internal integration {scope}; organisation tokens (sntrys_) cannot"
            " have it.",
            source=SOURCE,
            upstream=said,
            grants=[scope],
        )
    if status in (400, 422):
        return InvalidArguments(
            f"Sentry does not take the query (HTTP {status}).",
            fix="Correct the release, environment or window.",
            source=SOURCE,
            upstream=said,
        )
    if 300 <= status < 400:
        return UpstreamUnavailable(
            f"Sentry at {address(settings)} redirects (HTTP {status}); the token is not sent on.",
            fix="Set MCP_DEVOPS_SENTRY__URL to the address that Sentry itself uses.",
            source=SOURCE,
        )
    return UpstreamUnavailable(
        f"Sentry failed (HTTP {status}).",
        fix="Wait and repeat; see its status page.",
        source=SOURCE,
        upstream=said,
        status=status,
    )


def detail(body: Any) -> str:
    """What Sentry says about a failure: a text, or an object with one."""
    said = body.get("detail", "") if isinstance(body, dict) else ""
    if isinstance(said, dict):
        said = said.get("message", "")
    return shown(said, 200)


def not_json(settings: SentrySettings, status: int) -> UpstreamUnavailable:
    """A proxy or a login page answered in Sentry's place."""
    return UpstreamUnavailable(
        f"{address(settings)} answered HTTP {status} without JSON: a login page or a proxy.",
        fix="Check MCP_DEVOPS_SENTRY__URL, and that the API is not behind a login.",
        source=SOURCE,
    )


def limited(wait_s: float) -> RateLimited:
    """Sentry asks for a longer pause than the call has."""
    return RateLimited(
        f"Sentry asks for a pause of {wait_s:.0f} s (HTTP 429).",
        fix="Wait and repeat.",
        source=SOURCE,
        retry_after_s=round(wait_s),
    )


def too_late(settings: SentrySettings) -> UpstreamTimeout:
    """The deadline passed."""
    return UpstreamTimeout(
        f"Sentry did not answer within {settings.timeout_s:g} s.",
        fix="Repeat, or raise MCP_DEVOPS_SENTRY__TIMEOUT_S.",
        source=SOURCE,
    )


def too_much(most: int) -> UpstreamUnavailable:
    """The answer is larger than anything that was asked for."""
    return UpstreamUnavailable(
        f"The answer has more than {most:,} bytes.",
        fix="Ask for a narrower project, release or window.",
        source=SOURCE,
    )


def cannot_reach(settings: SentrySettings, problem: Exception) -> UpstreamUnavailable:
    """There is no connection."""
    return UpstreamUnavailable(
        f"Sentry at {address(settings)} cannot be reached ({type(problem).__name__}).",
        fix="Check MCP_DEVOPS_SENTRY__URL and the network; see `mcp-devops doctor`.",
        source=SOURCE,
    )
