from __future__ import annotations

import json
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.integrations.email.messages import incident_mail
from mcp_devops.integrations.pagerduty.reports import page_of
from mcp_devops.integrations.slack import approvals, blocks, messages
from mcp_devops.integrations.slack.records import Message
from mcp_devops.model.incident import IncidentStatus, TimelineEntry, Verification
from mcp_devops.model.verdict import Action, Finding, Veto
from mcp_devops.toolkit.report import Report
from tests.support.pagerduty import NOW, incident, plan, verdict
from tests.support.slack import CHANNEL, chars, wrong_with

HOSTILE = "<!channel> <@U1> <https://evil.example|click> & `code` *bold* \u202e\x1b[31m ```"
DIGEST = "0123456789abcdef" * 4


def ask(**changes: object) -> Message:
    given = {"approval_id": "apr-0011223344", "plan_digest": DIGEST, "now": NOW}
    until = NOW + timedelta(minutes=10)
    return approvals.approval_message(plan(), expires_at=until, **(given | changes))  # type: ignore[arg-type]  # the test's own dict


def fits(message: Message) -> bool:
    body = {"channel": CHANNEL, "text": message.text, "blocks": list(message.blocks)}
    return wrong_with(body) == "" and chars(body["blocks"]) <= 10_500


def harmless(message: Message) -> bool:
    """No foreign mention, link or hidden letter can come out of it."""
    text = json.dumps(message.model_dump(), ensure_ascii=False)
    unasked = [b for b in text.split("<")[1:] if not b.startswith("https://example.com/")]
    return not unasked and "\u202e" not in text and "\x1b" not in text


def test_an_incident_says_status_signals_and_verdict() -> None:
    message = messages.incident_message(incident(), link="https://example.com/inc?a=1&b=2")
    text = json.dumps(message.blocks, ensure_ascii=False)
    assert "WAITING FOR A PERSON" in text and "12% &gt; 1% failed" in text
    assert "93%" in text and "roll back" in text and "not counted" not in text
    assert "<https://example.com/inc?a=1&amp;b=2|Open the incident>" in text
    assert message.text.startswith("shop/checkout: WAITING FOR A PERSON. Revision 7 fails")
    assert fits(message)


@pytest.mark.parametrize("status", list(IncidentStatus))
def test_every_status_has_its_words(status: IncidentStatus) -> None:
    message = messages.incident_message(incident(status=status, verdict=None, revision=None))
    assert messages.STATUS_WORDS[status] in str(message.blocks[0])
    assert "No verdict yet" in str(message.blocks) and fits(message)
    done = status in (IncidentStatus.RECOVERED, IncidentStatus.CLOSED)
    assert ("Still open" not in str(message.blocks)) is done


@pytest.mark.parametrize("action", list(Action))
def test_every_advice_has_its_words(action: Action) -> None:
    message = messages.incident_message(incident(verdict=verdict(action=action)))
    assert messages.ACTION_WORDS[action] in str(message.blocks)


@pytest.mark.parametrize("link", ["ftp://x.example", "https://x.example/|a", "https://x.example/>"])
def test_a_doubtful_link_is_left_out(link: str) -> None:
    assert "Open the incident" not in str(messages.incident_message(incident(), link=link).blocks)


def test_hostile_text_stays_letters_everywhere() -> None:
    told = incident(
        verdict=verdict(
            headline=HOSTILE,
            ask_next=HOSTILE,
            findings=(Finding(rule="r", group="g", says=HOSTILE, weight=1),),
            vetoes=(Veto(code="c", says=HOSTILE),),
            evidence_complete=False,
        ),
        timeline=(TimelineEntry(at=NOW, what=HOSTILE, who=HOSTILE),),
        verification=Verification(
            outcome="recovered", checked_at=NOW, took_s=1, template_restored=True, pods="",
            says=HOSTILE,
        ),
    )  # fmt: skip
    hostile = plan(summary=HOSTILE, reason=HOSTILE, warnings=(HOSTILE,))
    until = NOW + timedelta(minutes=10)
    many = (HOSTILE * 3,) * 10
    hostile_report = Report(
        deployed=HOSTILE, images=many, revision_before=7, changed=many, managed_by=HOSTILE,
        pods=HOSTILE, log_line_of_new_pods=HOSTILE * 90, missing_evidence=many,
        collected_at="03:10:00 UTC",
    )  # fmt: skip
    for message in (
        messages.incident_message(told),
        messages.timeline_message(told),
        messages.report_message(told, hostile_report),
        approvals.approval_message(
            hostile, approval_id="apr-1", plan_digest=DIGEST, expires_at=until, now=NOW
        ),
        approvals.decided_message(
            hostile, approval_id="apr-1", outcome="approved", who=HOSTILE, at=NOW
        ),
    ):
        # Plain text objects carry no markup: there an angle bracket is a letter.
        assert fits(message) and "<" not in message.text
        for block in message.blocks:
            for part in marked(block):
                assert part["verbatim"] is True
                assert harmless(Message(text="", blocks=(part,)))


