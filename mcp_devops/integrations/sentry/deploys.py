"""Which releases were deployed when: deploys of the releases that were deployed last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.foreign import count, moment, record, shown
from mcp_devops.integrations.sentry.mcp_session import Call
from mcp_devops.integrations.sentry.mcp_text import read_releases
from mcp_devops.integrations.sentry.projects import choose
from mcp_devops.integrations.sentry.together import together
from mcp_devops.model.record import Moment, Record

RELEASES = 100
"""Newest releases that are looked through: one page."""
ASKED = 30
"""Releases whose deploys are asked for one by one; of a single deploy the list itself tells."""
VERSION_CHARS = 250
"""Longest release version that Sentry takes."""


class Deploy(Record):
    """One deploy."""

    release: str
    """Release version; whole from rest, shortened from mcp."""
    environment: str
    """Where to."""
    finished_at: Moment
    """When it was done."""
    started_at: Moment | None = None
    """When it began, where the pipeline said so."""
    name: str = ""
    """Name that the pipeline gave it."""
    url: str = ""
    """Address that the pipeline gave it; data, not checked."""


@dataclass(frozen=True)
class Deploys:
    """Deploys, newest first.

    Attributes:
        source: Who answered: mcp or rest.
        found: Newest first.
        complete: Whether nothing newer than the oldest of them can be missing.
        notes: What the source cannot tell.
    """

    source: str
    found: tuple[Deploy, ...]
    complete: bool
    notes: tuple[str, ...] = ()


async def list_deploys(
    client: SentryClient,
    project: str | None = None,
    environment: str | None = None,
    release: str | None = None,
    most: int = 10,
) -> Deploys:
    """Find the newest deploys.

    There is no list of deploys in Sentry: the hundred newest releases are listed, and the deploys
    of those that were deployed last are read, as many as `most` deploys may come from.

    Args:
        client: The organisation's.
        project: Slug or number; None: every project that the token sees.
        environment: Only deploys to it; None: to all.
        release: Only deploys of it.
        most: How many are wanted.

    Raises:
        NotFound: The project or the release does not exist, or the token does not see it.
        CredentialsRejected, PermissionDenied, Unsupported, RateLimited, UpstreamTimeout,
        UpstreamUnavailable: As named, from REST; a failing MCP server is only a note.
    """
    if release is not None:
        rows = await _of_release(client, release)
        return _newest("rest", rows, environment, True)
    notes: tuple[str, ...] = ()
    if client.mcp.configured:
        found, why_not = await client.mcp.ask(lambda session: _from_mcp(client, session, project))
        deploys = _newest("mcp", found or (), environment, False)
        if deploys.found:
            note = "the MCP server shortens versions and tells the last deploy of each release only"
            return Deploys("mcp", deploys.found, False, (note,))
        notes = (why_not or "the MCP server listed no deploy; asked REST to be sure",)
    params: list[tuple[str, str]] = [("per_page", str(RELEASES))]
    if project:
        params.append(("project", choose(await client.projects(), project, project, ())[0].id))
    releases, older, _ = await client.pages(
        client.path("releases/"), params, scope="project:read", what="project", most=1
    )
    deployed = [r for r in releases if _finished(record(r.get("lastDeploy"))) is not None]
    deployed.sort(key=lambda r: _finished(record(r["lastDeploy"])) or _EPOCH, reverse=True)
    # Each release has one deploy or more, so the newest `most` come from the first `most`.
    wanted = deployed[: ASKED if environment else min(most, ASKED)]
    lists = await together(*(_of_listed(client, r) for r in wanted))
    rows = [deploy for found_here in lists for deploy in found_here]
    cut = len(wanted) < len(deployed)
    result = _newest("rest", rows, environment, not cut)
    if cut and not environment:
        # What an unread release may have in between is not known below its last deploy.
        edge = _finished(record(deployed[len(wanted)]["lastDeploy"])) or _EPOCH
        newest = tuple(d for d in result.found if d.finished_at >= edge)
        result = Deploys("rest", newest, False)
    if older:
        notes = (*notes, f"only the {RELEASES} newest releases were looked through")
    return Deploys("rest", result.found, result.complete and not older, notes)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def _from_mcp(client: SentryClient, session: Call, project: str | None) -> list[Deploy]:
    arguments: dict[str, Any] = {"organizationSlug": client.settings.organization}
    if project:
        arguments["projectSlug"] = project
    text = await session("find_releases", arguments)
    return [
        Deploy(
            release=shown(told.version, VERSION_CHARS),
            environment=shown(told.environment, 64),
            finished_at=told.finished_at,
            started_at=told.started_at,
        )
        for told in read_releases(text)
        if told.finished_at is not None
    ]


async def _of_listed(client: SentryClient, release: dict[str, Any]) -> Sequence[Deploy]:
    """Deploys of a listed release; of a single one the list has told everything."""
    version = release.get("version")
    if not isinstance(version, str):
        return ()
    if count(release.get("deployCount")) == 1:
        deploy = _deploy(version, record(release.get("lastDeploy")))
        return () if deploy is None else (deploy,)
    return await _of_release(client, version)


async def _of_release(client: SentryClient, version: str) -> Sequence[Deploy]:
    rows, _, _ = await client.pages(
        client.path(f"releases/{quote(version, safe='')}/deploys/"),
        (("per_page", "100"),),
        scope="project:releases",
        what=f"release {version!r}",
        most=1,
    )
    return [deploy for row in rows if (deploy := _deploy(version, row)) is not None]


def _finished(row: dict[str, Any]) -> datetime | None:
    return moment(row.get("dateFinished"))


def _deploy(version: str, row: dict[str, Any]) -> Deploy | None:
    finished = _finished(row)
    if finished is None:
        return None
    return Deploy(
        release=shown(version, VERSION_CHARS),
        environment=shown(row.get("environment"), 64),
        finished_at=finished,
        started_at=moment(row.get("dateStarted")),
        name=shown(row.get("name"), 64),
        url=_web(row.get("url")),
    )


def _web(value: object) -> str:
    text = shown(value, 200)
    return text if text.startswith(("https://", "http://")) else ""


def _newest(
    source: str, rows: Sequence[Deploy], environment: str | None, complete: bool
) -> Deploys:
    kept = [d for d in rows if environment is None or d.environment == environment]
    kept.sort(key=lambda d: (d.finished_at, d.release), reverse=True)
    return Deploys(source, tuple(kept), complete)
