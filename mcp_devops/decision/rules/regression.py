"""Errors and p99 up together, soon after the deployment: the users' named rule (A4)."""

from __future__ import annotations

from datetime import datetime

from mcp_devops.decision.comparison import ErrorComparison
from mcp_devops.decision.facts import Facts
from mcp_devops.decision.latency import Measure
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import ERRORS, LATENCY, REGRESSION
from mcp_devops.model.verdict import Finding


def regression(facts: Facts, policy: Policy) -> list[Finding]:
    """Find the named regression.

    Errors up by more than 5 % (relative, with a probability of .95, over the floor, sustained),
    p99 up by more than 10 %, onset within 15 minutes of the deployment. Errors then weigh as if
    the full ratio were passed (+3.0), and a p99 that is not hot by itself +1.0.
    """
    warm = [c for c in facts.latency_judged if c.hot or (c.warm and c.measure is not Measure.MEAN)]
    up = [
        c
        for c in facts.judged
        if (c.fires or c.modest)
        and c.exposure_known
        and not c.began_before
        and within_age(c.onset, facts, policy)
    ]
    if not warm or not up:
        return []
    worst = max(up, key=lambda c: (c.fires, c.rise, c.source, c.service))
    slowest = max(warm, key=lambda c: (c.hot, c.ratio, c.source, c.service))
    return [
        _finding(
            ERRORS,
            policy.weights.fires,
            f"Errors and latency rose together after the deployment: {worst.numbers}; "
            f"{slowest.says}",
            worst,
        ),
        _finding(
            LATENCY,
            policy.weights.latency_warm,
            f"{slowest.says}: more than {policy.latency.warm_ratio:g} times, together with errors",
            worst,
        ),
    ]


def _finding(group: str, weight: float, says: str, worst: ErrorComparison) -> Finding:
    return Finding(
        rule=REGRESSION,
        group=group,
        says=says,
        weight=weight,
        first_seen_at=worst.onset,
        sustained_s=worst.sustained_s,
    )


def within_age(onset: datetime | None, facts: Facts, policy: Policy) -> bool:
    """Whether an onset lies within the age limit of the deployment; unknown is no."""
    if onset is None or facts.deployed_at is None:
        return False
    return (onset - facts.deployed_at).total_seconds() <= policy.time.age_s
