"""Settings of the HTTP transport: where it listens, who may call."""

from __future__ import annotations

from pydantic import Field, SecretStr

from mcp_devops.settings import Names, OwnTable


class HttpSettings(OwnTable):
    """The `[http]` table; variables start with MCP_DEVOPS_HTTP__."""

    table = "http"

    tokens: SecretStr | None = None
    """Static bearer tokens as `name=token`, separated by commas. The name goes into the record."""
    jwks_url: str | None = Field(None, pattern=r"^https?://")
    """Address of the JSON Web Key Set that signs access tokens."""
    issuer: str | None = None
    """Issuer that a JWT must name."""
    audience: str | None = None
    """Audience that a JWT must name: this server's own address."""
    required_scopes: Names = ()
    """Scopes that a JWT must carry."""
    public_url: str | None = Field(None, pattern=r"^https?://")
    """Address clients use, for the OAuth resource metadata; default: the listening address."""
    allowed_hosts: Names = ()
    """Host names that requests may be addressed to, besides the one listened on."""
    stop_s: float = Field(8, gt=0, le=60)
    """Seconds that calls under way get at a stop."""

    @property
    def has_auth(self) -> bool:
        """Whether callers must show a token."""
        return self.tokens is not None or self.jwks_url is not None