def marked(value: object) -> list[dict[str, object]]:
    if isinstance(value, dict):
        own = [value] if value.get("type") == "mrkdwn" else []
        return own + [p for v in value.values() for p in marked(v)]
    return [p for v in value for p in marked(v)] if isinstance(value, list | tuple) else []


def test_the_report_says_what_was_rolled_out_what_it_changed_and_what_was_not_seen() -> None:
    report = Report(
        deployed="revision 8 at 2026-03-01 03:00:00 UTC",
        images=("shop:2",),
        revision_before=7,
        images_before=("shop:1",),
        changed=("containers[shop].image: shop:1 -> shop:2",),
        pods="0 of 3 new pods are ready",
        log_line_of_new_pods="PAYMENT_URL is not set",
        missing_evidence=("prometheus: requests: timeout",),
        collected_at="03:10:00 UTC",
    )
    message = messages.report_message(incident(), report)
    text = json.dumps(message.blocks, ensure_ascii=False)
    assert fits(message) and "0 of 3 new pods" in message.text
    for said in (*report.changed, "Images of revision 7", "PAYMENT_URL is not set", "timeout"):
        assert said.replace(">", "&gt;") in text
    nothing = messages.report_message(incident(), Report(collected_at="03:10:00 UTC"))
    assert fits(nothing) and "nothing of the rollout" in nothing.text


def test_the_longest_incident_still_fits() -> None:
    long = "&" * 5000
    many = tuple(Finding(rule="r", group="g", says=long, weight=1) for _ in range(80))
    vetoes = tuple(Veto(code="c", says=long) for _ in range(80))
    told = incident(
        verdict=verdict(headline=long, findings=many, vetoes=vetoes, ask_next=long),
        timeline=tuple(TimelineEntry(at=NOW, what=f"{n} {long}") for n in range(500)),
    )
    assert fits(messages.incident_message(told)) and fits(messages.timeline_message(told))
    assert "75 findings more" in str(messages.incident_message(told).blocks)
    wide = plan(
        summary=long, reason=long, warnings=(long,) * 30, differences=plan().differences * 9
    )
    until = NOW + timedelta(minutes=10)
    asked = approvals.approval_message(
        wide, approval_id="apr-1", plan_digest=DIGEST, expires_at=until, now=NOW
    )
    assert fits(asked) and any(b["type"] == "actions" for b in asked.blocks)


def test_the_newest_of_a_timeline_survives_and_says_what_is_missing() -> None:
    told = incident(timeline=tuple(TimelineEntry(at=NOW, what=f"step {n}") for n in range(40)))
    text = str(messages.timeline_message(told).blocks)
    assert "step 39" in text and "step 9'" not in text and "10 earlier entries" in text
    one = messages.timeline_message(told, told.timeline[:31])
    assert "1 earlier entry" in str(one.blocks)
    assert "Nothing has happened" in str(messages.timeline_message(told, ()).blocks)


def test_an_approval_carries_the_plan_and_its_buttons_come_back() -> None:
    message = ask()
    text = json.dumps(message.blocks, ensure_ascii=False)
    (actions,) = [b for b in message.blocks if b["type"] == "actions"]
    assert [e["action_id"] for e in actions["elements"]] == [
        approvals.APPROVE_ID, approvals.REJECT_ID,
    ]  # fmt: skip
    for element in actions["elements"]:
        assert approvals.read_value(element["value"]) == ("apr-0011223344", DIGEST[:16])
        assert len(element["value"]) <= 255
    assert "confirm" in actions["elements"][0] and "confirm" not in actions["elements"][1]
    assert "7 → 6" in text and "Argo CD" in text and "(absent) → `1`" in text
    assert "No answer means no" in text and "03:22:00 UTC (10 min)" in text
    assert "Approval needed until 03:22:00 UTC" in message.text and fits(message)


def test_without_buttons_it_asks_for_a_reaction_or_a_word() -> None:
    message = ask(buttons=False)
    assert not any(b["type"] == "actions" for b in message.blocks)
    assert "approve apr-0011223344" in str(message.blocks)


