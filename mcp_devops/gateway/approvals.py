"""A person's yes: stored before it is asked for, bound to a plan, used once, gone in minutes."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mcp_devops.errors import ApprovalDenied, NotFound, PreconditionFailed
from mcp_devops.gateway.freezes import frozen_in
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload
from mcp_devops.toolkit.clock import Clock


class ApprovalStatus(StrEnum):
    """Where an approval stands. Only `approved` and unexpired is a yes."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    DISMISSED = "dismissed"
    """The dialog was closed without an answer: a no, but not one that forbids asking again."""
    EXPIRED = "expired"
    USED = "used"


class Approval(Record):
    """One question to a person, and what became of it."""

    id: str
    """apr-<10 hex>."""
    digest: str
    """Digest of the plan that it covers; nothing else."""
    plan: ActionPlan
    """The plan."""
    requested_by: str
    """Who wants it."""
    requested_at: Moment
    """When it was stored."""
    expires_at: Moment
    """From then on it is a no."""
    status: ApprovalStatus
    """Where it stands."""
    answered_by: str | None = None
    """Who answered."""
    answered_at: Moment | None = None
    """When."""
    channel: str | None = None
    """elicitation, terminal or policy."""
    note: str | None = None
    """What the person added."""


def _from_row(row: Any) -> Approval:
    fields = {k: row[k] for k in row.keys() if k in Approval.model_fields}  # noqa: SIM118 - a row iterates values
    return Approval.model_validate(fields | {"plan": ActionPlan.model_validate_json(row["plan"])})


