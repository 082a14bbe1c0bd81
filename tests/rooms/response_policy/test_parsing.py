from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mcp_devops.decision.policy import Limits as Caps
from mcp_devops.decision.policy import Policy
from mcp_devops.response_policy.parsing import MAX_BYTES, Rejected, parse_policy
from mcp_devops.response_policy.policy import Automatic, ResponsePolicy
from tests.support.response import CART, policy, problems

WRONG = """version: 1
defaults:
  automatic: sometimes
  aproval: {wait_minutes: 5}
scopes:
  - match: {namespaces: [shop], servces: [a]}
    automatic: verdct
    observe: {for_s: "90", step_s: 1}
    page: {pagerduty: yes, email: [nobody], slack_channel: foo}
  - automatic: ask
    approval: 3
quiet_hours:
  - {days: [mon, tues], from: 24:00, to: 6:00, timezone: Europe/Berln, effect: asks}
  - {from: 10:00, to: 10:00, timezone: ../etc/passwd, effect: ask}
limits: {rollbacks_per_hour: -1, breaker: x}
"""


def test_all_problems_are_told_at_once_each_with_its_place_and_what_is_valid() -> None:
    found = problems(WRONG)
    expected = [
        ("3:3", "defaults.automatic", "'never', 'ask' or 'verdict'"),
        ("4:3", "defaults.aproval", "Did you mean 'approval'? Valid here: automatic, "),
        ("6:33", "scopes[1].match.servces", "'services'? Valid here: namespaces, services"),
        ("7:5", "scopes[1].automatic", "Did you mean 'verdict'?"),
        ("8:15", "scopes[1].observe.for_s", "valid number"),
        ("8:28", "scopes[1].observe.step_s", "greater than or equal to 5"),
        ("9:12", "scopes[1].page.pagerduty", "true or false"),
        ("9:36", "scopes[1].page.email[1]", "e-mail"),
        ("9:45", "scopes[1].page.slack_channel", '"#name"'),
        ("10:5", "scopes[2].match", "is missing; valid here: "),
        ("11:5", "scopes[2].approval", "valid here: wait_minutes, approvers"),
        ("13:18", "quiet_hours[1].days[2]", "Did you mean 'tue'?"),
        ("13:25", "quiet_hours[1].from", "begins at 00:00"),
        ("13:38", "quiet_hours[1].to", "two digits"),
        ("13:48", "quiet_hours[1].timezone", "'Europe/Berlin'"),
        ("13:72", "quiet_hours[1].effect", "Did you mean 'ask'?"),
        ("14:30", "quiet_hours[2].timezone", "IANA"),
        ("15:10", "limits.rollbacks_per_hour", "greater than or equal to 0"),
        ("15:34", "limits.breaker", "'person' or 'window'"),
    ]
    told = dict(p.split(": ", 1) for p in found)
    for place, key, valid in expected:
        says = told.get(f"policy.yaml:{place}", "")
        assert key in says and valid in says, (place, key, found)
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1:1: The file is empty; valid here: version, defaults"),
        ("- version: 1\n", "1:1: The file is not a mapping"),
        ("scopes: []\n", "1:1: The key version is missing"),
        ("version: 2\n", "1:1: version: Write 1."),
        ("version: '1'\n", "1:1: version: Write 1."),
        ("version: 1\nversion: 1\n", "2:1: 'version' stands here twice"),
        (b"version: 1\n# \xff\n", "2:1: The file is not UTF-8"),
        ("version: 1\nscopes: {}\n", "2:1: scopes: Write a list"),
        ("version: 1\nscopes: [{match: {namespaces: []}}]\n", "list is empty"),
        ("version: 1\nscopes: [{match: {namespaces: [1]}}]\n", "Write text; put numbers"),
        ("version: 1\nscopes: [{match: {namespaces: ['a b']}}]\n", "can have this name"),
        ("version: 1\nlimits: {cooldown_minutes: true}\n", "valid number"),
        (
            "version: 1\nquiet_hours: [{from: 10:00, to: 10:00, timezone: UTC, effect: ask}]\n",
            "2:15: quiet_hours[1]: From and to are the same",
        ),
        ("version: 1\ndefaults: {thresholds: [a]}\n", "2:12: defaults.thresholds"),
        ("version: 1\ndefaults: {thresholds: {errors: {floor: high}}}\n", "valid number"),
        ("#" * (MAX_BYTES + 1), "more than 262,144"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(text: str | bytes, says: str) -> None:
    assert any(says in p for p in problems(text)), problems(text)


def test_a_value_is_not_repeated_for_it_may_be_a_secret() -> None:
    assert not any("hunter2" in p for p in problems("version: hunter2\ndefaults: hunter2\n"))


def test_thresholds_are_numbers_of_the_decision_policy_within_its_bounds() -> None:
    found = problems(
        """version: 1
scopes:
  - match: {namespaces: [shop]}
    thresholds:
      errors: {flor: 0.01, ratio: 100, least_errors: 5.5}
      weights: {fires: 4}
      tim: {}
"""
    )
    told = " ".join(found)
    assert re.search(r":5:16: .*errors\.flor\. Did you mean 'floor'\? Valid here: floor, ", told)
    assert ":5:28:" in told and "less than or equal to 10" in told
    assert ":5:40:" in told and "integer" in told
    assert ":6:7: The group scopes[1].thresholds.weights is set in the server's policy" in told
    assert "Did you mean 'time'?" in told


def test_a_threshold_that_counts_may_be_a_whole_number() -> None:
    text = "version: 1\ndefaults: {thresholds: {errors: {least_errors: 7, floor: 0.01}}}\n"
    judging = policy(text).explain(CART).judging
    assert (judging.errors.least_errors, judging.errors.floor) == (7, 0.01)


SURER = "version: 1\ndefaults: {{thresholds: {{limits: {{automatic_confidence: {}}}}}}}\n"


def test_the_confidence_to_act_alone_may_only_be_raised() -> None:
    assert policy(SURER.format(0.9)).explain(CART).judging.limits.automatic_confidence == 0.9
    assert "automatic_confidence" in problems(SURER.format(0.5))[0]
    strict = Policy(limits=Caps(automatic_confidence=0.95))
    assert "valid here: 0.95 to 0.999" in problems(SURER.format(0.9), strict)[0]
    scope = "scopes: [{match: {}, thresholds: {limits: {automatic_confidence: 0.85}}}]\n"
    (lower,) = problems(SURER.format(0.9) + scope)
    assert "policy.yaml:3:44: scopes[1]" in lower and "valid here: 0.9 to 0.999" in lower


def test_no_other_cap_may_be_set_at_all() -> None:
    (found,) = problems("version: 1\ndefaults: {thresholds: {limits: {right_share: 0.5}}}\n")
    assert "right_share cannot be set here; valid here: automatic_confidence" in found


@pytest.mark.parametrize(
    ("above", "below", "never_applies"),
    [
        ("{}", "{namespaces: [shop]}", True),
        ("{namespaces: [shop]}", "{}", False),
        ("{namespaces: [shop]}", "{namespaces: [shop]}", True),
        ("{namespaces: ['team-*']}", "{namespaces: [team-a], services: [x]}", True),
        ("{namespaces: ['team-*'], services: [x]}", "{namespaces: [team-a]}", False),
        ("{namespaces: ['team-*']}", "{namespaces: [team-a, shop]}", False),
        ("{namespaces: ['team-*']}", "{namespaces: ['team-a*']}", True),
        ("{namespaces: ['t?']}", "{namespaces: ['t*']}", False),
        ("{clusters: [prod]}", "{namespaces: [shop]}", False),
    ],
)
def test_a_scope_that_can_never_apply_is_refused(
    above: str, below: str, never_applies: bool
) -> None:
    text = f"version: 1\nscopes:\n  - match: {above}\n  - match: {below}\n"
    if never_applies:
        (found,) = problems(text)
        assert "4:5: Scope 2 never applies: scope 1 on line 3" in found
    else:
        policy(text)


def test_the_example_is_valid_and_shows_every_section() -> None:
    path = files("mcp_devops.response_policy").joinpath("example.yaml")
    found = parse_policy(path.read_bytes(), "example")
    assert isinstance(found, ResponsePolicy), found
    assert found.document.model_fields_set == set(type(found.document).model_fields)
    payment = CART.model_copy(update={"name": "payment-api"})
    assert found.explain(payment).rules.automatic is Automatic.NEVER


def test_versions_follow_the_content() -> None:
    one, two = policy("version: 1\n"), policy("version: 1 # the same\n")
    assert one.version != two.version and len(one.version) == 12
    assert one.version == policy("version: 1\n").version


@given(some.binary(max_size=300) | some.text(max_size=200).map(str.encode))
@settings(deadline=None)
def test_any_bytes_are_a_policy_or_are_refused_with_a_place(content: bytes) -> None:
    found = parse_policy(b"version: 1\n" + content, "p")
    if isinstance(found, Rejected):
        assert found.problems and all(re.match(r"p:\d+:\d+: ", p) for p in found.problems)


WORDS = some.sampled_from(
    ["version", "defaults", "scopes", "match", "automatic", "verdict", "ask", "thresholds",
     "errors", "floor", "namespaces", "quiet_hours", "limits", "page", "observe"]
)  # fmt: skip
TREES = some.recursive(
    some.none() | some.booleans() | some.integers(-5, 100) | some.floats(0, 1) | WORDS,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(WORDS, inner, max_size=4),
    max_leaves=15,
)


@given(some.dictionaries(WORDS, TREES, max_size=5))
@settings(deadline=None, max_examples=200)
def test_known_words_in_wrong_places_are_refused_with_a_place(tree: dict[str, object]) -> None:
    import json

    found = parse_policy(json.dumps({**tree, "version": 1}).encode(), "p")
    if isinstance(found, Rejected):
        assert all(re.match(r"p:1:\d+: ", p) for p in found.problems)


@pytest.mark.parametrize(
    ("approver", "says"),
    [
        ("@ann", "Slack user id"),
        ("<@U0ANN>", "Slack user id"),
        ("#oncall", "Slack user id"),
        ("Ann Smith", "name with spaces"),
        (" U0ANN ", "name with spaces"),
        ("ann@", "whole e-mail address"),
    ],
)
def test_an_approver_that_no_channel_can_vouch_for_is_refused_with_what_to_write(
    approver: str, says: str
) -> None:
    (found,) = problems(f"version: 1\ndefaults: {{approval: {{approvers: ['{approver}']}}}}\n")
    assert found.startswith("policy.yaml:2:35: defaults.approval.approvers[1]: ") and says in found


def test_every_kind_of_approver_that_a_channel_vouches_for_is_taken() -> None:
    listed = ("U0ANN", "ann@example.com", "ann", "uid 65532", "auth0|5f7c8ec7c33c6c004bbafe82")
    text = f"version: 1\ndefaults: {{approval: {{approvers: {list(listed)}}}}}\n"
    assert policy(text).explain(CART).rules.approval.approvers == listed


@pytest.mark.parametrize(
    "address", ["<ops@example.com>", "öps@example.com", "ops@ex..ample", "a" * 64 + "@" + "b" * 64]
)
def test_an_address_that_the_mail_client_would_refuse_is_refused_in_the_file(address: str) -> None:
    (found,) = problems(f"version: 1\ndefaults: {{page: {{email: ['{address}']}}}}\n")
    assert "defaults.page.email[1]: Write a plain e-mail address" in found


@pytest.mark.parametrize("match", ["namespaces: [Shop]", "namespaces: [a.b]", "services: [my_svc]"])
def test_a_scope_for_names_that_nothing_can_have_is_refused(match: str) -> None:
    (found,) = problems(f"version: 1\nscopes:\n  - match: {{{match}}}\n")
    assert "can have this name" in found and found.startswith("policy.yaml:3:")


def test_a_tab_is_called_a_tab() -> None:
    found = problems("version: 1\r\ndefaults:\r\n\tautomatic: ask\r\n")
    assert found == ("policy.yaml:3:1: This is not YAML: a tab stands here; indent with spaces.",)


def test_an_empty_list_is_told_once_and_a_list_of_wrong_items_is_not_called_empty() -> None:
    (empty,) = problems("version: 1\nscopes:\n  - match: {namespaces: []}\n")
    assert "The list is empty" in empty
    text = "{days: [Monday], from: 22:00, to: 23:00, timezone: UTC, effect: ask}"
    (wrong,) = problems(f"version: 1\nquiet_hours:\n  - {text}\n")
    assert "quiet_hours[1].days[1]" in wrong
