from __future__ import annotations

from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_devops.integrations.email.messages import approval_mail, compose, incident_mail
from mcp_devops.integrations.email.records import Attachment, Mail, MailSeverity
from mcp_devops.model.incident import Verification
from tests.support.pagerduty import NOW, incident, plan, verdict

SENDER, TO = "devops@example.com", ("ann@example.com", "bob@example.com")


def read(mail: Mail) -> EmailMessage:
    """The mail as a receiver parses it."""
    parsed = message_from_bytes(compose(mail, SENDER, TO, NOW).as_bytes(), policy=default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def text_of(message: EmailMessage, kind: str = "plain") -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def test_mails_of_an_incident_stand_in_one_thread() -> None:
    first = read(incident_mail(incident(), why="opened"))
    asked = read(approval_mail(
        plan(), incident_id="inc-0a1b2c3d", approval_id="apr-1", expires_at=NOW
    ))  # fmt: skip
    closed = read(incident_mail(incident(), why="closed", key="closed"))
    assert first["References"] is None
    for later in (asked, closed):
        assert later["References"] == later["In-Reply-To"] == first["Message-ID"]
    ids = {m["Message-ID"] for m in (first, asked, closed)}
    assert len(ids) == 3
    assert read(incident_mail(incident(), why="x", key="closed"))["Message-ID"] in ids


def test_an_incident_mail_says_the_shortest_things_first() -> None:
    told = incident(
        verification=Verification(
            outcome="recovered", checked_at=NOW, took_s=9, template_restored=True, pods="",
            says="All pods serve again.",
        )
    )  # fmt: skip
    message = read(
        incident_mail(
            told, why="a person is needed", do_next="mcp-devops approve apr-1",
            link="https://example.com/inc?a=1&b=2",
        )
    )  # fmt: skip
    text = text_of(message)
    assert message["Subject"] == "[critical] shop/checkout: a person is needed"
    assert text.startswith("a person is needed\n\nDo next: mcp-devops approve apr-1\n\nWorkload:")
    for words in ("12% > 1% failed", "93%", "only 40 s", "All pods serve", "03:12:00 Opened"):
        assert words in text
    page = text_of(message, "html")
    assert 'href="https://example.com/inc?a=1&amp;b=2"' in page and "12% &gt; 1%" in page
    assert message["Auto-Submitted"] == "auto-generated"


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    text = text_of(read(incident_mail(incident(status="unknown", verdict=None), why="look")))
    assert "UNKNOWN: a change was sent" in text and "No verdict yet" in text
    bare = incident(verdict=verdict(evidence_complete=False, findings=(), vetoes=()), timeline=())
    text = text_of(read(incident_mail(bare, why="look")))
    assert "evidence is missing" in text and "Seen:" not in text and "Timeline" not in text


def test_an_approval_mail_names_the_command_and_that_silence_is_a_no() -> None:
    mail = approval_mail(
        plan(), incident_id="inc-1", approval_id="apr-1", expires_at=NOW + timedelta(minutes=10)
    )
    text = text_of(read(mail))
    assert (
        "mcp-devops approve apr-1" in text
        and "mcp-devops deny apr-1" in text
        and "No answer means no" in text
    )
    assert "03:22:00 UTC" in text and "Argo CD" in text
    bare = plan(reason="", warnings=())
    plain = approval_mail(bare, incident_id="inc-1", approval_id="apr-1", expires_at=NOW)
    assert "Why" not in text_of(read(plain)) and "Know first" not in text_of(read(plain))


@given(st.text(min_size=1), st.text())
def test_no_text_can_add_a_header_or_a_part(subject: str, body: str) -> None:
    hostile = f"{subject}\r\nBcc: eve@example.com\n\n<script>x</script>"
    message = read(Mail(incident_id="inc-1", subject=hostile, lines=(body, hostile)))
    assert message["Bcc"] is None and len(message.get_all("Subject", [])) == 1
    assert message.get_all("To") == ["ann@example.com, bob@example.com"]
    assert len(str(message["Subject"])) <= 150
    assert [p.get_content_type() for p in message.walk()] == [
        "multipart/alternative", "text/plain", "text/html",
    ]  # fmt: skip
    assert "<script>" not in text_of(message, "html")


@pytest.mark.parametrize("subject", ["\r\n", "\x00", "\u202e", "\u2028x", "\U0001f525 fire"])
def test_odd_subjects_become_one_line(subject: str) -> None:
    message = read(Mail(incident_id="inc-1", subject=subject, lines=("x",)))
    assert str(message["Subject"]).isprintable() and message["Subject"]


def test_secrets_do_not_leave_and_long_text_is_cut_with_a_word() -> None:
    token = "xoxb-" + "1234567890-abcdefghij"
    message = read(Mail(incident_id="i", subject=token, lines=(token, "x" * 60_000, "tail")))
    assert token not in message.as_string()
    assert "2 more paragraphs" in text_of(message) and "tail" not in text_of(message)


def test_the_incidents_page_can_be_attached() -> None:
    file = Attachment(
        name="incident.html", media_type="text/html", content="<p>\u20ac</p>".encode()
    )
    message = read(Mail(incident_id="i", subject="s", lines=("x",), attachments=(file,)))
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == "incident.html"
    assert attached.get_payload(decode=True) == file.content


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x", "media_type": "text/html"},
        {"name": 'a"b', "media_type": "text/html"},
        {"name": "a.html", "media_type": "text/html\r\nX: y"},
    ],
)
def test_attachments_with_names_that_are_paths_or_headers_are_refused(
    changes: dict[str, str],
) -> None:
    with pytest.raises(ValidationError):
        Attachment(content=b"", **changes)


def test_ids_and_links_that_would_break_out_are_refused() -> None:
    for changes in ({"incident_id": "a>\r\nX"}, {"link": 'https://x/"><script>'}):
        fields = {"incident_id": "i", "subject": "s", "lines": ("x",)} | changes
        with pytest.raises(ValidationError):
            Mail.model_validate(fields)


def test_only_critical_mails_are_marked_important() -> None:
    quiet = Mail(incident_id="i", subject="s", lines=("x",), severity=MailSeverity.INFO)
    assert read(quiet)["Importance"] is None
