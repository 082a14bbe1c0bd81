"""What clients may read and subscribe to: the policy, incidents, and their journals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from mcp_devops.decision.policy import Policy
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.export import jsonl
from mcp_devops.journal.journal import Journal
from mcp_devops.toolkit.context import Services
from mcp_devops.toolkit.resource import ResourceItem, ResourceSpec


async def _read_policy(services: Services, parameters: Mapping[str, str]) -> str:
    return (await services.get(Policy)).describe()


async def _read_incident(services: Services, parameters: Mapping[str, str]) -> str:
    store = await services.get(IncidentStore)
    return (await store.get(parameters["incident_id"])).incident.model_dump_json(indent=1)


async def _read_journal(services: Services, parameters: Mapping[str, str]) -> str:
    store = await services.get(IncidentStore)
    stored = await store.get(parameters["incident_id"])
    journal = await services.get(Journal)
    return "".join([line async for line in jsonl(journal, incident_id=stored.incident.id)])


async def _list_open(services: Services) -> Sequence[ResourceItem]:
    store = await services.get(IncidentStore)
    return [
        ResourceItem(
            uri=f"incident://{i.id}",
            name=f"{i.id} {i.target}",
            description=f"{i.status.value}, opened {i.opened_at:%Y-%m-%d %H:%M} UTC",
        )
        for i in await store.all(open_only=True)
    ]


async def _list_journals(services: Services) -> Sequence[ResourceItem]:
    store = await services.get(IncidentStore)
    return [
        ResourceItem(uri=f"incident://{i.id}/journal", name=f"{i.id} journal")
        for i in await store.all(open_only=True)
    ]


async def _watch(services: Services, parameters: Mapping[str, str]) -> AsyncIterator[Any]:
    store = await services.get(IncidentStore)
    async for status in store.changes(parameters["incident_id"]):
        yield status


async def _complete(services: Services, argument: str, prefix: str) -> Sequence[str]:
    store = await services.get(IncidentStore)
    return [i.id for i in await store.all() if i.id.startswith(prefix)]


RESOURCES = (
    ResourceSpec(
        uri="policy://decision",
        name="decision-policy",
        description="Every number the decision engine uses, with unit and source.",
        mime_type="text/markdown",
        read=_read_policy,
    ),
    ResourceSpec(
        uri="incident://{incident_id}",
        name="incident",
        description="An incident as it stands: status, verdict, verification, timeline.",
        mime_type="application/json",
        read=_read_incident,
        list=_list_open,
        watch=_watch,
        complete=_complete,
    ),
    ResourceSpec(
        uri="incident://{incident_id}/journal",
        name="incident-journal",
        description="The incident's journal entries, one JSON object a line.",
        mime_type="application/jsonl",
        read=_read_journal,
        list=_list_journals,
        watch=_watch,
        complete=_complete,
    ),
)
"""Addresses of this room."""
