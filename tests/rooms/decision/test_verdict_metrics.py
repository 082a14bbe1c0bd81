"""Verdicts from request series."""

from __future__ import annotations

import pytest

from mcp_devops.decision import ChangeHistory, Policy, decide
from mcp_devops.model.change import Change, ChangeArea
from mcp_devops.model.evidence import Arm, DiagnosticContext, RolloutClass
from mcp_devops.model.verdict import Action, Cause, Verdict
from tests.support import evidence as ev

POLICY = Policy()
QUIET = [1.0] * 10
BAD = [120.0] * 10
HEALTHY = ev.rollout(RolloutClass.HEALTHY, ev.pods(4))
FINE_NEIGHBOURS = [ev.neighbour(n, sick=False) for n in ("cart", "payment", "search")]


def judge(
    context: DiagnosticContext, now_s: float = 600, prior: ChangeHistory | None = None
) -> Verdict:
    return decide(context, POLICY, ev.seconds(now_s), prior=prior)


def codes(verdict: Verdict) -> set[str]:
    return {veto.code for veto in verdict.vetoes}


def test_errors_on_the_new_revision_only_are_rolled_back_alone() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(), ev.after(Arm.CONTROL, QUIET), ev.after(Arm.NEW, BAD), rollout=HEALTHY
        )
    )
    assert (verdict.action, verdict.automatic) == (Action.ROLL_BACK, True)
    assert verdict.cause is Cause.NEW_CODE
    assert verdict.confidence == pytest.approx(0.9091, abs=5e-5)
    assert verdict.headline == (
        "Roll Deployment shop/checkout back from revision 42 to 41: 12.0% of the new revision's "
        "requests fail, 0.1% of the old one's (91% sure)."
    )


def test_errors_and_p99_after_the_deployment_are_the_named_regression() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(p99_ms=[400, 410, 395] * 10), ev.after(Arm.AFTER, BAD, p99_ms=[900.0] * 10)
        )
    )
    assert verdict.finding_name == "deployment_induced_regression"
    assert (verdict.action, verdict.confidence, verdict.automatic) == (Action.ROLL_BACK, 0.9, True)
    assert any("same minutes" in line for line in verdict.would_change)
    assert verdict.headline.endswith(
        "12.0% of its requests fail, 0.1% did before, and latency is 2.2 times as high (90% sure)."
    )


def test_the_users_rule_of_five_and_ten_per_cent_is_enough_with_enough_requests() -> None:
    before = ev.baseline([500.0] * 30, 10_000, p99_ms=[400, 410, 395] * 10)
    now = ev.after(Arm.AFTER, [580.0] * 10, 10_000, p99_ms=[460.0] * 10)
    verdict = judge(ev.context(before, now))
    assert verdict.finding_name == "deployment_induced_regression"
    assert verdict.action is Action.ROLL_BACK


def test_a_modest_rise_of_errors_alone_is_held() -> None:
    before = ev.baseline([500.0] * 30, 10_000, p99_ms=[400, 410, 395] * 10)
    now = ev.after(Arm.AFTER, [580.0] * 10, 10_000, p99_ms=[400.0] * 10)
    verdict = judge(ev.context(before, now))
    assert verdict.finding_name is None
    assert verdict.action is Action.HOLD


def test_errors_against_the_past_alone_stay_a_candidate_for_a_person() -> None:
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, BAD)))
    assert verdict.action is Action.HOLD
    assert verdict.confidence == pytest.approx(0.6906, abs=5e-5)
    assert "by version" in verdict.ask_next


def test_the_recorded_query_is_offered_for_the_comparison_by_version() -> None:
    asked = ev.after(Arm.AFTER, BAD).model_copy(update={"queries": ("sum(rate(x[1m]))",)})
    assert "sum(rate(x[1m]))" in judge(ev.context(ev.baseline(), asked)).ask_next


def test_healthy_neighbours_make_errors_against_the_past_enough() -> None:
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, BAD), neighbours=FINE_NEIGHBOURS))
    assert verdict.action is Action.ROLL_BACK
    assert verdict.confidence == pytest.approx(0.8180, abs=5e-5)


