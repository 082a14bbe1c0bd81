"""Who is calling, as far as the transport can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server import ServerRequestContext
from mcp.server.auth.middleware.auth_context import get_access_token

if TYPE_CHECKING:
    from mcp_devops.toolkit.context import Caller


def caller_of(context: ServerRequestContext[Any, Any], channel: str) -> Caller:
    """The token's subject over HTTP, else the operating-system user.

    The client's name and version are what it says of itself: recorded, never trusted.
    """
    from mcp_devops.toolkit.context import Caller
    from mcp_devops.toolkit.local_user import local_user

    token = get_access_token()
    identity = (token.subject or token.client_id) if token else local_user()
    info = getattr(context.session.client_params, "client_info", None)
    name = f"{info.name} {info.version}"[:80] if info is not None else ""
    # Over HTTP without a token anybody who reaches the port would be the server's own user.
    proven = token is not None or channel == "stdio"
    return Caller(identity=identity, channel=channel, client=name, proven=proven)
