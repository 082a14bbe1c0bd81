"""Who we are for one context: tokens, certificates and credential plug-ins.

Plug-ins are run here and not by the `kubernetes` package: it lets them inherit stdin, which is
the MCP pipe, and never stops one that waits for a browser.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from mcp_devops.errors import (
    CredentialsRejected,
    NotConfigured,
    Unsupported,
    UpstreamTimeout,
)
from mcp_devops.integrations.kubernetes.kubeconfig import ContextEntry, Material, material

if TYPE_CHECKING:
    from anyio.abc import ByteReceiveStream

    from mcp_devops.toolkit.clock import Clock

TOKEN_FILE_REREAD_S = 60.0
"""Seconds a token file's content is trusted; client-go reads it again each minute too."""
EXPIRY_MARGIN = timedelta(seconds=10)
"""A plug-in's token is renewed this long before it expires."""
PLUGIN_OUTPUT_LIMIT = 1024 * 1024
"""Bytes of a plug-in's output that are read; a credential has a few kilobytes."""
API_VERSIONS = frozenset(f"client.authentication.k8s.io/{v}" for v in ("v1", "v1beta1"))


@dataclass(frozen=True)
class Credential:
    """What proves who we are, for one moment. `repr` shows none of it."""

    authorization: str | None = field(default=None, repr=False)
    certificate: Material | None = field(default=None, repr=False)
    key: Material | None = field(default=None, repr=False)
    renew_at: float | None = None
    """Monotonic second at which it is to be fetched again; None: when it is rejected."""


async def fetch(entry: ContextEntry, clock: Clock, exec_timeout_s: float) -> Credential:
    """Work out the credential of a context: token, token file, plug-in, basic, certificate.

    Raises:
        CredentialsRejected: The plug-in refused.
        NotConfigured: A file or the plug-in is not there, or its answer is not a credential.
        Unsupported: The kubeconfig uses a way that no current kubectl has either.
        UpstreamTimeout: The plug-in did not end in time and was stopped.
    """
    user = entry.user
    try:
        certificate = material(user, "client-certificate", entry.user_dir)
        key = material(user, "client-key", entry.user_dir)
    except ValueError:
        raise NotConfigured(
            f"The client certificate of context {entry.name!r} is not base64.",
            fix="Write the user entry of the kubeconfig again.",
            source="kubernetes",
        ) from None
    if path := user.get("tokenFile"):
        token = await _token_file(entry, _beside(entry, str(path)))
        return Credential(
            f"Bearer {token}", certificate, key, clock.monotonic() + TOKEN_FILE_REREAD_S
        )
    if user.get("token"):
        return Credential(f"Bearer {user['token']}", certificate, key)
    if plugin := user.get("exec"):
        return await _from_plugin(entry, plugin, clock, exec_timeout_s)
    if provider := user.get("auth-provider"):
        if id_token := (provider.get("config") or {}).get("id-token"):
            return Credential(f"Bearer {id_token}", certificate, key)
        raise Unsupported(
            f"Context {entry.name!r} uses the auth-provider {provider.get('name')!r},"
            " which kubectl removed in 1.26.",
            fix="Use the provider's credential plug-in (a user entry with `exec`).",
            source="kubernetes",
        )
    if user.get("username") and user.get("password"):
        pair = base64.b64encode(f"{user['username']}:{user['password']}".encode()).decode()
        return Credential(f"Basic {pair}", certificate, key)
    return Credential(None, certificate, key)


def _beside(entry: ContextEntry, path: str) -> Path:
    return entry.user_dir / Path(path).expanduser()


