"""Says one thing to people through one channel, as it stands at the moment it is said."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from mcp_devops.errors import DevOpsError, PreconditionFailed
from mcp_devops.gateway.approvals import ApprovalDesk, ApprovalStatus
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.integrations.email.client import EmailClient
from mcp_devops.integrations.email.messages import approval_mail, incident_mail
from mcp_devops.integrations.email.records import Attachment, Mail, MailSeverity
from mcp_devops.integrations.pagerduty.client import PagerDutyClient
from mcp_devops.integrations.pagerduty.events import dedup_key
from mcp_devops.integrations.pagerduty.records import Link, PageSeverity
from mcp_devops.integrations.pagerduty.reports import page_of
from mcp_devops.integrations.slack.approvals import approval_message, decided_message
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.messages import (
    incident_message,
    report_message,
    timeline_message,
)
from mcp_devops.integrations.slack.records import Message, MessageRef
from mcp_devops.integrations.slack.settings import AnswerPath
from mcp_devops.journal.database import Database
from mcp_devops.model.incident import Incident, IncidentStatus
from mcp_devops.responder.bookmarks import bookmark_in, set_bookmark_in
from mcp_devops.responder.telling.notices import Notices
from mcp_devops.responder.telling.outbox import Owed, Result
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Services
from mcp_devops.toolkit.report import report_of

log = logging.getLogger(__name__)

MOST_PAGE_BYTES = 1_000_000
"""Bytes of an incident's page up to which it goes with a mail: a telephone still opens it."""
LATE = timedelta(minutes=1)
"""Age from which a mail says when it was meant to be sent."""

PageOf = Callable[[str], Awaitable[bytes]]
"""An incident's page as one HTML file, by the incident's id."""


@dataclass(frozen=True)
class Front:
    """What the program around offers to people.

    Attributes:
        page_of: Makes the page that goes with mails; None: mails go without.
        hears_slack: Whether Slack's signed requests reach this process or another of this state;
            False: where Slack is set up for them, answers are polled for.
    """

    page_of: PageOf | None = None
    hears_slack: bool = False


class Outgoing(Protocol):
    """What a message needs to know of those before it."""

    async def first(self, owed: Owed) -> bool:
        """Whether no earlier message of the incident went into the channel."""
        ...


