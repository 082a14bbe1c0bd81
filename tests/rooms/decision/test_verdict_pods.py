"""Verdicts from pod states, seen through the rollout's class."""

from __future__ import annotations

import pytest

from mcp_devops.decision import Policy, decide
from mcp_devops.model.change import Change, ChangeArea
from mcp_devops.model.evidence import (
    Arm,
    Missing,
    Neighbour,
    PodCause,
    RequestSeries,
    RevisionPods,
    RolloutClass,
    RolloutHealth,
)
from mcp_devops.model.verdict import Action, Cause, Verdict
from tests.support import evidence as ev

POLICY = Policy()
OLD = ev.pods(4, number=41)


def judge(
    rollout: RolloutHealth,
    *requests: RequestSeries,
    judged: Change | None = ev.NEW_IMAGE,
    missing: tuple[Missing, ...] = (),
    neighbours: tuple[Neighbour, ...] = (),
) -> Verdict:
    found = ev.context(
        *requests, rollout=rollout, judged=judged, missing=missing, neighbours=neighbours
    )
    return decide(found, POLICY, ev.seconds(600))


def codes(verdict: Verdict) -> set[str]:
    return {veto.code for veto in verdict.vetoes}


def failing(
    cause: PodCause, restarts: int = 0, failing: int = 1, exit_codes: tuple[int, ...] = ()
) -> RevisionPods:
    return ev.pods(0, failing, cause=cause, restarts=restarts, exit_codes=exit_codes)


@pytest.mark.parametrize(
    ("rollout_class", "new", "old"),
    [
        (RolloutClass.SURGE_ONLY_CRASH, failing(PodCause.CRASH_LOOP, 3), OLD),
        (RolloutClass.STALLED_ROLLOUT, failing(PodCause.CRASH_LOOP, 6), OLD),
        (RolloutClass.STALLED_ROLLOUT, failing(PodCause.IMAGE_PULL), OLD),
        (RolloutClass.SURGE_ONLY_CRASH, failing(PodCause.OOM_KILLED, 2), OLD),
        (RolloutClass.SURGE_ONLY_CRASH, failing(PodCause.PROBE, 2), OLD),
        (RolloutClass.SURGE_ONLY_CRASH, failing(PodCause.INIT_CONTAINER, 2), OLD),
        (RolloutClass.SURGE_ONLY_CRASH, failing(PodCause.EXITS_BY_ITSELF, 2), OLD),
        (RolloutClass.SURGE_ONLY_CRASH, failing(PodCause.CANNOT_START), OLD),
        (RolloutClass.NEVER_READY, failing(PodCause.NONE), OLD),
        (RolloutClass.FULL_OUTAGE, failing(PodCause.CRASH_LOOP, 4, failing=4), None),
        (RolloutClass.FULL_OUTAGE, failing(PodCause.IMAGE_PULL, failing=4), None),
        (
            RolloutClass.PARTIAL_OUTAGE,
            ev.pods(1, 2, cause=PodCause.CRASH_LOOP, restarts=5),
            ev.pods(1, number=41),
        ),
        (
            RolloutClass.CREEPING_OUTAGE,
            ev.pods(3, 1, cause=PodCause.CRASH_LOOP, restarts=3),
            ev.pods(1, number=41),
        ),
    ],
)
def test_a_new_revision_that_fails_while_the_old_did_not_is_rolled_back(
    rollout_class: RolloutClass, new: RevisionPods, old: RevisionPods | None
) -> None:
    verdict = judge(ev.rollout(rollout_class, new, old))
    assert (verdict.action, verdict.automatic) == (Action.ROLL_BACK, True)
    assert verdict.confidence >= 0.97
    assert verdict.cause is Cause.NEW_CODE
    never_started = (PodCause.IMAGE_PULL, PodCause.CANNOT_START)
    assert ("exist?" if new.cause in never_started else "kubernetes_tail_logs") in verdict.ask_next


@pytest.mark.parametrize(
    ("rollout_class", "at_s", "expected"),
    [
        (RolloutClass.FULL_OUTAGE, 25, Action.ROLL_BACK),
        (RolloutClass.PARTIAL_OUTAGE, 25, Action.ROLL_BACK),
        (RolloutClass.CREEPING_OUTAGE, 25, Action.ROLL_BACK),
        (RolloutClass.SURGE_ONLY_CRASH, 25, Action.HOLD),
        (RolloutClass.SURGE_ONLY_CRASH, 60, Action.ROLL_BACK),
    ],
)
@pytest.mark.parametrize("cause", [PodCause.CRASH_LOOP, PodCause.IMAGE_PULL])
def test_only_an_outage_need_not_wait_for_a_minute(
    rollout_class: RolloutClass, at_s: float, expected: Action, cause: PodCause
) -> None:
    verdict = judge(ev.rollout(rollout_class, failing(cause, 2), OLD, at_s=at_s))
    assert verdict.action is expected


