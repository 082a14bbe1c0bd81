"""Where the engine is: settings, environment, Docker contexts, the usual socket, in that order."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mcp_devops.errors import NotConfigured, Unsupported
from mcp_devops.integrations.docker.settings import DockerSettings

if TYPE_CHECKING:
    import ssl

SOURCE = "docker"
USUAL_SOCKET = Path("/var/run/docker.sock")
SOCKET_PATH_BYTES = 107
"""Longest path of a unix socket on Linux: sun_path has 108 bytes, one of them the final zero."""


@dataclass(frozen=True)
class Tls:
    """Files of a TLS connection; None where the system's default holds."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Endpoint:
    """One engine's address."""

    url: str
    """unix://PATH, tcp://HOST:PORT, http(s)://… or ssh://…"""
    origin: str
    """Which setting or file named it, for messages."""
    tls: Tls | None = None
    """Set: the connection is TLS."""

    @property
    def scheme(self) -> str:
        """unix, tcp, http, https or ssh."""
        return self.url.split("://", 1)[0]

    @property
    def socket(self) -> str:
        """Path of a unix socket."""
        return self.url.removeprefix("unix://")

    @property
    def base_url(self) -> str:
        """Address for HTTP; of a socket a name that stands for it."""
        if self.scheme in ("unix", "ssh"):
            return "http://docker"
        parts = urlsplit(self.url)
        scheme = "https" if self.tls is not None or self.scheme == "https" else "http"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = parts.port or (2376 if scheme == "https" else 2375)
        return f"{scheme}://{host}:{port}"

    def __str__(self) -> str:
        """The address without credentials that somebody may have put into it."""
        if self.scheme == "unix":
            return self.url
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def why_off(settings: DockerSettings, environ: Mapping[str, str] | None = None) -> str | None:
    """Why there is nothing to do, or None. Looks at names and one file; connects to nothing.

    Scan reports can be compared without an engine.
    """
    if settings.scan_roots or names_engine(settings, environ):
        return None
    return f"neither MCP_DEVOPS_DOCKER__HOST nor DOCKER_HOST is set and {USUAL_SOCKET} is not there"


def names_engine(settings: DockerSettings, environ: Mapping[str, str] | None = None) -> bool:
    """Whether an engine is named, or is where it usually is. Connects to nothing."""
    if not settings.engine:
        return False
    environ = os.environ if environ is None else environ
    named = settings.host or environ.get("DOCKER_HOST") or _context_name(settings, environ)
    return bool(named) or USUAL_SOCKET.exists()


def find_endpoint(settings: DockerSettings, environ: Mapping[str, str] | None = None) -> Endpoint:
    """The engine that these settings and this environment mean.

    Raises:
        NotConfigured: None is named, or its address cannot be used.
        Unsupported: It is a kind of address that is not spoken here.
    """
    if not settings.engine:
        raise NotConfigured(
            "Asking a container engine is switched off.",
            fix="Set MCP_DEVOPS_DOCKER__ENGINE=true.",
            source=SOURCE,
        )
    environ = os.environ if environ is None else environ
    if settings.host:
        found = Endpoint(settings.host, "MCP_DEVOPS_DOCKER__HOST", _tls(settings, environ))
    elif not settings.context and environ.get("DOCKER_HOST"):
        found = Endpoint(environ["DOCKER_HOST"], "DOCKER_HOST", _tls(settings, environ))
    elif name := _context_name(settings, environ):
        found = _from_context(name)
    else:
        if not USUAL_SOCKET.exists():
            raise NotConfigured(
                f"No container engine is configured, and {USUAL_SOCKET} is not there.",
                fix="Set MCP_DEVOPS_DOCKER__HOST, such as unix:///run/user/1000/docker.sock.",
                source=SOURCE,
            )
        found = Endpoint(f"unix://{USUAL_SOCKET}", "the usual place")
    return _checked(found)