class Teller:
    """Makes the texts and hands them to the channels' clients."""

    def __init__(
        self,
        services: Services,
        database: Database,
        store: IncidentStore,
        desk: ApprovalDesk,
        clock: Clock,
        front: Front,
        public_url: str | None,
    ) -> None:
        self._services = services
        self._database = database
        self._store = store
        self._desk = desk
        self._clock = clock
        self._front = front
        self._public_url = public_url
        self.polling = False
        """Whether the socket turned out to be unusable, so that answers are polled for."""
        self.before: Outgoing | None = None
        """The messages that were kept; set by whoever keeps them."""
        self.notices = Notices(services, database, clock, self._post)

    async def deliver(self, owed: Owed) -> Result:
        """Say it now.

        Raises:
            DevOpsError: The channel did not take it.
        """
        notice = self.notices.says.get(owed.body["say"])
        if notice is not None:
            await notice(owed)
            return Result.TOLD
        say = {
            "page": self._page,
            "acknowledge": self._acknowledge,
            "resolve": self._resolve,
            "mail": self._mail,
            "question mail": self._question_mail,
            "incident": self._incident,
            "report": self._report,
            "question": self._question,
            "timeline": self._timeline,
        }[owed.body["say"]]
        incident = (await self._store.get(owed.incident_id)).incident
        return await say(owed, await self._as_it_stands(incident))

    async def _as_it_stands(self, incident: Incident) -> Incident:
        """The incident, which waits for a person as long as a question about it is open."""
        if incident.status is IncidentStatus.DECIDED:
            for approval in await self._desk.waiting():
                if approval.plan.incident_id == incident.id:
                    waits = {
                        "status": IncidentStatus.AWAITING_APPROVAL,
                        "approval_id": approval.id,
                    }
                    return incident.model_copy(update=waits)
        return incident

    def link(self, incident_id: str) -> str | None:
        """The incident's page, where its address is known."""
        base = self._public_url
        return f"{base.rstrip('/')}/incidents/{incident_id}" if base else None

    def polls(self, slack: SlackClient) -> bool:
        """Whether answers are looked for in Slack, so that buttons would lead nowhere."""
        path = slack.settings.answers
        unheard = path is AnswerPath.HTTP and not self._front.hears_slack
        return self.polling or unheard or path is AnswerPath.POLLING

    async def _page(self, owed: Owed, incident: Incident) -> Result:
        if owed.attempts > 1 and incident.status is IncidentStatus.RECOVERED:
            return Result.DROPPED
        body, link = owed.body, self.link(incident.id)
        pagerduty = await self._services.get(PagerDutyClient)
        evidence = (await self._store.get(incident.id)).context
        page = page_of(
            incident,
            why=body["why"],
            lead=_lead(body, incident),
            do_next=body["do_next"],
            severity=PageSeverity(body["severity"]),
            links=(Link(href=link, text=f"Incident {incident.id}"),) if link else (),
            report=report_of(evidence) if evidence is not None else None,
        )
        await pagerduty.trigger(page)
        return Result.TOLD

    async def _acknowledge(self, owed: Owed, incident: Incident) -> Result:
        pagerduty = await self._services.get(PagerDutyClient)
        await pagerduty.acknowledge(dedup_key(incident.id), service=_service(incident))
        await self._store.note(
            incident.id, f"the alert is acknowledged: {owed.body['who']} handles it", "responder"
        )
        return Result.TOLD

    async def _resolve(self, owed: Owed, incident: Incident) -> Result:
        pagerduty = await self._services.get(PagerDutyClient)
        await pagerduty.resolve(dedup_key(incident.id), service=_service(incident))
        return Result.TOLD

    async def _mail(self, owed: Owed, incident: Incident) -> Result:
        body = owed.body
        first = self.before is None or await self.before.first(owed)
        why = body["why"]
        if owed.made_at is not None and self._clock.now() - owed.made_at >= LATE:
            why += f" (meant for {owed.made_at:%H:%M:%S} UTC)"
        letter = incident_mail(
            incident,
            why=why,
            lead=_lead(body, incident),
            key="" if first else body["key"],
            severity=MailSeverity(body["severity"]),
            do_next=body["do_next"],
            link=self.link(incident.id),
            also_to=tuple(body["to"]),
            attachments=await self._attached(incident),
        )
        return await self._send(letter)

    async def _send(self, letter: Mail) -> Result:
        """Send a mail; whoever does not get it is named in the incident's timeline."""
        sent = await (await self._services.get(EmailClient)).send(letter)
        if sent.refused:
            who = ", ".join(sent.refused)
            log.warning("%s: the mail server refused %s", letter.incident_id, who)
            what = f"the mail went without {who}: the mail server refused them"
            await self._store.note(letter.incident_id, what, "responder")
        return Result.TOLD

    async def _attached(self, incident: Incident) -> tuple[Attachment, ...]:
        """The incident's page; a mail without it is better than none."""
        if self._front.page_of is None:
            return ()
        try:
            page = await self._front.page_of(incident.id)
        except DevOpsError as problem:
            log.warning("the mail of %s goes without its page: %s", incident.id, problem)
            return ()
        except Exception:  # the boundary: a page that cannot be drawn must not keep a mail back
            log.exception("the page of %s cannot be drawn; the mail goes without", incident.id)
            return ()
        if len(page) > MOST_PAGE_BYTES:
            log.warning("the page of %s is too large for a mail: %d", incident.id, len(page))
            return ()
        return (Attachment(name=f"{incident.id}.html", media_type="text/html", content=page),)

    async def _question_mail(self, owed: Owed, incident: Incident) -> Result:
        approval = await self._desk.get(owed.body["approval_id"])
        if approval.status is not ApprovalStatus.PENDING:
            return Result.DROPPED
        letter = approval_mail(
            approval.plan,
            incident_id=incident.id,
            approval_id=approval.id,
            expires_at=approval.expires_at,
            severity=MailSeverity(owed.body.get("severity", "critical")),
            link=self.link(incident.id),
            also_to=tuple(owed.body["to"]),
        )
        return await self._send(letter)

    async def _incident(self, owed: Owed, incident: Incident) -> Result:
        status = await self._unapproved(incident)
        message = incident_message(incident, status=status, link=self.link(incident.id))
        await self._put(incident.id, message, channel=owed.body.get("channel"))
        return Result.TOLD

    async def _report(self, owed: Owed, incident: Incident) -> Result:
        """What was seen, under the incident's message."""
        root = await self.ref(incident.id)
        evidence = (await self._store.get(incident.id)).context
        if root is None or evidence is None:
            return Result.DROPPED
        message = report_message(incident, report_of(evidence))
        await self._put(f"report:{incident.id}", message, thread=root)
        return Result.TOLD

    async def _unapproved(self, incident: Incident) -> str | None:
        """How the last question about a judged incident ended, where it was no yes."""
        if incident.status is not IncidentStatus.DECIDED:
            return None
        asked = await self._desk.about(incident.id)
        newest = asked[-1] if asked else None
        if newest is not None and newest.status is ApprovalStatus.DENIED:
            return f"denied by {newest.answered_by}, nothing was changed"
        if newest is not None and newest.status is ApprovalStatus.EXPIRED:
            return "NOBODY ANSWERED, nothing was changed"
        return None

    async def _question(self, owed: Owed, incident: Incident) -> Result:
        """Ask, or take the buttons away: as the approval stands now."""
        approval = await self._desk.get(owed.body["approval_id"])
        slack = await self._services.get(SlackClient)
        if approval.status is ApprovalStatus.PENDING:
            polled = self.polls(slack)
            message = approval_message(
                approval.plan,
                approval_id=approval.id,
                plan_digest=approval.digest,
                expires_at=approval.expires_at,
                now=self._clock.now(),
                buttons=not polled,
            )
            # Polled, it stands by itself: the answers are looked for in its own thread.
            thread = None if polled else await self.ref(incident.id)
            channel = owed.body.get("channel")
            await self._put(approval.id, message, channel=channel, thread=thread, broadcast=True)
            return Result.TOLD
        if await self.ref(approval.id) is None:
            return Result.DROPPED
        used = approval.status is ApprovalStatus.USED
        message = decided_message(
            approval.plan,
            approval_id=approval.id,
            outcome="approved" if used else approval.status.value,
            who=approval.answered_by or "nobody",
            at=approval.answered_at or approval.expires_at,
        )
        await self._put(approval.id, message)
        return Result.TOLD

    async def _timeline(self, owed: Owed, incident: Incident) -> Result:
        root = await self.ref(incident.id)
        if root is None:
            return Result.DROPPED
        await self._put(f"timeline:{owed.key}", timeline_message(incident), thread=root)
        return Result.TOLD

    async def _post(self, name: str, message: Message, channel: str | None) -> None:
        await self._put(name, message, channel=channel)

    async def _put(
        self,
        name: str,
        message: Message,
        *,
        channel: str | None = None,
        thread: MessageRef | None = None,
        broadcast: bool = False,
    ) -> None:
        """Post a message, or bring the one of that name up to date."""
        slack = await self._services.get(SlackClient)
        ref = await self.ref(name)
        if ref is not None:
            try:
                await slack.update(ref, message)
            except PreconditionFailed:
                log.warning("%s was deleted in Slack; it is posted anew", name)
            else:
                return
        ref = await slack.post(message, thread=thread, channel=channel, broadcast=broadcast)
        kept, now = json.dumps(ref.model_dump(mode="json")), self._clock.now()
        await self._database.run(lambda c: set_bookmark_in(c, f"slack:{name}", kept, now))

    async def ref(self, name: str) -> MessageRef | None:
        """Where a message of that name stands in Slack; None: it was not posted."""
        kept = await self._database.read(lambda c: bookmark_in(c, f"slack:{name}"))
        return None if kept is None else MessageRef.model_validate_json(kept)


def _lead(body: dict[str, Any], incident: Incident) -> str:
    """What is wrong, where the reason for telling it does not say so."""
    return incident.verdict.headline if body.get("lead") and incident.verdict else ""


def _service(incident: Incident) -> str:
    return f"{incident.target.namespace}/{incident.target.name}"


def body(say: str, **facts: Any) -> dict[str, Any]:
    """What a message is to say, as it is kept."""
    return {"say": say, **facts}
