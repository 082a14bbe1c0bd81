"""A person's yes: stored before it is asked for, bound to a plan, used once, gone in minutes.

Who may give it is stored with the question, so that every channel checks the same list, here. A
channel vouches for who answers: Slack for its user id, a terminal for the operating system's user,
an MCP client for its token's subject. Whoever can write to the state itself stands above the list.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from mcp_devops.errors import NotFound, PreconditionFailed
from mcp_devops.gateway.acts import one_more_in
from mcp_devops.gateway.approval import (
    POLICY,
    Approval,
    ApprovalStatus,
    Terms,
    denied,
    from_row,
    listed,
    meets,
    not_an_approver,
)
from mcp_devops.gateway.freezes import frozen_in
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.response_policy.limits import Limits, Stopped
from mcp_devops.toolkit.clock import Clock

__all__ = ["Approval", "ApprovalDesk", "ApprovalStatus", "Terms", "denied"]


class ApprovalDesk:
    """Keeps approvals in the database that the terminal and all servers of a user share."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        clock: Clock,
        ttl_s: float,
        terms_of: Callable[[ActionPlan], Terms] = lambda _: Terms(),
        limits_of: Callable[[], Limits] = Limits,
    ) -> None:
        """Remember where approvals are kept.

        Args:
            database: Keeps them.
            journal: Records each question and answer.
            clock: Tells when one expires.
            ttl_s: Seconds after which a question is a no, at the latest.
            terms_of: On which terms a plan is asked about.
            limits_of: How often something may be done alone, as it stands.
        """
        self._database = database
        self._journal = journal
        self._clock = clock
        self._ttl = timedelta(seconds=ttl_s)
        self.terms_of = terms_of
        self.limits_of = limits_of

    async def request(self, plan: ActionPlan, requested_by: str) -> Approval:
        """Store a question, or find the one that already waits, or its yes, for this very plan.

        A question that waits already is narrowed to this desk's terms, never widened; a yes that
        was not given on these terms is none.

        Raises:
            ApprovalDenied: A person said no to this plan within the last approval period; asking
                again at once would wear people down.
        """
        now = self._clock.now()
        terms = self.terms_of(plan)
        wait = min(self._ttl, timedelta(seconds=terms.wait_s or self._ttl.total_seconds()))

        def store(connection: Connection) -> Approval:
            self._expire(connection, now)
            # Of those stored at one moment only the newest can wait, be a yes or be a no.
            row = connection.execute(
                "SELECT * FROM approvals WHERE digest = ? ORDER BY requested_at DESC, CASE status"
                " WHEN 'pending' THEN 0 WHEN 'approved' THEN 0 WHEN 'denied' THEN 1 ELSE 2 END",
                (plan.digest,),
            ).fetchone()
            if row is not None:
                known = from_row(row)
                if known.status is ApprovalStatus.PENDING:
                    return self._narrowed(connection, known, terms.approvers, now + wait)
                if known.status is ApprovalStatus.APPROVED and meets(known, terms):
                    return known
                if known.status is ApprovalStatus.DENIED and known.expires_at > now:
                    raise denied(known)
            approval = Approval(
                id=f"apr-{secrets.token_hex(5)}",
                digest=plan.digest,
                plan=plan,
                requested_by=requested_by,
                requested_at=now,
                expires_at=now + wait,
                status=ApprovalStatus.PENDING,
                approvers=terms.approvers,
            )
            connection.execute(
                "INSERT INTO approvals (id, digest, plan, summary, requested_by, requested_at,"
                " expires_at, status, incident_id, approvers)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    approval.id, approval.digest, plan.model_dump_json(), plan.summary,
                    requested_by, now.isoformat(), approval.expires_at.isoformat(),
                    approval.status.value, plan.incident_id, listed(terms.approvers),
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
                    **({"approvers": list(terms.approvers)} if terms.approvers else {}),
                },
            )
            return approval

        return await self._database.run(store)

    async def answer(
        self,
        approval_id: str,
        status: ApprovalStatus,
        *,
        who: str,
        channel: str,
        note: str = "",
        vouched: Collection[str] | None = None,
    ) -> Approval:
        """Record a person's answer; the first one counts.

        Args:
            approval_id: The question.
            status: The answer.
            who: Who answers, for the record.
            channel: Through what; `policy` is no person, and no list holds for it.
            note: What the person added.
            vouched: Names of the person that the channel vouches for, looked up in the list of
                approvers; None: `who` is one.

        Raises:
            NotFound: There is no such approval.
            PreconditionFailed: It was answered before, or its time is over.
            PermissionDenied: The person is not on the approval's list. It is journaled, and the
                approval still waits.
        """
        now = self._clock.now()
        names = {who} if vouched is None else set(vouched)

        def store(connection: Connection) -> tuple[Approval, bool]:
            self._expire(connection, now)
            approval = self._one(connection, approval_id)
            if approval.status is not ApprovalStatus.PENDING:
                by = f" by {approval.answered_by}" if approval.answered_by else ""
                raise PreconditionFailed(
                    f"Approval {approval_id} is {approval.status.value}{by} already.",
                    fix="Let the agent ask again if the change is still wanted.",
                    status=approval.status.value,
                )
            if channel != POLICY and approval.approvers and not names & set(approval.approvers):
                self._record_refused(connection, approval, status, who, channel)
                return approval, False
            self._store_answer(connection, approval, status, who, channel, note, now)
            return self._one(connection, approval_id), True

        answered, counts = await self._database.run(store)
        if not counts:
            raise not_an_approver(answered, who)
        return answered

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

    async def allow(self, approval_id: str, note: str) -> Approval | None:
        """Say yes in the policy's name, if terms, freezes and limits let one more be done alone.

        Args:
            approval_id: The question.
            note: Why the policy says yes.

        Returns:
            The yes; None: a person has to decide, and the journal says why.

        Raises:
            NotFound: There is no such approval.
        """
        now = self._clock.now()
        limits = self.limits_of()

        def store(connection: Connection) -> Approval | None:
            self._expire(connection, now)
            approval = self._one(connection, approval_id)
            if approval.status is not ApprovalStatus.PENDING:
                return approval if approval.status is ApprovalStatus.APPROVED else None
            target = approval.plan.target
            freeze = frozen_in(connection, target, now)
            stopped = freeze.says() if freeze is not None else ""
            stopped = stopped or self.terms_of(approval.plan).person_because
            if not stopped:
                found = one_more_in(connection, self._journal, now, target, limits)
                stopped = found.reason if isinstance(found, Stopped) else ""
            if stopped:
                what = f"the policy does not say yes by itself: {stopped}"
                status = approval.status
                self._append(
                    connection, EntryKind.NOTE, approval, status, POLICY, POLICY, what=what
                )
                return None
            self._store_answer(
                connection, approval, ApprovalStatus.APPROVED, POLICY, POLICY, note, now
            )
            return self._one(connection, approval_id)

        return await self._database.run(store)

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
            return [from_row(row) for row in rows]

        return await self._database.run(look)

    async def about(self, incident_id: str) -> list[Approval]:
        """Every approval that was asked for about an incident, oldest first."""
        now = self._clock.now()

        def look(connection: Connection) -> list[Approval]:
            self._expire(connection, now)
            rows = connection.execute(
                "SELECT * FROM approvals WHERE incident_id = ? ORDER BY requested_at, id",
                (incident_id,),
            ).fetchall()
            return [from_row(row) for row in rows]

        return await self._database.run(look)

    def _one(self, connection: Connection, approval_id: str) -> Approval:
        row = connection.execute("SELECT * FROM approvals WHERE id = ?", (approval_id,)).fetchone()
        if row is None:
            raise NotFound(
                f"There is no approval {approval_id!r}.",
                fix="`mcp-devops approvals` lists those that wait.",
            )
        return from_row(row)

    def _store_answer(
        self,
        connection: Connection,
        approval: Approval,
        status: ApprovalStatus,
        who: str,
        channel: str,
        note: str,
        now: datetime,
    ) -> None:
        connection.execute(
            "UPDATE approvals SET status = ?, answered_by = ?, answered_at = ?, channel = ?,"
            " note = ? WHERE id = ?",
            (status.value, who, now.isoformat(), channel, note or None, approval.id),
        )
        self._record(connection, approval, status, who, channel, note)

    def _expire(self, connection: Connection, now: datetime) -> None:
        rows = connection.execute(
            "SELECT * FROM approvals WHERE status IN ('pending', 'approved') AND expires_at <= ?",
            (now.isoformat(),),
        ).fetchall()
        for approval in map(from_row, rows):
            connection.execute(
                "UPDATE approvals SET status = 'expired' WHERE id = ?", (approval.id,)
            )
            self._record(connection, approval, ApprovalStatus.EXPIRED, "nobody", "clock", "")

    def _narrowed(
        self, connection: Connection, known: Approval, approvers: tuple[str, ...], end: datetime
    ) -> Approval:
        """A waiting question on stricter terms: fewer people, or less time."""
        both = tuple(a for a in known.approvers if not approvers or a in approvers)
        # Where nobody is on both lists the present one holds: an empty one would let everybody in.
        who = both or approvers
        end = min(known.expires_at, end)
        if (who, end) == (known.approvers, known.expires_at):
            return known
        connection.execute(
            "UPDATE approvals SET approvers = ?, expires_at = ? WHERE id = ?",
            (listed(who), end.isoformat(), known.id),
        )
        self._journal.append_in(
            connection,
            EntryKind.NOTE,
            actor="approvals",
            subject=known.plan.tool,
            incident_id=known.plan.incident_id,
            body={
                "what": "a waiting approval was narrowed",
                "approval_id": known.id,
                "approvers": list(who),
                "expires_at": end.isoformat(),
            },
        )
        return known.model_copy(update={"approvers": who, "expires_at": end})

    def _record_refused(
        self,
        connection: Connection,
        approval: Approval,
        status: ApprovalStatus,
        who: str,
        channel: str,
    ) -> None:
        what = "an answer was refused: not on the list of approvers"
        self._append(connection, EntryKind.NOTE, approval, status, who, channel, what=what)

    def _record(
        self,
        connection: Connection,
        approval: Approval,
        status: ApprovalStatus,
        who: str,
        channel: str,
        note: str,
    ) -> None:
        kind = EntryKind.APPROVAL_ANSWERED
        self._append(connection, kind, approval, status, who, channel, note=note)

    def _append(
        self,
        connection: Connection,
        kind: EntryKind,
        approval: Approval,
        status: ApprovalStatus,
        who: str,
        channel: str,
        **more: str,
    ) -> None:
        self._journal.append_in(
            connection,
            kind,
            actor=who,
            subject=approval.plan.tool,
            incident_id=approval.plan.incident_id,
            body={
                "approval_id": approval.id,
                "plan_digest": approval.digest,
                "status": status.value,
                "channel": channel,
                **more,
            },
        )
