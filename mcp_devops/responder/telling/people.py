"""Tells people through every channel that is configured, and takes their answers.

A channel that fails never stops a run: what it did not take is kept and sent again, the incident's
timeline says so, and the other channels still speak.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.integrations.email.client import EmailClient
from mcp_devops.integrations.email.records import MailSeverity
from mcp_devops.integrations.pagerduty.client import PagerDutyClient
from mcp_devops.integrations.pagerduty.webhook import WebhookEvent
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.interactions import Interaction
from mcp_devops.integrations.slack.records import MessageRef, Spoken
from mcp_devops.journal.database import Database
from mcp_devops.model.incident import Incident
from mcp_devops.model.target import Workload
from mcp_devops.responder.response import Response
from mcp_devops.responder.telling.answering import Answers
from mcp_devops.responder.telling.channels import Front, Teller, body
from mcp_devops.responder.telling.hearing import heard_from_pagerduty
from mcp_devops.responder.telling.notices import MAIL, PAGERDUTY, SLACK, Notice
from mcp_devops.responder.telling.outbox import Outbox, Owed
from mcp_devops.response_policy.policy import Page
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Services

log = logging.getLogger(__name__)
WHO = "responder"
FIRST_TRY_S = 20.0
"""Seconds a run waits for the channels; then it goes on, and they are tried beside it."""
NAMES = {
    "page": "the page",
    "acknowledge": "the acknowledgement",
    "resolve": "the end of the alert",
    "mail": "the mail",
    "question mail": "the mail with the question",
    "incident": "the incident's message",
    "report": "what was seen",
    "question": "the question",
    "timeline": "the timeline",
    "change": "the change",
    "notice page": "the page",
    "notice mail": "the mail",
    "notice": "the message",
}
"""What is said, as the timeline calls it."""
NOBODY = ("policy", "clock")
"""Channels of answers that no person gave."""


class People:
    """The channels to people, as one."""

    def __init__(
        self,
        services: Services,
        database: Database,
        store: IncidentStore,
        desk: ApprovalDesk,
        clock: Clock,
        front: Front | None = None,
        public_url: str | None = None,
    ) -> None:
        self._services = services
        self._database = database
        self._store = store
        self._desk = desk
        self._clock = clock
        self.teller = Teller(services, database, store, desk, clock, front or Front(), public_url)
        self._notices = self.teller.notices
        self._outbox = Outbox(database, clock, self.teller.deliver, self._report)
        self.teller.before = self._outbox
        self._answers = Answers(services, store, desk)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send what is owed, for as long as the block runs."""
        async with self._answers.running(), self._outbox.running():
            yield

    async def change(self, target: Workload, summary: str) -> None:
        """Show a deployment on PagerDuty's timeline; it wakes nobody, and nobody waits for it."""
        await self._notices.changed(self._outbox, target, summary)

    async def notice(self, kind: str, notice: Notice, told: Page) -> None:
        """Tell people of something that is about no incident, unless they know it already."""
        if await self._notices.tell(self._outbox, kind, notice, told):
            log.error("people are told: %s", notice.title)

    async def notice_over(self, kind: str, says: str, told: Page) -> None:
        """Tell people that what `notice` told is over; if it told nothing, nothing."""
        if await self._notices.over(self._outbox, kind, says, told):
            log.info("%s", says)

    async def page(self, incident_id: str, response: Response, why: str, do_next: str) -> None:
        """Wake a person, and write to the channel and by mail."""
        # A rule of the policy says why people are told, and nothing of what is wrong.
        lead = why in response.reasons
        owed = await self._paging(incident_id, response, why, do_next, lead=lead)
        owed += await self._seen(incident_id, response, why)
        await self._tell(incident_id, owed)

    async def ask(self, approval: Approval, response: Response, incident_id: str, why: str) -> None:
        """Ask for a decision, everywhere at once; the first answer counts."""
        until = f"{approval.expires_at:%H:%M:%S} UTC"
        await self._note_once(incident_id, f"a person is asked, until {until}: {approval.id}", WHO)
        do_next = (
            f"Decide until {until}: mcp-devops approve {approval.id} (or deny). No answer is a no."
        )
        owed = await self._paging(incident_id, response, why, do_next, lead=True)
        facts = {"approval_id": approval.id}
        if await self._mails(response, response.page.severity.value):
            letter = body(
                "question mail",
                **facts,
                severity=MailSeverity(response.page.severity.value).value,
                to=list(response.page.email),
            )
            owed.append(_owed(incident_id, MAIL, f"question:{approval.id}", letter))
        if await self._posts(response):
            question = body("question", **facts, channel=response.page.slack_channel)
            owed.append(_owed(incident_id, SLACK, f"question:{approval.id}", question))
        owed += await self._seen(incident_id, response, approval.id)
        await self._tell(incident_id, owed)

    async def settled(self, approval: Approval) -> None:
        """Take the buttons away: who decided, and when. Whoever decided handles the alert."""
        incident_id = approval.plan.incident_id
        if incident_id is None:
            return
        await self._note_once(incident_id, _settled(approval), approval.answered_by or WHO)
        owed = await self._settling(incident_id, approval)
        if owed and await self.teller.ref(incident_id) is not None:
            name = f"incident:settled:{approval.id}"
            owed.append(_owed(incident_id, SLACK, name, body("incident")))
        answered = approval.status not in (ApprovalStatus.EXPIRED, ApprovalStatus.PENDING)
        pagerduty = await self._services.find(PagerDutyClient)
        if pagerduty is not None and answered and approval.channel not in NOBODY:
            facts = body("acknowledge", who=approval.answered_by or "somebody")
            owed.append(_owed(incident_id, PAGERDUTY, f"acknowledge:{approval.id}", facts))
        await self._outbox.put(*owed)

    async def close(self, incident_id: str, response: Response, recovered: bool) -> None:
        """Write the timeline under the incident's message; resolve the page if the policy says so.

        A page stays open unless the rollback is verified.
        """
        incident = (await self._store.get(incident_id)).incident
        judged = incident.verdict.id if incident.verdict is not None else ""
        which = _short(f"{incident.status.value} {judged}")
        owed: list[Owed] = []
        asked = await self._desk.about(incident_id)
        if await self._posts(response):
            for approval in asked:
                owed += await self._settling(incident_id, approval)
            shown = body("incident", channel=response.page.slack_channel)
            owed.append(_owed(incident_id, SLACK, f"closed:{which}", shown))
            owed.append(_owed(incident_id, SLACK, f"timeline:{which}", body("timeline")))
        if await self._mails(response, "info"):
            says = _outcome(incident, asked, recovered)
            owed.append(self._letter(incident, response, says, "", "info"))
        if await self._services.find(PagerDutyClient) is not None and recovered:
            paged = await self._outbox.drop(incident_id, PAGERDUTY)
            if paged and response.resolve.pagerduty == "resolve":
                owed.append(_owed(incident_id, PAGERDUTY, f"resolve:{which}", body("resolve")))
        await self._say(owed)
        if incident.verification is not None:
            outcome = incident.verification.outcome.replace("_", " ")
            await self.change(incident.target, f"{incident.target} was rolled back: {outcome}")

    async def answered(self, interaction: Interaction) -> None:
        """Take a click or a command from Slack: the person must be allowed, the plan unchanged.

        The answer is in the state when this returns; the person is told of it a moment later.

        Raises:
            DevOpsError: It could not be looked at; nothing was recorded.
        """
        await self._answers.answered(interaction)

    async def spoken(self, spoken: Spoken, question: MessageRef) -> None:
        """Take an answer that was found under a question.

        Raises:
            As answered.
        """
        await self._answers.spoken(spoken, question)

    async def heard(self, event: WebhookEvent) -> str:
        """Write down what a person did in PagerDuty. Nothing of it is an approval."""
        return await heard_from_pagerduty(event, self._database, self._store, self._clock.now())

    async def question_in_slack(self, approval_id: str) -> MessageRef | None:
        """Where an approval was asked for in Slack."""
        return await self.teller.ref(approval_id)

    async def _paging(
        self, incident_id: str, response: Response, why: str, do_next: str, *, lead: bool
    ) -> list[Owed]:
        incident = (await self._store.get(incident_id)).incident
        severity, what = response.page.severity.value, _short(f"{incident.revision} {why}")
        owed: list[Owed] = []
        # Not `wakes`: a response to act alone wakes nobody, until the act fails or is stopped.
        if response.page.pagerduty and await self._services.find(PagerDutyClient) is not None:
            facts = body("page", why=why, lead=lead, do_next=do_next, severity=severity)
            owed.append(_owed(incident_id, PAGERDUTY, f"page:{what}", facts))
        if await self._mails(response, severity):
            owed.append(self._letter(incident, response, why, do_next, severity, lead=lead))
        if await self._posts(response):
            shown = body("incident", channel=response.page.slack_channel)
            owed.append(_owed(incident_id, SLACK, f"incident:{what}", shown))
        return owed

    async def _seen(self, incident_id: str, response: Response, why: str) -> list[Owed]:
        """What was seen, for the thread: after all that somebody waits for."""
        collected = (await self._store.get(incident_id)).context is not None
        if not collected or not await self._posts(response):
            return []
        return [_owed(incident_id, SLACK, f"report:{_short(why)}", body("report"))]

    def _letter(
        self,
        incident: Incident,
        response: Response,
        why: str,
        do_next: str,
        severity: str,
        *,
        lead: bool = False,
    ) -> Owed:
        key = _short(f"{incident.revision} {why}")
        facts = body(
            "mail",
            why=why,
            lead=lead,
            key=key,
            do_next=do_next,
            severity=MailSeverity(severity).value,
            to=list(response.page.email),
        )
        return _owed(incident.id, MAIL, f"mail:{key}", facts)

    async def _mails(self, response: Response, severity: str) -> bool:
        """Whether there is a mail server, and anybody to write to."""
        client = await self._services.find(EmailClient)
        if client is None:
            return False
        return bool(response.page.email or client.settings.recipients(MailSeverity(severity)))

    async def _posts(self, response: Response) -> bool:
        """Whether there is a Slack, and a channel of it to tell."""
        client = await self._services.find(SlackClient)
        return client is not None and bool(response.page.slack_channel or client.settings.channel)

    async def _settling(self, incident_id: str, approval: Approval) -> list[Owed]:
        if await self._services.find(SlackClient) is None:
            return []
        facts = body("question", approval_id=approval.id)
        name = f"settled:{approval.id}"
        return [_owed(incident_id, SLACK, name, facts)] if _is_over(approval) else []

    async def _note_once(self, incident_id: str, what: str, who: str) -> None:
        """A line of the timeline; a step that is repeated after a crash adds none."""
        timeline = (await self._store.get(incident_id)).incident.timeline
        if all(entry.what != what for entry in timeline):
            await self._store.note(incident_id, what, who)

    async def _tell(self, incident_id: str, owed: Sequence[Owed]) -> None:
        """Say it to everybody, and go on when they have it or will have it later."""
        if not owed:
            log.error("%s: no channel to people is configured", incident_id)
            await self._store.note(
                incident_id, "could not tell everybody: no channel to people is configured", WHO
            )
        await self._say(owed)

    async def _say(self, owed: Sequence[Owed]) -> None:
        if owed:
            await self._outbox.put(*owed)
            await self._outbox.told([one.key for one in owed], FIRST_TRY_S)

    async def _report(self, owed: Owed, problem: str, final: bool) -> None:
        """Say in the incident's timeline how a message stands."""
        name = NAMES[owed.body["say"]]
        if not problem:
            what = f"{owed.channel} has taken {name} at attempt {owed.attempts}"
        elif final:
            what = f"could not tell everybody: {problem} {name.capitalize()} is given up."
        else:
            what = f"could not tell everybody: {problem} {name.capitalize()} is tried again."
        await self._store.note(owed.incident_id, what, WHO)