class ApprovalDesk:
    """Keeps approvals in the database that the terminal and all servers of a user share."""

    def __init__(self, database: Database, journal: Journal, clock: Clock, ttl_s: float) -> None:
        self._database = database
        self._journal = journal
        self._clock = clock
        self._ttl = timedelta(seconds=ttl_s)

    async def request(self, plan: ActionPlan, requested_by: str) -> Approval:
        """Store a question, or find the one that already waits, or its yes, for this very plan.

        Raises:
            ApprovalDenied: A person said no to this plan within the last approval period; asking
                again at once would wear people down.
        """
        now = self._clock.now()

        def store(connection: Connection) -> Approval:
            self._expire(connection, now)
            # Of those stored at one moment only the newest can wait, be a yes or be a no.
            row = connection.execute(
                "SELECT * FROM approvals WHERE digest = ? ORDER BY requested_at DESC, CASE status"
                " WHEN 'pending' THEN 0 WHEN 'approved' THEN 0 WHEN 'denied' THEN 1 ELSE 2 END",
                (plan.digest,),
            ).fetchone()
            if row is not None:
                known = _from_row(row)
                if known.status in (ApprovalStatus.PENDING, ApprovalStatus.APPROVED):
                    return known
                if known.status is ApprovalStatus.DENIED and known.expires_at > now:
                    raise denied(known)
            approval = Approval(
                id=f"apr-{secrets.token_hex(5)}",
                digest=plan.digest,
                plan=plan,
                requested_by=requested_by,
                requested_at=now,
                expires_at=now + self._ttl,
                status=ApprovalStatus.PENDING,
            )
            connection.execute(
                "INSERT INTO approvals (id, digest, plan, summary, requested_by, requested_at,"
                " expires_at, status, incident_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    approval.id, approval.digest, plan.model_dump_json(), plan.summary,
                    requested_by, now.isoformat(), approval.expires_at.isoformat(),
                    approval.status.value, plan.incident_id,
                ),
            )  # fmt: skip
            self._journal.append_in(
                connection,
                EntryKind.APPROVAL_REQUESTED,
                actor=requested_by,
                subject=plan.tool,
                incident_id=plan.incident_id,
                body={
                    "approval_id": approval.id,
                    "plan": plan.model_dump(mode="json", exclude_defaults=True),
                    "plan_digest": plan.digest,
                    "expires_at": approval.expires_at.isoformat(),
                },
            )
            return approval

        return await self._database.run(store)

    async def answer(
        self, approval_id: str, status: ApprovalStatus, *, who: str, channel: str, note: str = ""
    ) -> Approval:
        """Record a person's answer; the first one counts.

        Raises:
            NotFound: There is no such approval.
            PreconditionFailed: It was answered before, or its time is over.
        """
        now = self._clock.now()

        def store(connection: Connection) -> Approval:
            self._expire(connection, now)
            approval = self._one(connection, approval_id)
            if approval.status is not ApprovalStatus.PENDING:
                by = f" by {approval.answered_by}" if approval.answered_by else ""
                raise PreconditionFailed(
                    f"Approval {approval_id} is {approval.status.value}{by} already.",
                    fix="Let the agent ask again if the change is still wanted.",
                    status=approval.status.value,
                )
            connection.execute(
                "UPDATE approvals SET status = ?, answered_by = ?, answered_at = ?, channel = ?,"
                " note = ? WHERE id = ?",
                (status.value, who, now.isoformat(), channel, note or None, approval_id),
            )
            self._record(connection, approval, status, who, channel, note)
            return self._one(connection, approval_id)

        return await self._database.run(store)

    def use_in(self, connection: Connection, approval_id: str, digest: str) -> Approval:
        """Spend a yes inside the transaction that starts the action.

        Raises:
            ApprovalDenied: It is not a yes for this plan, was spent before, or its time is over.
        """
        now = self._clock.now()
        self._expire(connection, now)
        approval = self._one(connection, approval_id)
        if approval.status is not ApprovalStatus.APPROVED or approval.digest != digest:
            raise denied(approval)
        connection.execute("UPDATE approvals SET status = 'used' WHERE id = ?", (approval_id,))
        return approval

    async def is_frozen(self, target: Workload) -> bool:
        """Whether nothing automatic may be done to a workload now."""
        now = self._clock.now()
        return await self._database.read(lambda c: frozen_in(c, target, now)) is not None

    async def get(self, approval_id: str) -> Approval:
        """One approval, as it stands now.

        Raises:
            NotFound: There is no such approval.
        """
        now = self._clock.now()

        def look(connection: Connection) -> Approval:
            self._expire(connection, now)
            return self._one(connection, approval_id)

        return await self._database.run(look)

    async def waiting(self) -> list[Approval]:
        """Approvals that wait for a person, oldest first."""
        now = self._clock.now()

        def look(connection: Connection) -> list[Approval]:
            self._expire(connection, now)
            rows = connection.execute(
                "SELECT * FROM approvals WHERE status = 'pending' ORDER BY requested_at"
            ).fetchall()
            return [_from_row(row) for row in rows]

        return await self._database.run(look)

    def _one(self, connection: Connection, approval_id: str) -> Approval:
        row = connection.execute("SELECT * FROM approvals WHERE id = ?", (approval_id,)).fetchone()
        if row is None:
            raise NotFound(
                f"There is no approval {approval_id!r}.",
                fix="`mcp-devops approvals` lists those that wait.",
            )
        return _from_row(row)

    def _expire(self, connection: Connection, now: datetime) -> None:
        rows = connection.execute(
            "SELECT * FROM approvals WHERE status IN ('pending', 'approved') AND expires_at <= ?",
            (now.isoformat(),),
        ).fetchall()
        for approval in map(_from_row, rows):
            connection.execute(
                "UPDATE approvals SET status = 'expired' WHERE id = ?", (approval.id,)
            )
            self._record(connection, approval, ApprovalStatus.EXPIRED, "nobody", "clock", "")

    def _record(
        self,
        connection: Connection,
        approval: Approval,
        status: ApprovalStatus,
        who: str,
        channel: str,
        note: str,
    ) -> None:
        self._journal.append_in(
            connection,
            EntryKind.APPROVAL_ANSWERED,
            actor=who,
            subject=approval.plan.tool,
            incident_id=approval.plan.incident_id,
            body={
                "approval_id": approval.id,
                "plan_digest": approval.digest,
                "status": status.value,
                "channel": channel,
                "note": note,
            },
        )


def denied(approval: Approval) -> ApprovalDenied:
    """The error for an approval that is not a yes."""
    who = approval.answered_by or "nobody"
    said = f": {approval.note}" if approval.note else ""
    return ApprovalDenied(
        f"Approval {approval.id} is {approval.status.value} (by {who}{said}); nothing was changed.",
        fix=f"Do not ask again for this plan before {approval.expires_at:%H:%M:%S} UTC; talk to"
        " the person, or gather evidence that changes the plan.",
        approval_id=approval.id,
        status=approval.status.value,
    )
