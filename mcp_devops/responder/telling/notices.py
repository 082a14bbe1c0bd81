"""What people are told that is about no incident: a refused policy file, an open breaker.

A notice begins once over all replicas and restarts, joins its own PagerDuty alert, mail thread and
Slack message, and ends there. Deployments for PagerDuty's timeline go out here as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from mcp_devops.integrations.email.client import EmailClient
from mcp_devops.integrations.email.records import Mail, MailSeverity
from mcp_devops.integrations.pagerduty.client import PagerDutyClient
from mcp_devops.integrations.pagerduty.events import dedup_key
from mcp_devops.integrations.pagerduty.records import Page, PageSeverity
from mcp_devops.integrations.pagerduty.reports import change_of
from mcp_devops.integrations.slack.blocks import foreign, header, message, section
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.records import Message
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload
from mcp_devops.responder.bookmarks import bookmark_in, set_bookmark_in
from mcp_devops.responder.telling.outbox import Outbox, Owed
from mcp_devops.response_policy.policy import Page as Told
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Services

PAGERDUTY, MAIL, SLACK = "PagerDuty", "e-mail", "Slack"
MOST_LINES = 10
"""Lines that a notice carries; `mcp-devops policy check` and `doctor` tell all."""

Put = Callable[[str, Message, str | None], Awaitable[None]]
"""Posts a message to a channel, or brings the one of that name up to date."""


class Notice(Record):
    """Something that people have to know, and that is about no incident."""

    what: str
    """Which it is of its kind: as long as it is the same, nobody is told again."""
    title: str
    """One sentence."""
    do_next: str
    """What a person can do, with the command."""
    lines: tuple[str, ...] = ()
    """More, a line an entry: data."""
    severity: PageSeverity = PageSeverity.WARNING
    """How bad it is."""


class _State(Record):
    number: int = 0
    """How many of this kind there were."""
    what: str = ""
    """The one that people know of; empty: none stands."""


class Notices:
    """Keeps notices in the outbox, and says them when their turn comes."""

    def __init__(self, services: Services, database: Database, clock: Clock, put: Put) -> None:
        self._services = services
        self._database = database
        self._clock = clock
        self._put = put
        self.says: dict[str, Callable[[Owed], Awaitable[None]]] = {
            "change": self._change,
            "notice page": self._page,
            "notice mail": self._mail,
            "notice": self._message,
        }
        """What is said here, and how."""

    async def tell(self, outbox: Outbox, kind: str, notice: Notice, told: Told) -> bool:
        """Tell people, unless they know already. Returns whether there was anything to tell.

        Args:
            outbox: Keeps what is to be said.
            kind: policy or breaker: of each kind one stands at a time.
            notice: What it is.
            told: Whom the policy in force names.
        """
        state = await self._state(kind)
        if state.what == notice.what:
            return False
        number = state.number if state.what else state.number + 1
        facts = notice.model_dump(mode="json")
        await self._keep(outbox, kind, number, facts, told)
        await self._remember(kind, _State(number=number, what=notice.what))
        return True

    async def over(self, outbox: Outbox, kind: str, title: str, told: Told) -> bool:
        """Tell people that what they were told is over. Returns whether they had been told."""
        state = await self._state(kind)
        if not state.what:
            return False
        await self._keep(outbox, kind, state.number, {"over": True, "title": title}, told)
        await self._remember(kind, _State(number=state.number))
        return True

    async def changed(self, outbox: Outbox, target: Workload, summary: str) -> None:
        """Show a deployment or a rollback on PagerDuty's timeline; it wakes nobody."""
        if await self._services.find(PagerDutyClient) is None:
            return
        facts = {
            "say": "change",
            "target": target.model_dump(mode="json"),
            "summary": summary,
            "at": self._clock.now().isoformat(),
        }
        name = f"change:{_short(json.dumps(facts))}"
        owed = Owed(key=f"{PAGERDUTY}:{name}", incident_id=name, channel=PAGERDUTY, body=facts)
        await outbox.put(owed)

    async def _keep(
        self, outbox: Outbox, kind: str, number: int, facts: dict[str, Any], told: Told
    ) -> None:
        name = f"notice:{kind}:{number}"
        facts = facts | {"name": name, "kind": kind, "number": number}
        owed: list[tuple[str, dict[str, Any]]] = []
        if told.pagerduty and await self._services.find(PagerDutyClient) is not None:
            owed.append((PAGERDUTY, {"say": "notice page"}))
        mail = await self._services.find(EmailClient)
        severity = MailSeverity(facts.get("severity", "info"))
        if mail is not None and (told.email or mail.settings.recipients(severity)):
            owed.append((MAIL, {"say": "notice mail", "to": list(told.email)}))
        slack = await self._services.find(SlackClient)
        if slack is not None and (told.slack_channel or slack.settings.channel):
            owed.append((SLACK, {"say": "notice", "channel": told.slack_channel}))
        which = _short(json.dumps(facts, sort_keys=True))
        await outbox.put(
            *(
                Owed(
                    key=f"{channel}:{name}:{which}",
                    incident_id=name,
                    channel=channel,
                    body=facts | body,
                )
                for channel, body in owed
            )
        )

    async def _state(self, kind: str) -> _State:
        kept = await self._database.read(lambda c: bookmark_in(c, f"notice:{kind}"))
        return _State() if kept is None else _State.model_validate_json(kept)

    async def _remember(self, kind: str, state: _State) -> None:
        now = self._clock.now()

        def write(connection: Connection) -> None:
            set_bookmark_in(connection, f"notice:{kind}", state.model_dump_json(), now)

        await self._database.run(write)

    async def _change(self, owed: Owed) -> None:
        body = owed.body
        target = Workload.model_validate(body["target"])
        event = change_of(target, body["summary"], datetime.fromisoformat(body["at"]))
        await (await self._services.get(PagerDutyClient)).record_change(event)

    async def _page(self, owed: Owed) -> None:
        body = owed.body
        pagerduty = await self._services.get(PagerDutyClient)
        key = dedup_key(body["name"])
        if body.get("over"):
            await pagerduty.resolve(key)
            return
        details = {"why": body["title"], "do_next": body["do_next"], "lines": _lines(body["lines"])}
        await pagerduty.trigger(
            Page(
                summary=f"mcp-devops: {body['title']}",
                severity=PageSeverity(body["severity"]),
                source="mcp-devops",
                component=body["kind"],
                dedup_key=key,
                details=details,
                at=owed.made_at,
            )
        )

    async def _mail(self, owed: Owed) -> None:
        body = owed.body
        over = bool(body.get("over"))
        severity = MailSeverity.INFO if over else MailSeverity(body["severity"])
        lines = [body["title"]]
        if not over:
            lines += [f"Do next: {body['do_next']}", *_lines(body["lines"])]
        letter = Mail(
            incident_id=f"{body['kind']}-{body['number']}",
            key=owed.key,
            severity=severity,
            subject=f"[{severity.value}] mcp-devops: {body['title']}",
            lines=tuple(lines),
            also_to=tuple(body["to"]),
        )
        await (await self._services.get(EmailClient)).send(letter)

    async def _message(self, owed: Owed) -> None:
        body = owed.body
        title = str(body["title"])
        if body.get("over"):
            blocks = [section(foreign(title, 500))]
        else:
            blocks = [header("The unattended server needs a hand"), section(foreign(title, 1000))]
            if shown := [f"• {foreign(line, 250)}" for line in _lines(body["lines"])]:
                blocks.append(section("\n".join(shown)))
            blocks.append(section(f"*Do next:* {foreign(body['do_next'], 500)}"))
        await self._put(body["name"], message(f"mcp-devops: {title}", blocks), body.get("channel"))


def _lines(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"and {more} more"] if more > 0 else [])]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