async def _token_file(entry: ContextEntry, path: Path) -> str:
    try:
        return (await anyio.Path(path).read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as e:
        raise NotConfigured(
            f"The token file of context {entry.name!r} cannot be read: {path}"
            f" ({type(e).__name__}).",
            fix="Check the path and its permissions.",
            source="kubernetes",
        ) from e


async def _from_plugin(
    entry: ContextEntry, plugin: Mapping[str, Any], clock: Clock, timeout_s: float
) -> Credential:
    version = str(plugin.get("apiVersion", ""))
    command = str(plugin.get("command", ""))
    if version not in API_VERSIONS or not command:
        raise Unsupported(
            f"The credential plug-in of context {entry.name!r} speaks {version!r}.",
            fix=f"Supported: {', '.join(sorted(API_VERSIONS))}. Update the plug-in's kubeconfig.",
            source="kubernetes",
        )
    if plugin.get("interactiveMode") == "Always":
        raise Unsupported(
            f"The credential plug-in of context {entry.name!r} insists on a terminal.",
            fix="Log in with it once in a shell, or use a service account's token.",
            source="kubernetes",
        )
    if "/" in command and not Path(command).is_absolute():
        command = str(entry.user_dir / command)
    arguments = [command, *map(str, plugin.get("args") or ())]
    try:
        info = _exec_info(entry, plugin, version)
    except OSError as e:
        raise NotConfigured(
            f"The certificate authority of context {entry.name!r} cannot be read"
            f" ({type(e).__name__}), and its credential plug-in asks for it.",
            fix="Check certificate-authority in the kubeconfig.",
            source="kubernetes",
        ) from e
    environment = {
        **os.environ,
        **{str(e.get("name")): str(e.get("value", "")) for e in plugin.get("env") or ()},
        "KUBERNETES_EXEC_INFO": json.dumps(info),
    }
    code, out, err = await run_plugin(
        arguments, environment, timeout_s, entry.name, str(plugin.get("installHint") or "")
    )
    if code:
        raise CredentialsRejected(
            f"The credential plug-in {Path(command).name!r} of context {entry.name!r}"
            f" ended with exit code {code}.",
            fix=f"Run `{Path(command).name}` in a shell; it often asks to log in again.",
            source="kubernetes",
            upstream=err.decode("utf-8", "replace").strip(),
        )
    return _read_credential(entry, out, version, clock)


def _exec_info(entry: ContextEntry, plugin: Mapping[str, Any], version: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        info = entry.cluster_info
        spec["cluster"] = {
            to: info[key]
            for key, to in (
                ("server", "server"),
                ("tls-server-name", "tls-server-name"),
                ("insecure-skip-tls-verify", "insecure-skip-tls-verify"),
                ("certificate-authority-data", "certificate-authority-data"),
                ("proxy-url", "proxy-url"),
            )
            if key in info
        }
        if entry.ca is not None and "certificate-authority-data" not in info:
            spec["cluster"]["certificate-authority-data"] = base64.b64encode(
                entry.ca.read()
            ).decode()
        for extension in info.get("extensions") or ():
            if extension.get("name") == "client.authentication.k8s.io/exec":
                spec["cluster"]["config"] = extension.get("extension")
    return {"kind": "ExecCredential", "apiVersion": version, "spec": spec}


def _read_credential(entry: ContextEntry, out: bytes, version: str, clock: Clock) -> Credential:
    try:
        answer = json.loads(out)
        status = answer["status"]
        wrong_version = answer.get("apiVersion") != version
        token = status.get("token")
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        expires = status.get("expirationTimestamp")
        renew_at = None
        if expires:
            left = datetime.fromisoformat(expires) - EXPIRY_MARGIN - clock.now()
            renew_at = clock.monotonic() + max(0.0, left.total_seconds())
    except (ValueError, KeyError, TypeError, AttributeError):
        token = certificate = key = None
        wrong_version, renew_at = False, None
    if wrong_version or not (token or (certificate and key)):
        raise NotConfigured(
            f"The credential plug-in of context {entry.name!r} printed no {version} credential.",
            fix="Run it in a shell: it must print an ExecCredential with a status.",
            source="kubernetes",
        )
    return Credential(
        f"Bearer {token}" if token else None,
        Material(data=certificate.encode()) if certificate and key else None,
        Material(data=key.encode()) if certificate and key else None,
        renew_at,
    )


async def run_plugin(
    arguments: list[str],
    environment: Mapping[str, str],
    timeout_s: float,
    context: str,
    install_hint: str = "",
) -> tuple[int, bytes, bytes]:
    """Run a plug-in in a process group of its own, without stdin.

    Returns:
        Exit code, output, error output; both bounded.

    Raises:
        NotConfigured: It cannot be started.
        UpstreamTimeout: It did not end in `timeout_s` seconds; its group was killed.
    """
    try:
        process = await anyio.open_process(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as e:
        raise NotConfigured(
            f"The credential plug-in {arguments[0]!r} of context {context!r} cannot be started"
            f" ({e.strerror}).",
            fix=install_hint[:200] or "Install it, or correct `command` in the kubeconfig.",
            source="kubernetes",
        ) from e
    out, err = bytearray(), bytearray()
    ended = False
    try:
        with anyio.move_on_after(timeout_s):
            async with anyio.create_task_group() as group:
                group.start_soon(_drain, process.stdout, out)
                group.start_soon(_drain, process.stderr, err)
            await process.wait()
            ended = True
    finally:
        if not ended:
            _kill_group(process.pid)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    if not ended:
        raise UpstreamTimeout(
            f"The credential plug-in of context {context!r} did not end within {timeout_s:g} s"
            " and was stopped.",
            fix="Log in with it in a shell first; it may be waiting for a browser.",
            source="kubernetes",
            upstream=err.decode("utf-8", "replace").strip(),
        )
    return process.returncode or 0, bytes(out), bytes(err)


async def _drain(stream: ByteReceiveStream | None, into: bytearray) -> None:
    if stream is None:
        return
    async for chunk in stream:
        into += chunk[: PLUGIN_OUTPUT_LIMIT - len(into)]


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # It ended between the deadline and this line; aclose() reaps it.
        return
