"""Below the requests: TLS, deadlines, broken connections, lines of a stream."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio

from mcp_devops.errors import DevOpsError, UpstreamTimeout, UpstreamUnavailable
from mcp_devops.integrations.kubernetes import answers
from mcp_devops.integrations.kubernetes.answers import SOURCE
from mcp_devops.integrations.kubernetes.credentials import Credential
from mcp_devops.integrations.kubernetes.kubeconfig import ContextEntry
from mcp_devops.integrations.kubernetes.paths import Target


class Deadline:
    """A cancel scope that ends in one of our errors."""

    def __init__(self, seconds: float, error: Callable[[], DevOpsError]) -> None:
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + seconds)
        self._error = error

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(self, *problem: Any) -> bool | None:
        swallowed = self._scope.__exit__(*problem)
        if self._scope.cancelled_caught:
            raise self._error()
        return swallowed


class TransportErrors:
    """Turns what httpx2 raises into our errors."""

    def __init__(self, entry: ContextEntry, target: Target, changes: bool, seconds: float) -> None:
        self._entry, self._target, self._changes = entry, target, changes
        self._seconds = seconds

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> None:
        import httpx2

        if not isinstance(problem, httpx2.HTTPError | httpx2.InvalidURL):
            return
        name, server = self._entry.name, self._entry.server
        not_sent = (
            httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError,
            httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError,
        )  # fmt: skip
        if self._changes and not isinstance(problem, not_sent):
            raise answers.outcome_unknown(self._target, type(problem).__name__) from problem
        if isinstance(problem, httpx2.TimeoutException):
            raise timed_out(self._target, name, self._seconds, type(problem).__name__) from problem
        if isinstance(problem, httpx2.ConnectError):
            what = f"The API server of context {name} cannot be reached at {server}"
        else:
            what = f"The connection to the API server of context {name} broke ({self._target})"
        raise UpstreamUnavailable(
            f"{what} ({type(problem).__name__}).",
            fix="Check that the cluster runs and that network, VPN and proxy lead to it.",
            source=SOURCE,
            upstream=_root(problem),
        ) from problem


def _root(problem: BaseException) -> str:
    """The operating system's words below a transport error, such as "Connection refused"."""
    inner: BaseException | None = problem
    while inner is not None:
        if isinstance(inner, ssl.SSLError | OSError) and inner.strerror:
            return str(inner.strerror)
        inner = inner.__cause__ or inner.__context__
    return str(problem)


def timed_out(target: Target, context: str, seconds: float, kind: str = "") -> UpstreamTimeout:
    """A read had no answer in time."""
    return UpstreamTimeout(
        f"The API server of context {context} did not answer within {seconds:g} s ({target})"
        f"{f': {kind}' if kind else ''}.",
        fix="Repeat the call, or raise [kubernetes] request_timeout_s.",
        source=SOURCE,
    )


async def lines(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Split a stream into lines of at most `limit` bytes; empty ones are left out."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        *whole, rest = held.split(b"\n") if b"\n" in chunk else [held]
        held = bytearray(rest)
        for line in whole:
            if line.strip():
                yield bytes(line)
        if len(held) > limit:
            raise UpstreamUnavailable(
                "A watch event is longer than any object.", fix="Check the server.", source=SOURCE
            )
    if held.strip():
        yield bytes(held)


def ssl_context(entry: ContextEntry, credential: Credential) -> ssl.SSLContext:
    """TLS as the kubeconfig asks for it; blocking."""
    context = ssl.create_default_context(
        cadata=entry.ca.read().decode("ascii") if entry.ca is not None else None
    )
    if entry.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if credential.certificate is not None and credential.key is not None:
        # OpenSSL loads a chain from files only; inline ones live for a moment in a private folder.
        with tempfile.TemporaryDirectory(prefix="mcp-devops-") as folder:
            chain = Path(folder) / "chain"
            chain.touch(mode=0o600)
            chain.write_bytes(credential.certificate.read() + b"\n" + credential.key.read())
            context.load_cert_chain(chain)
    return context
