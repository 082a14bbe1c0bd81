"""A real SMTP server on loopback (aiosmtpd), with TLS, logins and refusals."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from mcp_devops.integrations.email.client import EmailClient
from mcp_devops.integrations.email.settings import EmailSettings
from tests.support.pagerduty import SteppedClock

PASSWORD = "hunter2-correct-horse"


@dataclass
class FakeMail:
    """What arrived; `faults` are played first, by command: rcpt (by address), data, mail."""

    mail: list[str] = field(default_factory=list)
    rcpt: dict[str, list[str]] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    taken: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    port: int = 0
    slow: list[asyncio.Event] = field(default_factory=list)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.commands.append(f"MAIL {address}")
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        if self.mail:
            return self.mail.pop(0)
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.commands.append(f"RCPT {address}")
        if self.rcpt.get(address):
            return self.rcpt[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.data.pop(0) if self.data else "250 queued"
        if answer == "silent":
            await self.slow[0].wait()
        if answer.startswith("250"):
            raw = envelope.content
            assert isinstance(raw, bytes)
            parsed = message_from_bytes(raw, policy=default)
            assert isinstance(parsed, EmailMessage)
            self.taken.append((list(envelope.rcpt_tos), parsed))
            self.raw.append(raw)
        return answer

    async def handle_NOOP(self, server: SMTP, session: Session, envelope: Envelope, _: str) -> str:
        self.commands.append("NOOP")
        return "250 OK"


def login(server: SMTP, session: Session, envelope: Envelope, how: str, data: Any) -> AuthResult:
    """Let one user in; refuse others, repeating what they said as careless servers do."""
    assert isinstance(data, LoginPassword)
    if (data.login, data.password) == (b"ann", PASSWORD.encode()):
        return AuthResult(success=True)
    said = f"535 5.7.8 Wrong: {data.password.decode()} does not fit"
    return AuthResult(success=False, handled=False, message=said)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own for 127.0.0.1, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, secret


@asynccontextmanager
async def mail_server(
    fake: FakeMail | None = None,
    *,
    folder: Path | None = None,
    implicit: bool = False,
    logins: bool = False,
    **settings: Any,
) -> AsyncIterator[tuple[EmailClient, FakeMail, SteppedClock]]:
    """A client of a mail server.

    Args:
        fake: With the failures it plays first.
        folder: For the certificate; None: no TLS.
        implicit: TLS from the first byte, not by STARTTLS.
        logins: Whether it asks for a login.
        settings: More of the client's settings.
    """
    fake = fake or FakeMail()
    fake.slow = [asyncio.Event()]
    clock = SteppedClock()
    tls: dict[str, Any] = {}
    context = None
    if folder:
        cert, key = certificate(folder)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)
        tls = {"tls": "ssl" if implicit else "starttls", "ca_file": cert}
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        with warnings.catch_warnings():
            # It advises against logins in the clear; here they stay on this machine.
            warnings.simplefilter("ignore")
            return SMTP(
                fake,
                loop=loop,
                hostname="mail.test",
                tls_context=None if implicit else context,
                require_starttls=bool(context) and not implicit,
                authenticator=login if logins else None,
                auth_required=logins,
                auth_require_tls=False,
            )

    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if implicit else None)
    fake.port = server.sockets[0].getsockname()[1]
    given = EmailSettings.load(
        **(
            {
                "host": "127.0.0.1",
                "port": fake.port,
                "tls": "none",
                "sender": "devops@example.com",
                "to": "ann@example.com,bob@example.com",
            }
            | tls
            | settings
        )
    )
    client = EmailClient(given, clock, pause=clock.pause, jitter=lambda: 0.5)
    try:
        yield client, fake, clock
    finally:
        await client.close()
        fake.slow[0].set()
        server.close()
        # What a session still has to say is said before the loop ends.
        for _ in range(5):
            await asyncio.sleep(0)
