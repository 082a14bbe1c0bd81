"""Sentry: error rates, issues, deploys, the record of a rollback. Not here: what they mean."""

from __future__ import annotations

from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.compare_error_rates import compare_error_rates
from mcp_devops.integrations.sentry.health import ping
from mcp_devops.integrations.sentry.list_deploys import list_newest_deploys
from mcp_devops.integrations.sentry.list_release_issues import list_release_issues
from mcp_devops.integrations.sentry.settings import SentrySettings, secrets_of, why_off
from mcp_devops.toolkit.integration import Integration

INTEGRATION = Integration(
    name="sentry",
    settings=SentrySettings,
    client=SentryClient,
    connect=SentryClient,
    close=SentryClient.close,
    tools=(compare_error_rates, list_release_issues, list_newest_deploys),
    why_off=why_off,
    ping=ping,
    secrets=secrets_of,
)