def test_a_single_restart_is_no_crash_loop() -> None:
    once = failing(PodCause.CRASH_LOOP, 1)
    assert judge(ev.rollout(RolloutClass.FULL_OUTAGE, once, at_s=30)).action is Action.HOLD


@pytest.mark.parametrize(
    ("at_s", "deadline_exceeded", "expected"),
    [(90, False, Action.HOLD), (180, False, Action.ROLL_BACK), (90, True, Action.ROLL_BACK)],
)
def test_pods_that_never_turn_ready_get_the_time_of_a_slow_start(
    at_s: float, deadline_exceeded: bool, expected: Action
) -> None:
    slow = ev.rollout(
        RolloutClass.NEVER_READY,
        ev.pods(0, total=1),
        OLD,
        at_s=at_s,
        deadline_exceeded=deadline_exceeded,
    )
    assert judge(slow).action is expected


@pytest.mark.parametrize(
    ("rollout_class", "new", "old", "cause", "code"),
    [
        (
            RolloutClass.SAME_CRASH_ON_BOTH,
            failing(PodCause.CRASH_LOOP, 4),
            ev.pods(0, 3, number=41, restarts=9, cause=PodCause.CRASH_LOOP),
            Cause.UPSTREAM,
            "both_revisions_sick",
        ),
        (
            RolloutClass.PARTIAL_OUTAGE,
            failing(PodCause.CRASH_LOOP, 4, exit_codes=(1,)),
            ev.pods(1, 2, number=41, cause=PodCause.CRASH_LOOP, exit_codes=(1, 2)),
            Cause.UPSTREAM,
            "both_revisions_sick",
        ),
        (
            RolloutClass.NODE,
            ev.pods(3, 1, cause=PodCause.CRASH_LOOP, restarts=4),
            None,
            Cause.INFRASTRUCTURE,
            "infrastructure",
        ),
        (
            RolloutClass.STALLED_ROLLOUT,
            failing(PodCause.UNSCHEDULABLE),
            OLD,
            Cause.INFRASTRUCTURE,
            "infrastructure",
        ),
        (
            RolloutClass.STALLED_ROLLOUT,
            failing(PodCause.QUOTA),
            OLD,
            Cause.INFRASTRUCTURE,
            "infrastructure",
        ),
    ],
)
def test_failures_that_are_not_the_deployments_are_held(
    rollout_class: RolloutClass,
    new: RevisionPods,
    old: RevisionPods | None,
    cause: Cause,
    code: str,
) -> None:
    verdict = judge(ev.rollout(rollout_class, new, old))
    assert (verdict.action, verdict.cause) == (Action.HOLD, cause)
    assert code in codes(verdict)
    assert verdict.confidence < 0.1


def test_old_pods_that_fail_otherwise_do_not_excuse_the_new_ones() -> None:
    new = ev.pods(0, 2, cause=PodCause.CRASH_LOOP, restarts=5, exit_codes=(139,))
    old = ev.pods(2, 1, number=41, cause=PodCause.CRASH_LOOP, exit_codes=(1,))
    assert judge(ev.rollout(RolloutClass.PARTIAL_OUTAGE, new, old)).action is Action.ROLL_BACK


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        (ChangeArea.ENVIRONMENT, Action.ROLL_BACK),
        (ChangeArea.VOLUMES, Action.ROLL_BACK),
        (ChangeArea.IMAGE, Action.HOLD),
    ],
)
def test_a_missing_key_is_undone_only_if_the_template_began_to_ask_for_it(
    area: ChangeArea, expected: Action
) -> None:
    stalled = ev.rollout(RolloutClass.STALLED_ROLLOUT, failing(PodCause.CONFIG_MISSING), OLD)
    verdict = judge(stalled, judged=ev.change(area))
    assert verdict.action is expected
    assert ("configuration_gone" in codes(verdict)) is (expected is Action.HOLD)


@pytest.mark.parametrize(
    ("cause", "area", "weights"),
    [
        (PodCause.OOM_KILLED, ChangeArea.RESOURCES, [0.5]),
        (PodCause.OOM_KILLED, ChangeArea.PROBES, []),
        (PodCause.PROBE, ChangeArea.PROBES, [0.5]),
    ],
)
def test_a_change_of_what_fails_weighs(
    cause: PodCause, area: ChangeArea, weights: list[float]
) -> None:
    verdict = judge(
        ev.rollout(RolloutClass.STALLED_ROLLOUT, failing(cause, 3), OLD), judged=ev.change(area)
    )
    assert [f.weight for f in verdict.findings if f.rule == "change"] == weights