def test_healthy_neighbours_say_nothing_about_a_rise_below_a_point() -> None:
    verdict = judge(
        ev.context(ev.baseline(), ev.after(Arm.AFTER, [8.0] * 10), neighbours=FINE_NEIGHBOURS)
    )
    assert verdict.action is Action.HOLD


@pytest.mark.parametrize("spike", [[90.0] + [1.0] * 9, [1.0] * 4 + [90.0] + [1.0] * 5])
def test_a_spike_of_one_bucket_is_not_rolled_back(spike: list[float]) -> None:
    alone = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, spike)))
    beside = judge(
        ev.context(ev.baseline(), ev.after(Arm.CONTROL, QUIET), ev.after(Arm.NEW, spike))
    )
    assert alone.action is not Action.ROLL_BACK
    assert beside.action is not Action.ROLL_BACK


def test_a_rise_in_the_newest_bucket_only_waits_for_a_minute() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(), ev.after(Arm.CONTROL, [1.0]), ev.after(Arm.NEW, [120.0]), now_s=60
        ),
        now_s=60,
    )
    assert verdict.action is Action.HOLD
    assert "not_sustained" in codes(verdict)


def test_a_rise_in_the_newest_bucket_against_the_past_waits_too() -> None:
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, [1.0, 120.0]), now_s=120), 120)
    assert verdict.action is Action.HOLD
    assert "not_sustained" in codes(verdict)


def test_trouble_that_ended_by_itself_is_not_rolled_back() -> None:
    over = [120.0] * 5 + [1.0] * 5
    verdict = judge(
        ev.context(ev.baseline(), ev.after(Arm.CONTROL, QUIET), ev.after(Arm.NEW, over))
    )
    assert verdict.action is Action.HOLD
    assert codes(verdict) == {"recovered"}


def test_an_outage_of_both_revisions_is_upstream_and_held() -> None:
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.CONTROL, BAD), ev.after(Arm.NEW, BAD)))
    assert (verdict.action, verdict.cause) == (Action.HOLD, Cause.UPSTREAM)
    assert "both_revisions_sick" in codes(verdict)
    assert "dependency" in verdict.ask_next


def test_an_outage_of_both_revisions_is_held_even_with_slow_answers() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(p99_ms=[400, 410, 395] * 10),
            ev.after(Arm.CONTROL, BAD, p99_ms=[900.0] * 10),
            ev.after(Arm.NEW, BAD, p99_ms=[900.0] * 10),
            ev.after(Arm.AFTER, BAD, p99_ms=[900.0] * 10),
        )
    )
    assert (verdict.action, verdict.cause) == (Action.HOLD, Cause.UPSTREAM)


def test_a_new_revision_far_worse_than_a_suffering_old_one_is_rolled_back() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(), ev.after(Arm.CONTROL, [80.0] * 10), ev.after(Arm.NEW, [400.0] * 10)
        )
    )
    assert verdict.action is Action.ROLL_BACK
    assert verdict.confidence == pytest.approx(0.8324, abs=5e-5)


def test_several_sick_services_are_upstream_and_held() -> None:
    sick = [ev.neighbour(n, sick=True) for n in ("cart", "payment")]
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, BAD), neighbours=sick))
    assert (verdict.action, verdict.cause) == (Action.HOLD, Cause.UPSTREAM)
    assert verdict.confidence == pytest.approx(0.3324, abs=5e-5)
    assert "dependency" in verdict.ask_next


def test_others_trouble_does_not_hold_a_service_that_shows_none() -> None:
    sick = [ev.neighbour(n, sick=True) for n in ("cart", "payment")]
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, QUIET), neighbours=sick))
    assert verdict.action is Action.NONE
    assert not verdict.vetoes


def test_one_sick_neighbour_or_one_that_deployed_is_no_outage() -> None:
    sick = [ev.neighbour("cart", sick=True), ev.neighbour("payment", sick=True, deployed=True)]
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, BAD), neighbours=sick))
    assert "several_services" not in codes(verdict)


