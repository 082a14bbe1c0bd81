from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_devops.model.action import ActionPlan
from mcp_devops.model.arms import headline, summarise
from mcp_devops.model.change import ChangeArea, TemplateDifference
from mcp_devops.model.evidence import Arm, Bucket, RequestSeries
from mcp_devops.model.record import Moment, Record, canonical_json, digest
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.model.window import Window, WindowRule, Windows, windows_around

T0 = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
MOMENTS = st.integers(0, 4_000_000_000_000_000).map(lambda us: T0 + timedelta(microseconds=us))
RULES = st.builds(
    WindowRule,
    baseline_s=st.floats(60, 86_400),
    buffer_s=st.floats(0, 86_400),
    grace_s=st.floats(0, 3600),
    step_s=st.floats(5, 3600),
)


class Lamp(Record):
    """A lamp."""

    name: str
    """Its name."""
    seen: Moment | None = None
    """When."""


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


# --- Record


def test_a_record_takes_no_unknown_field_and_does_not_repeat_its_value() -> None:
    with pytest.raises(ValidationError) as refused:
        Lamp.model_validate({"name": "x", "pasword": "hunter2"})
    assert "pasword" in str(refused.value) and "hunter2" not in str(refused.value)


def test_a_record_cannot_be_changed() -> None:
    lamp = Lamp(name="x")
    with pytest.raises(ValidationError):
        lamp.name = "y"  # type: ignore[misc]  # the point
    assert lamp.model_copy(update={"name": "y"}).name == "y"


def test_a_time_without_a_zone_is_refused() -> None:
    for value in (T0.replace(tzinfo=None), "2026-03-01T03:00:00"):
        with pytest.raises(ValidationError):
            Lamp.model_validate({"name": "x", "seen": value})


def test_a_time_with_any_zone_is_kept_and_written_with_it() -> None:
    tokyo = timezone(timedelta(hours=9))
    lamp = Lamp(name="x", seen=datetime(2026, 3, 1, 12, tzinfo=tokyo))
    assert lamp.seen == T0
    assert Lamp.model_validate_json(lamp.model_dump_json()) == lamp


def test_a_fields_docstring_is_its_description() -> None:
    assert Lamp.model_fields["name"].description == "Its name."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=6))
def test_a_digest_does_not_depend_on_the_order_of_keys(data: dict[str, Any]) -> None:
    turned = dict(reversed(data.items()))
    assert digest(turned) == digest(data)
    assert json.loads(canonical_json(data)) == data


@given(JSON, JSON)
def test_different_data_have_different_digests(one: Any, other: Any) -> None:
    assume(canonical_json(one) != canonical_json(other))
    assert digest(one) != digest(other)


# --- Windows


@given(deployed=MOMENTS, age=st.floats(-86_400, 7 * 86_400), rule=RULES)
def test_windows_never_straddle_the_deployment(
    deployed: datetime, age: float, rule: WindowRule
) -> None:
    now = deployed + timedelta(seconds=age)
    windows = windows_around(deployed, now, rule)
    if windows is None:
        assert age < rule.grace_s + rule.step_s + 1e-3
        return
    assert windows.baseline.end <= deployed <= windows.after.start
    assert windows.after.end <= now + timedelta(microseconds=1)
    assert windows.baseline.seconds == pytest.approx(rule.baseline_s, abs=1e-3)
    steps = windows.after.seconds / rule.step_s
    assert steps == pytest.approx(round(steps), abs=1e-3) and round(steps) >= 1
    assert not windows.baseline.contains(deployed)


def test_before_one_whole_step_has_passed_there_are_no_windows() -> None:
    rule = WindowRule(grace_s=180, step_s=60)
    assert windows_around(T0, after(239.9), rule) is None
    assert windows_around(T0, after(-5), rule) is None
    found = windows_around(T0, after(240), rule)
    assert found is not None and (found.after.start, found.after.end) == (after(180), after(240))


