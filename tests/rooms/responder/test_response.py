from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mcp_devops.decision.policy import ChangeHistory
from mcp_devops.gateway.freezes import Freeze
from mcp_devops.model.verdict import Action, Verdict
from mcp_devops.responder.response import Kind, Response, decide_response
from mcp_devops.response_policy.limits import Breaker
from mcp_devops.response_policy.policy import ResponsePolicy
from tests.support.response import ALONE, CART, NOW, SEARCH, act, finding, policy, verdict, veto

FREEZE = Freeze(reason="Black Friday", by_whom="ann", at=NOW)
ORDER = list(Kind)


def respond(
    said: Verdict | None = None, text: str | ResponsePolicy = ALONE, **more: Any
) -> Response:
    in_force = policy(text) if isinstance(text, str) else text
    given_: dict[str, Any] = {"now": NOW, "frozen": None, "history": []} | more
    return decide_response(
        said or verdict(),
        CART,
        in_force,
        given_.pop("now"),
        given_.pop("frozen"),
        given_.pop("history"),
        **given_,
    )


def test_an_automatic_verdict_is_acted_on_where_the_scope_says_so_and_nothing_forbids() -> None:
    found = respond()
    assert (found.kind, found.wakes, found.deadline) == (Kind.ACT, False, None)
    assert found.reasons == (
        "The verdict is to roll back (probability 97%).",
        "No rule of the policy stands against acting alone.",
    )
    assert (found.scope, found.scope_line) == ("defaults", 2)


def test_without_a_file_a_person_is_asked() -> None:
    found = respond(text=ResponsePolicy.built_in())
    assert (found.kind, found.policy_version) == (Kind.ASK, "built in")
    assert found.wakes and found.deadline == NOW + timedelta(minutes=10)
    assert found.reasons[1] == "defaults says automatic: ask."


def test_who_is_asked_and_told_is_the_scopes() -> None:
    text = """version: 1
defaults:
  automatic: ask
  approval: {wait_minutes: 5, approvers: [ann]}
  page: {pagerduty: false, slack_channel: "#ops"}
"""
    found = respond(text=text)
    assert (found.approvers, found.deadline) == (("ann",), NOW + timedelta(minutes=5))
    assert not found.wakes and found.page.slack_channel == "#ops"


@pytest.mark.parametrize(
    ("action", "automatic", "kind"),
    [
        (Action.ROLL_BACK, "verdict", Kind.ACT),
        (Action.ROLL_BACK, "ask", Kind.ASK),
        (Action.ROLL_BACK, "never", Kind.PAGE),
        (Action.HOLD, "verdict", Kind.ASK),
        (Action.HOLD, "never", Kind.PAGE),
        (Action.FIX_FORWARD, "verdict", Kind.PAGE),
        (Action.NONE, "verdict", Kind.RECORD),
        (Action.NONE, "never", Kind.RECORD),
    ],
)
def test_what_each_verdict_leads_to(action: Action, automatic: str, kind: Kind) -> None:
    found = respond(verdict(action), f"version: 1\ndefaults: {{automatic: {automatic}}}\n")
    assert found.kind is kind
    assert found.wakes is (kind in (Kind.ASK, Kind.PAGE))


@pytest.mark.parametrize(
    ("less", "reason"),
    [
        ({"confidence": 0.7999}, "is below 80%"),
        ({"confidence": float("0.0")}, "is below 80%"),
        ({"evidence_complete": False}, "Evidence that it needs is missing"),
        ({"vetoes": (veto("several_services"),)}, "(several_services)"),
        ({"automatic": False}, "By its own rules"),
        ({"target": SEARCH}, "is about Deployment shop/search"),
        ({"decided_at": NOW - timedelta(seconds=601)}, "too old"),
        ({"decided_at": NOW + timedelta(seconds=601)}, "too old"),
    ],
)
def test_a_verdict_that_is_less_than_sure_is_asked_about_with_the_reason(
    less: dict[str, Any], reason: str
) -> None:
    found = respond(verdict(**less))
    assert found.kind is Kind.ASK
    assert any(reason in r for r in found.reasons), found.reasons


