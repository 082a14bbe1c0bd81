"""Which Slack workspace and channel hear of incidents, and how people's answers come back."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, SecretStr

from mcp_devops.settings import IntegrationSettings


class AnswerPath(StrEnum):
    """How clicks and words of people reach us."""

    SOCKET = "socket"
    """Socket Mode: an app token, no open port."""
    HTTP = "http"
    """Slack calls our endpoint; its signature is checked."""
    POLLING = "polling"
    """The bot reads reactions and replies under its own message."""


class SlackSettings(IntegrationSettings):
    """The `[slack]` table; variables start with MCP_DEVOPS_SLACK__."""

    table = "slack"

    bot_token: SecretStr | None = None
    """Bot token (xoxb-...) with chat:write; users:read for names, channels:history for polling."""
    app_token: SecretStr | None = None
    """App-level token (xapp-...) with connections:write: answers come by Socket Mode."""
    signing_secret: SecretStr | None = None
    """Signing secret of the app: answers come by HTTP."""
    channel: str | None = Field(None, max_length=100)
    """Channel id (C0123ABCD) that incidents are told to; the app must be a member of it."""
    api_url: str = Field(
        "https://slack.com/api",
        pattern=r"^(https://[A-Za-z0-9.:-]+|http://(127\.0\.0\.1|localhost)(:[0-9]+)?)(/[A-Za-z0-9._/-]*)?$",
    )
    """Web API address; http only to this machine."""
    response_host: str = Field("hooks.slack.com", pattern=r"^[A-Za-z0-9.-]+(:[0-9]+)?$")
    """The only host that answers to clicks are sent to."""
    timeout_s: float = Field(10, gt=0, le=60)
    """Seconds one attempt may take."""
    deadline_s: float = Field(30, gt=0, le=600)
    """Seconds a call may take with all its attempts."""
    spacing_s: float = Field(1.0, ge=0, le=60)
    """Seconds between two messages to a channel; Slack allows about one a second."""
    poll_s: float = Field(3.0, ge=1, le=60)
    """Seconds between two looks for answers, where they are polled for."""

    @property
    def answers(self) -> AnswerPath:
        """How answers come: Socket Mode before HTTP before polling."""
        if self.app_token:
            return AnswerPath.SOCKET
        return AnswerPath.HTTP if self.signing_secret else AnswerPath.POLLING
