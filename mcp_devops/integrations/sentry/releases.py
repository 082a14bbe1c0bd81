"""Which release of Sentry a version means."""

from __future__ import annotations

from urllib.parse import quote

from mcp_devops.errors import DevOpsError, NotFound
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.together import together


async def is_known(client: SentryClient, release: str) -> bool:
    """Whether Sentry has the release: a filter by one that it has not finds zero errors.

    Raises:
        NotFound: It has not.
        DevOpsError: As the client raises.
    """
    found = await client.get(
        client.path(f"releases/{quote(release, safe='')}/"), scope="project:read", what="release"
    )
    return isinstance(found.data, dict)


async def release_named(client: SentryClient, version: str, service: str) -> str:
    """The release that a version of a service is: by that name, or as `service@version`.

    Raises:
        NotFound: Sentry has neither.
        DevOpsError: As the client raises.
    """
    names = [version] if "@" in version else [f"{service}@{version}", version]
    answers = await together(*(_asked(client, name) for name in names))
    for name, answer in zip(names, answers, strict=True):
        if answer is True:
            return name
    failed = [a for a in answers if isinstance(a, DevOpsError) and not isinstance(a, NotFound)]
    if failed:
        raise failed[0]
    raise NotFound(
        f"Sentry has no release named {' or '.join(map(repr, names))}.",
        fix="Create releases from the pipeline, or set SENTRY_RELEASE in the pod template.",
        source="sentry",
    )


async def _asked(client: SentryClient, release: str) -> bool | DevOpsError:
    try:
        return await is_known(client, release)
    except DevOpsError as reason:
        return reason