def test_a_restart_that_crashes_is_held_for_an_undo_runs_the_same_template() -> None:
    verdict = judge(
        ev.rollout(RolloutClass.FULL_OUTAGE, failing(PodCause.CRASH_LOOP, 4)),
        judged=ev.change(ChangeArea.METADATA),
    )
    assert verdict.action is Action.HOLD
    assert "nothing_to_undo" in codes(verdict)


def test_an_outage_with_nothing_to_return_to_is_fixed_forward() -> None:
    verdict = judge(
        ev.rollout(RolloutClass.FULL_OUTAGE, failing(PodCause.CRASH_LOOP, 4)),
        judged=ev.change(previous=None),
    )
    assert (verdict.action, verdict.automatic) == (Action.FIX_FORWARD, False)


def test_one_crashing_pod_among_many_good_ones_is_held() -> None:
    new = ev.pods(3, 1, cause=PodCause.CRASH_LOOP, restarts=4)
    verdict = judge(ev.rollout(RolloutClass.SURGE_ONLY_CRASH, new, ev.pods(2, number=41)))
    assert verdict.action is Action.HOLD


def test_a_crash_while_several_services_are_sick_is_held() -> None:
    sick = tuple(ev.neighbour(n, sick=True) for n in ("cart", "payment"))
    stalled = ev.rollout(RolloutClass.STALLED_ROLLOUT, failing(PodCause.CRASH_LOOP, 4), OLD)
    verdict = judge(stalled, neighbours=sick)
    assert (verdict.action, verdict.cause) == (Action.HOLD, Cause.UPSTREAM)


@pytest.mark.parametrize(("needed", "automatic"), [(False, True), (True, False)])
def test_a_crash_loop_needs_no_metric_and_a_failed_source_leaves_it_to_a_person(
    needed: bool, automatic: bool
) -> None:
    verdict = judge(
        ev.rollout(RolloutClass.FULL_OUTAGE, failing(PodCause.CRASH_LOOP, 4)),
        missing=(ev.missing(needed=needed),),
    )
    assert verdict.action is Action.ROLL_BACK
    assert verdict.automatic is automatic


def test_a_crash_is_rolled_back_although_the_old_revision_serves_well() -> None:
    quiet = ev.after(Arm.AFTER, [1.0] * 10)
    stalled = ev.rollout(RolloutClass.STALLED_ROLLOUT, failing(PodCause.CRASH_LOOP, 4), OLD)
    assert judge(stalled, ev.baseline(), quiet).action is Action.ROLL_BACK


@pytest.mark.parametrize(
    "rollout_class",
    [RolloutClass.HEALTHY, RolloutClass.PROGRESSING, RolloutClass.START_UP_CHURN],
)
def test_expected_churn_blames_nobody(rollout_class: RolloutClass) -> None:
    verdict = judge(
        ev.rollout(rollout_class, ev.pods(4)), ev.baseline(), ev.after(Arm.AFTER, [1.0] * 10)
    )
    assert verdict.action is Action.NONE


@pytest.mark.parametrize(
    ("rollout_class", "pods"),
    [
        (RolloutClass.UNKNOWN, ev.pods(4)),
        (RolloutClass.START_UP_CHURN, ev.pods(3, 1, cause=PodCause.CRASH_LOOP, restarts=1)),
    ],
)
def test_pods_in_trouble_forbid_an_all_clear(
    rollout_class: RolloutClass, pods: RevisionPods
) -> None:
    verdict = judge(ev.rollout(rollout_class, pods), ev.baseline(), ev.after(Arm.AFTER, [1.0] * 10))
    assert verdict.action is Action.HOLD


def test_errors_of_the_new_revision_outrank_one_pod_that_finds_no_room() -> None:
    new = ev.pods(3, 1, cause=PodCause.UNSCHEDULABLE)
    verdict = judge(
        ev.rollout(RolloutClass.PROGRESSING, new, ev.pods(2, number=41)),
        ev.after(Arm.CONTROL, [1.0] * 10),
        ev.after(Arm.NEW, [400.0] * 10),
    )
    assert "infrastructure" not in codes(verdict)
    assert verdict.action is Action.ROLL_BACK


def test_a_pod_without_a_place_and_no_metric_is_named_in_the_next_question() -> None:
    verdict = judge(ev.rollout(RolloutClass.STALLED_ROLLOUT, failing(PodCause.QUOTA), OLD))
    assert "quota" in verdict.ask_next