def test_neighbours_that_suffer_from_a_new_revision_do_not_excuse_it() -> None:
    sick = [ev.neighbour(n, sick=True) for n in ("cart", "payment")]
    verdict = judge(
        ev.context(
            ev.baseline(), ev.after(Arm.CONTROL, QUIET), ev.after(Arm.NEW, BAD), neighbours=sick
        )
    )
    assert verdict.action is Action.ROLL_BACK


def test_latency_alone_never_rolls_back() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(p99_ms=[400, 410, 395] * 10, mean_ms=[90, 91, 92] * 10),
            ev.after(Arm.AFTER, QUIET, p99_ms=[700.0] * 10, mean_ms=[160.0] * 10),
        )
    )
    assert verdict.action is Action.HOLD
    assert "latency_alone" in codes(verdict)
    assert "Scaling events" in verdict.ask_next


def test_latency_alone_never_rolls_back_whatever_the_prior_and_without_error_counts() -> None:
    slow = ev.context(
        ev.series(Arm.BASELINE, ev.buckets(-2400, 60, mean_ms=[90, 91, 92] * 10)),
        ev.series(Arm.AFTER, ev.buckets(0, 60, mean_ms=[400.0] * 10)),
    )
    verdict = judge(slow, prior=ChangeHistory(deployments=100, failed=90))
    assert verdict.confidence > 0.8
    assert verdict.action is Action.HOLD


def test_latency_with_a_scaling_event_at_its_onset_is_infrastructure() -> None:
    slow = (
        ev.baseline(p99_ms=[400, 410, 395] * 10),
        ev.after(Arm.AFTER, QUIET, p99_ms=[400.0] * 3 + [700.0] * 7),
    )
    near = judge(ev.context(*slow, scaling=[ev.scaling(170)]))
    far = judge(ev.context(*slow, scaling=[ev.scaling(400)]))
    assert (near.action, near.cause) == (Action.HOLD, Cause.INFRASTRUCTURE)
    assert far.cause is not Cause.INFRASTRUCTURE
    assert near.confidence < far.confidence


def test_concurrent_latency_is_compared_by_ranks() -> None:
    verdict = judge(
        ev.context(
            ev.after(Arm.CONTROL, QUIET, p99_ms=[400, 410, 395, 405, 399, 401, 402, 403, 404, 400]),
            ev.after(Arm.NEW, BAD, p99_ms=[700, 710, 695, 705, 699, 701, 702, 703, 704, 700]),
        )
    )
    assert verdict.confidence == pytest.approx(0.9901, abs=5e-4)
    assert any(f.rule == "latency_concurrent" and f.weight == 2.3 for f in verdict.findings)


def test_slow_requests_are_counted_against_the_usual_edge() -> None:
    slow = judge(
        ev.context(ev.baseline(slow=[10.0] * 30), ev.after(Arm.AFTER, BAD, slow=[0.0] + [90.0] * 9))
    )
    assert any(f.group == "latency" and f.weight == 2.3 and f.counted for f in slow.findings)


def test_latency_that_was_hot_before_the_deployment_has_no_weight() -> None:
    before = ev.series(
        Arm.BASELINE, ev.buckets(-2400, 60, 1000, [1.0] * 40, p99_ms=[400.0] * 38 + [900.0] * 2)
    )
    verdict = judge(ev.context(before, ev.after(Arm.AFTER, QUIET, p99_ms=[900.0] * 10)))
    assert not [f for f in verdict.findings if f.group == "latency" and f.weight > 0]


def test_a_rise_that_began_before_the_deployment_is_not_its_doing() -> None:
    before = ev.series(Arm.BASELINE, ev.buckets(-2400, 60, 1000, [1.0] * 37 + [120.0] * 3))
    verdict = judge(ev.context(before, ev.after(Arm.AFTER, BAD)))
    assert verdict.action is Action.HOLD
    assert "onset_before_deployment" in codes(verdict)
    assert verdict.cause is not Cause.NEW_CODE


def test_a_late_onset_is_a_persons_decision() -> None:
    late = [1.0] * 17 + [300.0] * 6
    verdict = judge(
        ev.context(
            ev.baseline(),
            ev.after(Arm.CONTROL, [1.0] * 23),
            ev.after(Arm.NEW, late),
            now_s=1380,
        ),
        1380,
    )
    assert (verdict.action, verdict.automatic) == (Action.ROLL_BACK, False)
    assert codes(verdict) == {"onset_late"}


