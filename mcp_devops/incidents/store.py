"""Keeps incidents: the newest form in one table, every form in the journal, in one transaction."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Callable
from typing import Any

from mcp_devops.errors import NotFound
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.evidence import DiagnosticContext
from mcp_devops.model.incident import OPEN_STATUSES, Incident, IncidentStatus, TimelineEntry
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Action
from mcp_devops.toolkit.clock import Clock

WATCH_S = 0.5
"""How often a watched incident is looked at: SQLite cannot tell another process of a change, and a
PostgreSQL behind a pooler not either."""


NAMESAKES = 20
"""Newest incidents among which a workload's own is looked for: others of its name and namespace
are of another kind or cluster."""
_OF = "namespace = ? AND name = ?"
_OPEN = f"{_OF} AND status IN ({', '.join(repr(s.value) for s in sorted(OPEN_STATUSES))})"


class Stored(Record):
    """An incident with what it rests on."""

    incident: Incident
    """The incident."""
    context: DiagnosticContext | None = None
    """The newest evidence."""
    plan: ActionPlan | None = None
    """The plan that was carried out, or is."""


class IncidentStore:
    """Saves and finds incidents."""

    def __init__(self, database: Database, journal: Journal, clock: Clock) -> None:
        self._database = database
        self._journal = journal
        self._clock = clock
        self.on_opened: list[Callable[[], None]] = []

    async def open(self, target: Workload, opened_by: str) -> Stored:
        """Make a new incident."""
        now = self._clock.now()
        incident = Incident(
            id=f"inc-{secrets.token_hex(4)}",
            target=target,
            status=IncidentStatus.INVESTIGATING,
            opened_at=now,
            updated_at=now,
            opened_by=opened_by,
        )
        stored = await self.save(Stored(incident=incident), f"opened for {target}", opened_by)
        for tell in self.on_opened:
            tell()
        return stored

    async def find_open(self, target: Workload) -> Stored | None:
        """The newest open incident of a workload, if there is one."""
        found = await self._select(_OPEN, (target.namespace, target.name))
        return next((s for s in found if s.incident.target == target), None)

    async def find_same(self, target: Workload, template_hash: str) -> Stored | None:
        """The newest incident of a workload, if it is closed and about this very template.

        Who looks again at a rollout that was found well goes on with its incident.
        """
        found = await self._select(_OF, (target.namespace, target.name), most=NAMESAKES)
        newest = next((s for s in found if s.incident.target == target), None)
        if newest is None or newest.incident.status is not IncidentStatus.CLOSED:
            return None
        change = newest.context.change if newest.context else None
        same = change is not None and change.revision.template_hash == template_hash
        return newest if same else None

    async def get(self, incident_id: str) -> Stored:
        """One incident.

        Raises:
            NotFound: There is none of that id; with the newest ids.
        """
        found = await self._select("id = ?", (incident_id,))
        if not found:
            newest = [s.incident.id for s in (await self._select("1 = 1", ()))[:5]]
            raise NotFound(
                f"There is no incident {incident_id!r}.",
                fix=f"Newest: {', '.join(newest)}." if newest else "Call incident_investigate.",
                near=newest,
            )
        return found[0]

    async def all(self, *, open_only: bool = False) -> list[Incident]:
        """Incidents, newest first."""
        found = [s.incident for s in await self._select("1 = 1", ())]
        return [i for i in found if not open_only or i.status in OPEN_STATUSES]

    async def judged_bad(self, target: Workload) -> tuple[str, ...]:
        """Template hashes of this workload that a verdict said to roll back: no targets."""
        # The text is looked for first: most incidents are about rollouts that were well.
        found = await self._select(
            f"{_OF} AND body LIKE '%\"{Action.ROLL_BACK.value}\"%'",
            (target.namespace, target.name),
        )
        return tuple(
            {
                s.context.change.revision.template_hash
                for s in found
                if s.incident.target == target
                and s.incident.verdict is not None
                and s.incident.verdict.action is Action.ROLL_BACK
                and s.context is not None
                and s.context.change is not None
            }
        )

    async def save(self, stored: Stored, what: str, who: str, **body: Any) -> Stored:
        """Write a new form of an incident, add a line to its timeline, and journal it.

        Args:
            stored: The new form.
            what: The timeline's line.
            who: Who moved it.
            body: Facts for the journal entry.
        """
        entry = TimelineEntry(at=self._clock.now(), what=what, who=who)

        def write(connection: Connection) -> Stored:
            # Others may have written notes since this form was read.
            noted = dict.fromkeys((*stored.incident.timeline, *_timeline(connection, stored)))
            timeline = (*sorted(noted, key=lambda e: e.at), entry)
            return self._write(connection, stored, timeline, EntryKind.INCIDENT_CHANGED, body)

        return await self._database.run(write)

    async def note(self, incident_id: str, what: str, who: str, **body: Any) -> Stored | None:
        """Add a line to an incident's timeline and nothing else, whatever else moves meanwhile.

        Args:
            incident_id: The incident.
            what: The timeline's line.
            who: Who did it.
            body: Facts for the journal entry.

        Returns:
            Its newest form; None: there is no such incident.
        """
        entry = TimelineEntry(at=self._clock.now(), what=what, who=who)

        def write(connection: Connection) -> Stored | None:
            row = connection.execute(
                "SELECT body FROM incidents WHERE id = ?", (incident_id,)
            ).fetchone()
            if row is None:
                return None
            stored = Stored.model_validate(json.loads(row["body"]))
            timeline = (*stored.incident.timeline, entry)
            return self._write(connection, stored, timeline, EntryKind.NOTE, body)

        return await self._database.run(write)

    def _write(
        self,
        connection: Connection,
        stored: Stored,
        timeline: tuple[TimelineEntry, ...],
        kind: EntryKind,
        body: dict[str, Any],
    ) -> Stored:
        """Write a form of an incident whose newest line is the last of the timeline."""
        newest = timeline[-1]
        incident = stored.incident.model_copy(
            update={"updated_at": newest.at, "timeline": timeline}
        )
        stored = stored.model_copy(update={"incident": incident})
        connection.execute(
            "INSERT INTO incidents (id, namespace, name, status, opened_at, updated_at, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " status = excluded.status, updated_at = excluded.updated_at, body = excluded.body",
            (
                incident.id, incident.target.namespace, incident.target.name,
                incident.status.value, incident.opened_at.isoformat(), newest.at.isoformat(),
                stored.model_dump_json(),
            ),
        )  # fmt: skip
        self._journal.append_in(
            connection,
            kind,
            actor=newest.who,
            subject=str(incident.target),
            incident_id=incident.id,
            body={"status": incident.status.value, "what": newest.what, **body},
        )
        return stored

    async def changes(self, incident_id: str) -> AsyncGenerator[IncidentStatus, None]:
        """Yield an incident's status whenever it has moved, in this process or another."""
        seen = (await self.get(incident_id)).incident.updated_at
        while True:
            await asyncio.sleep(WATCH_S)
            incident = (await self.get(incident_id)).incident
            if incident.updated_at != seen:
                seen = incident.updated_at
                yield incident.status

    async def _select(self, where: str, values: tuple[str, ...], most: int = 1000) -> list[Stored]:
        query = f"SELECT body FROM incidents WHERE {where} ORDER BY opened_at DESC, updated_at DESC LIMIT {most:d}"  # noqa: S608, E501 - `where` is one of this file's own constants

        def look(connection: Connection) -> list[Stored]:
            rows = connection.execute(query, values).fetchall()
            return [Stored.model_validate(json.loads(row["body"])) for row in rows]

        return await self._database.read(look)


def _timeline(connection: Connection, stored: Stored) -> list[TimelineEntry]:
    """The timeline of an incident as it is kept now."""
    row = connection.execute(
        "SELECT body FROM incidents WHERE id = ?", (stored.incident.id,)
    ).fetchone()
    kept = json.loads(row["body"])["incident"]["timeline"] if row is not None else []
    return [TimelineEntry.model_validate(entry) for entry in kept]
