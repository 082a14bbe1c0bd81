"""Who may say yes to a plan: the policy, the client's user, a terminal. Fails closed."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass

from mcp_devops.errors import ApprovalExpired, ApprovalRequired, PreconditionFailed
from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus, denied
from mcp_devops.gateway.asking import Ask, PersonAnswer, Question
from mcp_devops.gateway.permission import matches
from mcp_devops.model.action import ActionPlan
from mcp_devops.settings import ServerSettings
from mcp_devops.text.escapes import strip_escapes
from mcp_devops.text.people import percent
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Caller, Progress

AUTOMATIC_CONFIDENCE = 0.80
"""Below it a person decides (requirement A12), whatever a verdict says of itself."""

TERMINAL_POLL_S = 0.5
"""How often an open dialog looks whether a terminal answered first: SQLite cannot push."""


@dataclass(frozen=True)
class Consent:
    """Gets a yes for a plan, or raises why there is none."""

    desk: ApprovalDesk
    settings: ServerSettings
    clock: Clock

    async def obtain(
        self, plan: ActionPlan, caller: Caller, ask: Ask | None, progress: Progress
    ) -> Approval:
        """Find or get an approved, unspent approval of this very plan.

        Raises:
            ApprovalRequired: Nobody can be asked through this client, or its user is not on the
                list of approvers; says what to run, and who may.
            PermissionDenied: Whoever answered is not on the list.
            ApprovalDenied: Someone said no, or closed the dialog.
            ApprovalExpired: Nobody answered in time.
            AnswerLater: The client brings the answer with its next call.
        """
        approval = await self.desk.request(plan, str(caller))
        if approval.status is ApprovalStatus.APPROVED:
            return approval
        if self.policy_allows(plan):
            allowed = await self.desk.allow(
                approval.id,
                f"confidence {plan.confidence:.2f}, evidence complete, "
                f"namespace {plan.target.namespace} is in automatic_namespaces",
            )
            if allowed is not None:
                return allowed
        if ask is None or "elicitation" not in self.settings.approval_channels:
            raise self._required(approval)
        if approval.approvers and not _vouched(caller) & set(approval.approvers):
            # A dialog whose answer will not count is none; those on the list can still answer.
            raise self._required(approval)
        await progress(0, 3, f"waiting for approval {approval.id}")
        return await self._dialog(approval, plan, caller, ask)

    def policy_allows(self, plan: ActionPlan) -> bool:
        """Whether the rules for acting without a person all hold (requirement A12)."""
        return (
            "policy" in self.settings.approval_channels
            and plan.automatic_allowed
            and plan.evidence_complete
            and plan.confidence is not None
            and plan.confidence >= AUTOMATIC_CONFIDENCE
            and matches(plan.target.namespace, self.settings.automatic_namespaces)
        )

    async def _dialog(
        self, approval: Approval, plan: ActionPlan, caller: Caller, ask: Ask
    ) -> Approval:
        left = (approval.expires_at - self.clock.now()).total_seconds()
        dialog = asyncio.ensure_future(ask(Question(approval.id, question_text(plan, approval))))
        terminal = asyncio.ensure_future(self._answered_elsewhere(approval.id))
        try:
            done, _ = await asyncio.wait(
                {dialog, terminal}, timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (dialog, terminal):
                if not task.done():
                    task.cancel()
            await asyncio.gather(dialog, terminal, return_exceptions=True)
        if terminal in done:
            return self._settled(terminal.result())
        if dialog in done:
            answer = dialog.result()
            if answer is None:
                raise self._required(approval)
            return await self._record(approval, answer, caller)
        return self._settled(await self.desk.get(approval.id))

    async def _record(self, approval: Approval, answer: PersonAnswer, caller: Caller) -> Approval:
        if answer.approved:
            status = ApprovalStatus.APPROVED
        else:
            status = ApprovalStatus.DISMISSED if answer.dismissed else ApprovalStatus.DENIED
        try:
            settled = await self.desk.answer(
                approval.id,
                status,
                who=caller.identity,
                channel="elicitation",
                note=answer.note,
                vouched=_vouched(caller),
            )
        except PreconditionFailed:
            # Somebody answered elsewhere while the dialog was open: the first answer counts.
            settled = await self.desk.get(approval.id)
        return self._settled(settled)

    def _settled(self, approval: Approval) -> Approval:
        if approval.status is ApprovalStatus.APPROVED:
            return approval
        if approval.status is ApprovalStatus.DISMISSED:
            error = denied(approval)
            error.fix = (
                "A closed dialog is a no. If the change is still wanted, ask the person, then call"
                " again. A client that closes dialogs by itself needs a server with"
                " MCP_DEVOPS_APPROVAL_CHANNELS=terminal."
            )
            raise error
        if approval.status in (ApprovalStatus.EXPIRED, ApprovalStatus.PENDING):
            raise ApprovalExpired(
                f"Nobody answered approval {approval.id} in time; nothing was changed.",
                fix="Call again to ask again.",
                approval_id=approval.id,
            )
        raise denied(approval)

    async def _answered_elsewhere(self, approval_id: str) -> Approval:
        while True:
            approval = await self.desk.get(approval_id)
            if approval.status is not ApprovalStatus.PENDING:
                return approval
            await asyncio.sleep(TERMINAL_POLL_S)

    def _command(self, approval: Approval) -> str:
        """What to type; a directory that is not the default must be named."""
        command = f"mcp-devops approve {approval.id}"
        if self.settings.state_dir is not None:
            command += f" --state-dir {shlex.quote(str(self.settings.state_dir))}"
        return command

    def _required(self, approval: Approval) -> ApprovalRequired:
        if "terminal" in self.settings.approval_channels:
            who = "A person"
            if approval.approvers:
                who = f"One of {', '.join(approval.approvers[:5])}"
            fix = (
                f"{who} runs `{self._command(approval)}` (or `deny`) in a terminal before"
                f" {approval.expires_at:%H:%M:%S} UTC; then repeat this call unchanged."
            )
        else:
            fix = "No approval channel is on that this client can use; see `mcp-devops doctor`."
        return ApprovalRequired(
            f"{approval.plan.summary.rstrip('.')}: this needs approval. Nothing was changed.",
            fix=fix,
            approval_id=approval.id,
            command=self._command(approval),
            expires_at=approval.expires_at.isoformat(),
            plan_digest=approval.digest,
            summary=approval.plan.summary,
            warnings=list(approval.plan.warnings),
        )


def _vouched(caller: Caller) -> set[str]:
    """Names of a caller that its transport vouches for."""
    return {caller.identity} if caller.proven else set()


def question_text(plan: ActionPlan, approval: Approval) -> str:
    """What a person reads before saying yes: what, why, what to know first, until when.

    Each fact keeps to one line without control characters, so that none can pose as another.
    """
    lines = [_plain(plan.summary)]
    if plan.reason:
        lines.append(f"Why: {_plain(plan.reason)}")
    if plan.confidence is not None:
        complete = "complete" if plan.evidence_complete else "INCOMPLETE"
        lines.append(f"Confidence {percent(plan.confidence)}; evidence {complete}.")
    lines += [
        _plain(f"Changes {d.path}: {d.before or '(none)'} -> {d.after or '(none)'}")
        for d in plan.differences[:8]
    ]
    if len(plan.differences) > 8:
        lines.append(f"... and {len(plan.differences) - 8} more differences")
    lines += [f"Note: {_plain(w)}" for w in plan.warnings]
    if approval.approvers:
        lines.append(_plain(f"Who may answer: {', '.join(approval.approvers[:20])}"))
    lines.append(
        f"Approval {approval.id}, plan {approval.digest[:12]}, until"
        f" {approval.expires_at:%H:%M:%S} UTC. No answer is a no."
    )
    return "\n".join(lines)


def _plain(text: str) -> str:
    return " ".join(strip_escapes(text).split())
