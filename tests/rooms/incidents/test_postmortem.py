from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mcp_devops.gateway import reading
from mcp_devops.incidents.account import Sort, account_of, altered, cleaned
from mcp_devops.incidents.follow_up import actions_from, questions_from
from mcp_devops.incidents.outcomes import record_outcome
from mcp_devops.incidents.postmortem import CONCISE_CHARS, DETAILED_CHARS, draft_of
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.verdict import Action, Cause
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.context import Caller
from tests.rooms.incidents.conftest import CALLER, Desk, yes
from tests.support.accounts import bare_account, full_account, poisoned

SECTIONS = [
    "Summary", "Impact", "Timeline (UTC)", "Detection", "Root cause", "What went well",
    "What was missing", "Action items", "Open questions",
]  # fmt: skip
PLAIN = Redactor(())


def headings(draft: str) -> list[str]:
    return [line[3:] for line in draft.split("\n") if line.startswith("## ")]


async def test_the_draft_of_a_rolled_back_incident_holds_its_numbers_and_steps(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        incident, verdict = await duty.decided()
        await duty.call("incident_roll_back", ask=yes, incident_id=incident)
        reply = await duty.call("incident_draft_postmortem", incident_id=incident)
        _, prompt = await reading.render_prompt(
            duty.gateway, "draft_postmortem", {"incident_id": incident}, CALLER
        )
        missing = await duty.call("incident_draft_postmortem", incident_id="inc-00000000")
    assert reply.data is not None
    draft = reply.data["body"]
    assert reply.text == draft and headings(draft) == SECTIONS
    assert "after it, new revision: " in draft and "(22" in draft
    assert "Category: **new code regression**" in draft
    for finding in verdict["findings"]:
        assert f"{finding['weight']:+.1f} {finding['group']}" in draft
    assert "approved through elicitation (ann)" in draft and "Recovered: " in draft
    assert "Fix revision 2 before it is deployed again" in draft
    assert "new pods were ready while 22" in draft
    assert draft.rsplit("---", 1)[0] in prompt and "never blame a person" in prompt
    assert missing.error is not None and missing.error["code"] == "NOT_FOUND"


async def test_a_judgement_that_is_corrected_later_stands_in_page_and_draft(desk: Desk) -> None:
    async with desk.playing("upstream-outage") as duty:
        incident, _ = await duty.decided()
        services, now = duty.gateway.services, duty.gateway.clock.now()
        stored = await (await services.get(IncidentStore)).get(incident)
        state = (await services.get(Database), await services.get(Journal), stored)
        await record_outcome(*state, was_right=True, who="ann", now=now)
        await record_outcome(*state, was_right=False, who="bob", now=now, note="it was the bank")
        account = await account_of(services, incident)
    assert account.judged is not None and account.judged.by_whom == "bob"
    told = [h.what for h in account.happenings if h.what.startswith("decision judged")]
    assert told == ["decision judged right", "decision judged wrong: it was the bank"]
    draft = draft_of(account)
    assert "Judged afterwards: the decision was wrong" in draft and "it was the bank" in draft
    assert "Find which finding misled it" in draft and "Was the verdict right?" not in draft


def test_what_the_watch_found_asks_for_no_alert_and_the_policys_yes_is_named() -> None:
    account = full_account(opened_by=str(Caller("responder", "watch")))
    (asked,) = account.consents
    account = account.model_copy(
        update={"consents": (asked.model_copy(update={"channel": "policy"}),)}
    )
    draft = draft_of(account)
    assert "The watch found it by itself" in draft and "alert should have come" not in draft
    assert "nobody had to be asked" in draft and "A person answered" not in draft
    by_hand = draft_of(full_account())
    assert "alert should have come" in by_hand and "nobody had to be asked" not in by_hand


def test_a_timeline_without_lines_says_so() -> None:
    timeline = draft_of(bare_account()).split("## Timeline (UTC)")[1].split("##")[0]
    assert timeline.strip() == "Not in the record."


async def test_where_nothing_was_done_the_draft_says_so(desk: Desk) -> None:
    async with desk.playing("upstream-outage") as duty:
        incident, _ = await duty.decided()
        account = await account_of(duty.gateway.services, incident)
    draft = draft_of(account)
    assert "Nothing was changed under this incident." in draft
    assert "its end is not in the record" in draft and "still open" in draft
    assert "Bring in the owners of what was sick at the same time: cart, payments" in draft
    assert "Fix revision" not in draft and "readiness probe" not in draft


async def test_the_account_of_an_incident_comes_from_store_and_journal(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        incident, _ = await duty.decided()
        await duty.call("incident_roll_back", ask=yes, incident_id=incident)
        account = await account_of(duty.gateway.services, incident, walk_chain=True)
        quick = await account_of(duty.gateway.services, incident)
    (consent,) = account.consents
    assert (consent.status, consent.answered_by, consent.channel) == (
        "approved",
        "ann",
        "elicitation",
    )
    assert consent.answered_at is not None and consent.asked_at <= consent.answered_at
    assert account.rolled_back_at is not None
    assert [h.at for h in account.happenings] == sorted(h.at for h in account.happenings)
    assert {"deployment", "sign", "verdict", "approval"} <= {h.sort for h in account.happenings}
    assert account.proof.entries > 5 and account.proof.changed == ()
    assert account.proof.chain is not None and account.proof.chain.ok
    assert account.proof.head == account.proof.chain.head
    assert quick.proof.chain is None and quick.proof.all_of_them


async def test_other_actions_and_altered_entries_are_part_of_the_account(desk: Desk) -> None:
    async with desk.playing("error-spike") as duty:
        incident, _ = await duty.decided()
        journal = duty.gateway.journal
        about = {"actor": "bob", "subject": "kubernetes_pause_rollout", "incident_id": incident}
        await journal.append(EntryKind.ACTION_STARTED, body={}, call_id="c1", **about)
        done = {"status": "done"}
        await journal.append(EntryKind.ACTION_FINISHED, body=done, call_id="c1", **about)
        account = await account_of(duty.gateway.services, incident)
        entries = (await journal.list(incident_id=incident)).entries
    acts = [h.what for h in account.happenings if h.sort is Sort.ACTION]
    assert acts == ["kubernetes_pause_rollout started", "kubernetes_pause_rollout: done"]
    forged = entries[1].model_copy(update={"actor": "nobody"})
    assert altered(entries) == [] and altered([entries[0], forged]) == [forged.seq]


def test_a_bare_record_gives_a_draft_of_unknowns() -> None:
    draft = draft_of(bare_account())
    assert headings(draft) == SECTIONS
    for said in (
        "Which rollout was judged is unknown",
        "No verdict was given.",
        "How many users were affected is unknown.",
        "When it began is unknown.",
        "Unknown: the evidence was not judged.",
        "No evidence was collected.",
        "What was the cause? The record gives no category.",
    ):
        assert said in draft, said
    assert "0%" not in draft


def test_every_fact_with_a_consequence_becomes_an_action_item() -> None:
    actions = "\n".join(actions_from(full_account()))
    for said in (
        "Fix revision 42",
        "ConfigMaps stay.",
        "Argo CD application shop",
        "Start from the new revision's last words (data): panic: nil map",
        "progress deadline",
        "removed a probe: containers[checkout].readinessProbe",
        "Reconcile drifted aws_security_group.shop (declared at main.tf:12)",
        "Replace shop/checkout:2",
        "2 new or returned errors of shop@2.0 (sentry rest): SHOP-1",
        "Ask after bank: 30% of the calls",
        "HPA scaled checkout from 6 to 3",
        "sick at the same time: cart.",
        "Make datadog (error rate) available, which an automatic action needs",
        "Veto ",
        "the record holds none",
    ):
        assert said in actions, said


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (IncidentStatus.NOT_RECOVERED, "Now: the change did not help."),
        (IncidentStatus.UNKNOWN, "Now: find out which revision is live"),
    ],
)
def test_an_outcome_that_is_not_good_comes_first(status: IncidentStatus, said: str) -> None:
    assert actions_from(full_account(status=status))[0].startswith(said)


