"""Latency of the new revision against the old one in the same minutes."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.latency import Measure
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.rules.latency_before_after import flat_weight
from mcp_devops.decision.vocabulary import LATENCY, LATENCY_CONCURRENT
from mcp_devops.model.verdict import Finding


def latency_concurrent(facts: Facts, policy: Policy) -> list[Finding]:
    """+2.3 for 1.5 times the old revision's with p < .01 [C2]; -0.6 for not up."""
    return [
        Finding(
            rule=LATENCY_CONCURRENT,
            group=LATENCY,
            says=c.says,
            weight=policy.weights.latency_strong if c.hot else flat_weight(facts, policy),
            first_seen_at=c.onset,
            sustained_s=c.sustained_s if c.hot else None,
        )
        for c in facts.latency_judged
        if c.measure is Measure.CONCURRENT
    ]