def test_a_freeze_a_limit_or_an_open_breaker_leaves_it_to_a_person() -> None:
    frozen = respond(frozen=FREEZE)
    assert frozen.kind is Kind.ASK and "Frozen everywhere by ann" in frozen.reasons[1]
    limited = respond(history=[act(5)])
    assert limited.kind is Kind.ASK
    assert "Limits: this workload was rolled back at 11:55 UTC" in limited.reasons[1]
    assert "until 2026-03-04 12:25 UTC" in limited.reasons[1]
    assert respond(breaker=Breaker(is_open=True)).kind is Kind.ASK


@pytest.mark.parametrize(
    ("effect", "kind"),
    [("ask", Kind.ASK), ("page_only", Kind.PAGE), ("record_only", Kind.RECORD)],
)
def test_quiet_hours_lower_what_is_done(effect: str, kind: Kind) -> None:
    text = ALONE + (
        f"quiet_hours: [{{from: 11:00, to: 14:00, timezone: Europe/Berlin, effect: {effect}}}]\n"
    )
    found = respond(text=text)
    assert found.kind is kind
    assert "until 2026-03-04 13:00 UTC" in found.reasons[1]
    later = NOW + timedelta(hours=1)
    assert respond(verdict(decided_at=later), text, now=later).kind is Kind.ACT


def test_a_higher_confidence_may_be_asked_for() -> None:
    text = ALONE.replace("}", ", thresholds: {limits: {automatic_confidence: 0.98}}}")
    found = respond(text=text)
    assert found.kind is Kind.ASK and "97% is below 98%" in found.reasons[1]


def test_thresholds_count_only_for_a_verdict_made_with_them() -> None:
    text = "version: 1\ndefaults: {automatic: verdict, thresholds: {errors: {floor: 0.02}}}\n"
    assert "thresholds of defaults make default-" in respond(text=text).reasons[1]
    judged = policy(text).explain(CART).judging.version
    assert respond(verdict(policy_version=judged), text).kind is Kind.ACT


@pytest.mark.parametrize("effect", ["ask", "page_only", "record_only"])
def test_a_hold_for_want_of_data_alone_may_be_made_quieter(effect: str) -> None:
    text = f"version: 1\ndefaults: {{without_data: {effect}}}\n"
    lacking = verdict(Action.HOLD, confidence=0.1, vetoes=(veto("not_enough_data"),))
    assert respond(lacking, text).kind.value == effect
    blamed = lacking.model_copy(update={"findings": (finding(1.5),)})
    assert respond(blamed, text).kind is Kind.ASK, "something speaks against the deployment"
    missing = lacking.model_copy(
        update={"vetoes": (veto("not_enough_data"), veto("source_missing"))}
    )
    assert respond(missing, text).kind is Kind.ASK, "a source failed: that is not want of data"


def test_an_all_clear_on_incomplete_evidence_is_none() -> None:
    found = respond(verdict(Action.NONE, evidence_complete=False))
    assert found.kind is Kind.PAGE and "not taken for an all-clear" in found.reasons[1]


def test_a_poor_record_over_all_services_takes_the_right_to_act_alone() -> None:
    assert respond(record=ChangeHistory(judged=13, right=0)).kind is Kind.ACT
    assert respond(record=ChangeHistory(judged=14, right=14)).kind is Kind.ACT
    found = respond(record=ChangeHistory(judged=14, right=12))
    assert found.kind is Kind.ASK and "12 of 14" in found.reasons[1]


