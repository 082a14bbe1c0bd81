"""A service's errors, requests and latency around a deployment, from Sentry, per release."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from mcp_devops.errors import DevOpsError, NoData
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.foreign import term
from mcp_devops.integrations.sentry.projects import choose
from mcp_devops.integrations.sentry.questions import ERRORS, SPANS, Question, ask
from mcp_devops.integrations.sentry.releases import is_known
from mcp_devops.integrations.sentry.telling import Heard, SentryComparison, tell
from mcp_devops.integrations.sentry.together import together
from mcp_devops.model.window import Window, WindowRule, Windows
from mcp_devops.toolkit.comparing import VersionedService

T = TypeVar("T")


async def compare(
    client: SentryClient,
    service: VersionedService,
    deployed_at: datetime,
    rule: WindowRule,
    project: str | None = None,
) -> SentryComparison | None:
    """Fetch all arms of a service: before and after, and by release where both are given.

    Failed of all transactions where the project sends transactions before and after; else error
    events, whose series have requests None.

    Args:
        client: The organisation's.
        service: Its name is taken for the project's slug, unless `project` is given.
        deployed_at: When the deployment began.
        rule: Windows; the grace and the client's settle time both delay the first bucket.
        project: Slug of the project, where it is not named like the service.

    Returns:
        The comparison, or None while no whole, settled bucket lies behind the deployment's grace.

    Raises:
        NoData: No project, no bucket, a project that never had an event, other bucket lengths.
        NotFound: The named project, the environment or the organisation is not seen.
        InvalidArguments: A release that cannot be searched for.
        CredentialsRejected, PermissionDenied, Unsupported, RateLimited, UpstreamTimeout,
        UpstreamUnavailable: As named.
    """
    settings = client.settings
    split: tuple[str, ...] = ()
    if service.new and service.old and service.new != service.old:
        split = (service.new, service.old)
    for release in split:
        term("release", release)  # refused here, not by each question
    windows = aligned(deployed_at, client.clock.now(), rule, settings.settle_s)
    if windows is None:
        return None
    projects = choose(await client.projects(), service.service, project, settings.projects)
    if all(p.silent for p in projects):
        raise NoData(
            f"Sentry never received an event of {', '.join(p.slug for p in projects)}.",
            fix="Check the service's DSN, or pass another project.",
            source="sentry",
        )
    question = Question(
        projects=projects,
        environment=service.environment or settings.environment,
        start=windows.baseline.start,
        end=windows.after.end,
        step_s=whole(rule.step_s),
    )
    heard = await _hear(client, question, split)
    return tell(service, windows, projects, question, heard)


def whole(step_s: float) -> int:
    """The bucket length in whole seconds: Sentry knows no other."""
    return math.ceil(step_s)


def aligned(
    deployed_at: datetime, now: datetime, rule: WindowRule, settle_s: float
) -> Windows | None:
    """The rule's windows on the marks that Sentry's buckets begin at, multiples of the step.

    The baseline keeps its length and ends at the last mark before the buffer; the after window
    begins at the first mark behind the grace and ends at the last that has settled.

    Returns:
        The windows, or None while the after window holds no bucket.
    """
    step = whole(rule.step_s)

    def at(seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, UTC)

    began = deployed_at.timestamp()
    end = math.floor((began - rule.buffer_s) / step) * step
    length = max(1, round(rule.baseline_s / step)) * step
    first = math.ceil((began + rule.grace_s) / step) * step
    last = math.floor((now.timestamp() - settle_s) / step) * step
    if last - first < step:
        return None
    return Windows(
        deployed_at=deployed_at,
        baseline=Window(start=at(end - length), end=at(end)),
        after=Window(start=at(first), end=at(last)),
    )


async def _hear(client: SentryClient, question: Question, split: tuple[str, ...]) -> Heard:
    """Ask everything at once; what fails is kept as its reason."""
    asked: tuple[str | None, ...] = (None, *split)
    answers: list[Any] = await together(
        *(_or_reason(ask(client, question, "errors", ERRORS, release)) for release in asked),
        *(_or_reason(ask(client, question, "spans", SPANS, release)) for release in asked),
        *(_or_reason(is_known(client, release)) for release in split),
    )
    half = len(asked)
    return Heard(
        errors=dict(zip(asked, answers[:half], strict=True)),
        spans=dict(zip(asked, answers[half : 2 * half], strict=True)),
        known=dict(zip(split, answers[2 * half :], strict=True)),
    )


async def _or_reason(asking: Coroutine[Any, Any, T]) -> T | DevOpsError:
    try:
        return await asking
    except DevOpsError as reason:
        return reason


def ready_after(rule: WindowRule, settle_s: float) -> WindowRule:
    """The rule with all that delays the first bucket in its grace, for `too_early`."""
    step = timedelta(seconds=whole(rule.step_s)).total_seconds()
    return rule.model_copy(update={"grace_s": rule.grace_s + settle_s, "step_s": step})