def test_a_window_holds_its_start_and_not_its_end() -> None:
    window = Window(start=T0, end=after(60))
    assert window.contains(T0) and not window.contains(after(60))
    assert window.seconds == 60


@pytest.mark.parametrize("end", [0, -1])
def test_a_window_that_does_not_end_after_it_starts_is_refused(end: float) -> None:
    with pytest.raises(ValidationError):
        Window(start=T0, end=after(end))


@pytest.mark.parametrize(
    ("baseline", "later"), [((-60, 1), (1, 60)), ((-60, 0), (-1, 60)), ((-60, 30), (-30, 60))]
)
def test_windows_that_straddle_are_refused_however_they_came_about(
    baseline: tuple[float, float], later: tuple[float, float]
) -> None:
    with pytest.raises(ValidationError):
        Windows(
            deployed_at=T0,
            baseline=Window(start=after(baseline[0]), end=after(baseline[1])),
            after=Window(start=after(later[0]), end=after(later[1])),
        )


# --- Targets


def test_a_workload_names_itself_as_people_do() -> None:
    assert str(Workload(namespace="shop", name="cart")) == "Deployment shop/cart"
    assert [k.resource for k in WorkloadKind] == ["deployments", "statefulsets", "daemonsets"]


# --- Plans

PLAN = ActionPlan(
    tool="kubernetes_roll_back",
    target=Workload(cluster="prod", namespace="shop", name="cart"),
    uid="uid-1",
    from_revision=8,
    from_template_hash="aaa",
    to_revision=7,
    to_template_hash="bbb",
    parameters={"grace": "30"},
    verdict_id="v-1",
    incident_id="inc-1",
    summary="Roll cart back to 7",
)
WORDING: dict[str, Any] = {
    "summary": "other words",
    "reason": "because",
    "differences": (
        TemplateDifference(area=ChangeArea.IMAGE, path="image", before="a", after="b"),
    ),
    "warnings": ("look out",),
    "confidence": 0.9,
    "evidence_complete": True,
    "automatic_allowed": True,
}
OUTCOME: dict[str, Any] = {
    "tool": "kubernetes_restart_pods",
    "target": Workload(cluster="test", namespace="shop", name="cart"),
    "uid": "uid-2",
    "from_revision": None,
    "from_template_hash": "ccc",
    "to_revision": 6,
    "to_template_hash": None,
    "parameters": {"grace": "31"},
    "verdict_id": None,
    "incident_id": "inc-2",
}


def test_every_field_of_a_plan_is_either_wording_or_outcome() -> None:
    assert set(WORDING) | set(OUTCOME) == set(ActionPlan.model_fields)


@pytest.mark.parametrize("field", sorted(WORDING))
def test_a_plans_digest_does_not_depend_on_its_wording(field: str) -> None:
    changed = PLAN.model_copy(update={field: WORDING[field]})
    assert changed != PLAN and changed.digest == PLAN.digest


@pytest.mark.parametrize("field", sorted(OUTCOME))
def test_a_plans_digest_depends_on_all_that_decides_the_outcome(field: str) -> None:
    assert PLAN.model_copy(update={field: OUTCOME[field]}).digest != PLAN.digest


@pytest.mark.parametrize(
    "change", [{"namespace": "shop2"}, {"kind": WorkloadKind.STATEFUL_SET}, {"name": "carts"}]
)
def test_a_plans_digest_depends_on_every_part_of_the_target(change: dict[str, Any]) -> None:
    moved = PLAN.model_copy(update={"target": PLAN.target.model_copy(update=change)})
    assert moved.digest != PLAN.digest


# --- Arms


def series(arm: Arm, *buckets: dict[str, float | None], step: float = 60) -> RequestSeries:
    return RequestSeries(
        source="prometheus",
        service="cart",
        arm=arm,
        step_s=step,
        buckets=tuple(Bucket(start=after(n * step), **b) for n, b in enumerate(buckets)),
    )


