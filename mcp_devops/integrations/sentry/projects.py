"""Which Sentry project a service is: named, or found, never guessed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_devops.errors import NoData, NotFound
from mcp_devops.integrations.sentry.foreign import shown

MOST_NAMED = 10
"""Projects that an error names."""


@dataclass(frozen=True)
class Project:
    """One project that the token sees.

    Attributes:
        id: Its number, as query parameters want it.
        slug: Its name in addresses.
        silent: Whether it says that it never received an event.
    """

    id: str
    slug: str
    silent: bool


def read_projects(rows: Iterable[dict[str, Any]]) -> tuple[Project, ...]:
    """The projects of an answer; entries without an id or slug are left out."""
    return tuple(
        Project(
            id=str(row["id"]),
            slug=row["slug"],
            silent="firstEvent" in row and row["firstEvent"] is None,
        )
        for row in rows
        if isinstance(row.get("slug"), str) and str(row.get("id", "")).isdecimal()
    )


def choose(
    seen: Sequence[Project], service: str, explicit: str | None, configured: Sequence[str]
) -> tuple[Project, ...]:
    """The projects to ask about.

    An explicit one, else the one named like the service, else the configured ones.

    Raises:
        NotFound: The token does not see the project that was named.
        NoData: Nothing names a project; the error lists what the token sees.
    """
    by_slug = {p.slug: p for p in seen} | {p.id: p for p in seen}
    if explicit is not None:
        if explicit in by_slug:
            return (by_slug[explicit],)
        raise NotFound(
            f"The token sees no Sentry project {explicit!r}.",
            fix=f"It sees: {_names(seen)}.",
            source="sentry",
        )
    if service in by_slug:
        return (by_slug[service],)
    found = tuple(by_slug[name] for name in configured if name in by_slug)
    if found and len(found) == len(configured):
        return found
    missing = ", ".join(name for name in configured if name not in by_slug)
    why = f"; of the configured ones it does not see {missing}" if missing else ""
    raise NoData(
        f"The token sees no Sentry project named {service!r}{why}.",
        fix=f"Pass project, or set MCP_DEVOPS_SENTRY__PROJECTS. It sees: {_names(seen)}.",
        source="sentry",
    )


def _names(seen: Sequence[Project]) -> str:
    if not seen:
        return "none; give the integration access to a project"
    more = len(seen) - MOST_NAMED
    names = ", ".join(shown(p.slug, 60) for p in seen[:MOST_NAMED])
    return f"{names} and {more} more" if more > 0 else names
