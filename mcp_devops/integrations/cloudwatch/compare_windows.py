"""The tool that compares a service's requests before and after a deployment."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.integrations.cloudwatch.client import CloudWatchClient
from mcp_devops.integrations.cloudwatch.series import compare, rule_for
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
    """Fills $environment and $namespace of the dimensions, where they have one."""


@tool(
    name="cloudwatch_compare_windows",
    title="Compare error rate and latency around a deployment",
    risk=Risk.READ,
)
async def compare_windows(
    args: CompareWindows, context: ToolContext[CloudWatchClient]
) -> WindowComparison:
    """Compare a service's error rate and p99 before and after a deployment, from CloudWatch.

    Baseline: the 30 minutes that end 10 minutes before it. Metrics and dimensions are those of
    the settings (load balancer, API gateway, Lambda, own). CloudWatch lags: the newest bucket is
    three minutes old, and versions are not told apart. No data is said as such and is not
    healthy.
    """
    settings = context.client.settings
    rule = args.rule(settings.rule)
    service = VersionedService(args.service, args.environment)
    found = await compare(context.client, service, args.deployed_at, rule)
    if found is None:
        laid = rule_for(settings, args.deployed_at, context.client.clock.now(), rule)
        waits = {"grace_s": laid.grace_s + settings.settle_s}
        raise too_early(args.deployed_at, laid.model_copy(update=waits))
    return compared(args.service, found.windows, found.series, args.response_format)
