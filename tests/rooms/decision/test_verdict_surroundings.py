"""Verdicts from what surrounds a deployment: drift, dependencies, images, issues."""

from __future__ import annotations

import pytest

from mcp_devops.decision import Policy, decide
from mcp_devops.model.evidence import Arm, DiagnosticContext, PodCause, RequestSeries, RolloutClass
from mcp_devops.model.surroundings import Drift
from mcp_devops.model.verdict import Action, Cause, Finding, Verdict
from tests.support import evidence as ev

QUIET = [1.0] * 10
BAD = [120.0] * 10
SLOW = [900.0] * 10
PAST = ev.baseline(p99_ms=[400, 410, 395] * 10)
CONCURRENT = (PAST, ev.after(Arm.CONTROL, QUIET), ev.after(Arm.NEW, BAD))
ONLY_BEFORE_AFTER = (PAST, ev.after(Arm.AFTER, BAD, p99_ms=SLOW))
HEALTHY = ev.rollout(RolloutClass.HEALTHY, ev.pods(4))


def judge(context: DiagnosticContext) -> Verdict:
    return decide(context, Policy(), ev.seconds(600))


def codes(verdict: Verdict) -> set[str]:
    return {veto.code for veto in verdict.vetoes}


def finding(verdict: Verdict, rule: str) -> Finding:
    return next(f for f in verdict.findings if f.rule == rule)


def test_a_regression_of_the_new_revision_alone_is_rolled_back_whatever_drifted() -> None:
    here = ev.drifted(0.9, names_service=True)
    verdict = judge(ev.context(*CONCURRENT, rollout=HEALTHY, drift=[here]))
    assert (verdict.action, verdict.cause, verdict.automatic) == (
        Action.ROLL_BACK,
        Cause.NEW_CODE,
        True,
    )
    said = finding(verdict, "drift")
    assert said.weight == 0 and "old revision runs on the same" in said.says


def test_drift_that_names_the_service_leaves_a_mere_before_and_after_to_a_person() -> None:
    without = judge(ev.context(*ONLY_BEFORE_AFTER, rollout=HEALTHY))
    verdict = judge(
        ev.context(*ONLY_BEFORE_AFTER, rollout=HEALTHY, drift=[ev.drifted(names_service=True)])
    )
    assert without.action is Action.ROLL_BACK
    assert verdict.action is Action.HOLD and not verdict.automatic
    assert finding(verdict, "drift").weight == -2.3
    assert "infrastructure" in verdict.runner_up.lower()


def test_drift_elsewhere_lowers_the_probability_without_deciding() -> None:
    without = judge(ev.context(*ONLY_BEFORE_AFTER, rollout=HEALTHY))
    verdict = judge(ev.context(*ONLY_BEFORE_AFTER, rollout=HEALTHY, drift=[ev.drifted()]))
    assert verdict.action is Action.ROLL_BACK
    assert verdict.confidence <= without.confidence
    assert finding(verdict, "drift").weight == -0.7


def test_both_revisions_failing_beside_drift_is_no_rollback() -> None:
    verdict = judge(
        ev.context(
            PAST,
            ev.after(Arm.CONTROL, BAD),
            ev.after(Arm.NEW, BAD),
            rollout=HEALTHY,
            drift=[ev.drifted(names_service=True)],
        )
    )
    assert verdict.action is Action.HOLD and "both_revisions_sick" in codes(verdict)
    assert verdict.cause is not Cause.NEW_CODE


def test_drift_beside_a_slow_service_without_errors_is_infrastructure() -> None:
    verdict = judge(
        ev.context(
            PAST,
            ev.after(Arm.AFTER, QUIET, p99_ms=SLOW),
            rollout=HEALTHY,
            drift=[ev.drifted(names_service=True)],
        )
    )
    assert (verdict.action, verdict.cause) == (Action.HOLD, Cause.INFRASTRUCTURE)


@pytest.mark.parametrize("found", [[], [ev.drifted(0.3)]])
def test_light_drift_is_no_finding(found: list[Drift]) -> None:
    verdict = judge(ev.context(*ONLY_BEFORE_AFTER, rollout=HEALTHY, drift=found))
    assert not [f for f in verdict.findings if f.rule == "drift"]


def test_drift_beside_a_healthy_deployment_changes_nothing() -> None:
    quiet = (PAST, ev.after(Arm.AFTER, QUIET, p99_ms=[400.0] * 10))
    verdict = judge(ev.context(*quiet, rollout=HEALTHY, drift=[ev.drifted(names_service=True)]))
    assert verdict.action is Action.NONE