def test_a_plan_with_little_known_is_asked_plainly() -> None:
    bare = plan(
        from_revision=None, reason="", warnings=(), differences=(), confidence=None,
        target=plan().target.model_copy(update={"cluster": ""}),
    )  # fmt: skip
    text = str(approvals.plan_blocks(bare))
    assert "unknown → 6" in text and "Why" not in text and "Probability" not in text
    late = ask(now=NOW + timedelta(hours=1))
    assert "(0 s)" in str(late.blocks)
    unsure = plan(evidence_complete=False, to_revision=None)
    assert "evidence is missing" in str(approvals.plan_blocks(unsure))


@pytest.mark.parametrize(
    ("outcome", "who", "words"),
    [
        ("approved", "Ann", "APPROVED by Ann at 03:12:00 UTC"),
        ("denied", "Ann", "DENIED by Ann"),
        ("expired", "nobody", "nothing was changed"),
        ("", "", "SETTLED at"),
    ],
)
def test_a_settled_question_has_no_buttons_and_says_who_and_when(
    outcome: str, who: str, words: str
) -> None:
    message = approvals.decided_message(
        plan(), approval_id="apr-1", outcome=outcome, who=who, at=NOW
    )
    assert not any(b["type"] == "actions" for b in message.blocks)
    assert words in str(message.blocks) and "by nobody" not in str(message.blocks)


def test_times_are_utc_whatever_zone_they_were_told_in() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=9)))
    told = incident(
        opened_at=there, updated_at=there, timeline=(TimelineEntry(at=there, what="x"),)
    )
    for text in (
        str(messages.incident_message(told)),
        str(messages.timeline_message(told)),
        str(approvals.decided_message(plan(), approval_id="a", outcome="x", who="A", at=there)),
        str(ask(now=there)),
    ):
        assert "12:12" not in text and "03:" in text
    assert "03:12:00 x" in incident_mail(told, why="x").lines[-1]
    assert page_of(told, why="x").details["timeline_utc"] == ["03:12:00 x"]


def test_the_line_on_a_lock_screen_is_cleaned_and_escaped_once() -> None:
    token = "xoxb-" + "1234567890-abcdefghij"
    told = approvals.decided_message(
        plan(summary=f"a & b {token}\u202e"), approval_id="a", outcome="used", who="A & B", at=NOW
    )
    assert "USED by A &amp; B" in told.text and "a &amp; b" in told.text
    assert token not in str(told) and "\u202e" not in told.text


@pytest.mark.parametrize(
    ("approval_id", "digest"),
    [("a" * 65, DIGEST), ("a b", DIGEST), ("apr-1", "xyz"), ("apr-1", "")],
)
def test_a_value_that_would_not_come_back_is_not_made(approval_id: str, digest: str) -> None:
    with pytest.raises(ValueError):
        approvals.button_value(approval_id, digest)


def test_a_value_that_is_too_long_is_not_cut() -> None:
    with pytest.raises(ValueError):
        blocks.button("x", "y", "v" * 256, "primary", None)


def test_too_many_blocks_end_in_a_sentence() -> None:
    many = blocks.message("x", [blocks.section(str(n)) for n in range(70)])
    assert len(many.blocks) == 50 and "21 more parts" in str(many.blocks[-1])
    exact = blocks.message("x", [blocks.section(str(n)) for n in range(50)])
    assert len(exact.blocks) == 50 and "more parts" not in str(exact.blocks[-1])
    heavy = blocks.message("x", [blocks.section("y" * 2900)] * 5)
    assert fits(heavy) and "2 more parts" in str(heavy.blocks[-1])


@given(st.text(), st.integers(-2, 60))
def test_escaped_text_never_exceeds_its_room_nor_breaks_an_entity(text: str, room: int) -> None:
    made = blocks.escaped(text, room)
    assert len(made) <= max(room, 0)
    assert "<" not in made and ">" not in made
    for part in made.split("&")[1:]:
        assert part.startswith(("amp;", "lt;", "gt;"))
    if len(blocks.escaped(text, 10_000)) <= room:
        assert made == blocks.escaped(text, 10_000)


@given(st.text(max_size=9000))
def test_a_log_stays_in_its_block_of_code(text: str) -> None:
    made = blocks.code(text)
    assert len(made) <= 3000 and made.count("```") == 2
    assert made.startswith("```\n") and made.endswith("\n```")


def test_the_newest_lines_of_a_log_survive() -> None:
    made = blocks.code("\n".join(f"line {n}" for n in range(5000)))
    assert "line 4999" in made and "line 1\n" not in made and len(made) > 2500
    assert "zzz" in blocks.code("z" * 9000)
