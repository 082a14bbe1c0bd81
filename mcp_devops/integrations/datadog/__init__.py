"""Datadog: requests, errors and latency in windows. Not here: what a difference means."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.datadog.client import DatadogClient
from mcp_devops.integrations.datadog.compare_windows import compare_windows
from mcp_devops.integrations.datadog.settings import DatadogSettings
from mcp_devops.toolkit.integration import Health, Integration


async def _ping(client: DatadogClient) -> Health:
    """Both keys: the first is validated, the second proved by a query of five minutes."""
    now = client.clock.now()
    query = "avg:system.cpu.user{*}.rollup(avg, 60)"
    try:
        valid, _ = await asyncio.gather(
            client.validate(), client.timeseries([query], now - timedelta(minutes=5), now, 60)
        )
    except DevOpsError as problem:
        return Health(False, problem.what, problem.fix)
    if not valid:
        return Health(
            False, "the API key is not valid", "Check MCP_DEVOPS_DATADOG__API_KEY and __SITE."
        )
    return Health(True, f"answers, {client.settings.url or client.settings.site}")


def _secrets(settings: DatadogSettings) -> list[str]:
    return [k.get_secret_value() for k in (settings.api_key, settings.app_key) if k]


def _why_off(settings: DatadogSettings) -> str | None:
    keys = {"API_KEY": settings.api_key, "APP_KEY": settings.app_key}
    unset = [f"MCP_DEVOPS_DATADOG__{name}" for name, key in keys.items() if not key]
    if not unset:
        return None
    return f"{' and '.join(unset)} {'are' if len(unset) > 1 else 'is'} not set"


INTEGRATION = Integration(
    name="datadog",
    settings=DatadogSettings,
    client=DatadogClient,
    connect=DatadogClient,
    close=DatadogClient.close,
    tools=(compare_windows,),
    why_off=_why_off,
    ping=_ping,
    secrets=_secrets,
)
