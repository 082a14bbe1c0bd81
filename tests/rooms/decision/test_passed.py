"""What was wrong and is over: told from trouble that lasts, and from a small rise that stays."""

from __future__ import annotations

import pytest

from mcp_devops.decision import Policy, decide
from mcp_devops.model.evidence import Arm, DiagnosticContext, PodCause, RolloutClass
from mcp_devops.model.verdict import Action, Verdict
from tests.support import evidence as ev

POLICY = Policy()
HEALTHY = ev.rollout(RolloutClass.HEALTHY, ev.pods(4))
SPIKE = [300.0, 1, 1, 1, 1, 1, 1, 1, 1, 1]
CALM = [1.0] * 10


def judge(context: DiagnosticContext) -> Verdict:
    return decide(context, POLICY, ev.seconds(600))


def test_a_spike_that_is_over_has_passed() -> None:
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, SPIKE), rollout=HEALTHY))
    assert verdict.action in (Action.HOLD, Action.NONE) and verdict.passed


def test_a_spike_of_both_revisions_in_the_same_minutes_passes_as_well() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(), ev.after(Arm.CONTROL, SPIKE), ev.after(Arm.NEW, SPIKE), rollout=HEALTHY
        )
    )
    assert verdict.passed


@pytest.mark.parametrize(
    "errors",
    [
        pytest.param(CALM, id="nothing was wrong"),
        pytest.param([1.0] * 9 + [300.0], id="it is hot now"),
        pytest.param([300.0] + [1.0] * 7 + [300.0, 1.0], id="it came back"),
        pytest.param([300.0] + [14.0] * 9, id="a small rise stayed"),
        pytest.param([300.0] * 10, id="it lasts"),
    ],
)
def test_nothing_has_passed_while_something_lasts_or_never_began(errors: list[float]) -> None:
    verdict = judge(ev.context(ev.baseline(), ev.after(Arm.AFTER, errors), rollout=HEALTHY))
    assert not verdict.passed


def test_a_spike_that_is_over_for_the_old_revision_only_has_not_passed() -> None:
    verdict = judge(
        ev.context(
            ev.baseline(),
            ev.after(Arm.CONTROL, SPIKE),
            ev.after(Arm.NEW, [300.0] * 10),
            rollout=HEALTHY,
        )
    )
    assert not verdict.passed


def test_pods_in_trouble_a_silent_service_and_missing_sources_let_nothing_pass() -> None:
    crashing = ev.rollout(
        RolloutClass.PARTIAL_OUTAGE,
        ev.pods(2, 2, restarts=6, cause=PodCause.CRASH_LOOP, exit_codes=(1,)),
    )
    arms = (ev.baseline(), ev.after(Arm.AFTER, SPIKE))
    assert not judge(ev.context(*arms, rollout=crashing)).passed
    gone = (ev.baseline(), ev.after(Arm.AFTER, [300.0] + [0.0] * 9, [1000.0] + [0.0] * 9))
    assert not judge(ev.context(*gone, rollout=HEALTHY)).passed
    lacking = [ev.missing(needed=True)]
    assert not judge(ev.context(*arms, rollout=HEALTHY, missing=lacking)).passed


def test_slow_requests_that_go_on_let_nothing_pass() -> None:
    slow = ev.after(Arm.AFTER, SPIKE, p99_ms=[900.0] * 10)
    over = ev.after(Arm.AFTER, SPIKE, p99_ms=[900.0] * 2 + [400.0] * 8)
    past = ev.baseline(p99_ms=[400, 410, 395] * 10)
    assert not judge(ev.context(past, slow, rollout=HEALTHY)).passed
    assert judge(ev.context(past, over, rollout=HEALTHY)).passed
