from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from mcp_devops.catalog import build_catalog
from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.email import INTEGRATION
from mcp_devops.integrations.email.records import Mail, MailSeverity
from mcp_devops.integrations.email.settings import EmailSettings
from mcp_devops.settings import ServerSettings
from tests.support.smtp import PASSWORD, FakeMail, mail_server

ANN, BOB = "ann@example.com", "bob@example.com"


def mail(**changes: object) -> Mail:
    fields: dict[str, object] = {
        "incident_id": "inc-0a1b2c3d", "subject": "checkout fails", "lines": ("It fails.",),
    }  # fmt: skip
    return Mail.model_validate(fields | changes)


async def test_a_mail_reaches_everybody() -> None:
    async with mail_server() as (client, fake, _):
        sent = await client.send(mail())
    ((to, message),) = fake.taken
    assert to == [ANN, BOB] and sent.accepted == (ANN, BOB) and sent.attempts == 1
    assert message["Subject"] == "checkout fails" and message["From"] == "devops@example.com"
    assert sent.message_id == message["Message-ID"] == "<mcp-devops.inc-0a1b2c3d@example.com>"
    assert sent.refused == ()


@pytest.mark.parametrize("implicit", [False, True])
async def test_it_encrypts_and_logs_in(tmp_path: Path, implicit: bool) -> None:
    async with mail_server(
        folder=tmp_path, implicit=implicit, logins=True, username="ann", password=PASSWORD
    ) as (client, fake, _):
        await client.send(mail())
        says = await client.look()
    assert fake.encrypted == [True] and len(fake.taken) == 1
    assert "logged in" in says and "NOOP" in fake.commands


async def test_a_wrong_password_is_refused_at_once_and_never_repeated() -> None:
    wrong = "-".join(("s3cret", "wrong", "horse"))
    async with mail_server(logins=True, username="ann", password=wrong) as (client, _, clock):
        with pytest.raises(DevOpsError) as raised:
            await client.send(mail())
    assert raised.value.code == "CREDENTIALS_REJECTED" and clock.paused == []
    assert "535" in str(raised.value) and wrong not in repr(client.settings)
    assert wrong not in "".join(traceback.format_exception(raised.value))


async def test_a_server_without_encryption_is_not_talked_to_in_the_clear() -> None:
    async with mail_server(tls="starttls", username="ann", password=PASSWORD) as (client, fake, _):
        with pytest.raises(DevOpsError) as raised:
            await client.send(mail())
    assert raised.value.code == "UNSUPPORTED" and fake.commands == []


@pytest.mark.parametrize("implicit", [False, True])
async def test_an_unknown_certificate_is_not_trusted(tmp_path: Path, implicit: bool) -> None:
    async with mail_server(folder=tmp_path, implicit=implicit, ca_file=None) as (client, fake, _):
        with pytest.raises(DevOpsError) as raised:
            await client.send(mail())
    assert raised.value.code == "UNSUPPORTED" and fake.taken == []


async def test_a_server_that_is_busy_is_asked_again() -> None:
    fake = FakeMail(mail=["451 try later", "421 closing"], data=["452 full", "250 queued"])
    async with mail_server(fake) as (client, fake, clock):
        sent = await client.send(mail())
    assert sent.attempts == 4 and len(fake.taken) == 1
    assert clock.paused == [1.5, 3.0, 6.0]


async def test_a_server_that_stays_busy_is_given_up_at_the_deadline() -> None:
    fake = FakeMail(mail=["451 try later"] * 99)
    async with mail_server(fake, deadline_s=30) as (client, fake, clock):
        with pytest.raises(DevOpsError) as raised:
            await client.send(mail())
    assert raised.value.code == "UPSTREAM_UNAVAILABLE" and "try later" in raised.value.upstream
    assert sum(clock.paused) < 30


@pytest.mark.parametrize(
    "fake", [FakeMail(mail=["550 no such sender"]), FakeMail(data=["554 looks like spam"])]
)
async def test_a_refusal_for_good_is_not_repeated(fake: FakeMail) -> None:
    async with mail_server(fake) as (client, fake, clock):
        with pytest.raises(DevOpsError) as raised:
            await client.send(mail())
    assert raised.value.code == "INVALID_ARGUMENTS" and raised.value.upstream
    assert clock.paused == [] and fake.taken == []


async def test_one_refused_recipient_does_not_cost_the_others_their_mail() -> None:
    fake = FakeMail(rcpt={BOB: ["550 no such user"] * 9})
    async with mail_server(fake) as (client, fake, clock):
        sent = await client.send(mail())
    assert sent.accepted == (ANN,) and sent.refused == (BOB,) and clock.paused == []


async def test_a_recipient_that_is_greylisted_gets_it_later_and_the_others_once() -> None:
    fake = FakeMail(rcpt={BOB: ["450 greylisted"]})
    async with mail_server(fake) as (client, fake, _):
        sent = await client.send(mail())
    assert sent.accepted == (ANN, BOB) and sent.attempts == 2
    assert [to for to, _ in fake.taken] == [[ANN], [BOB]]


async def test_a_recipient_that_stays_greylisted_is_named() -> None:
    fake = FakeMail(rcpt={BOB: ["450 greylisted"] * 99})
    async with mail_server(fake) as (client, fake, _):
        sent = await client.send(mail())
    assert sent.accepted == (ANN,) and sent.refused == (BOB,)


