"""The tool that compares a service's requests before and after a deployment."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from mcp_devops.errors import NoData
from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.prometheus.series import Subject, compare, rule_of
from mcp_devops.model.arms import ArmSummary, headline, summarise
from mcp_devops.model.evidence import RequestSeries
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.window import Windows
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool


class CompareWindows(Record):
    """What to compare."""

    service: str = Field(min_length=1, max_length=253)
    """Service name as metric labels give it; usually the workload's name."""
    deployed_at: Moment
    """When the deployment began, RFC 3339 with a zone; kubernetes_get_rollout tells it."""
    namespace: str = Field("default", max_length=63)
    """Namespace, where the metrics are labelled with one."""
    new_owner: str | None = Field(None, max_length=253)
    """ReplicaSet of the new revision; with old_owner, both are compared in the same minutes."""
    old_owner: str | None = Field(None, max_length=253)
    """ReplicaSet of the old revision."""
    baseline_minutes: float | None = Field(None, ge=1, le=1440)
    """Length of the baseline; default 30."""
    buffer_minutes: float | None = Field(None, ge=0, le=1440)
    """Gap between the baseline's end and the deployment; default 10."""
    step_s: float | None = Field(None, ge=5, le=3600)
    """Bucket length in seconds; default 60."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """detailed adds every bucket and query."""


class WindowComparison(Answer):
    """Before against after, and new against old where both served."""

    windows: Windows
    """Where the windows lie."""
    step_s: float
    """Bucket length in seconds."""
    arms: tuple[ArmSummary, ...]
    """One line an arm."""
    slow_threshold_ms: float | None = None
    """Histogram edge at or above the baseline's p99."""
    series: tuple[RequestSeries, ...] = ()
    """Every bucket, with the queries; only in the detailed format."""


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
    rule = rule_of(context.client.settings)
    changes = {
        "baseline_s": args.baseline_minutes and args.baseline_minutes * 60,
        "buffer_s": args.buffer_minutes
        if args.buffer_minutes is None
        else args.buffer_minutes * 60,
        "step_s": args.step_s,
    }
    rule = rule.model_copy(update={k: v for k, v in changes.items() if v is not None})
    subject = Subject(args.service, args.namespace, args.new_owner, args.old_owner)
    found = await compare(context.client, subject, args.deployed_at, rule)
    if found is None:
        ready = args.deployed_at + timedelta(seconds=rule.grace_s + rule.step_s)
        raise NoData(
            f"Not one whole bucket of {rule.step_s:g} s has passed since the deployment.",
            fix=f"Ask again after {ready:%H:%M:%S} UTC, or with a smaller step_s.",
        )
    summaries = {s.arm: summarise(s, found.windows) for s in found.series}
    detailed = args.response_format is ResponseFormat.DETAILED
    return WindowComparison(
        headline=headline(args.service, summaries),
        windows=found.windows,
        step_s=found.series[0].step_s,
        arms=tuple(summaries.values()),
        slow_threshold_ms=found.series[0].slow_threshold_ms,
        series=found.series if detailed else (),
    )