@pytest.mark.parametrize(
    "requests",
    [ONLY_BEFORE_AFTER, (PAST, ev.after(Arm.CONTROL, BAD), ev.after(Arm.NEW, BAD))],
    ids=["before and after", "old and new"],
)
def test_errors_while_calls_to_a_dependency_fail_are_upstream(
    requests: tuple[RequestSeries, ...],
) -> None:
    verdict = judge(ev.context(*requests, rollout=HEALTHY, outbound=[ev.calls(0.4)]))
    assert (verdict.action, verdict.cause) == (Action.HOLD, Cause.UPSTREAM)
    assert "dependency_fails" in codes(verdict)
    assert finding(verdict, "outbound").says.startswith("Calls to bank fail: 40.0% of 1000 calls")
    assert verdict.ask_next.startswith("Is bank up")


def test_many_failures_on_both_revisions_are_trouble_even_without_a_past() -> None:
    alike = (
        ev.after(Arm.CONTROL, [54.0] * 4, requests=200),
        ev.after(Arm.NEW, [27.0] * 4, requests=100),
    )
    verdict = judge(ev.context(*alike, rollout=HEALTHY))
    assert verdict.action is Action.HOLD and "something is wrong" in verdict.headline
    failing = judge(ev.context(*alike, rollout=HEALTHY, outbound=[ev.calls(0.9)]))
    assert (failing.action, failing.cause) == (Action.HOLD, Cause.UPSTREAM)


def test_calls_that_only_the_new_revision_fails_are_its_own_doing() -> None:
    split = ev.calls(0.2, old=0.001, new=0.4)
    verdict = judge(ev.context(*CONCURRENT, rollout=HEALTHY, outbound=[split]))
    assert (verdict.action, verdict.cause) == (Action.ROLL_BACK, Cause.NEW_CODE)
    assert finding(verdict, "outbound").weight == 0


def test_calls_that_both_revisions_fail_are_the_dependencys_doing() -> None:
    split = ev.calls(0.4, old=0.39, new=0.41)
    verdict = judge(ev.context(*ONLY_BEFORE_AFTER, rollout=HEALTHY, outbound=[split]))
    assert (verdict.action, verdict.cause) == (Action.HOLD, Cause.UPSTREAM)


def test_a_crash_loop_of_new_pods_alone_is_rolled_back_though_their_calls_fail() -> None:
    crashing = ev.rollout(
        RolloutClass.SURGE_ONLY_CRASH,
        ev.pods(0, 2, restarts=6, cause=PodCause.CRASH_LOOP),
        ev.pods(4, number=41),
    )
    verdict = judge(ev.context(PAST, rollout=crashing, outbound=[ev.calls(0.4)]))
    assert (verdict.action, verdict.cause) == (Action.ROLL_BACK, Cause.NEW_CODE)


@pytest.mark.parametrize(
    "calls", [ev.calls(0.01), ev.calls(0.4, number=8), ev.calls(0.4, before=0.39)]
)
def test_calls_that_always_failed_or_are_few_say_nothing(calls: object) -> None:
    verdict = judge(ev.context(*CONCURRENT, rollout=HEALTHY, outbound=[calls]))  # type: ignore[list-item]
    assert not [f for f in verdict.findings if f.rule == "outbound"]


def test_failing_calls_of_a_service_without_symptoms_hold_nothing() -> None:
    quiet = (PAST, ev.after(Arm.AFTER, QUIET, p99_ms=[400.0] * 10))
    verdict = judge(ev.context(*quiet, rollout=HEALTHY, outbound=[ev.calls(0.4)]))
    assert verdict.action is Action.NONE


def test_a_new_critical_vulnerability_holds_a_healthy_deployment_where_it_is() -> None:
    quiet = (PAST, ev.after(Arm.AFTER, QUIET, p99_ms=[400.0] * 10))
    verdict = judge(ev.context(*quiet, rollout=HEALTHY, image_risk=ev.risky()))
    assert verdict.action is Action.HOLD and codes(verdict) == {"new_vulnerability"}
    assert "CVE-2030-1" in verdict.headline and "as well as before" in verdict.headline
    assert "fixed version" in verdict.ask_next
    light = judge(ev.context(*quiet, rollout=HEALTHY, image_risk=ev.risky(hold=False)))
    assert light.action is Action.NONE


def test_a_new_vulnerability_does_not_keep_a_bad_deployment() -> None:
    verdict = judge(ev.context(*CONCURRENT, rollout=HEALTHY, image_risk=ev.risky()))
    assert verdict.action is Action.ROLL_BACK and verdict.automatic


def test_new_issues_of_the_release_are_a_hint_and_no_more() -> None:
    alone = judge(ev.context(rollout=HEALTHY, issues=ev.issues()))
    assert alone.action is Action.HOLD
    assert finding(alone, "issues").weight == 0.5
    few = judge(ev.context(rollout=HEALTHY, issues=ev.issues(events=2)))
    assert finding(few, "issues").weight == 0
    warnings = judge(ev.context(rollout=HEALTHY, issues=ev.issues(level="warning")))
    assert not [f for f in warnings.findings if f.rule == "issues"]
