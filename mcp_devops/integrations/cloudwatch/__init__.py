"""CloudWatch: requests, errors and latency in windows. Not here: what a difference means."""

from __future__ import annotations

import os
from datetime import timedelta

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.cloudwatch.client import CloudWatchClient, Metric
from mcp_devops.integrations.cloudwatch.compare_windows import compare_windows
from mcp_devops.integrations.cloudwatch.metrics import kind_of, unset
from mcp_devops.integrations.cloudwatch.sdk import INSTALL, is_installed
from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings
from mcp_devops.toolkit.integration import Health, Integration

SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Where the SDK itself reads secrets from; they are masked as if they were settings."""


async def _ping(client: CloudWatchClient) -> Health:
    """One metric of five minutes: the same permission that the tool needs."""
    now = client.clock.now().replace(second=0, microsecond=0)
    try:
        kind = kind_of(client.settings)
        probe = Metric(kind.namespace, kind.requests, "Sum", ())
        await client.metric_data([probe], now - timedelta(minutes=5), now, 60)
    except DevOpsError as problem:
        return Health(False, problem.what, problem.fix)
    return Health(True, f"answers, namespace {kind.namespace}")


def _why_off(settings: CloudWatchSettings) -> str | None:
    missing = unset(settings)
    if missing is None and not is_installed():
        return f"boto3 is not installed ({INSTALL})"
    return missing


def _secrets(settings: CloudWatchSettings) -> list[str]:
    return [value for name in SECRET_VARIABLES if (value := os.environ.get(name))]


INTEGRATION = Integration(
    name="cloudwatch",
    settings=CloudWatchSettings,
    client=CloudWatchClient,
    connect=CloudWatchClient,
    close=CloudWatchClient.close,
    tools=(compare_windows,),
    why_off=_why_off,
    ping=_ping,
    secrets=_secrets,
)
