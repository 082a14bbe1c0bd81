"""Tells people through every channel that is configured, and takes their answers from Slack.

A channel that fails never stops a run: what could not be told is a line of the incident's timeline,
and the other channels still speak.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable
from datetime import datetime

from mcp_devops.errors import DevOpsError, NotFound, PreconditionFailed
from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.integrations.email.client import EmailClient
from mcp_devops.integrations.email.messages import approval_mail, incident_mail
from mcp_devops.integrations.email.records import MailSeverity
from mcp_devops.integrations.pagerduty.client import PagerDutyClient
from mcp_devops.integrations.pagerduty.events import dedup_key
from mcp_devops.integrations.pagerduty.records import PageSeverity
from mcp_devops.integrations.pagerduty.reports import change_of, page_of
from mcp_devops.integrations.slack.approvals import approval_message, decided_message
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.interactions import Interaction
from mcp_devops.integrations.slack.messages import incident_message, timeline_message
from mcp_devops.integrations.slack.records import Click, Decision, Message, MessageRef, Verb
from mcp_devops.journal.database import Database
from mcp_devops.model.incident import Incident
from mcp_devops.model.target import Workload
from mcp_devops.responder.policy_file import PolicyFile
from mcp_devops.responder.response import Response
from mcp_devops.responder.rollouts import bookmark_in, set_bookmark_in
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Services

log = logging.getLogger(__name__)
WHO = "responder"


class People:
    """The channels to people, as one."""

    def __init__(
        self,
        services: Services,
        database: Database,
        store: IncidentStore,
        desk: ApprovalDesk,
        policy: PolicyFile,
        clock: Clock,
    ) -> None:
        self._services = services
        self._database = database
        self._store = store
        self._desk = desk
        self._policy = policy
        self._clock = clock

    async def change(self, target: Workload, summary: str) -> None:
        """Show a deployment on PagerDuty's timeline; it wakes nobody."""
        pagerduty = await self._services.find(PagerDutyClient)
        if pagerduty is not None:
            event = change_of(target, summary, self._clock.now(), details={})
            await self._tried("PagerDuty", pagerduty.record_change(event))

    async def page(self, incident_id: str, response: Response, why: str, do_next: str) -> None:
        """Wake a person, and write to the channel and by mail."""
        incident = (await self._store.get(incident_id)).incident
        severity = response.page.severity.value
        told: list[Awaitable[str | None]] = []
        pagerduty = await self._services.find(PagerDutyClient)
        if pagerduty is not None and response.wakes:
            page = page_of(incident, why=why, do_next=do_next, severity=PageSeverity(severity))
            told.append(self._tried("PagerDuty", pagerduty.trigger(page)))
        mail = await self._services.find(EmailClient)
        if mail is not None:
            letter = incident_mail(
                incident, why=why, severity=MailSeverity(severity), do_next=do_next
            )
            told.append(self._tried("e-mail", mail.send(letter)))
        told.append(self.show(incident))
        lost = [problem for problem in await asyncio.gather(*told) if problem]
        slack = await self._services.find(SlackClient)
        if lost or (pagerduty is None and mail is None and slack is None):
            says = "; ".join(lost) or "no channel to people is configured"
            log.error("%s: nobody may have been told: %s", incident_id, says)
            stored = await self._store.get(incident_id)
            await self._store.save(stored, f"could not tell everybody: {says}", WHO)

    async def ask(self, approval: Approval, response: Response, incident_id: str, why: str) -> None:
        """Ask for a decision, everywhere at once; the first answer counts."""
        command = f"mcp-devops approve {approval.id} (or deny)"
        await self.page(incident_id, response, why, f"Decide: {command}")
        mail = await self._services.find(EmailClient)
        if mail is not None:
            letter = approval_mail(
                approval.plan,
                incident_id=incident_id,
                approval_id=approval.id,
                expires_at=approval.expires_at,
            )
            await self._tried("e-mail", mail.send(letter))
        question = approval_message(
            approval.plan,
            approval_id=approval.id,
            plan_digest=approval.digest,
            expires_at=approval.expires_at,
            now=self._clock.now(),
        )
        await self._put(approval.id, question)

    async def settled(self, approval: Approval) -> None:
        """Take the buttons away: who decided, and when."""
        message = decided_message(
            approval.plan,
            approval_id=approval.id,
            outcome=approval.status.value,
            who=approval.answered_by or "nobody",
            at=self._clock.now(),
        )
        await self._put(approval.id, message)

    async def show(self, incident: Incident) -> str | None:
        """Bring the incident's message up to date. Returns what went wrong."""
        return await self._put(incident.id, incident_message(incident))

    async def close(self, incident_id: str, response: Response, recovered: bool) -> None:
        """Write the timeline under the incident's message; resolve the page if the policy says so.

        A page stays open unless the rollback is verified.
        """
        incident = (await self._store.get(incident_id)).incident
        await self.show(incident)
        slack = await self._services.find(SlackClient)
        root = await self._ref(incident.id)
        if slack is not None and root is not None:
            timeline = timeline_message(incident)
            await self._tried("Slack", slack.post(timeline, thread=root))
        mail = await self._services.find(EmailClient)
        if mail is not None:
            outcome = "recovered" if recovered else incident.status.value.replace("_", " ")
            letter = incident_mail(
                incident, why=f"It is {outcome}.", key="closed", severity=MailSeverity.INFO
            )
            await self._tried("e-mail", mail.send(letter))
        pagerduty = await self._services.find(PagerDutyClient)
        if pagerduty is not None and recovered and response.resolve.pagerduty == "resolve":
            service = f"{incident.target.namespace}/{incident.target.name}"
            await self._tried(
                "PagerDuty", pagerduty.resolve(dedup_key(incident.id), service=service)
            )

    async def answered(self, interaction: Interaction) -> None:
        """Take a click or a command from Slack: the person must be allowed, the plan unchanged."""
        slack = await self._services.get(SlackClient)
        if isinstance(interaction, Click):
            approval_id, decision = interaction.approval_id, interaction.decision
            digest: str | None = interaction.plan_digest
        elif interaction.verb in (Verb.APPROVE, Verb.REJECT):
            approval_id, digest = interaction.subject, None
            approves = interaction.verb is Verb.APPROVE
            decision = Decision.APPROVE if approves else Decision.REJECT
        else:
            if interaction.response_url is not None:
                says = await self._status()
                await self._tried("Slack", slack.answer(interaction.response_url, says))
            return
        says = await self.decide(
            approval_id, decision, interaction.user_id, interaction.user_name, digest
        )
        if interaction.response_url is not None:
            await self._tried("Slack", slack.answer(interaction.response_url, says))

    async def decide(
        self,
        approval_id: str,
        decision: Decision,
        user_id: str,
        user_name: str,
        digest: str | None = None,
    ) -> str:
        """Record a person's answer, if they may give it. Returns what to tell them."""
        try:
            approval = await self._desk.get(approval_id)
        except NotFound:
            return f"There is no approval {approval_id}."
        rules = self._policy.current.explain(approval.plan.target).rules
        allowed = rules.approval.approvers
        if allowed and not {user_id, user_name} & set(allowed):
            log.warning("%s (%s) may not answer %s", user_name, user_id, approval_id)
            return "You are not on the list of approvers of this service; nothing was recorded."
        if digest is not None and not approval.digest.startswith(digest):
            return "This button belongs to another plan; nothing was recorded."
        approves = decision is Decision.APPROVE
        status = ApprovalStatus.APPROVED if approves else ApprovalStatus.DENIED
        try:
            await self._desk.answer(
                approval_id, status, who=f"{user_name} ({user_id})", channel="slack"
            )
        except PreconditionFailed as late:
            return f"{late.what} Yours came later and changes nothing."
        return f"Recorded: {status.value}."

    async def _status(self) -> str:
        waiting = await self._desk.waiting()
        lines = [f"{a.id}: {a.plan.summary} (until {a.expires_at:%H:%M} UTC)" for a in waiting[:10]]
        return "\n".join(lines) or "Nothing waits for an answer."

    async def _put(self, name: str, message: Message) -> str | None:
        """Post a message, or bring the one of that name up to date."""
        slack = await self._services.find(SlackClient)
        if slack is None:
            return None

        async def put() -> None:
            ref = await self._ref(name)
            if ref is not None:
                await slack.update(ref, message)
                return
            ref = await slack.post(message)
            kept = json.dumps(ref.model_dump(mode="json"))
            now = self._clock.now()
            await self._database.run(lambda c: set_bookmark_in(c, f"slack:{name}", kept, now))

        return await self._tried("Slack", put())

    async def _ref(self, name: str) -> MessageRef | None:
        kept = await self._database.read(lambda c: bookmark_in(c, f"slack:{name}"))
        return None if kept is None else MessageRef.model_validate_json(kept)

    async def question_in_slack(self, approval_id: str) -> MessageRef | None:
        """Where an approval was asked for in Slack."""
        return await self._ref(approval_id)

    async def _tried(self, channel: str, work: Awaitable[object]) -> str | None:
        try:
            await work
        except DevOpsError as problem:
            log.warning("%s: %s", channel, problem)
            return f"{channel}: {problem.code}: {problem.what}"
        return None


def until(approval: Approval, response: Response) -> datetime:
    """When no answer becomes a no: the approval's own end, or the policy's, whichever is first."""
    return min(approval.expires_at, response.deadline or approval.expires_at)
