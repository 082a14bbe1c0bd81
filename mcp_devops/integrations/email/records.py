"""What is sent by mail, and what became of it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from mcp_devops.model.record import Record


class MailSeverity(StrEnum):
    """How bad it is; chooses the recipients."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Attachment(Record):
    """A file beside the text, such as the incident's page."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """File name, no path."""
    media_type: str = Field(pattern=r"^[a-z]+/[a-z0-9.+-]{1,60}$")
    """Such as text/html."""
    content: bytes = Field(max_length=5_000_000)
    """The bytes, redacted already."""


class Mail(Record):
    """One mail about an incident."""

    incident_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """Mails of one incident stand in one thread."""
    key: str = ""
    """What this mail is about within the incident, unique there: asked, decided-apr-..., closed.
    Empty for the first one. The same key makes the same Message-ID, so that a repeated send can
    be seen to be one."""
    severity: MailSeverity = MailSeverity.CRITICAL
    """How bad it is."""
    also_to: tuple[str, ...] = Field((), max_length=50)
    """Addresses that get it beside those of the settings."""
    subject: str = Field(min_length=1)
    """What it is about; made one line, cut at 150 characters."""
    lines: tuple[str, ...]
    """The text, a paragraph an entry."""
    link: str | None = Field(None, pattern=r"^https?://[!#-;=?-~]+$", max_length=2048)
    """The incident's page."""
    attachments: tuple[Attachment, ...] = Field((), max_length=5)
    """Files beside it."""


class Sent(Record):
    """The mail server took it. Taken is not delivered."""

    message_id: str
    """The mail's Message-ID."""
    accepted: tuple[str, ...]
    """Recipients that the server took."""
    refused: tuple[str, ...] = ()
    """Recipients that it refused for good: their part of the mail goes nowhere."""
    attempts: int
    """Sends that it took."""