def test_a_late_onset_against_the_past_is_only_a_hypothesis() -> None:
    late = [1.0] * 17 + [300.0] * 6
    verdict = judge(
        ev.context(
            ev.baseline(p99_ms=[400, 410, 395] * 10),
            ev.after(Arm.AFTER, late, p99_ms=[900.0] * 23),
            now_s=1380,
        ),
        1380,
    )
    assert verdict.finding_name is None
    assert verdict.confidence == 0.9
    assert verdict.action is Action.HOLD


@pytest.mark.parametrize(("rivals", "expected"), [(1, 0.5274), (2, 0.4266), (9, 0.3324)])
def test_a_sick_service_that_deployed_too_takes_its_share_of_the_blame(
    rivals: int, expected: float
) -> None:
    others = [ev.neighbour(f"other-{i}", sick=True, deployed=True) for i in range(rivals)]
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, BAD), neighbours=others))
    assert verdict.confidence == pytest.approx(expected, abs=5e-5)


def test_a_new_revision_that_gets_no_request_is_evidence() -> None:
    pods = ev.rollout(RolloutClass.PROGRESSING, ev.pods(1), ev.pods(4, number=41))
    verdict = judge(
        ev.context(
            ev.baseline(),
            ev.after(Arm.CONTROL, QUIET, 50),
            ev.after(Arm.NEW, [0.0] * 10, 0),
            rollout=pods,
        )
    )
    assert verdict.confidence == pytest.approx(0.6463, abs=5e-5)
    assert any("about 125 were due" in f.says for f in verdict.findings)


@pytest.mark.parametrize(
    ("requests", "minutes"), [(1.0, 10), (50.0, 2)], ids=["too few due", "too short"]
)
def test_silence_needs_requests_that_were_due_for_long_enough(
    requests: float, minutes: int
) -> None:
    pods = ev.rollout(RolloutClass.PROGRESSING, ev.pods(1), ev.pods(4, number=41))
    verdict = judge(
        ev.context(
            ev.after(Arm.CONTROL, [0.0] * minutes, requests),
            ev.after(Arm.NEW, [0.0] * minutes, 0),
            rollout=pods,
        )
    )
    assert not [f for f in verdict.findings if f.rule == "silence" and f.weight]


def test_silence_of_both_is_trouble_upstream() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(), ev.after(Arm.CONTROL, [0.0] * 10, 0), ev.after(Arm.NEW, [0.0] * 10, 0)
        )
    )
    assert (verdict.action, verdict.cause) == (Action.HOLD, Cause.UPSTREAM)


def test_silence_of_the_whole_service_is_held() -> None:
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, [0.0] * 10, 0)))
    assert verdict.action is Action.HOLD


def test_nulls_of_a_source_are_not_silence() -> None:
    verdict = judge(
        ev.context(
            ev.after(Arm.CONTROL, QUIET, 50), ev.after(Arm.NEW, [None] * 10, None), rollout=HEALTHY
        )
    )
    assert not [f for f in verdict.findings if f.rule == "silence"]


def test_an_empty_answer_for_the_new_revision_is_silence_without_counts() -> None:
    verdict = judge(ev.context(ev.after(Arm.CONTROL, QUIET, 50), ev.series(Arm.NEW, ())))
    assert [f.weight for f in verdict.findings if f.rule == "silence"] == [2.8]


def test_enough_data_and_nothing_up_is_no_action() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(p99_ms=[400, 410, 395] * 10),
            ev.after(Arm.AFTER, QUIET, p99_ms=[402.0] * 10),
            rollout=HEALTHY,
        )
    )
    assert (verdict.action, verdict.cause) == (Action.NONE, Cause.NONE)
    assert verdict.confidence == pytest.approx(0.0100, abs=5e-5)
    assert "would not show" in verdict.would_change[0]
    assert not verdict.vetoes


