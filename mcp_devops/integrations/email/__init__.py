"""E-mail: tells people by SMTP. Not here: answers, which a mail cannot prove to be anybody's."""

from __future__ import annotations

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.email.client import EmailClient
from mcp_devops.integrations.email.records import MailSeverity
from mcp_devops.integrations.email.settings import EmailSettings
from mcp_devops.toolkit.integration import Health, Integration


def _why_off(settings: EmailSettings) -> str | None:
    if not settings.host:
        return "MCP_DEVOPS_EMAIL__HOST is not set"
    # Without recipients of its own it still tells those that the response policy names.
    return None if settings.sender else "MCP_DEVOPS_EMAIL__SENDER is not set"


async def _ping(client: EmailClient) -> Health:
    try:
        says = await client.look()
    except DevOpsError as problem:
        return Health(False, problem.what, problem.fix)
    if not any(client.settings.recipients(severity) for severity in MailSeverity):
        says += "; no recipient is set (MCP_DEVOPS_EMAIL__TO): only the policy's are told"
    return Health(True, says)


def _secrets(settings: EmailSettings) -> list[str]:
    return [settings.password.get_secret_value()] if settings.password else []


INTEGRATION = Integration(
    name="email",
    settings=EmailSettings,
    client=EmailClient,
    connect=EmailClient,
    close=EmailClient.close,
    tools=(),
    why_off=_why_off,
    ping=_ping,
    secrets=_secrets,
)
