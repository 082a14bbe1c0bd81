"""Checks bearer tokens: static ones in constant time, JWTs against a key set."""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import Any

import jwt
from mcp.server.auth.provider import AccessToken
from pydantic import SecretStr

from mcp_devops.errors import NotConfigured
from mcp_devops.server.settings import HttpSettings

log = logging.getLogger(__name__)

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
"""Signatures by a private key only: with a shared-secret one a public key could sign."""
KEY_FETCH_S = 5
"""Seconds a fetch of the key set may take."""
MIN_TOKEN_LENGTH = 16
"""Shorter static tokens can be guessed."""


def static_tokens(configured: SecretStr | None) -> dict[str, str]:
    """Parse `name=token,...` into token by name.

    Raises:
        NotConfigured: An entry has no name, or a token is short.
    """
    if configured is None:
        return {}
    pairs: dict[str, str] = {}
    for entry in configured.get_secret_value().split(","):
        name, separator, token = entry.strip().partition("=")
        if not separator or not name or len(token) < MIN_TOKEN_LENGTH:
            raise NotConfigured(
                "MCP_DEVOPS_HTTP__TOKENS has an entry that is not name=token with a token of at"
                f" least {MIN_TOKEN_LENGTH} characters.",
                fix="Make one with `openssl rand -base64 32`.",
            )
        pairs[name] = token
    return pairs


class Verifier:
    """The token verifier of the HTTP transport."""

    def __init__(self, settings: HttpSettings, resource: str) -> None:
        if settings.jwks_url and not (settings.issuer and settings.audience):
            raise NotConfigured(
                "MCP_DEVOPS_HTTP__JWKS_URL is set without an issuer and an audience.",
                fix="Set MCP_DEVOPS_HTTP__ISSUER and MCP_DEVOPS_HTTP__AUDIENCE as well: without"
                " them a token for another service would be accepted.",
            )
        self._tokens = static_tokens(settings.tokens)
        self._settings = settings
        self._resource = resource
        self._keys = (
            jwt.PyJWKClient(settings.jwks_url, timeout=KEY_FETCH_S, lifespan=300)
            if settings.jwks_url
            else None
        )

    async def verify_token(self, token: str) -> AccessToken | None:
        """Who a token stands for, or None; why it was refused goes to the log only."""
        named = [
            name
            for name, known in self._tokens.items()
            if hmac.compare_digest(known.encode(), token.encode())
        ]
        if named:
            return AccessToken(
                token=token,
                client_id=named[0],
                subject=named[0],
                scopes=list(self._settings.required_scopes),
                resource=self._resource,
            )
        if self._keys is None:
            return None
        try:
            claims = await asyncio.to_thread(self._decode, token)
        except jwt.PyJWTError as refused:
            log.warning("a token was refused: %s", type(refused).__name__)
            return None
        return AccessToken(
            token=token,
            client_id=str(claims.get("client_id") or claims.get("azp") or claims["sub"]),
            subject=str(claims["sub"]),
            scopes=_scopes(claims),
            expires_at=int(claims["exp"]),
            resource=self._resource,
        )

    def _decode(self, token: str) -> dict[str, Any]:
        assert self._keys is not None  # noqa: S101 - the caller checked
        key = self._keys.get_signing_key_from_jwt(token)
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=ALGORITHMS,
            audience=self._settings.audience,
            issuer=self._settings.issuer,
            options={"require": ["exp", "sub", "iss", "aud"]},
            leeway=10,
        )
        return claims


def _scopes(claims: dict[str, Any]) -> list[str]:
    scope = claims.get("scope", claims.get("scp", ""))
    return scope.split() if isinstance(scope, str) else [str(s) for s in scope]