def _tls(settings: DockerSettings, environ: Mapping[str, str]) -> Tls | None:
    folder = environ.get("DOCKER_CERT_PATH")
    wanted = bool(environ.get("DOCKER_TLS_VERIFY")) or any(
        (settings.tls_ca, settings.tls_cert, settings.tls_key)
    )
    if not wanted:
        return None
    base = Path(folder) if folder else None
    return Tls(
        settings.tls_ca or (base / "ca.pem" if base else None),
        settings.tls_cert or (base / "cert.pem" if base else None),
        settings.tls_key or (base / "key.pem" if base else None),
    )


def _context_name(settings: DockerSettings, environ: Mapping[str, str]) -> str | None:
    """The context in force, unless it is the built-in default, which means the usual socket."""
    name = settings.context or environ.get("DOCKER_CONTEXT") or _current_context(environ)
    return None if name in (None, "", "default") else name


def _current_context(environ: Mapping[str, str]) -> str | None:
    folder = environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = config.get("currentContext") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None


def _from_context(name: str) -> Endpoint:
    """Ask Docker's own library: the layout of the context store is its business."""
    try:
        library = importlib.import_module("docker")
        contexts = importlib.import_module("docker.context").ContextAPI
    except ImportError as absent:
        raise NotConfigured(
            f"Docker context {name!r} cannot be read: the package docker is not installed.",
            fix="Install it, or set MCP_DEVOPS_DOCKER__HOST.",
            source=SOURCE,
        ) from absent
    try:
        context = contexts.get_context(name)
    except (library.errors.DockerException, OSError, ValueError, KeyError, TypeError) as wrong:
        raise NotConfigured(
            f"Docker context {name!r} cannot be read ({type(wrong).__name__}).",
            fix="See `docker context inspect`, or set MCP_DEVOPS_DOCKER__HOST.",
            source=SOURCE,
        ) from wrong
    if context is None or not context.Host:
        raise NotConfigured(
            f"There is no Docker context {name!r} with a host.",
            fix="See `docker context ls`, or set MCP_DEVOPS_DOCKER__HOST.",
            source=SOURCE,
        )
    made = context.TLSConfig
    tls = None
    if made is not None:
        cert, key = made.cert or (None, None)
        tls = Tls(*(Path(p) if p else None for p in (made.ca_cert, cert, key)))
    host = context.Host.replace("http+unix://", "unix://")
    return Endpoint(host, f"Docker context {name}", tls)


def _checked(found: Endpoint) -> Endpoint:
    if found.scheme not in ("unix", "tcp", "http", "https", "ssh"):
        raise Unsupported(
            f"{found.origin} names an engine by {found.scheme!r}, which is not spoken here.",
            fix="Use unix://, tcp:// (with TLS) or ssh://.",
            source=SOURCE,
        )
    if found.scheme == "unix" and len(os.fsencode(found.socket)) > SOCKET_PATH_BYTES:
        raise NotConfigured(
            f"The socket's path from {found.origin} is longer than {SOCKET_PATH_BYTES} bytes.",
            fix="Link it from a shorter path, and name that one.",
            source=SOURCE,
        )
    try:
        usable = found.scheme == "unix" or bool(urlsplit(found.url).hostname)
        _ = found.base_url
    except ValueError:
        usable = False
    if not usable:
        raise NotConfigured(
            f"{found.origin} holds no usable address.",
            fix="Write it as tcp://HOST:PORT or ssh://USER@HOST.",
            source=SOURCE,
        )
    return found


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """How a connection to the engine is checked; False where it is not TLS.

    Raises:
        NotConfigured: A certificate or key cannot be read.
    """
    if endpoint.tls is None:
        # Only https:// to a public authority needs the default; building it takes 20 ms.
        return endpoint.scheme == "https"
    import ssl

    tls = endpoint.tls
    try:
        made = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
        if tls.cert is not None:
            made.load_cert_chain(str(tls.cert), str(tls.key) if tls.key else None)
    except (OSError, ssl.SSLError) as wrong:
        raise NotConfigured(
            f"The TLS files of {endpoint.origin} cannot be read ({type(wrong).__name__}).",
            fix="Check MCP_DEVOPS_DOCKER__TLS_CA, TLS_CERT and TLS_KEY, or DOCKER_CERT_PATH.",
            source=SOURCE,
        ) from wrong
    return made