def test_an_arm_without_data_has_no_numbers_rather_than_zeros() -> None:
    for found in (summarise(series(Arm.AFTER)), summarise(series(Arm.AFTER, {}, {}))):
        numbers = (found.requests, found.errors, found.error_rate, found.p99_ms, found.slow_share)
        assert numbers == (None,) * 5
        assert found.buckets_with_data == 0


def test_requests_without_errors_known_have_no_error_rate() -> None:
    found = summarise(series(Arm.AFTER, {"requests": 100}, {"requests": 50}))
    assert (found.requests, found.errors, found.error_rate) == (150, None, None)


def test_an_error_rate_counts_only_buckets_that_know_both() -> None:
    found = summarise(
        series(
            Arm.AFTER,
            {"requests": 100, "errors": 10},
            {"requests": 900},
            {"errors": 5},
        )
    )
    assert (found.requests, found.errors) == (1000, 10)
    assert found.error_rate == pytest.approx(0.1)


def test_no_requests_at_all_is_no_error_rate() -> None:
    found = summarise(series(Arm.AFTER, {"requests": 0, "errors": 0, "slow": 0}))
    assert (found.requests, found.error_rate) == (0, None)


def test_the_p99_of_an_arm_is_the_median_of_those_it_has() -> None:
    found = summarise(series(Arm.NEW, {"p99_ms": 100}, {}, {"p99_ms": 300}, {"p99_ms": 110}))
    assert found.p99_ms == 110


def test_a_baseline_counts_only_inside_its_window() -> None:
    windows = Windows(
        deployed_at=after(600),
        baseline=Window(start=after(60), end=after(180)),
        after=Window(start=after(600), end=after(660)),
    )
    buckets: list[dict[str, float | None]] = [
        {"requests": 10.0, "errors": float(n)} for n in range(5)
    ]
    whole = summarise(series(Arm.BASELINE, *buckets))
    inside = summarise(series(Arm.BASELINE, *buckets), windows)
    other = summarise(series(Arm.CONTROL, *buckets), windows)
    assert (whole.requests, inside.requests, other.requests) == (50, 20, 50)
    assert inside.errors == 3 and inside.buckets == 2


NUMBER = st.none() | st.floats(0, 1e6)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"requests": NUMBER, "errors": NUMBER, "slow": NUMBER, "p99_ms": NUMBER}
        ),
        max_size=8,
    )
)
def test_no_series_makes_a_number_out_of_nothing(buckets: list[dict[str, float | None]]) -> None:
    found = summarise(series(Arm.AFTER, *buckets))
    assert found.buckets == len(buckets)
    assert (found.requests is None) == all(b["requests"] is None for b in buckets)
    if found.error_rate is not None:
        assert any(b["errors"] is not None for b in buckets) and any(b["requests"] for b in buckets)
    assert found.buckets_with_data <= found.buckets


def test_a_headline_compares_what_is_there_and_names_what_is_not() -> None:
    before = summarise(series(Arm.BASELINE, {"requests": 1000, "errors": 1, "p99_ms": 100}))
    later = summarise(series(Arm.AFTER, {"requests": 1000, "errors": 100, "p99_ms": 300}))
    said = headline("cart", {Arm.BASELINE: before, Arm.AFTER: later})
    assert "cart" in said and "10" in said
    nothing = summarise(series(Arm.AFTER))
    said = headline("cart", {Arm.BASELINE: before, Arm.AFTER: nothing})
    assert said.count("no data") == 2 and "p99 100 ms" in said


def test_a_headline_compares_the_revisions_where_both_have_requests() -> None:
    arms = {arm: summarise(series(arm, {"requests": 100, "errors": 1})) for arm in Arm}
    assert "old revision" in headline("cart", arms)
    silent = arms | {Arm.NEW: summarise(series(Arm.NEW, {"requests": 0}))}
    assert "before" in headline("cart", silent)
