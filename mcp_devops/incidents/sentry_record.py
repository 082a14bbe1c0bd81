"""Writes a rollback down in Sentry: an event in the service's project, a deploy of what is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from mcp_devops.errors import DevOpsError, NotFound
from mcp_devops.incidents.store import IncidentStore, Stored
from mcp_devops.incidents.versions import versions
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.record import (
    DeployNote,
    Noted,
    Resolution,
    Sent,
    annotate_deploy,
    event_id_of,
    send_event,
)
from mcp_devops.integrations.sentry.releases import release_named
from mcp_devops.integrations.sentry.settings import SentrySettings
from mcp_devops.journal.journal import Journal
from mcp_devops.model.change import Change
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.response_policy.settings import ResponseSettings
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Services

UNKNOWN = "unknown"
PRODUCTION = "production"
"""The environment where none is set."""
MOST_LINK = 500
"""Characters of a link that Sentry takes."""
DONE = frozenset({IncidentStatus.RECOVERED, IncidentStatus.NOT_RECOVERED})
"""Statuses in which the old revision surely serves again."""


async def write_down(
    services: Services, clock: Clock, incident_id: str, who: str
) -> tuple[str, ...]:
    """Record an incident's rollback in Sentry, once for each outcome, and say so in its timeline.

    Args:
        services: Give the store, the redactor, and Sentry's client where the API is configured.
        clock: For the event's time.
        incident_id: The incident; nothing is done where it has no action or Sentry is off.
        who: Who has it recorded.

    Returns:
        What could not be recorded, and why.

    Raises:
        NotFound: There is no such incident.
    """
    store = await services.get(IncidentStore)
    stored = await store.get(incident_id)
    said = f"recorded in Sentry: {stored.incident.status.value}"
    if any(entry.what == said for entry in stored.incident.timeline):
        return ()
    redactor = await services.get(Redactor)
    try:
        settings = SentrySettings.load()
    except DevOpsError as invalid:
        # What was done to the workload is done: settings that are no good take nothing from it.
        return (f"Sentry: {invalid.code}: {invalid.what}",)
    found = await record_in_sentry(services, settings, clock, redactor, stored)
    if found.lost:
        await store.note(incident_id, f"not recorded: {'; '.join(found.lost)}", who)
    elif found.sent:
        await store.note(incident_id, said, who)
    return found.lost


@dataclass(frozen=True)
class Recorded:
    """What became of a record.

    Attributes:
        sent: What Sentry took: event, deploy.
        lost: What it did not take, and why.
    """

    sent: int = 0
    lost: tuple[str, ...] = ()


async def record_in_sentry(
    services: Services, settings: SentrySettings, clock: Clock, redactor: Redactor, stored: Stored
) -> Recorded:
    """Record an incident's rollback, as far as Sentry is configured; a repeat counts once.

    Args:
        services: For the client, where the API is configured; an event needs a DSN only.
        settings: Sentry's.
        clock: For the event's time.
        redactor: Knows the configured secrets.
        stored: The incident; without an action nothing is recorded.
    """
    change = stored.context.change if stored.context else None
    if stored.plan is None or change is None:
        return Recorded()
    told = versions(change)
    link = _link(stored.incident.id)
    wanted: list[Awaitable[object]] = []
    dsn = settings.dsn_of(stored.incident.target.name)
    if dsn is not None:
        own = settings.model_copy(update={"dsn": dsn})
        resolution = _resolution(stored, change, told.new, told.old, clock).model_copy(
            update={
                "environment": settings.environment or PRODUCTION,
                "journal_head": await _head(services),
                "link": link,
            }
        )
        diagnostics = stored.context.model_dump(mode="json") if stored.context else None
        wanted.append(send_event(own, clock, resolution, diagnostics, redactor))
    client = await services.find(SentryClient)
    if client is not None and told.old is not None and stored.incident.status in DONE:
        wanted.append(_annotated(client, stored, told.old, link))
    lost = []
    answers = await asyncio.gather(*wanted, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, DevOpsError):
            lost.append(f"Sentry: {answer.code}: {answer.what}")
        elif isinstance(answer, BaseException):
            raise answer
    # None: there was nothing to write it on.
    taken = sum(isinstance(answer, Sent | Noted) for answer in answers)
    return Recorded(taken, tuple(lost))


def _resolution(
    stored: Stored, change: Change, new: str | None, old: str | None, clock: Clock
) -> Resolution:
    incident = stored.incident
    before = change.previous
    images: dict[str, Any] = {
        "from_release": new or next(iter(change.revision.images), UNKNOWN),
        "to_release": old or next(iter(before.images if before else ()), UNKNOWN),
    }
    plan = stored.plan
    return Resolution(
        event_id=event_id_of(incident.id, plan.digest if plan else "", incident.status.value),
        at=clock.now(),
        incident_id=incident.id,
        service=incident.target.name,
        deployment_id=f"{change.uid}-{change.revision.number}",
        outcome=incident.status.value,
        reason=incident.verdict.headline if incident.verdict else "",
        **images,
    )


async def _head(services: Services) -> str | None:
    """`seq:hash` of the journal's newest entry: in Sentry it is out of reach of who cuts it off."""
    journal = await services.find(Journal)
    newest = (await journal.list(limit=1, newest_first=True)).entries if journal else ()
    return f"{newest[0].seq}:{newest[0].hash}" if newest else None


def _link(incident_id: str) -> str | None:
    """The incident's page, where its address is known."""
    base = ResponseSettings.load().public_url
    link = f"{base.rstrip('/')}/incidents/{incident_id}" if base else ""
    return link if 0 < len(link) <= MOST_LINK else None


async def _annotated(
    client: SentryClient, stored: Stored, version: str, link: str | None
) -> Noted | None:
    incident = stored.incident
    try:
        release = await release_named(client, version, incident.target.name)
    except NotFound:
        # Not every team names releases, and there is nothing to write it on.
        return None
    note = DeployNote(
        release=release,
        environment=client.settings.environment or PRODUCTION,
        name=f"rollback {incident.id}",
        url=link,
    )
    return await annotate_deploy(client, note)
