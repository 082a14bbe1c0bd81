"""Serves many clients over streamable HTTP, with /healthz and /metrics beside it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from mcp.server.auth.routes import build_resource_metadata_url
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import RequestBodyLimitMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mcp_devops import __version__
from mcp_devops.errors import InvalidArguments, NotConfigured
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.server.auth import Verifier
from mcp_devops.server.metrics import Metrics
from mcp_devops.server.protocol import build_server
from mcp_devops.server.settings import HttpSettings
from mcp_devops.server.sign_in import BrowserSignIn
from mcp_devops.server.updates import Updates
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.clock import Clock

log = logging.getLogger(__name__)

MAX_BODY = 1_000_000
"""Bytes of a request: a tool's arguments are small, evidence passed in is the largest."""
STREAM_END_S = 0.2
"""Seconds that open streams get to write their final frame before connections close."""


def parse_bind(bind: str) -> tuple[str, int]:
    """Split HOST:PORT, :PORT or PORT; without a host it is 127.0.0.1.

    Raises:
        InvalidArguments: It is neither.
    """
    host, _, port = bind.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise InvalidArguments(
            f"--http: {bind!r} is not HOST:PORT.", fix="Example: --http 127.0.0.1:8765."
        )
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_auth_in_public(host: str, settings: HttpSettings) -> None:
    """Refuse to listen where others can connect, unless they must show a token.

    Raises:
        NotConfigured: A public bind without tokens or a key set.
    """
    if not is_loopback(host) and not settings.has_auth:
        raise NotConfigured(
            f"Refusing to listen on {host} without authentication: everyone who reaches it could"
            " read the cluster.",
            fix="Set MCP_DEVOPS_HTTP__TOKENS or MCP_DEVOPS_HTTP__JWKS_URL, or bind 127.0.0.1.",
        )


def http_app(
    gateway: Gateway,
    updates: Updates,
    settings: HttpSettings,
    host: str,
    port: int,
    pages: Sequence[Route] = (),
    hooks: Sequence[Route] = (),
) -> Starlette:
    """The web application: /mcp, /healthz, /metrics, and pages for people.

    Args:
        gateway: The door.
        updates: What tells clients of changes.
        settings: Who may call.
        host: Where it listens.
        port: The port.
        pages: More routes; they get the authentication of /mcp.
        hooks: More routes, which authenticate by themselves.
    """
    server = build_server(gateway, updates, "http")
    metrics = Metrics(gateway)
    hosts = [host, "localhost", "127.0.0.1", "[::1]", *settings.allowed_hosts]
    names = list(dict.fromkeys(n for h in hosts for n in (h, f"{h}:*")))
    origins = [f"{scheme}://{n}" for n in names for scheme in ("http", "https")]

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def show_metrics(request: Request) -> Response:
        if settings.has_auth and get_access_token() is None:
            return PlainTextResponse("A bearer token is required.\n", 401)
        return Response(await metrics.render(), media_type="text/plain; version=0.0.4")

    auth: dict[str, Any] = {}
    if settings.has_auth:
        resource = settings.public_url or f"http://{host}:{port}/mcp"
        auth = {
            "token_verifier": Verifier(settings, resource),
            "auth": AuthSettings(
                issuer_url=settings.issuer or resource,
                resource_server_url=resource,
                required_scopes=list(settings.required_scopes) or None,
                validate_token_resource=True,
            ),
        }
    app = server.streamable_http_app(
        transport_security=TransportSecuritySettings(allowed_hosts=names, allowed_origins=origins),
        max_request_body_size=MAX_BODY,
        custom_starlette_routes=[
            Route("/healthz", healthz),
            Route("/metrics", show_metrics),
            *(_guarded(route, auth.get("auth")) for route in pages),
            *hooks,
        ],
        **auth,
    )
    if settings.has_auth:
        app.add_middleware(BrowserSignIn, places=[r.path for r in pages if "{" not in r.path])
    # The extra routes have neither limit nor host check of their own.
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[h.strip("[]") for h in hosts])
    return app


def _guarded(route: Route, auth: AuthSettings | None) -> Route:
    """A route for those who may call /mcp, with the same tokens and scopes."""
    if auth is None or auth.resource_server_url is None:
        return route
    metadata = build_resource_metadata_url(auth.resource_server_url)
    guard = RequireAuthMiddleware(route.app, auth.required_scopes or [], metadata)
    return Route(route.path, guard, methods=sorted(route.methods or ()))


class GracefulServer(uvicorn.Server):
    """Ends open streams with their final frame before connections are closed."""

    def __init__(self, config: uvicorn.Config, updates: Updates) -> None:
        super().__init__(config)
        self._updates = updates

    async def shutdown(self, sockets: Any = None) -> None:
        """Close streams, then the server."""
        self._updates.close_streams()
        await asyncio.sleep(STREAM_END_S)
        await super().shutdown(sockets)


async def serve_http(
    settings: ServerSettings,
    bind: str,
    clock: Clock | None = None,
    *,
    pages: Callable[[Gateway], Sequence[Route]] = lambda gateway: (),
    alongside: Callable[[Gateway], AbstractAsyncContextManager[Sequence[Route]]] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: The server's settings.
        bind: HOST:PORT.
        clock: The clock; the system's by default.
        pages: Makes the pages for people, which get the authentication of /mcp.
        alongside: Runs beside it, and gives routes that authenticate by themselves.

    Returns:
        0 after a clean stop.

    Raises:
        NotConfigured: A public bind without authentication.
        InvalidArguments: The bind is not HOST:PORT.
    """
    host, port = parse_bind(bind)
    own = HttpSettings.load()
    require_auth_in_public(host, own)
    async with open_gateway(settings, channel="http", clock=clock) as gateway:
        updates = Updates(gateway)
        beside = alongside(gateway) if alongside else nullcontext(())
        async with updates.running(), beside as hooks:
            app = http_app(gateway, updates, own, host, port, pages(gateway), hooks)
            config = uvicorn.Config(
                app,
                host=host,
                port=port,
                log_level=settings.log_level.lower(),
                timeout_graceful_shutdown=int(own.stop_s),
                server_header=False,
            )
            server = GracefulServer(config, updates)
            # uvicorn raises the signal again once it has stopped; the journal comes first.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            await server.serve()
    return 0
