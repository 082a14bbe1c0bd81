"""Prometheus: requests, errors and latency in windows. Not here: what a difference means."""

from __future__ import annotations

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.compare_windows import compare_windows
from mcp_devops.integrations.prometheus.settings import PrometheusSettings
from mcp_devops.toolkit.integration import Health, Integration


async def _ping(client: PrometheusClient) -> Health:
    try:
        version = await client.version()
    except DevOpsError as problem:
        return Health(False, problem.what, problem.fix)
    return Health(True, f"answers, {version}")


def _secrets(settings: PrometheusSettings) -> list[str]:
    return [s.get_secret_value() for s in (settings.bearer_token, settings.password) if s]


INTEGRATION = Integration(
    name="prometheus",
    settings=PrometheusSettings,
    client=PrometheusClient,
    connect=PrometheusClient,
    close=PrometheusClient.close,
    tools=(compare_windows,),
    why_off=lambda s: None if s.url else "MCP_DEVOPS_PROMETHEUS__URL is not set",
    ping=_ping,
    secrets=_secrets,
)
