from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from mcp_devops.decision.policy import Policy
from mcp_devops.model.target import Workload
from mcp_devops.model.window import WindowRule
from mcp_devops.response_policy.policy import Automatic, ResponsePolicy, Severity
from tests.support.response import CART, SEARCH, policy

TEAM = """version: 1
defaults:
  automatic: ask
  approval: {wait_minutes: 5, approvers: [ann]}
  page: {slack_channel: "#ops", email: [a@example.com, b@example.com]}
  observe: {baseline_minutes: 20}
  thresholds: {errors: {floor: 0.01, ratio: 2}}
scopes:
  - name: cart
    match: {namespaces: [shop], services: ["cart*"]}
    automatic: verdict
    page: {severity: warning, email: [c@example.com]}
    thresholds: {errors: {floor: 0.02}, latency: {slo_ms: 300}}
  - match: {namespaces: ["*"], clusters: [prod]}
    automatic: never
"""


def test_without_a_file_nothing_is_done_alone_and_a_person_is_asked() -> None:
    found = ResponsePolicy.built_in()
    explained = found.explain(CART)
    assert explained.rules.automatic is Automatic.ASK
    assert (explained.scope, explained.line, found.version) == ("defaults", None, "built in")
    assert explained.rules.page.pagerduty and explained.rules.resolve.pagerduty == "leave_open"


def test_the_first_scope_that_matches_applies_and_says_why() -> None:
    found = policy(TEAM).explain(CART)
    assert (found.scope, found.line) == ("cart", 9)
    assert found.why == ("Scope 1 of 2 is the first that fits: namespace shop, service cart*.")
    second = policy(TEAM).explain(SEARCH.model_copy(update={"cluster": "prod"}))
    assert (second.scope, second.line) == ("scope 2", 14)
    assert second.passed == ("cart (line 9): service search is not cart*",)


def test_where_no_scope_matches_the_defaults_apply_and_each_scope_says_what_does_not_fit() -> None:
    found = policy(TEAM).explain(SEARCH)
    assert (found.scope, found.line, found.why) == ("defaults", 2, "No scope matches it.")
    assert found.passed[1] == "scope 2 (line 14): cluster (current) is not prod"
    assert policy("version: 1\n").explain(SEARCH).why == "There are no scopes."


def test_a_scope_that_fits_everything_says_so() -> None:
    assert policy("version: 1\nscopes: [{match: {}}]\n").explain(CART).why.endswith("everything.")


def test_a_scope_lies_over_the_defaults_value_by_value_and_lists_are_replaced() -> None:
    rules = policy(TEAM).explain(CART).rules
    assert rules.automatic is Automatic.VERDICT
    assert (rules.approval.wait_minutes, rules.approval.approvers) == (5, ("ann",))
    assert (rules.page.slack_channel, rules.page.severity) == ("#ops", Severity.WARNING)
    assert rules.page.email == ("c@example.com",)
    assert rules.thresholds["errors"] == {"floor": 0.02, "ratio": 2}
    assert rules.thresholds["latency"] == {"slo_ms": 300}


def test_thresholds_and_windows_make_a_decision_policy_of_their_own() -> None:
    base = Policy(windows=WindowRule(baseline_s=600, buffer_s=60))
    found = policy(TEAM, base)
    judging = found.explain(CART).judging
    assert (judging.errors.floor, judging.errors.ratio, judging.latency.slo_ms) == (0.02, 2, 300)
    assert judging.windows == WindowRule(baseline_s=1200, buffer_s=60)
    assert judging.window_rule("sentry").baseline_s == 1200
    assert judging.window_rule("sentry").grace_s == 180, "the source's own lag stays"
    assert judging.version != base.version
    assert policy("version: 1\n", base).explain(CART).judging.version == base.version


def test_only_thresholds_beyond_the_confidence_ask_for_a_verdict_of_their_own() -> None:
    surer = "version: 1\ndefaults: {thresholds: {limits: {automatic_confidence: 0.9}}}\n"
    assert not policy(surer).explain(CART).rules.own_numbers
    assert policy(TEAM).explain(CART).rules.own_numbers


NAMES = some.text("ab*?", min_size=1, max_size=4)
PLAIN = some.text("ab", min_size=1, max_size=4)


@given(some.lists(NAMES, min_size=1, max_size=2), some.lists(NAMES, min_size=1, max_size=2), PLAIN)
def test_a_scope_is_refused_as_covered_only_if_it_really_never_applies(
    above: list[str], below: list[str], name: str
) -> None:
    from mcp_devops.response_policy.policy import Match

    wide, narrow = Match(namespaces=tuple(above)), Match(namespaces=tuple(below))
    target = Workload(namespace=name, name="x")
    if wide.covers(narrow) and not narrow.misses(target):
        assert not wide.misses(target)
