"""What people said afterwards about decisions, and what a service's past says about the next.

A judgement may be corrected; the newest counts, and each is in the journal.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from mcp_devops.decision.policy import ChangeHistory
from mcp_devops.errors import PreconditionFailed
from mcp_devops.incidents.store import Stored
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Action, Verdict

NEWEST = 200
"""Incidents, runs and judgements of a service that count; what is older is another service."""

NOTE_CHARS = 500
"""Characters of a note that are kept."""

LEAST_CONFIDENCE = 0.80
"""Probability from which a decision is one that could be made without a person (A12)."""

POOR_RECORD = "record_too_poor"
"""The veto that only speaks of past decisions: a verdict that has no other would have been
automatic, and is judged as such, else a poor record could never be mended."""


class Judgement(Record):
    """A person's word on a decision."""

    incident_id: str
    """The incident."""
    verdict_id: str
    """The verdict that was judged."""
    target: Workload
    """What it was about."""
    automatic: bool
    """Whether it was a decision to act without a person, done or not."""
    was_right: bool
    """What the person says."""
    by_whom: str
    """Who."""
    note: str
    """What they add."""
    at: Moment
    """When."""
    before: bool | None = None
    """What was said about the same incident before; null: nothing."""


def target_key(target: Workload) -> str:
    """A workload as the tables name it: `Deployment shop/cart`, with ` @ cluster` if named."""
    return str(target) + (f" @ {target.cluster}" if target.cluster else "")


async def record_outcome(
    db: Database,
    journal: Journal,
    stored: Stored,
    *,
    was_right: bool,
    who: str,
    now: datetime,
    note: str = "",
) -> Judgement:
    """Write down whether the decision on an incident was right; an earlier word is replaced.

    Raises:
        PreconditionFailed: The incident has no verdict.
    """
    incident = stored.incident
    verdict = incident.verdict
    if verdict is None:
        raise PreconditionFailed(
            f"Incident {incident.id} has no verdict that could be judged.",
            fix="Call incident_decide first, or judge another incident.",
        )
    note = " ".join(note.split())[:NOTE_CHARS]

    def write(connection: Connection) -> Judgement:
        known = connection.execute(
            "SELECT was_right FROM outcomes WHERE incident_id = ?", (incident.id,)
        ).fetchone()
        said = Judgement(
            incident_id=incident.id,
            verdict_id=verdict.id,
            target=incident.target,
            automatic=_would_act(verdict) or _policy_approved(connection, incident.id),
            was_right=was_right,
            by_whom=who,
            note=note,
            at=now,
            before=None if known is None else bool(known["was_right"]),
        )
        connection.execute(
            "INSERT INTO outcomes"
            " (incident_id, verdict_id, target, automatic, was_right, by_whom, note, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (incident_id) DO UPDATE SET"
            " verdict_id = excluded.verdict_id, target = excluded.target,"
            " automatic = excluded.automatic, was_right = excluded.was_right,"
            " by_whom = excluded.by_whom, note = excluded.note, at = excluded.at",
            (
                said.incident_id, said.verdict_id, target_key(said.target), int(said.automatic),
                int(said.was_right), said.by_whom, said.note, said.at.isoformat(),
            ),
        )  # fmt: skip
        journal.append_in(
            connection,
            EntryKind.NOTE,
            actor=who,
            subject=str(incident.target),
            incident_id=incident.id,
            body={
                "what": f"decision judged {_word(said.was_right)}",
                **said.model_dump(mode="json"),
            },
        )
        return said

    return await db.run(write)


async def history_of(
    db: Database, target: Workload, *, without_template: str | None = None
) -> ChangeHistory:
    """What is known about a service's past deployments and automatic decisions.

    A deployment failed if a person says so, or if rolling it back cured it; a verdict alone
    proves nothing about itself.

    Args:
        db: The open state.
        target: The service.
        without_template: Template hash of the deployment that is judged now: it is not its own
            past.
    """

    def look(connection: Connection) -> ChangeHistory:
        known = _judged(connection, target)
        templates = {
            str(row["template_hash"])
            for row in connection.execute(
                "SELECT template_hash FROM runs WHERE target = ? ORDER BY started_at DESC LIMIT ?",
                (target_key(target), NEWEST),
            ).fetchall()
        }
        failed = set()
        for body in _incidents(connection, target):
            template = _template(body)
            templates.add(template)
            if _failed(body["incident"], known):
                failed.add(template)
        nothing = {"", without_template}
        judged = [right for automatic, right in known.values() if automatic]
        return ChangeHistory(
            deployments=len(templates - nothing),
            failed=len(failed - nothing),
            judged=len(judged),
            right=sum(judged),
        )

    return await db.read(look)


async def record_of_all(db: Database) -> ChangeHistory:
    """How many automatic decisions over all services were judged, and how many were right.

    The newest `NEWEST` count; `deployments` and `failed` are not counted.
    """

    def look(connection: Connection) -> ChangeHistory:
        rows = connection.execute(
            "SELECT was_right FROM outcomes WHERE automatic <> 0 ORDER BY at DESC LIMIT ?",
            (NEWEST,),
        ).fetchall()
        return ChangeHistory(judged=len(rows), right=sum(bool(row["was_right"]) for row in rows))

    return await db.read(look)


def _judged(connection: Connection, target: Workload) -> dict[str, tuple[bool, bool]]:
    """(automatic, right) by incident."""
    rows = connection.execute(
        "SELECT incident_id, automatic, was_right FROM outcomes WHERE target = ?"
        " ORDER BY at DESC LIMIT ?",
        (target_key(target), NEWEST),
    ).fetchall()
    return {r["incident_id"]: (bool(r["automatic"]), bool(r["was_right"])) for r in rows}


def _incidents(connection: Connection, target: Workload) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT body FROM incidents WHERE namespace = ? AND name = ?"
        " ORDER BY opened_at DESC LIMIT ?",
        (target.namespace, target.name, NEWEST),
    ).fetchall()
    wanted = target.model_dump(mode="json")
    return [b for b in (json.loads(r["body"]) for r in rows) if b["incident"]["target"] == wanted]


def _template(body: dict[str, Any]) -> str:
    change = (body.get("context") or {}).get("change") or {}
    return str((change.get("revision") or {}).get("template_hash") or "")


def _failed(incident: dict[str, Any], known: dict[str, tuple[bool, bool]]) -> bool:
    action = (incident.get("verdict") or {}).get("action")
    if incident["id"] in known:
        _, right = known[incident["id"]]
        if action in (Action.ROLL_BACK, Action.FIX_FORWARD):
            return right
        if action == Action.NONE:
            return not right
    return bool(incident["status"] == IncidentStatus.RECOVERED)


def _would_act(verdict: Verdict) -> bool:
    only_the_record = {veto.code for veto in verdict.vetoes} == {POOR_RECORD}
    return verdict.automatic or (
        only_the_record
        and verdict.action is Action.ROLL_BACK
        and verdict.evidence_complete
        and verdict.confidence >= LEAST_CONFIDENCE
    )


def _policy_approved(connection: Connection, incident_id: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM approvals WHERE incident_id = ? AND channel = 'policy' AND status = 'used'",
        (incident_id,),
    ).fetchone()
    return row is not None


def _word(right: bool) -> str:
    return "right" if right else "wrong"