def _settled(approval: Approval) -> str:
    """What became of a question, as the timeline tells it."""
    if approval.status is ApprovalStatus.EXPIRED:
        return f"nobody answered {approval.id} in time: that is a no"
    used = approval.status is ApprovalStatus.USED
    word = ApprovalStatus.APPROVED.value if used else approval.status.value
    through = f" through {approval.channel}" if approval.channel else ""
    return f"{approval.id} was {word} by {approval.answered_by or 'nobody'}{through}"


def _outcome(incident: Incident, asked: Sequence[Approval], recovered: bool) -> str:
    """How a run ended, in a sentence or two."""
    if recovered:
        return "It is recovered."
    if incident.verification is not None:
        return "It was rolled back and is not known to be well. The page stays open."
    newest = asked[-1] if asked else None
    if newest is not None and newest.status is ApprovalStatus.DENIED:
        return f"Denied by {newest.answered_by}: nothing was changed. The page stays open."
    if newest is not None and newest.status is ApprovalStatus.EXPIRED:
        return "Nobody answered in time: nothing was changed. The page stays open."
    return "A person has to look: nothing more is done by itself. The page stays open."


def _is_over(approval: Approval) -> bool:
    return approval.status is not ApprovalStatus.PENDING


def _owed(incident_id: str, channel: str, name: str, facts: dict[str, object]) -> Owed:
    key = f"{channel}:{incident_id}:{name}"
    return Owed(key=key, incident_id=incident_id, channel=channel, body=facts)


def _short(why: str) -> str:
    """The same for the same reason: a step that is repeated after a crash says nothing twice."""
    return hashlib.sha256(why.encode()).hexdigest()[:16]
