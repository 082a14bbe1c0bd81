"""The tool that compares a service's errors in Sentry before and after a deployment."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.series import compare, ready_after
from mcp_devops.integrations.sentry.telling import SentryComparison
from mcp_devops.model.evidence import Arm
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


class CompareErrorRates(WindowChoice):
    """What to compare."""

    project: str | None = Field(None, max_length=100)
    """Sentry project; default: the one named like the service."""
    environment: str | None = Field(None, max_length=64)
    """Environment, such as production."""
    release: str | None = Field(None, max_length=250)
    """Release that was deployed; with previous_release, both are compared in the same minutes."""
    previous_release: str | None = Field(None, max_length=250)
    """Release before it."""


class ErrorRates(WindowComparison):
    """Errors before against after, and release against release."""

    projects: tuple[str, ...]
    """Sentry projects that were asked about."""
    dataset: str
    """spans: failed of all stored transactions. errors: error events, without a denominator."""
    endpoint: str
    """API path that answered; events-stats on older Sentry."""
    error_events: dict[str, float]
    """Error events inside each arm's window; an arm that is absent is unknown, not zero."""
    notes: tuple[str, ...] = ()
    """What could not be had."""


@tool(
    name="sentry_compare_error_rates",
    title="Compare Sentry error rates around a deployment",
    risk=Risk.READ,
)
async def compare_error_rates(
    args: CompareErrorRates, context: ToolContext[SentryClient]
) -> ErrorRates:
    """Compare a service's errors in Sentry before and after a deployment, by release if given.

    Baseline: the 30 minutes that end 10 minutes before it; the first 3 minutes after it and what
    Sentry has not ingested yet are left out. A rate only where transactions are stored; else
    counts of error events. No data is said as such and is not healthy.
    """
    client = context.client
    rule = args.rule(client.settings.rule)
    service = VersionedService(
        args.service, environment=args.environment, new=args.release, old=args.previous_release
    )
    found = await compare(client, service, args.deployed_at, rule, args.project)
    if found is None:
        raise too_early(args.deployed_at, ready_after(rule, client.settings.settle_s))
    plain = compared(args.service, found.windows, found.series, args.response_format)
    told = dict(plain)
    if found.dataset == "errors":
        told["headline"] = _counts(args.service, found)
    return ErrorRates(
        **told,
        projects=found.projects,
        dataset=found.dataset,
        endpoint=found.endpoint,
        error_events={arm.value: total for arm, total in found.error_events.items()},
        notes=found.notes,
    )


def _counts(service: str, found: SentryComparison) -> str:
    """The headline where nobody counted requests: events and their pace."""

    def pace(arm: Arm, seconds: float) -> str:
        total = found.error_events.get(arm)
        if total is None:
            return "unknown"
        return f"{total:,.0f} in {seconds / 60:g} min ({total / seconds * 60:.3g}/min)"

    windows = found.windows
    return (
        f"{service}: error events {pace(Arm.BASELINE, windows.baseline.seconds)} (before) ->"
        f" {pace(Arm.AFTER, windows.after.seconds)} (after); requests unknown, so no rate."
    )