def test_too_few_requests_are_said_with_the_rise_that_would_show() -> None:
    verdict = judge(ev.context(ev.baseline(requests=20), ev.after(Arm.AFTER, [0.0] * 10, 2)))
    assert verdict.action is Action.HOLD
    assert codes(verdict) == {"not_enough_data"}
    assert "-fold rise" in verdict.headline


def test_a_handful_of_requests_could_show_nothing() -> None:
    verdict = judge(ev.context(ev.baseline(requests=20), ev.after(Arm.AFTER, [0.0], 3)))
    assert "nothing short of total failure" in verdict.headline


def test_an_error_free_past_gives_the_rate_that_would_show() -> None:
    quiet = [0.0] * 30
    verdict = judge(ev.context(ev.baseline(quiet, 20), ev.after(Arm.AFTER, [0.0] * 10, 5)))
    assert "less than 10.0% errors" in verdict.headline


def test_a_new_version_whose_rate_is_surely_low_is_cleared_by_itself() -> None:
    few_old = ev.after(Arm.CONTROL, [0.0], 50)
    many_new = ev.after(Arm.NEW, [0.0] * 10, 225)
    better = ev.context(ev.baseline([34.0] * 30, 200), ev.after(Arm.AFTER, [0.0] * 10, 200))
    for found in (ev.context(ev.baseline(), few_old, many_new), better):
        assert judge(found).action is Action.NONE


def test_no_data_is_held_and_never_healthy() -> None:
    verdict = judge(ev.context(rollout=HEALTHY))
    assert verdict.action is Action.HOLD
    assert codes(verdict) == {"not_enough_data"}


def test_buckets_without_a_single_number_are_no_data() -> None:
    verdict = judge(ev.context(ev.baseline(requests=0), ev.after(Arm.AFTER, [0.0] * 10, 0)))
    assert verdict.action is Action.HOLD


def test_errors_and_p99_without_any_known_deployment_have_no_name() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(p99_ms=[400, 410, 395] * 10),
            ev.after(Arm.AFTER, BAD, p99_ms=[900.0] * 10),
            judged=None,
            windowed=False,
        )
    )
    assert verdict.finding_name is None


def test_a_short_baseline_is_no_baseline() -> None:
    verdict = judge(ev.context(ev.baseline([1.0] * 4), ev.after(Arm.AFTER, BAD)))
    assert verdict.action is Action.HOLD
    assert not [f for f in verdict.findings if f.group == "errors"]


def test_a_bucket_that_contains_the_deployment_or_is_not_whole_is_left_out() -> None:
    straddling = ev.series(Arm.AFTER, ev.buckets(-30, 60, 1000, [900.0]))
    unfinished = ev.series(Arm.AFTER, ev.buckets(590, 60, 1000, [900.0]))
    quiet = ev.after(Arm.AFTER, [1.0] * 9)
    with_both = judge(ev.context(ev.baseline(), quiet, straddling, unfinished))
    without = judge(ev.context(ev.baseline(), quiet))
    assert with_both.findings == without.findings


def test_a_source_that_lags_is_read_after_its_grace() -> None:
    def sentry(arm: Arm, start_s: float, errors: list[float]) -> DiagnosticContext:
        del arm
        return ev.context(
            ev.series(Arm.BASELINE, ev.buckets(-2400, 60, 1000, [1.0] * 30), source="sentry"),
            ev.series(Arm.AFTER, ev.buckets(start_s, 60, 1000, errors), source="sentry"),
        )

    early = judge(sentry(Arm.AFTER, 0, [120.0] * 3))
    later = judge(sentry(Arm.AFTER, 180, [120.0] * 3))
    assert not [f for f in early.findings if f.weight > 0]
    assert [f for f in later.findings if f.weight > 0]


def test_without_windows_the_change_splits_before_from_after() -> None:
    context = ev.context(ev.baseline(), ev.after(Arm.AFTER, BAD), windowed=False)
    assert judge(context).confidence == pytest.approx(0.6906, abs=5e-5)


