"""How Sentry, its ingestion and its optional MCP server are reached."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from mcp_devops.settings import Names
from mcp_devops.toolkit.comparing import WindowSettings

ADDRESS = r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$"
"""An address without credentials, query or fragment."""
SLUG = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"


class SentrySettings(WindowSettings):
    """The `[sentry]` table; variables start with MCP_DEVOPS_SENTRY__."""

    table = "sentry"

    url: str = Field("https://sentry.io", pattern=ADDRESS)
    """Base address. The token goes to this host only: for a region give https://de.sentry.io."""
    organization: str | None = Field(None, pattern=SLUG, max_length=100)
    """Slug of the organisation."""
    token: SecretStr | None = None
    """Token of an internal integration: org:read, project:read, event:read, project:releases."""
    projects: Names = ()
    """Project slugs to use where no project is named like the service."""
    environment: str | None = Field(None, max_length=64)
    """Environment to filter by where a call names none; unset: all environments together."""
    grace_s: float = Field(180, ge=0, le=3600)
    """Seconds ignored after the deployment; 3 minutes by requirement A2."""
    settle_s: float = Field(180, ge=0, le=3600)
    """Seconds a bucket is left alone after its end; Sentry itself calls 90 s still incomplete."""
    timeout_s: float = Field(15, gt=0, le=120)
    """Seconds one question may take, with its repeats."""
    backoff_s: float = Field(0.4, gt=0, le=10)
    """First pause before a repeat; it doubles."""
    ca_file: Path | None = None
    """CA bundle, where the system's does not hold the issuer."""
    mcp_url: str | None = Field(None, pattern=ADDRESS)
    """Streamable HTTP address of Sentry's own MCP server, asked first for issues and releases."""
    mcp_token: SecretStr | None = None
    """Token for that server; the API's token is never sent to it."""
    mcp_token_scheme: str = Field("Sentry-Bearer", pattern="^(Bearer|Sentry-Bearer)$")
    """Word before mcp_token in the Authorization header; Bearer for OAuth tokens."""
    mcp_connect_s: float = Field(3, gt=0, le=30)
    """Seconds that server may take until it has listed its tools."""
    mcp_call_s: float = Field(10, gt=0, le=60)
    """Seconds one of its tools may take."""
    dsn: SecretStr | None = None
    """DSN of the project that keeps the records of rollbacks."""
    service_dsns: dict[str, SecretStr] = Field(default_factory=dict, max_length=500)
    """DSNs by workload name, for services whose records belong to a project of their own."""

    @property
    def base(self) -> str:
        """The base address as the API's paths are appended to it."""
        return self.url.rstrip("/").removesuffix("/api/0")

    def dsn_of(self, service: str) -> SecretStr | None:
        """The DSN that a service's records go to; None: they are not kept in Sentry."""
        return self.service_dsns.get(service, self.dsn)


def why_off(settings: SentrySettings) -> str | None:
    """What is missing for the integration to be on."""
    missing = [name for name in ("organization", "token") if not getattr(settings, name)]
    if not missing:
        return None
    names = " and ".join(f"{settings.env_prefix()}{name.upper()}" for name in missing)
    return f"{names} {'is' if len(missing) == 1 else 'are'} not set"


def secrets_of(settings: SentrySettings) -> list[str]:
    """The configured credentials, to be masked wherever they appear."""
    known = (
        settings.token,
        settings.mcp_token,
        settings.dsn,
        *settings.service_dsns.values(),
    )
    return [secret.get_secret_value() for secret in known if secret]
