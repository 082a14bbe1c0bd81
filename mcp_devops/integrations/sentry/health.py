"""Whether Sentry answers, for whom, and what the token may not do; for `doctor`."""

from __future__ import annotations

from urllib.parse import urlsplit

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.foreign import own_link, record, shown
from mcp_devops.text.people import plural
from mcp_devops.toolkit.integration import Health

SCOPES = ("org:read", "project:read", "event:read", "project:releases")
"""What the tools need, and the note on a deploy."""


async def ping(client: SentryClient) -> Health:
    """Look at the organisation, the projects and the token's scopes."""
    try:
        reply = await client.get(client.path(), (("detailed", "0"),), what="organisation")
        projects = await client.projects()
    except DevOpsError as problem:
        return Health(False, problem.what, problem.fix)
    organization = record(reply.data)
    name = shown(organization.get("name"), 60) or "organisation without a name"
    says = f"answers, {name}, {plural(len(projects), 'project')} seen"
    scopes = await _scopes(client) or _names(organization.get("access"))
    fixes: list[str] = []
    if not projects:
        fixes.append("Give the internal integration access to a project.")
    if scopes:
        missing = [s for s in SCOPES if s not in scopes]
        if missing:
            says += f"; the token lacks {', '.join(missing)}"
            fixes.append(f"Give the internal integration {', '.join(missing)}.")
    else:
        says += "; its scopes are not told"
    region = record(organization.get("links")).get("regionUrl")
    home = urlsplit(client.settings.base).hostname
    if own_link(region, client.settings.base) and urlsplit(str(region)).hostname != home:
        says += f"; its data is at {region}"
    return Health(not fixes, says, " ".join(fixes))


async def _scopes(client: SentryClient) -> frozenset[str]:
    """The token's own scopes, where this version tells them."""
    try:
        reply = await client.get("/api/0/", what="index")
    except DevOpsError:
        return frozenset()
    return _names(record(record(reply.data).get("auth")).get("scopes"))


def _names(value: object) -> frozenset[str]:
    return (
        frozenset(v for v in value if isinstance(v, str))
        if isinstance(value, list)
        else frozenset()
    )
