"""Masks, differences and what a plan says: pure, on a recorded run and on hostile data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_devops.errors import NoData
from mcp_devops.integrations.terraform.client import Planned
from mcp_devops.integrations.terraform.plan import (
    changed_outputs,
    diagnostics,
    drifted_addresses,
    drifts,
    events,
    has_state,
    known_values,
    load,
)
from mcp_devops.integrations.terraform.plan_drift import judged
from mcp_devops.integrations.terraform.safety import PROTECTION
from mcp_devops.integrations.terraform.state import summarise
from mcp_devops.integrations.terraform.values import MAX_DEPTH, differences, masked, union
from mcp_devops.text.secrets import DEFAULT, Redactor
from mcp_devops.toolkit.answer import ResponseFormat

CASE = Path(__file__).parents[4] / "fixtures/terraform/drift"
EVENTS = (CASE / "events.ndjson").read_bytes()
PLAN: dict[str, Any] = json.loads((CASE / "plan.json").read_text(encoding="utf-8"))
STATE = (CASE / "state.json").read_bytes()
PASSWORD = "s3cr3t-" + "fake-9417"

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = st.sampled_from(["a", "b", "name", "value", "values", "root_module", "resources"])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=6,
    )


JSON = nested(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
)
MASK = nested(st.booleans() | st.none())


def changed(before: Any, after: Any, **masks: Any) -> list[tuple[str, str | None, str | None]]:
    change = {"before": before, "after": after, **masks}
    return [(c.path, c.before, c.after) for c in differences(change, DEFAULT)]


def test_the_recorded_drift_is_read_with_every_secret_masked() -> None:
    redactor = Redactor(known_values(PLAN))
    found = {d.address: d for d in drifts(PLAN, redactor)}
    assert set(found) == drifted_addresses(EVENTS) and len(found) == 3
    web = found["demo_service.web"]
    assert [(c.path, c.before, c.after) for c in web.changes] == [
        ("env", None, "url with [REDACTED:configured] inside"),
        ("image", "app:1.0", "app:0.9"),
        ("password", "[REDACTED:key]", "[REDACTED:key]"),
        ("replicas", "3", "1"),
    ]
    gone = found['demo_service.worker["b"]']
    assert gone.action == "delete" and gone.changes == ()
    assert found["module.cache.demo_service.redis"].module == "module.cache"
    assert PASSWORD not in str(found) and PASSWORD[::-1] not in str(found)
    assert has_state(PLAN) and changed_outputs(PLAN) == [] and diagnostics(EVENTS) == []


def told(plan: dict[str, Any], places: Any = None, **more: Any) -> dict[str, Any]:
    planned = Planned(more.get("events", EVENTS), plan, "terraform", "1.11.4")
    return judged(
        planned, drifts(plan, DEFAULT), places, DEFAULT, "shop", ResponseFormat.CONCISE
    )  # fmt: skip


def test_the_report_ranks_by_weight_and_says_its_limits() -> None:
    report = told(PLAN, {("", "demo_service", "web"): "main.tf:17"})
    assert [r.declared_at for r in report["drifted"] if r.address == "demo_service.web"] == [
        "main.tf:17"
    ]
    assert report["notes"] == (PROTECTION,) and report["areas"]["image"] == 1
    assert "extra" in told(PLAN)["notes"][-1]
    assert "not complete" in told({**PLAN, "complete": False})["notes"][1]
    assert "The event lines name 0" in told(PLAN, events=b"")["notes"][1]
    many = {**PLAN, "resource_drift": PLAN["resource_drift"] * 10}
    assert told(many)["notes"][-1] == "10 lighter resources are not listed."
    assert len(told(many)["drifted"]) == 20 and told(many)["total"] == 30
    assert told({**PLAN, "resource_drift": []})["headline"].startswith("No drift in shop")


def test_a_plan_of_no_state_is_no_data() -> None:
    with pytest.raises(NoData):
        told({**PLAN, "resource_drift": [], "prior_state": {}})


def test_a_mask_on_either_side_hides_both_values() -> None:
    assert changed({"a": "one"}, {"a": "two"}, before_sensitive={"a": True}) == [
        ("a", "(sensitive)", "(sensitive)")
    ]
    assert changed({"a": "one"}, None, before_sensitive={"a": True}, after_sensitive=False) == [
        ("a", "(sensitive)", None)
    ]
    assert changed({"l": [1, 2]}, {"l": [1, 3]}, after_sensitive={"l": [False, True]}) == [
        ("l[1]", "(sensitive)", "(sensitive)")
    ]


def test_a_mask_that_does_not_fit_its_value_hides_all_of_it() -> None:
    assert changed([1], [2], before_sensitive={"a": True}) == [
        ("(whole)", "(sensitive)", "(sensitive)")
    ]
    masks = {"before_sensitive": {"a": [True]}, "after_sensitive": {"a": {"b": True}}}
    assert changed({"a": [1]}, {"a": {"b": 2}}, **masks) == [("a", "(sensitive)", "(sensitive)")]


def test_equal_sensitive_values_are_no_difference() -> None:
    assert changed({"a": "x"}, {"a": "x"}, after_sensitive={"a": True}) == []


def test_secret_names_and_shapes_are_masked_without_a_mark() -> None:
    assert changed({"db_password": "hunter2-old"}, {"db_password": "hunter2-new"}) == [
        ("db_password", "[REDACTED:key]", "[REDACTED:key]")
    ]
    key = "AKIA" + "Q" * 16
    assert key not in str(changed({"note": "x"}, {"note": f"uses {key}"}))


def test_json_in_a_string_is_compared_and_masked_by_its_structure() -> None:
    def container(image: str, secret: str) -> dict[str, str]:
        env = [{"name": "DB_PASSWORD", "value": secret}]
        return {"container_definitions": json.dumps([{"image": image, "environment": env}])}

    found = changed(container("app:1", "hunter2-aa"), container("app:2", "hunter2-bb"))
    assert found == [
        ("container_definitions[0].environment[0].value", "[REDACTED:env]", "[REDACTED:env]"),
        ("container_definitions[0].image", "app:1", "app:2"),
    ]


def test_broken_and_abysmal_json_in_a_string_stays_a_string() -> None:
    deep = "[" * 500 + "]" * 500
    assert changed({"a": "{no"}, {"a": deep})[0][1] == "{no"


def test_encoded_blobs_are_told_by_length_only() -> None:
    assert changed({"user_data": "QUJD" * 40}, {"user_data": "REVG" * 40}) == [
        ("user_data", "[160 encoded characters]", "[160 encoded characters]")
    ]


def test_numbers_and_booleans_are_told_apart_and_structure_may_appear_or_vanish() -> None:
    assert changed({"a": 1, "b": 1}, {"a": 1.0, "b": True}) == [("b", "1", "true")]
    assert changed({"a": None}, {"a": {"x": [1]}}) == [("a.x", None, "[1]")]
    assert changed("x", {"a": 1}) == [("(whole)", "x", '{"a": 1}')]


def test_escapes_do_not_survive() -> None:
    assert changed({"a": "x"}, {"a": "\x1b[31mred\x1b[0m"}) == [("a", "x", "red")]


def test_what_is_nested_too_deep_is_hidden_rather_than_shown() -> None:
    value: Any = "hidden-value"
    mask: Any = True
    for _ in range(MAX_DEPTH + 5):
        value, mask = {"x": value}, {"x": mask}
    assert "hidden-value" not in str(masked(value, mask))
    assert "hidden-value" not in str(changed({"a": 1}, {"a": value}, after_sensitive={"a": mask}))


@calm
@given(JSON, JSON, MASK, MASK)
def test_any_pair_of_values_is_compared_without_an_error(b: Any, a: Any, m: Any, n: Any) -> None:
    found = changed(b, a, before_sensitive=m, after_sensitive=n)
    assert len(found) == 0 or b != a or isinstance(b, bool) != isinstance(a, bool)


@calm
@given(JSON, MASK, MASK)
def test_a_union_hides_at_least_what_each_mask_hides(value: Any, one: Any, other: Any) -> None:
    both = masked(value, union(one, other))
    assert masked(both, one) == both and masked(both, other) == both


@calm
@given(st.dictionaries(st.sampled_from(["resource_drift", "prior_state", "variables",
       "configuration", "output_changes", "complete"]), JSON, max_size=3))  # fmt: skip
def test_a_hostile_plan_is_read_without_an_error(plan: dict[str, Any]) -> None:
    assert isinstance(drifts(plan, Redactor(known_values(plan))), list)
    assert isinstance(has_state(plan), bool) and isinstance(changed_outputs(plan), list)


@calm
@given(JSON, JSON, MASK, JSON)
def test_hostile_drift_entries_are_read_without_an_error(b: Any, a: Any, m: Any, x: Any) -> None:
    change = {"actions": x, "before": b, "after": a, "before_sensitive": m, "after_sensitive": x}
    entry = {"address": "a.b", "type": x, "name": x, "module_address": x, "change": change}
    assert len(drifts({"resource_drift": [entry, x, {"address": x, "change": x}]}, DEFAULT)) <= 2


@calm
@given(st.binary(max_size=300))
def test_hostile_event_lines_are_skipped(raw: bytes) -> None:
    assert isinstance(list(events(raw)), list) and diagnostics(raw) == []


def test_stray_lines_between_events_are_skipped() -> None:
    raw = b"panic: oh\n" + EVENTS + b'\n{"type": "resource_drift", "change": 3}\n{broken\n[1]\n'
    assert drifted_addresses(raw) == drifted_addresses(EVENTS)
    assert load(b"[" * 100_000) is None


def test_entries_that_only_moved_and_data_sources_are_no_drift() -> None:
    moved = {"address": "a.b", "type": "a", "change": {"actions": ["no-op"], "after": {}}}
    data = {"address": "data.a.b", "mode": "data", "change": {"actions": ["update"], "after": {}}}
    assert drifts({"resource_drift": [moved, data]}, DEFAULT) == []


def test_changed_outputs_leave_no_ops_out() -> None:
    plan = {"output_changes": {"a": {"actions": ["no-op"]}, "b": {"actions": ["update"]}, "c": 1}}
    assert changed_outputs(plan) == ["b"]


def test_a_state_is_summarised_without_values() -> None:
    found = summarise(STATE)
    assert found is not None and found.serial and found.terraform_version == "1.11.4"
    assert found.types == {"demo_service": 4} and found.modules == {"root": 3, "module.cache": 1}
    assert found.outputs["pw"] == "(sensitive)" and PASSWORD not in found.model_dump_json()


def test_data_sources_and_tainted_instances_are_counted_apart() -> None:
    raw = {
        "version": 4, "serial": True,
        "resources": [
            {"mode": "data", "type": "d", "name": "x", "instances": [{}]},
            {"module": "module.m", "type": "t", "name": "n", "instances": [{"status": "tainted"}]},
        ],
        "outputs": {"db_password": {"value": "hunter2-plain"}, "n": {"value": [1]}, "z": 1},
    }  # fmt: skip
    found = summarise(json.dumps(raw).encode())
    assert found is not None and found.serial is None
    assert (found.resources, found.data_sources) == (1, 1)
    assert found.tainted == ("module.m.t.n",)
    assert found.outputs == {"db_password": "[REDACTED:key]", "n": "[1]", "z": "None"}


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"version": 3}', b"\xff"])
def test_what_is_no_state_has_no_summary(raw: bytes) -> None:
    assert summarise(raw) is None


@calm
@given(st.fixed_dictionaries({"version": st.just(4)}, optional={
    "resources": JSON, "outputs": JSON, "serial": JSON, "terraform_version": JSON}))  # fmt: skip
def test_a_hostile_state_is_summarised_without_an_error(state: dict[str, Any]) -> None:
    assert summarise(json.dumps(state).encode()) is not None
