"""The tool that compares a service's requests before and after a deployment."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.integrations.datadog.client import DatadogClient
from mcp_devops.integrations.datadog.series import compare, rule_on_grid
from mcp_devops.toolkit.comparing import (
    VersionedService,
    WindowChoice,
    WindowComparison,
    compared,
    too_early,
)
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool


class CompareWindows(WindowChoice):
    """What to compare."""

    environment: str | None = Field(None, min_length=1, max_length=200)
    """Value of the env tag; default: that of the settings, else all."""
    new_version: str | None = Field(None, min_length=1, max_length=200)
    """Version tag of the new release; with old_version, both are compared in the same minutes."""
    old_version: str | None = Field(None, min_length=1, max_length=200)
    """Version tag of the release before it."""


@tool(
    name="datadog_compare_windows",
    title="Compare error rate and latency around a deployment",
    risk=Risk.READ,
)
async def compare_windows(
    args: CompareWindows, context: ToolContext[DatadogClient]
) -> WindowComparison:
    """Compare a service's error rate and p99 before and after a deployment, from Datadog.

    Baseline: the 30 minutes that end 10 minutes before it. Reads trace metrics; the operation
    (servlet.request, flask.request, ...) is found by looking. Buckets are whole minutes, the
    newest is a minute old. No data is said as such and is not healthy.
    """
    settings = context.client.settings
    rule = args.rule(settings.rule)
    service = VersionedService(args.service, args.environment, args.new_version, args.old_version)
    found = await compare(context.client, service, args.deployed_at, rule)
    if found is None:
        laid = rule_on_grid(args.deployed_at, rule)
        waits = {"grace_s": laid.grace_s + settings.settle_s}
        raise too_early(args.deployed_at, laid.model_copy(update=waits))
    return compared(args.service, found.windows, found.series, args.response_format)
