"""The secrets that webhooks are signed with."""

from __future__ import annotations

from pydantic import Field, SecretStr

from mcp_devops.settings import OwnTable


class WebhookSettings(OwnTable):
    """The `[webhook]` table; variables start with MCP_DEVOPS_WEBHOOK__."""

    table = "webhook"

    deployment_secret: SecretStr | None = Field(None, min_length=16)
    """Secret of deployment webhooks; unset: /webhooks/deployment is closed."""
    sentry_secret: SecretStr | None = Field(None, min_length=16)
    """Client secret of the Sentry integration; unset: /webhooks/sentry is closed."""
    tolerance_s: float = Field(300, gt=0, le=3600)
    """Seconds that a signed time may be off; older deliveries are replays."""
