"""Where the response policy is. Without one nothing is done alone, and a person is asked."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mcp_devops.settings import OwnTable


class ResponseSettings(OwnTable):
    """The `[response]` table; variables start with MCP_DEVOPS_RESPONSE__."""

    table = "response"

    policy_file: Path | None = None
    """YAML file of what may be done alone, and who is paged (`mcp-devops policy example`)."""
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
        max_length=500,
    )
    """Address under which people reach `serve --http`: pages, messages and mails then link to
    its /incidents/ID."""
    replica: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Name of this process among those that share a database; default: host and process number,
    or `local` on SQLite."""
