"""Takes people's answers from Slack: the workspace, the person, the plan; then the desk decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from mcp_devops.errors import DevOpsError, NotFound, PermissionDenied, PreconditionFailed
from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.integrations.slack.blocks import escaped, foreign, message
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.interactions import USAGE, Interaction
from mcp_devops.integrations.slack.records import (
    Click,
    Command,
    Decision,
    MessageRef,
    Person,
    Spoken,
    Verb,
)
from mcp_devops.toolkit.context import Services

log = logging.getLogger(__name__)

MOST_WAITING = 10
"""Questions that a status lists."""
STATUSES = {Decision.APPROVE: ApprovalStatus.APPROVED, Decision.REJECT: ApprovalStatus.DENIED}


class Answers:
    """What becomes of clicks, commands and words."""

    def __init__(self, services: Services, store: IncidentStore, desk: ApprovalDesk) -> None:
        self._services = services
        self._store = store
        self._desk = desk
        self._telling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell people what became of their answers for as long as the block runs."""
        try:
            yield
        finally:
            for task in self._telling:
                task.cancel()
            await asyncio.gather(*self._telling, return_exceptions=True)

    async def answered(self, interaction: Interaction) -> None:
        """Take a click or a command; the person is told of it beside this, as Slack waits 3 s.

        Raises:
            DevOpsError: It could not be looked at; nothing was recorded.
        """
        slack = await self._services.get(SlackClient)
        try:
            says = await self._says(slack, interaction)
        except DevOpsError as problem:
            # Over the socket it was acknowledged before: without a word it would look taken.
            says = f"Your answer could not be recorded ({problem.code}). Please answer again."
            self._reply(slack, interaction, says)
            raise
        self._reply(slack, interaction, says)

    def _reply(self, slack: SlackClient, interaction: Interaction, says: str) -> None:
        if interaction.response_url is not None:
            task = asyncio.create_task(_tell(slack, interaction.response_url, says))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def spoken(self, spoken: Spoken, question: MessageRef) -> None:
        """Take an answer that was found under a question; a refused one is told there.

        Raises:
            DevOpsError: It could not be looked at; nothing was recorded.
        """
        slack = await self._services.get(SlackClient)
        person = await slack.person(spoken.user_id)
        says, counts = await self._unknown(slack, spoken, person), False
        if not says:
            says, counts = await self._decide(
                slack, spoken.approval_id, spoken.decision, spoken.user_id, person.name, None
            )
        if not counts:
            told = message(f"{person.name}: {says}", [])
            await slack.post(told, thread=question)

    async def _unknown(self, slack: SlackClient, spoken: Spoken, person: Person) -> str:
        """Why a person's words cannot count, whatever the list says; empty: they can.

        A click tells its workspace, a reaction does not: in a channel that two companies share
        anybody can react.
        """
        if person.is_bot:
            return "An app cannot answer; nothing was recorded."
        if person.team_id:
            if person.team_id == await slack.own_team():
                return ""
            log.warning("%s of another workspace tried to answer", person.id)
            return "You are of another workspace than the app; nothing was recorded."
        try:
            listed = (await self._desk.get(spoken.approval_id)).approvers
        except NotFound:
            return ""
        if listed:
            return ""
        return (
            "Slack does not tell which workspace you are of (scope users:read), and no approvers"
            " are listed; nothing was recorded."
        )

    async def _says(self, slack: SlackClient, interaction: Interaction) -> str:
        teams = {interaction.team_id}
        if isinstance(interaction, Click):
            teams.add(interaction.user_team_id)
        if teams - {"", await slack.own_team()}:
            log.warning("%s of another workspace tried to answer", interaction.user_id)
            return "You are of another workspace than the app; nothing was recorded."
        if isinstance(interaction, Click):
            approval_id, decision = interaction.approval_id, interaction.decision
            digest: str | None = interaction.plan_digest
        elif interaction.verb in (Verb.APPROVE, Verb.REJECT):
            approval_id, digest = interaction.subject, None
            approves = interaction.verb is Verb.APPROVE
            decision = Decision.APPROVE if approves else Decision.REJECT
        elif interaction.verb is Verb.STATUS:
            return await self._status(interaction)
        else:
            return f"Not understood; nothing was recorded. Known: {USAGE}."
        user, name = interaction.user_id, interaction.user_name
        says, _ = await self._decide(slack, approval_id, decision, user, name, digest)
        return escaped(says)

    async def _decide(
        self,
        slack: SlackClient,
        approval_id: str,
        decision: Decision,
        user_id: str,
        user_name: str,
        digest: str | None,
    ) -> tuple[str, bool]:
        """Record a person's answer, if they may give it. Returns what to tell, and if it counts."""
        try:
            approval = await self._desk.get(approval_id)
            if digest is not None and not approval.digest.startswith(digest):
                return "This button belongs to another plan; nothing was recorded.", False
            # Slack vouches for the id and the confirmed address; people choose their own names.
            vouched = {user_id}
            by_address = any("@" in name for name in approval.approvers)
            if by_address and user_id not in approval.approvers:
                email = (await slack.person(user_id)).email
                vouched |= _matching(email, approval)
            status = STATUSES[decision]
            await self._desk.answer(
                approval_id,
                status,
                who=f"{user_name} ({user_id})",
                channel="slack",
                vouched=vouched,
            )
        except NotFound:
            return f"There is no approval {approval_id}.", False
        except PreconditionFailed as late:
            return f"{late.what} Yours came later and changes nothing.", False
        except PermissionDenied as refused:
            if "approvers" not in refused.details:
                raise
            log.warning("%s may not answer %s", user_id, approval_id)
            return f"{refused.what} {refused.fix} Nothing was recorded.", False
        return f"Recorded: {status.value}.", True

    async def _status(self, command: Command) -> str:
        subject = command.subject
        try:
            if subject.startswith("inc-"):
                incident = (await self._store.get(subject)).incident
                headline = incident.verdict.headline if incident.verdict else "no verdict yet"
                status = incident.status.value.replace("_", " ")
                return foreign(f"{subject}, {incident.target}: {status}. {headline}", 1000)
            if subject:
                return _line(await self._desk.get(subject))
        except NotFound as missing:
            return escaped(missing.what)
        waiting = await self._desk.waiting()
        lines = [_line(approval) for approval in waiting[:MOST_WAITING]]
        if len(waiting) > MOST_WAITING:
            lines.append(f"and {len(waiting) - MOST_WAITING} more")
        return "\n".join(lines) or "Nothing waits for an answer."


def _line(approval: Approval) -> str:
    status = approval.status.value
    if approval.status is ApprovalStatus.PENDING:
        status = f"waits until {approval.expires_at:%H:%M:%S} UTC"
    by = f" by {approval.answered_by}" if approval.answered_by else ""
    return foreign(f"{approval.id}: {approval.plan.summary}: {status}{by}", 500)


def _matching(email: str | None, approval: Approval) -> set[str]:
    """The list's own spelling of a person's address: letters' case says nothing there."""
    if email is None:
        return set()
    return {name for name in approval.approvers if name.casefold() == email.casefold()}


async def _tell(slack: SlackClient, response_url: SecretStr, says: str) -> None:
    try:
        await slack.answer(response_url, says)
    except DevOpsError as problem:
        log.warning("a person could not be told what became of an answer: %s", problem)
