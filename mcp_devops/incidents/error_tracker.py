"""What Sentry adds to an investigation: error rates by release, and what a release brought."""

from __future__ import annotations

from datetime import datetime

from mcp_devops.errors import NotFound
from mcp_devops.incidents.gaps import Gaps
from mcp_devops.incidents.versions import versions
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.issues import release_issues
from mcp_devops.integrations.sentry.releases import release_named
from mcp_devops.integrations.sentry.series import compare
from mcp_devops.model.change import Change
from mcp_devops.model.surroundings import ReleaseIssues
from mcp_devops.model.window import WindowRule
from mcp_devops.toolkit.comparing import RequestComparison, VersionedService
from mcp_devops.toolkit.context import Services


async def compare_releases(
    client: SentryClient, service: VersionedService, deployed_at: datetime, rule: WindowRule
) -> RequestComparison | None:
    """Compare before and after, and by release where Sentry knows both of them.

    Returns, Raises:
        As the integration's compare.
    """
    split = service
    if service.new and service.old:
        try:
            new = await release_named(client, service.new, service.service)
            old = await release_named(client, service.old, service.service)
            split = VersionedService(service.service, service.environment, new, old)
        except NotFound:
            # Not every team names releases; before against after needs none.
            split = VersionedService(service.service, service.environment)
    return await compare(client, split, deployed_at, rule)


async def issues(
    gaps: Gaps, services: Services, change: Change | None, service: str, since: datetime | None
) -> ReleaseIssues | None:
    """Issues that the release brought; None where its name is unknown or no tracker is set up."""
    sentry = await services.find(SentryClient)
    version = versions(change).new
    if sentry is None or version is None:
        return None

    async def found() -> ReleaseIssues | None:
        try:
            release = await release_named(sentry, version, service)
        except NotFound:
            return None
        return await release_issues(sentry, release, since=since)

    return await gaps.attempt("sentry", "issues of the release", found())
