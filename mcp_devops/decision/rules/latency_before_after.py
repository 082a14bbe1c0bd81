"""Latency after the deployment against the half hour before."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.latency import LatencyComparison, Measure
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import LATENCY, LATENCY_RULE
from mcp_devops.model.verdict import Finding


def latency_before_after(facts: Facts, policy: Policy) -> list[Finding]:
    """Weigh latency against the past: average or slow requests +2.3, a percentile only +1.5.

    Not up is -0.6, and nothing where errors rose or pods fail. Latency alone never rolls back.
    """
    return [
        Finding(
            rule=LATENCY_RULE,
            group=LATENCY,
            says=f"{c.says}: the rise began before the deployment" if c.began_before else c.says,
            weight=_weight(c, facts, policy),
            first_seen_at=c.onset,
            sustained_s=c.sustained_s or None,
        )
        for c in facts.latency_judged
        if c.measure is not Measure.CONCURRENT
    ]


def _weight(c: LatencyComparison, facts: Facts, policy: Policy) -> float:
    if c.began_before:
        return 0.0
    if not c.hot:
        return flat_weight(facts, policy)
    if c.measure is Measure.P99:
        return policy.weights.latency_series
    return policy.weights.latency_strong


def flat_weight(facts: Facts, policy: Policy) -> float:
    """Weight of a latency that is not up: none where errors rose or pods fail.

    8 of 10 real error faults leave p99 alone [T].
    """
    if facts.errors_up or facts.pods.proven or facts.silent:
        return 0.0
    return policy.weights.latency_flat
