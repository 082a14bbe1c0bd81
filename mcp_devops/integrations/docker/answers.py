"""What the engine answers, and what goes wrong on the way to it, as our errors."""

from __future__ import annotations

import json
import ssl
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
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.docker.hosts import SOURCE, Endpoint


def parsed(body: bytes) -> Any:
    """A JSON body.

    Raises:
        UpstreamUnavailable: It is not JSON: something else listens there.
    """
    try:
        return json.loads(body)
    except ValueError as wrong:
        raise UpstreamUnavailable(
            "The engine's answer is not JSON, or is cut off.",
            fix="Check that MCP_DEVOPS_DOCKER__HOST leads to a container engine; then repeat.",
            source=SOURCE,
        ) from wrong


def said(body: bytes) -> str:
    """The engine's message in an error's body; empty where there is none."""
    try:
        told = json.loads(body)
    except ValueError:
        return ""
    return str(told.get("message", "")) if isinstance(told, dict) else ""


def failure(status: int, body: bytes, retry_after: str = "") -> DevOpsError:
    """The error that an answer other than 2xx stands for."""
    upstream = said(body)

    def made(kind: type[DevOpsError], what: str, fix: str, **details: Any) -> DevOpsError:
        told = f"{what} (HTTP {status})."
        return kind(told, fix=fix, source=SOURCE, upstream=upstream, **details)

    if status == 404:
        return made(NotFound, "The engine does not have it", "Check the name.")
    if status == 400:
        return made(InvalidArguments, "The engine refused the request", "Correct the arguments.")
    if status == 401:
        fix = "Check the client certificate: MCP_DEVOPS_DOCKER__TLS_CERT and TLS_KEY."
        return made(CredentialsRejected, "The engine does not know us", fix)
    if status == 403:
        fix = "Let the proxy or authorisation plugin before the engine permit GET on images,"
        return made(PermissionDenied, "Reading is forbidden", f"{fix} containers and version.")
    if status == 409:
        return made(PreconditionFailed, "Its state does not allow it now", "Look again, repeat.")
    if status == 429:
        seconds = int(retry_after) if retry_after.isdecimal() else None
        return made(RateLimited, "The engine asks for a pause", "Wait.", retry_after_s=seconds)
    if status == 501:
        fix = "Use what the engine has, or another engine."
        return made(Unsupported, "The engine cannot do that", fix)
    return made(UpstreamUnavailable, "The engine failed", "Look at its log, and repeat.")


def unreachable(endpoint: Endpoint, problem: BaseException) -> DevOpsError:
    """The error for a connection that did not come about, or broke."""
    root = _root(problem)
    if isinstance(root, PermissionError):
        return PermissionDenied(
            f"This user may not open the engine's socket {endpoint}.",
            fix="Let an administrator add it to the socket's group (`usermod -aG docker USER`, new"
            " login), or point MCP_DEVOPS_DOCKER__HOST at a rootless engine's own socket.",
            source=SOURCE,
        )
    if isinstance(root, ssl.SSLError):
        return CredentialsRejected(
            f"TLS with the engine at {endpoint} failed.",
            fix="Check MCP_DEVOPS_DOCKER__TLS_CA, TLS_CERT and TLS_KEY against the engine's.",
            source=SOURCE,
            upstream=str(root.reason or ""),
        )
    name = type(root or problem).__name__
    return UpstreamUnavailable(
        f"The container engine at {endpoint} cannot be reached, or broke off ({name}).",
        fix=f"Check that it runs, and the address from {endpoint.origin}; see `mcp-devops doctor`.",
        source=SOURCE,
        upstream=str(getattr(root, "strerror", None) or ""),
    )


def too_late(endpoint: Endpoint, seconds: float) -> UpstreamTimeout:
    """The error for a deadline that passed."""
    return UpstreamTimeout(
        f"The container engine at {endpoint} did not answer within {seconds:g} s.",
        fix="Look at its load, or raise MCP_DEVOPS_DOCKER__REQUEST_TIMEOUT_S.",
        source=SOURCE,
    )


def _root(problem: BaseException) -> OSError | None:
    """The operating system's error below what the HTTP library raised."""
    inner: BaseException | None = problem
    seen: set[int] = set()
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        if isinstance(inner, OSError):
            return inner
        inner = inner.__cause__ or inner.__context__
    return None
