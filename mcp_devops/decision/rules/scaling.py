"""Capacity that changed when latency rose: the first explanation for latency alone (A4)."""

from __future__ import annotations

from datetime import datetime, timedelta

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import ENVIRONMENT, SCALING
from mcp_devops.model.evidence import ScalingEvent
from mcp_devops.model.verdict import Finding


def scaling(facts: Facts, policy: Policy) -> list[Finding]:
    """-1.5 if only latency rose and capacity changed at its onset, else 0 and named."""
    near = events_near_onset(facts, policy)
    if not near:
        return []
    alone = latency_alone(facts)
    return [
        Finding(
            rule=SCALING,
            group=ENVIRONMENT,
            says=f"Capacity changed at the onset: {near[0].what} ({near[0].source})",
            weight=policy.weights.scaling if alone else 0.0,
            first_seen_at=near[0].at,
        )
    ]


def latency_alone(facts: Facts) -> bool:
    """Whether latency rose and neither errors nor pods say anything."""
    return facts.latency_up and not facts.errors_up and not facts.pods.proven


def events_near_onset(facts: Facts, policy: Policy) -> list[ScalingEvent]:
    """Scaling events around the latency's onset, or the deployment where none is known."""
    onsets = [c.onset for c in facts.latency_judged if c.hot and c.onset is not None]
    onset: datetime | None = min(onsets, default=facts.deployed_at)
    if onset is None or not facts.latency_up:
        return []
    first = onset - timedelta(seconds=policy.time.scaling_before_s)
    last = onset + timedelta(seconds=policy.time.scaling_after_s)
    near = [e for e in facts.context.scaling if first <= e.at <= last]
    return sorted(near, key=lambda e: (e.at, e.source, e.what))