@pytest.mark.parametrize(
    ("answer", "code"), [("550 no", "INVALID_ARGUMENTS"), ("450 later", "UPSTREAM_UNAVAILABLE")]
)
async def test_a_mail_that_nobody_may_get_is_an_error(answer: str, code: str) -> None:
    fake = FakeMail(rcpt={ANN: [answer] * 99, BOB: [answer] * 99})
    async with mail_server(fake) as (client, fake, _):
        with pytest.raises(DevOpsError) as raised:
            await client.send(mail())
    assert raised.value.code == code and fake.taken == [] and raised.value.upstream


async def test_silence_after_the_text_is_an_unknown_outcome() -> None:
    fake = FakeMail(data=["silent"])
    async with mail_server(fake, timeout_s=1.5, deadline_s=1.5) as (client, fake, _):
        with pytest.raises(DevOpsError) as raised:
            await client.send(mail())
    assert raised.value.code == "OUTCOME_UNKNOWN"


async def test_silence_once_is_repeated_with_the_same_message_id() -> None:
    fake = FakeMail(data=["silent", "250 queued"])
    async with mail_server(fake, timeout_s=1.5) as (client, fake, _):
        sent = await client.send(mail())
    assert sent.attempts == 2 and {m["Message-ID"] for _, m in fake.taken} == {sent.message_id}


async def test_nobody_listening_is_unavailable() -> None:
    async with mail_server(port=9, deadline_s=2) as (client, _, _):
        with pytest.raises(DevOpsError) as raised:
            await client.send(mail())
    assert raised.value.code == "UPSTREAM_UNAVAILABLE"


async def test_each_severity_has_its_recipients() -> None:
    async with mail_server(to_critical="boss@example.com", to_info="log@example.com") as (
        client, fake, _,
    ):  # fmt: skip
        for severity in MailSeverity:
            await client.send(mail(severity=severity, key=severity.value))
    assert [to for to, _ in fake.taken] == [
        ["boss@example.com"], [ANN, BOB], [ANN, BOB], ["log@example.com"],
    ]  # fmt: skip
    assert [m["Importance"] for _, m in fake.taken] == ["high", None, None, None]


@pytest.mark.parametrize("missing", [{"host": None}, {"sender": None}, {"to": ""}])
async def test_without_settings_nothing_is_sent(missing: dict[str, str | None]) -> None:
    async with mail_server(**missing) as (client, fake, _):  # type: ignore[arg-type]  # settings only
        with pytest.raises(DevOpsError) as raised:
            await client.send(mail())
        assert bool(INTEGRATION.why_off(client.settings)) is ("to" not in missing)
    assert raised.value.code == "NOT_CONFIGURED" and fake.commands == []


async def test_without_recipients_of_its_own_it_is_on_for_those_of_the_policy() -> None:
    assert INTEGRATION.ping is not None
    async with mail_server(to="") as (client, fake, _):
        health = await INTEGRATION.ping(client)
        await client.send(mail(also_to=(ANN,)))
    assert [to for to, _ in fake.taken] == [[ANN]]
    assert health.ok and "only the policy's are told" in health.says


@pytest.mark.parametrize(
    "options",
    [
        {"tls": "none", "host": "mail.example.com"},
        {"username": "ann"},
        {"sender": "Ann <ann@example.com>"},
        {"sender": "ann@example.com\r\nBcc: eve@example.com"},
        {"to": "ann@example.com\r\nRCPT TO:<eve@example.com>"},
        {"to": "no-address"},
        {"to_error": "a b@example.com"},
        {"to": "\u00e4nn@example.com"},
        {"to": "a@" + "b" * 300},
        {"host": "mail example"},
        {"tls": "maybe"},
    ],
)
def test_settings_that_would_leak_or_inject_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(DevOpsError) as raised:
        EmailSettings.load(**options)
    assert raised.value.code == "NOT_CONFIGURED"
    assert "eve@" not in str(raised.value)


async def test_ping_tells_whether_it_answers() -> None:
    assert INTEGRATION.ping is not None
    async with mail_server() as (client, fake, _):
        health = await INTEGRATION.ping(client)
        assert health.ok and "no login" in health.says and fake.taken == []
    async with mail_server(port=9) as (client, _, _):
        health = await INTEGRATION.ping(client)
    assert not health.ok and health.fix
    async with mail_server(tls="ssl") as (client, _, _):
        assert not (await INTEGRATION.ping(client)).ok


def test_it_is_off_until_it_knows_where_and_from_whom() -> None:
    whole = {"host": "mail.example.com", "sender": "a@example.com"}
    settings = EmailSettings.load(**whole, username="u", password="pw-123456")
    assert INTEGRATION.why_off(settings) is None
    assert list(INTEGRATION.secrets(settings)) == ["pw-123456"]
    for name in whole:
        part = {k: v for k, v in whole.items() if k != name}
        assert INTEGRATION.why_off(EmailSettings.load(**part)) is not None
    assert list(INTEGRATION.secrets(EmailSettings())) == []
    assert not build_catalog(ServerSettings(), [INTEGRATION]).tools
