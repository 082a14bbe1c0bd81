"""Which plans were carried out: a plan is done once, also across a crash and across processes."""

from __future__ import annotations

import json
import os
import platform
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mcp_devops.errors import PreconditionFailed
from mcp_devops.gateway.approval import from_row
from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus
from mcp_devops.gateway.freezes import require_unfrozen_in
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.toolkit.clock import Clock


@dataclass(frozen=True)
class Done:
    """A plan that was carried out before, with what it answered then."""

    outcome: dict[str, Any]
    at: str


LONGEST_CHANGE_S = 3600.0
"""Seconds that no change takes longer: the bound of the setting `change_deadline_s`."""

GONE = "gone:"
"""Stands before the owner of a change whose process is known to be dead."""
MARGIN_S = 60.0
"""Seconds on top, for clocks that differ and for the outcome to be written."""


class Ledger:
    """Starts a plan at most once, and writes down how it ended.

    Args:
        database: The open state.
        journal: Where start and outcome are written.
        desk: Where the approval is spent.
        clock: The clock.
        longest_s: Seconds after which a change of another machine is over or was given up.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        desk: ApprovalDesk,
        clock: Clock,
        longest_s: float = LONGEST_CHANGE_S,
    ) -> None:
        self._database = database
        self._journal = journal
        self._desk = desk
        self._clock = clock
        self._longest = timedelta(seconds=longest_s + MARGIN_S)
        self.owner = f"{os.getpid()}:{secrets.token_hex(6)}"
        """Who starts changes here: this process, in this life."""
        if database.many_hosts:
            self.owner += f"@{_machine()}"

    async def find(self, plan: ActionPlan) -> Done | None:
        """What became of this very plan, if it was carried out before.

        A plan names the state that it starts from. So a plan that was started, has no outcome,
        and was just made again from the live object did not take effect: it may be done, under
        a new approval, or goes on where it was `interrupted`.

        Raises:
            PreconditionFailed: It is being carried out right now.
        """

        def look(connection: Connection) -> Any:
            return connection.execute(
                "SELECT * FROM actions WHERE digest = ?", (plan.digest,)
            ).fetchone()

        row = await self._database.read(look)
        if row is None:
            return None
        if row["status"] == "done":
            return Done(json.loads(row["outcome"]), row["finished_at"])
        if row["status"] == "started" and self._runs(row):
            raise PreconditionFailed(
                f"This plan was started at {row['started_at']} and still runs.",
                fix="Call incident_get, or kubernetes_get_rollout, to see how far it is.",
            )
        return None

    async def interrupted(self, plan: ActionPlan) -> Approval | None:
        """The approval under which a process that died, or was stopped, began this very plan.

        The plan goes on under it for as long as a change may take: whoever said yes is not asked
        again about what may be half done, and what is done already is only verified.
        """

        def look(connection: Connection) -> Approval | None:
            row = connection.execute(
                "SELECT * FROM actions WHERE digest = ?", (plan.digest,)
            ).fetchone()
            if row is None or not self._was_interrupted(row):
                return None
            spent = connection.execute(
                "SELECT * FROM approvals WHERE digest = ? AND status = 'used'"
                " ORDER BY answered_at DESC LIMIT 1",
                (plan.digest,),
            ).fetchone()
            return None if spent is None else from_row(spent)

        return await self._database.read(look)

    def _was_interrupted(self, row: Any) -> bool:
        since = self._clock.now() - datetime.fromisoformat(row["started_at"])
        return row["status"] == "started" and since < self._longest and not self._runs(row)

    def _runs(self, row: Any) -> bool:
        """Whether the process that started a plan still lives.

        In a container a restarted server has the pid of the dead one, so a mark beside the pid
        tells them apart. A process of another machine cannot be looked at: it counts as alive
        for as long as a change may take.
        """
        owner = row["owner"]
        if owner.startswith(GONE):
            return False
        if owner.partition("@")[2] != self.owner.partition("@")[2]:
            return self._clock.now() - datetime.fromisoformat(row["started_at"]) < self._longest
        pid = int(owner.split(":", 1)[0])
        return owner == self.owner if pid == os.getpid() else _process_lives(pid)

    async def start(
        self, plan: ActionPlan, approval: Approval | None, actor: str, call_id: str
    ) -> None:
        """Spend the approval and write the intent, in one transaction, before anything is sent.

        Raises:
            ApprovalDenied: The approval is no yes any more.
            PreconditionFailed: A policy's yes, and everything automatic is frozen by now.
            PreconditionFailed: Another process started this very plan a moment ago.
        """
        now = self._clock.now().isoformat()

        def begin(connection: Connection) -> None:
            taken = connection.execute(
                "SELECT * FROM actions WHERE digest = ?", (plan.digest,)
            ).fetchone()
            if taken and (
                taken["status"] == "done" or (taken["status"] == "started" and self._runs(taken))
            ):
                raise PreconditionFailed(
                    "Another call started this very plan a moment ago.",
                    fix="Repeat the call: it will tell the outcome.",
                )
            if approval is not None and approval.channel == "policy":
                require_unfrozen_in(connection, plan.target, self._clock.now())
            again = taken is not None and self._was_interrupted(taken)
            if approval is not None and not (again and approval.status is ApprovalStatus.USED):
                self._desk.use_in(connection, approval.id, plan.digest)
            connection.execute(
                "INSERT INTO actions (digest, tool, status, started_at, owner)"
                " VALUES (?, ?, 'started', ?, ?) ON CONFLICT (digest) DO UPDATE SET"
                " tool = excluded.tool, status = excluded.status, finished_at = NULL,"
                " started_at = excluded.started_at, owner = excluded.owner, outcome = NULL",
                (plan.digest, plan.tool, now, self.owner),
            )
            self._journal.append_in(
                connection,
                EntryKind.ACTION_STARTED,
                actor=actor,
                subject=plan.tool,
                incident_id=plan.incident_id,
                call_id=call_id,
                body={
                    "plan": plan.model_dump(mode="json", exclude_defaults=True),
                    "plan_digest": plan.digest,
                    "approval_id": approval.id if approval else None,
                    "approved_by": approval.answered_by if approval else None,
                    **({"goes_on": True} if again else {}),
                },
            )

        await self._database.run(begin)

    async def finish(
        self, plan: ActionPlan, status: str, outcome: dict[str, Any], actor: str, call_id: str
    ) -> None:
        """Write how it ended: done, failed (nothing was changed) or unknown."""
        now = self._clock.now().isoformat()

        def end(connection: Connection) -> None:
            connection.execute(
                "UPDATE actions SET status = ?, finished_at = ?, outcome = ? WHERE digest = ?",
                (status, now, json.dumps(outcome), plan.digest),
            )
            self._journal.append_in(
                connection,
                EntryKind.ACTION_FINISHED,
                actor=actor,
                subject=plan.tool,
                incident_id=plan.incident_id,
                call_id=call_id,
                body={"plan_digest": plan.digest, "status": status, "outcome": outcome},
            )

        await self._database.run(end)


def gone_in(connection: Connection, owner: str) -> int:
    """Say that a process is dead: what it had begun may go on elsewhere. Returns how much it was.

    Args:
        connection: Of a write transaction.
        owner: The process's `Ledger.owner`.
    """
    return connection.execute(
        "UPDATE actions SET owner = ? WHERE status = 'started' AND owner = ?",
        (GONE + owner, owner),
    ).rowcount


def _machine() -> str:
    """What tells machines, and containers with process numbers of their own, apart."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return f"{platform.node()}/{numbers}"


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
