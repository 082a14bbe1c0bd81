"""Weights, cause shares and losses: the worked examples of the reference method."""

from __future__ import annotations

import pytest

from mcp_devops.decision import Policy
from mcp_devops.decision import vocabulary as v
from mcp_devops.decision.action import choose, losses
from mcp_devops.decision.causes import name, shares
from mcp_devops.decision.vetoes import NO_PREVIOUS, Stop
from mcp_devops.decision.weighing import weigh
from mcp_devops.model.verdict import Action, Cause, Finding, Veto

POLICY = Policy()


def finding(rule: str, group: str, weight: float, says: str = "") -> Finding:
    return Finding(rule=rule, group=group, says=says, weight=weight)


CONCURRENT = finding(v.CONCURRENT, v.ERRORS, 4.5)
BEFORE_AFTER = finding(v.BEFORE_AFTER, v.ERRORS, 3.0)
LATENCY = finding(v.LATENCY_CONCURRENT, v.LATENCY, 2.3)
SILENT = finding(v.SILENCE, v.ERRORS, 2.8)
PODS = finding(v.PODS_RULE, v.PODS, 3.0)
CONTROL = finding(v.CONTROL, v.ENVIRONMENT, -0.7)
SEVERAL = finding(v.NEIGHBOURS, v.ENVIRONMENT, -1.5)
NO_DROP = finding(v.CONCURRENT, v.ERRORS, -1.8)
FLAT = finding(v.LATENCY_RULE, v.LATENCY, -0.6)


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ((CONCURRENT,), 0.9091),
        ((CONCURRENT, CONTROL), 0.8324),
        ((BEFORE_AFTER,), 0.6906),
        ((BEFORE_AFTER, LATENCY), 0.9570),
        ((SILENT,), 0.6463),
        ((SILENT, PODS), 0.9735),
        ((LATENCY, NO_DROP), 0.1548),
        ((NO_DROP, FLAT), 0.0100),
        ((BEFORE_AFTER, SEVERAL), 0.3324),
        ((), 0.1),
    ],
)
def test_log_odds_add_up_as_in_the_reference(
    findings: tuple[Finding, ...], expected: float
) -> None:
    assert weigh(findings, 0.1, POLICY).probability == pytest.approx(expected, abs=5e-5)


def test_one_group_counts_its_strongest_finding_only() -> None:
    weighed = weigh((BEFORE_AFTER, CONCURRENT, SILENT, NO_DROP), 0.1, POLICY)
    assert weighed.probability == pytest.approx(0.9091, abs=5e-5)
    assert [f.counted for f in weighed.findings] == [True, False, False, False]


def test_in_errors_a_source_that_blames_outranks_one_that_acquits() -> None:
    small = finding(v.CONCURRENT, v.ERRORS, 1.5)
    weighed = weigh((NO_DROP, small), 0.1, POLICY)
    assert weighed.log_odds == pytest.approx(-2.1972 + 1.5, abs=1e-4)


def test_before_against_after_alone_is_capped() -> None:
    series = finding(v.LATENCY_RULE, v.LATENCY, 2.3)
    weighed = weigh((BEFORE_AFTER, series), 0.1, POLICY)
    assert (weighed.probability, weighed.cap) == (0.90, 0.90)


def test_errors_without_requests_are_capped_below_a_rollback() -> None:
    weighed = weigh((finding(v.NO_EXPOSURE, v.ERRORS, 3.0), LATENCY), 0.1, POLICY)
    assert (weighed.probability, weighed.cap) == (0.70, 0.70)


def test_pods_lift_the_cap_of_unknown_requests() -> None:
    weighed = weigh((finding(v.NO_EXPOSURE, v.ERRORS, 3.0), PODS), 0.1, POLICY)
    assert weighed.cap is None


def test_a_capped_finding_never_hides_one_that_is_not() -> None:
    counted_time = finding(v.NO_EXPOSURE, v.ERRORS, 3.0)
    alone = weigh((SILENT, LATENCY), 0.1, POLICY).probability
    assert weigh((SILENT, LATENCY, counted_time), 0.1, POLICY).probability == alone


@pytest.mark.parametrize(
    ("evidence", "expected", "named"),
    [
        ({Cause.NEW_CODE: 4.27}, (0.9832, 0.0076, 0.0061, 0.0031), Cause.NEW_CODE),
        (
            {Cause.NEW_CODE: -1.78, Cause.INFRASTRUCTURE: 1.68},
            (0.0442, 0.7811, 0.1165, 0.0582),
            Cause.INFRASTRUCTURE,
        ),
        ({}, (0.45, 0.25, 0.20, 0.10), Cause.UNKNOWN),
    ],
)
def test_causes_share_as_in_the_reference(
    evidence: dict[Cause, float], expected: tuple[float, ...], named: Cause
) -> None:
    ranked = shares(POLICY, evidence)
    found = {c.cause: c.probability for c in ranked}
    order = (Cause.NEW_CODE, Cause.INFRASTRUCTURE, Cause.UPSTREAM, Cause.NONE)
    assert [found[c] for c in order] == pytest.approx(expected, abs=5e-5)
    assert name(ranked, POLICY) is named


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.85, (0.6750, 0.9250, 2.5500)),
        (0.50, (2.2500, 0.7500, 1.5000)),
        (0.15, (3.8250, 0.5750, 0.4500)),
    ],
)
def test_losses_are_those_of_the_reference(p: float, expected: tuple[float, float, float]) -> None:
    found = losses(p, POLICY)
    assert [found[a] for a in (Action.ROLL_BACK, Action.HOLD, Action.NONE)] == pytest.approx(
        expected
    )


def stop(code: str, *, blocks: bool = True) -> Stop:
    return Stop(Veto(code=code, says=""), blocks)


@pytest.mark.parametrize(
    ("p", "cause", "stops", "quiet", "expected"),
    [
        (0.80, Cause.NEW_CODE, (), False, Action.ROLL_BACK),
        (0.79, Cause.NEW_CODE, (), False, Action.HOLD),
        (0.95, Cause.UPSTREAM, (), False, Action.HOLD),
        (0.95, Cause.UNKNOWN, (), False, Action.HOLD),
        (0.95, Cause.NEW_CODE, (stop("not_sustained"),), False, Action.HOLD),
        (0.95, Cause.NEW_CODE, (stop("onset_late", blocks=False),), False, Action.ROLL_BACK),
        (0.95, Cause.NEW_CODE, (stop(NO_PREVIOUS),), False, Action.FIX_FORWARD),
        (0.95, Cause.NEW_CODE, (stop(NO_PREVIOUS), stop("recovered")), False, Action.HOLD),
        (0.19, Cause.NONE, (), True, Action.NONE),
        (0.19, Cause.NONE, (), False, Action.HOLD),
        (0.20, Cause.NONE, (), True, Action.HOLD),
        (0.01, Cause.NONE, (stop("several_services"),), True, Action.HOLD),
    ],
)
def test_the_cheapest_allowed_action_is_taken(
    p: float, cause: Cause, stops: tuple[Stop, ...], quiet: bool, expected: Action
) -> None:
    assert choose(p, cause, stops, POLICY, quiet=quiet) is expected