def test_errors_without_requests_are_capped_and_held() -> None:
    verdict = judge(
        ev.context(
            ev.baseline([0.0, 1.0] * 15, None, p99_ms=[400, 410, 395] * 10),
            ev.after(Arm.AFTER, [30.0] * 10, None, p99_ms=[900.0] * 10),
        )
    )
    assert (verdict.action, verdict.confidence) == (Action.HOLD, 0.7)
    assert any("requests unknown" in f.says for f in verdict.findings)


def test_no_errors_and_no_requests_are_no_all_clear() -> None:
    verdict = judge(
        ev.context(ev.baseline([1.0] * 30, None), ev.after(Arm.AFTER, [1.0] * 10, None))
    )
    assert verdict.action is Action.HOLD


def test_a_needed_source_that_failed_stops_a_verdict_from_metrics() -> None:
    bad = (ev.baseline(), ev.after(Arm.CONTROL, QUIET), ev.after(Arm.NEW, BAD))
    needed = judge(ev.context(*bad, missing=[ev.missing("kubernetes", needed=True)]))
    optional = judge(ev.context(*bad, missing=[ev.missing("sentry", needed=False)]))
    assert (needed.action, needed.evidence_complete) == (Action.HOLD, False)
    assert "kubernetes" in needed.ask_next
    assert (optional.action, optional.automatic) == (Action.ROLL_BACK, True)


@pytest.mark.parametrize(
    ("judged", "before", "action", "code"),
    [
        (ev.change(previous=None), False, Action.FIX_FORWARD, "no_previous_revision"),
        (ev.change(), True, Action.HOLD, "rolled_back_before"),
        (ev.change(ChangeArea.METADATA), False, Action.HOLD, "nothing_to_undo"),
        (
            ev.change(previous=ev.revision(41, template="template-42")),
            False,
            Action.HOLD,
            "nothing_to_undo",
        ),
        (None, False, Action.HOLD, "no_deployment"),
    ],
)
def test_a_rollback_needs_something_to_return_to(
    judged: Change | None, before: bool, action: Action, code: str
) -> None:
    verdict = judge(
        ev.context(
            ev.baseline(),
            ev.after(Arm.CONTROL, QUIET),
            ev.after(Arm.NEW, [400.0] * 10),
            judged=judged,
            rolled_back_before=before,
        )
    )
    assert verdict.action is action
    assert code in codes(verdict)
    assert not verdict.automatic


def test_a_revision_that_is_not_the_running_one_is_not_undone() -> None:
    moved = ev.rollout(RolloutClass.HEALTHY, ev.pods(4, number=43))
    verdict = judge(ev.context(ev.after(Arm.CONTROL, QUIET), ev.after(Arm.NEW, BAD), rollout=moved))
    assert verdict.action is Action.HOLD
    assert "revision_moved" in codes(verdict)


@pytest.mark.parametrize(("right", "automatic"), [(14, True), (13, False)])
def test_a_poor_record_takes_the_decision_away_from_the_machine(
    right: int, automatic: bool
) -> None:
    verdict = judge(
        ev.context(ev.after(Arm.CONTROL, QUIET), ev.after(Arm.NEW, BAD)),
        prior=ChangeHistory(judged=14, right=right),
    )
    assert verdict.action is Action.ROLL_BACK
    assert verdict.automatic is automatic


def test_thirty_judged_outcomes_make_a_probability_calibrated() -> None:
    context = ev.context(rollout=HEALTHY)
    assert judge(context, prior=ChangeHistory(judged=30, right=30)).calibrated
    assert not judge(context).calibrated


def test_a_stricter_policy_recommends_and_does_not_act() -> None:
    strict = Policy(limits=POLICY.limits.model_copy(update={"automatic_confidence": 0.95}))
    context = ev.context(ev.after(Arm.CONTROL, QUIET), ev.after(Arm.NEW, BAD))
    verdict = decide(context, strict, ev.seconds(600))
    assert (verdict.action, verdict.automatic) == (Action.ROLL_BACK, False)


def test_a_small_lasting_drop_between_revisions_is_held() -> None:
    verdict = judge(
        ev.context(ev.after(Arm.CONTROL, QUIET, 200), ev.after(Arm.NEW, [4.0] * 10, 200))
    )
    assert verdict.action is Action.HOLD
    assert 0.1 < verdict.confidence < 0.8