# Each condition with its values from the mildest to the strictest.
AXES: dict[str, list[Any]] = {
    "automatic": ["verdict", "ask", "never"],
    "quiet": ["", "ask", "page_only", "record_only"],
    "frozen": [None, FREEZE],
    "per_hour": [3, 1, 0],
    "history": [[], [act(50, SEARCH)], [act(50, SEARCH), act(5)]],
    "breaker": [Breaker(), Breaker(is_open=True)],
    "asked_confidence": [0.8, 0.9, 0.99],
    "confidence": [0.97, 0.85, 0.79, 0.1],
    "complete": [True, False],
    "own_rules": [True, False],
    "vetoes": [(), (veto("recovered"),)],
    "age_s": [0, 900],
    "record": [None, ChangeHistory(judged=20, right=12)],
}
PLACES = {name: some.integers(0, len(values) - 1) for name, values in AXES.items()}


def at(places: dict[str, int], action: Action) -> Response:
    here = {name: AXES[name][place] for name, place in places.items()}
    quiet = here["quiet"] and (
        f"quiet_hours: [{{from: 00:00, to: 24:00, timezone: UTC, effect: {here['quiet']}}}]\n"
    )
    text = (
        f"version: 1\ndefaults:\n  automatic: {here['automatic']}\n"
        f"  thresholds: {{limits: {{automatic_confidence: {here['asked_confidence']}}}}}\n"
        f"limits: {{rollbacks_per_hour: {here['per_hour']}}}\n{quiet}"
    )
    said = verdict(
        action,
        confidence=here["confidence"],
        evidence_complete=here["complete"],
        automatic=here["own_rules"],
        vetoes=here["vetoes"],
        decided_at=NOW - timedelta(seconds=here["age_s"]),
    )
    return respond(
        said,
        text,
        frozen=here["frozen"],
        history=here["history"],
        breaker=here["breaker"],
        record=here["record"],
    )


@given(some.fixed_dictionaries(PLACES), some.sampled_from(sorted(AXES)), some.integers(1, 3))
@settings(deadline=None, max_examples=150)
def test_a_stricter_condition_never_does_more(
    places: dict[str, int], axis: str, steps: int
) -> None:
    stricter = places | {axis: min(places[axis] + steps, len(AXES[axis]) - 1)}
    mild, strict = at(places, Action.ROLL_BACK).kind, at(stricter, Action.ROLL_BACK).kind
    assert ORDER.index(strict) <= ORDER.index(mild)


@given(some.fixed_dictionaries(PLACES), some.sampled_from(list(Action)))
@settings(deadline=None, max_examples=150)
def test_it_acts_only_if_everything_allows_it(places: dict[str, int], action: Action) -> None:
    found = at(places, action)
    here = {name: AXES[name][place] for name, place in places.items()}
    if found.kind is Kind.ACT:
        assert action is Action.ROLL_BACK and here["frozen"] is None and here["complete"]
        assert here["confidence"] >= max(0.8, here["asked_confidence"])
        assert here["own_rules"] and not here["vetoes"] and here["automatic"] == "verdict"
        assert not here["breaker"].is_open and not here["quiet"]
    assert found.reasons and all(r.endswith(".") for r in found.reasons)
    assert (found.deadline is not None) is (found.kind is Kind.ASK)


def test_a_probability_that_is_no_number_never_acts() -> None:
    said = verdict().model_copy(update={"confidence": float("nan")})
    assert respond(said).kind is Kind.ASK


def test_the_same_facts_give_the_same_response() -> None:
    moment: datetime = NOW
    assert respond(now=moment, frozen=FREEZE) == respond(now=moment, frozen=FREEZE)


def test_what_has_passed_by_itself_is_written_down_and_wakes_nobody() -> None:
    held = verdict(Action.HOLD, vetoes=(veto("not_sustained"),), findings=(finding(1.5),))
    over = held.model_copy(update={"passed": True})
    assert respond(held).kind is Kind.ASK
    assert (respond(over).kind, respond(over).wakes) == (Kind.RECORD, False)
    assert any("passed by itself" in reason for reason in respond(over).reasons)


@pytest.mark.parametrize("code", ["several_services", "source_missing", "new_vulnerability"])
def test_what_passed_does_not_hide_what_else_is_wrong(code: str) -> None:
    held = verdict(Action.HOLD, vetoes=(veto(code), veto("not_sustained")), passed=True)
    assert respond(held).kind is Kind.ASK
