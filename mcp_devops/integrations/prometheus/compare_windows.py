"""The tool that compares a service's requests before and after a deployment."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.series import Subject, compare
from mcp_devops.toolkit.comparing import WindowChoice, WindowComparison, compared, too_early
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool


class CompareWindows(WindowChoice):
    """What to compare."""

    namespace: str = Field("default", max_length=63)
    """Namespace, where the metrics are labelled with one."""
    new_owner: str | None = Field(None, max_length=253)
    """ReplicaSet of the new revision; with old_owner, both are compared in the same minutes."""
    old_owner: str | None = Field(None, max_length=253)
    """ReplicaSet of the old revision."""


@tool(
    name="prometheus_compare_windows",
    title="Compare error rate and latency around a deployment",
    risk=Risk.READ,
)
async def compare_windows(
    args: CompareWindows, context: ToolContext[PrometheusClient]
) -> WindowComparison:
    """Compare a service's error rate and p99 before and after a deployment, from Prometheus.

    Baseline: the 30 minutes that end 10 minutes before it. Metric and labels are found from the
    common conventions. No data is said as such and is not healthy. incident_investigate calls
    this for you; use it for other windows or services.
    """
    rule = args.rule(context.client.settings.rule)
    subject = Subject(args.service, args.namespace, args.new_owner, args.old_owner)
    found = await compare(context.client, subject, args.deployed_at, rule)
    if found is None:
        raise too_early(args.deployed_at, rule)
    return compared(args.service, found.windows, found.series, args.response_format)