@pytest.mark.parametrize(
    ("action", "said"),
    [(Action.ROLL_BACK, "no rollback is recorded"), (Action.FIX_FORWARD, "Fix forward: ")],
)
def test_a_verdict_nobody_acted_on_is_an_action_item(action: Action, said: str) -> None:
    account = full_account()
    verdict = account.incident.verdict
    assert verdict is not None
    changed = verdict.model_copy(update={"action": action, "cause": Cause.UNKNOWN})
    open_one = full_account(verdict=changed).model_copy(update={"plan": None})
    assert any(said in line for line in actions_from(open_one))
    assert "What was the cause? The record gives no category." in questions_from(open_one)


def test_a_change_whose_effect_was_not_seen_is_an_open_question() -> None:
    account = full_account()
    checked = account.incident.verification
    assert checked is not None
    unseen = full_account(verification=checked.model_copy(update={"error_rate_after": None}))
    assert any("Did errors really end?" in q for q in questions_from(unseen))
    unverified = full_account(verification=None)
    assert "Did the change help? It was not verified." in questions_from(unverified)
    assert "whether it helped is unknown" in draft_of(unverified)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(min_size=1, max_size=80), st.sampled_from([CONCISE_CHARS, DETAILED_CHARS]))
@example("# h\n- x\n![i](http://evil.example/p) <script> `a` **b** __c__ [l](x)", CONCISE_CHARS)
@example("`" * 40, CONCISE_CHARS)
@example("long " * 200, CONCISE_CHARS)
def test_outside_text_stays_text_in_markdown_and_the_draft_in_its_budget(
    text: str, limit: int
) -> None:
    draft = draft_of(cleaned(poisoned(full_account(), text), PLAIN), limit)
    assert len(draft) <= limit
    assert headings(draft) == SECTIONS
    bare = re.sub(r"`[^`]*`", "", draft).replace("\\[", "").replace("\\<", "").replace("\\]", "")
    assert "](" not in bare and "<script" not in bare and "![" not in bare


def test_a_record_far_beyond_any_budget_is_shortened_and_says_so() -> None:
    account = full_account()
    one = account.happenings[0]
    many = tuple(one.model_copy(update={"what": f"step {i} " + "x" * 400}) for i in range(500))
    draft = draft_of(account.model_copy(update={"happenings": many}))
    assert len(draft) <= CONCISE_CHARS and headings(draft) == SECTIONS
    assert "lines are left out" in draft and "step 0 " in draft and "step 499 " in draft


def test_secrets_do_not_reach_the_draft() -> None:
    token = "ghp_" + "a1B2c3D4e5" * 4
    text = f"password={token} correct-horse-battery"
    account = cleaned(poisoned(full_account(), text), Redactor(("correct-horse-battery",)))
    draft = draft_of(account, DETAILED_CHARS)
    assert token not in draft and "correct-horse-battery" not in draft


async def test_a_detailed_draft_fits_an_answer_too(desk: Desk) -> None:
    async with desk.playing("crash-loop") as duty:
        incident, _ = await duty.decided()
        reply = await duty.call(
            "incident_draft_postmortem", incident_id=incident, response_format="detailed"
        )
    assert reply.data is not None and not reply.cut
    assert len(json.dumps(reply.data)) < 38_000
