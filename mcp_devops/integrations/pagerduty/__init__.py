"""PagerDuty: wakes a person and hears who answered. Not here: when to, and what an answer means."""

from __future__ import annotations

from mcp_devops.integrations.pagerduty.client import PagerDutyClient
from mcp_devops.integrations.pagerduty.settings import ROUTING_KEY, PagerDutySettings
from mcp_devops.toolkit.integration import Health, Integration


def _why_off(settings: PagerDutySettings) -> str | None:
    return None if settings.all_keys() else "MCP_DEVOPS_PAGERDUTY__ROUTING_KEY is not set"


async def _ping(client: PagerDutyClient) -> Health:
    """Every send to the Events API is an event, so that only the keys' form can be looked at."""
    bad = [key for key in client.settings.all_keys() if not ROUTING_KEY.fullmatch(key)]
    if bad:
        return Health(
            False,
            f"{len(bad)} routing key(s) are not 32 letters and digits",
            "Copy the integration key of an Events API v2 integration.",
        )
    return Health(
        True, f"configured for {client.settings.base_url}; whether it pages shows only a page"
    )


def _secrets(settings: PagerDutySettings) -> list[str]:
    hook = settings.webhook_secret
    return [*settings.all_keys(), *([hook.get_secret_value()] if hook else [])]


INTEGRATION = Integration(
    name="pagerduty",
    settings=PagerDutySettings,
    client=PagerDutyClient,
    connect=PagerDutyClient,
    close=PagerDutyClient.close,
    tools=(),
    why_off=_why_off,
    ping=_ping,
    secrets=_secrets,
)
