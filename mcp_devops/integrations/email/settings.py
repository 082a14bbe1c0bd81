"""Through which mail server, from whom and to whom mails go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mcp_devops.integrations.email.records import MailSeverity
from mcp_devops.settings import IntegrationSettings, Names

ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@"
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?)*"
)
"""An address without a name beside it: nothing in it can end a header or an SMTP command."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PORTS = {"starttls": 587, "ssl": 465, "none": 25}


def _addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    for number, address in enumerate(value, 1):
        if not ADDRESS.fullmatch(address) or len(address) > 254:
            raise ValueError(f"entry {number} is not a plain mail address (name@host)")
    return value


Addresses = Annotated[Names, AfterValidator(_addresses)]


class EmailSettings(IntegrationSettings):
    """The `[email]` table; variables start with MCP_DEVOPS_EMAIL__."""

    table = "email"

    host: str | None = Field(None, pattern=r"^[A-Za-z0-9.:-]{1,253}$")
    """Mail server; unset: the integration is off."""
    port: int | None = Field(None, ge=1, le=65_535)
    """Its port; unset: 587 for starttls, 465 for ssl, 25 for none."""
    tls: str = Field("starttls", pattern="^(starttls|ssl|none)$")
    """How the connection is encrypted: starttls, ssl, or none (to this machine only)."""
    ca_file: Path | None = None
    """CA bundle, where the system's does not hold the issuer."""
    username: str | None = Field(None, max_length=320)
    """User to log in as; unset: no login."""
    password: SecretStr | None = None
    """Password of that user."""
    sender: str | None = Field(None, max_length=254)
    """Address that mails come from, name@host."""
    to: Addresses = Field((), max_length=50)
    """Addresses that get every mail."""
    to_critical: Addresses = Field((), max_length=50)
    """Addresses for critical mails, in place of `to`."""
    to_error: Addresses = Field((), max_length=50)
    """Addresses for error mails, in place of `to`."""
    to_warning: Addresses = Field((), max_length=50)
    """Addresses for warning mails, in place of `to`."""
    to_info: Addresses = Field((), max_length=50)
    """Addresses for information, in place of `to`."""
    timeout_s: float = Field(10, gt=0, le=60)
    """Seconds one attempt may take."""
    deadline_s: float = Field(60, gt=0, le=600)
    """Seconds a mail may take with all its attempts."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tls == "none" and self.host and self.host not in LOOPBACK:
            raise ValueError("tls none is for a mail server on this machine only")
        if self.username and not self.password:
            raise ValueError("a username needs a password")
        if self.sender is not None and not ADDRESS.fullmatch(self.sender):
            raise ValueError("sender is not a plain mail address (name@host)")
        return self

    def recipients(self, severity: MailSeverity) -> tuple[str, ...]:
        """Who gets a mail of that severity, each once."""
        own: tuple[str, ...] = getattr(self, f"to_{severity.value}")
        return tuple(dict.fromkeys(own or self.to))
