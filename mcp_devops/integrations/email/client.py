"""The only file that speaks SMTP: mails out, refusals as our errors."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_devops.errors import DevOpsError, InvalidArguments, NotConfigured, OutcomeUnknown
from mcp_devops.integrations.email.failures import SOURCE, mapped
from mcp_devops.integrations.email.messages import compose
from mcp_devops.integrations.email.records import Mail, Sent
from mcp_devops.integrations.email.settings import ADDRESS, PORTS, EmailSettings
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.retrying import Jitter, Pause, wait_s

if TYPE_CHECKING:
    import aiosmtplib

FIRST_PAUSE_S = 2.0
"""Seconds before the second attempt; doubled each time."""
LONGEST_PAUSE_S = 20.0
"""Seconds between attempts at most."""
GOODBYE_S = 1.0
"""Seconds that QUIT may take once the mail is taken."""


@dataclass
class _Delivery:
    """What became of each recipient."""

    waiting: list[str]
    taken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    said: str = ""
    unsure: bool = False


class EmailClient:
    """Sends through one mail server; a connection a mail, as mails are rare."""

    def __init__(
        self,
        settings: EmailSettings,
        clock: Clock,
        *,
        pause: Pause = asyncio.sleep,
        jitter: Jitter = random.random,  # noqa: S311 - spreads retries
    ) -> None:
        self.settings = settings
        self.clock = clock
        self._pause = pause
        self._jitter = jitter
        secret = settings.password.get_secret_value() if settings.password else ""
        self._redactor = Redactor([secret] if secret else [])

    async def close(self) -> None:
        """Nothing is kept open."""

    async def send(self, mail: Mail) -> Sent:
        """Send a mail. A repeated send has the same Message-ID.

        Raises:
            NotConfigured: No server, sender, or recipient for its severity.
            CredentialsRejected, Unsupported: Login or encryption failed.
            InvalidArguments: The server refuses the mail, or every recipient, for good.
            UpstreamTimeout, UpstreamUnavailable: Nothing was taken within deadline_s.
            OutcomeUnknown: The text was sent and no answer came: some may get it.
        """
        sender, to = self._people(mail)
        message = compose(mail, sender, to, self.clock.now())
        delivery = _Delivery(waiting=list(to))
        attempts = await self._deliver(message.as_bytes(), sender, delivery)
        if not delivery.taken:
            raise InvalidArguments(
                f"The mail server refuses every recipient ({len(delivery.refused)}).",
                fix="Check MCP_DEVOPS_EMAIL__TO, and whether SENDER may send to them.",
                source=SOURCE,
                upstream=delivery.said,
            )
        return Sent(
            message_id=str(message["Message-ID"]),
            accepted=tuple(delivery.taken),
            refused=tuple(a for a in to if a not in delivery.taken),
            attempts=attempts,
        )

    async def look(self) -> str:
        """Connect, log in, NOOP; gives what the server is, for `doctor`.

        Raises:
            As send.
        """
        import aiosmtplib

        limit = self.settings.timeout_s
        smtp = self._smtp(limit)
        try:
            async with asyncio.timeout(limit):
                await self._open(smtp)
                await smtp.noop()
        except (aiosmtplib.SMTPException, OSError) as problem:
            raise mapped(problem, self._redactor, in_data=False) from None
        finally:
            await _leave(smtp)
        login = "logged in" if self.settings.username else "no login"
        return f"{self.settings.host}:{self._port} answers ({self.settings.tls}, {login})"

    @property
    def _port(self) -> int:
        return self.settings.port or PORTS[self.settings.tls]

    def _people(self, mail: Mail) -> tuple[str, tuple[str, ...]]:
        sender = self.settings.sender
        to = tuple(dict.fromkeys((*self.settings.recipients(mail.severity), *mail.also_to)))
        if bad := [a for a in mail.also_to if not ADDRESS.fullmatch(a)]:
            raise InvalidArguments(
                f"{len(bad)} of the mail's own recipients are not plain addresses (name@host).",
                fix="Correct page.email of the response policy.",
                source=SOURCE,
            )
        if not sender or not to:
            raise NotConfigured(
                f"No {'recipient' if sender else 'sender'} is set for {mail.severity.value} mails.",
                fix="Set MCP_DEVOPS_EMAIL__SENDER and MCP_DEVOPS_EMAIL__TO.",
                source=SOURCE,
            )
        return sender, to

    async def _deliver(self, raw: bytes, sender: str, delivery: _Delivery) -> int:
        """Try until nobody waits or the time is over; gives the number of attempts."""
        end = self.clock.monotonic() + self.settings.deadline_s
        attempt = 0
        while delivery.waiting:
            attempt += 1
            limit = min(self.settings.timeout_s, end - self.clock.monotonic())
            problem = await self._once(raw, sender, delivery, limit)
            if problem is None and not delivery.waiting:
                break
            delivery.unsure |= isinstance(problem, OutcomeUnknown)
            wait = wait_s(attempt, FIRST_PAUSE_S, LONGEST_PAUSE_S, self._jitter)
            passing = problem is None or problem.retryable or isinstance(problem, OutcomeUnknown)
            if not passing or self.clock.monotonic() + wait >= end:
                self._give_up(problem, delivery)
                break
            await self._pause(wait)
        return attempt

    def _give_up(self, problem: DevOpsError | None, delivery: _Delivery) -> None:
        """Raise why nobody has it; where some have it, that is what counts."""
        if delivery.taken:
            return
        if delivery.unsure:
            raise OutcomeUnknown(
                "The mail was sent and no answer came: it may or may not arrive.",
                fix="Send it again: it has the same Message-ID. Use another channel meanwhile.",
                source=SOURCE,
            )
        if problem is not None:
            raise problem

    async def _once(
        self, raw: bytes, sender: str, delivery: _Delivery, limit_s: float
    ) -> DevOpsError | None:
        """One attempt; sorts the recipients that wait into taken, refused and still waiting."""
        import aiosmtplib

        smtp = self._smtp(limit_s)
        in_data = False
        try:
            async with asyncio.timeout(limit_s):
                await self._open(smtp)
                await smtp.mail(sender, options=[])
                now = await self._offer(smtp, delivery)
                if now:
                    in_data = True
                    await smtp.data(raw)
                    delivery.taken += now
                    delivery.waiting = [a for a in delivery.waiting if a not in now]
        except (aiosmtplib.SMTPException, OSError) as problem:
            return mapped(problem, self._redactor, in_data=in_data)
        finally:
            await _leave(smtp)
        if delivery.waiting and not now:
            return mapped(aiosmtplib.SMTPResponseException(450, delivery.said), self._redactor)
        return None

    async def _offer(self, smtp: aiosmtplib.SMTP, delivery: _Delivery) -> Sequence[str]:
        """Name the recipients; gives those that the server takes now."""
        import aiosmtplib

        now = []
        for address in tuple(delivery.waiting):
            try:
                await smtp.rcpt(address)
            except aiosmtplib.SMTPRecipientRefused as no:
                delivery.said = self._redactor.text(str(no.message)[:1000])
                if no.code >= 500:
                    delivery.waiting.remove(address)
                    delivery.refused.append(address)
            else:
                now.append(address)
        return now

    def _smtp(self, limit_s: float) -> aiosmtplib.SMTP:
        import ssl

        import aiosmtplib

        if not self.settings.host:
            raise NotConfigured(
                "No mail server is set.", fix="Set MCP_DEVOPS_EMAIL__HOST.", source=SOURCE
            )
        context = None
        if self.settings.tls != "none":
            ca = self.settings.ca_file
            context = ssl.create_default_context(cafile=str(ca) if ca else None)
        return aiosmtplib.SMTP(
            hostname=self.settings.host,
            port=self._port,
            use_tls=self.settings.tls == "ssl",
            # Never "if offered": whoever stands between could take the offer away.
            start_tls=self.settings.tls == "starttls",
            tls_context=context,
            timeout=limit_s,
        )

    async def _open(self, smtp: aiosmtplib.SMTP) -> None:
        await smtp.connect()
        if self.settings.username and self.settings.password:
            await smtp.login(self.settings.username, self.settings.password.get_secret_value())
        else:
            await smtp.ehlo()


async def _leave(smtp: aiosmtplib.SMTP) -> None:
    import aiosmtplib

    # Politeness only: the mail's fate was sealed before.
    with contextlib.suppress(aiosmtplib.SMTPException, OSError):
        async with asyncio.timeout(GOODBYE_S):
            if smtp.is_connected:
                await smtp.quit()
    smtp.close()
