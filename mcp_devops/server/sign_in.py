"""Lets people open the pages in a browser: it asks for a password, and sends no bearer token."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REALM = 'Basic realm="mcp-devops: any name, a token as the password", charset="UTF-8"'


class BrowserSignIn:
    """On the pages, and there alone, takes a token also as the password of basic authentication.

    Only for looking: /mcp and whatever changes something keep to bearer tokens, which no browser
    sends by itself.
    """

    def __init__(self, app: ASGIApp, places: Iterable[str]) -> None:
        """Remember what comes after.

        Args:
            app: Checks bearer tokens.
            places: Paths of the pages; what is below one is a page too.
        """
        self._app = app
        self._places = tuple(places)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn a password into a bearer token, and tell a browser to ask for one."""
        if scope["type"] != "http" or not self._is_page(scope):
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                MutableHeaders(scope=message).append("www-authenticate", REALM)
            await send(message)

        await self._app(_with_bearer(scope), receive, told)

    def _is_page(self, scope: Scope) -> bool:
        path = scope["path"]
        looks = scope["method"] in ("GET", "HEAD")
        return looks and any(path == at or path.startswith(f"{at}/") for at in self._places)


def _with_bearer(scope: Scope) -> Scope:
    given = Headers(scope=scope).get("authorization", "")
    kind, _, value = given.partition(" ")
    if kind.lower() != "basic":
        return scope
    try:
        told = base64.b64decode(value.strip(), validate=True).decode()
        bearer = f"Bearer {told.partition(':')[2]}".encode("latin-1")
    except (binascii.Error, UnicodeError):
        return scope
    kept = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
    return {**scope, "headers": [*kept, (b"authorization", bearer)]}
