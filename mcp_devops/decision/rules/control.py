"""The old revision got worse too: trouble that is not the new one's own."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import CONTROL, ENVIRONMENT
from mcp_devops.model.verdict import Finding


def control(facts: Facts, policy: Policy) -> list[Finding]:
    """-0.7 where the old revision fell by 5 points against its own past [C2]; less is only said."""
    return [
        Finding(
            rule=CONTROL,
            group=ENVIRONMENT,
            says=f"The old revision got worse as well: {c.numbers}",
            weight=policy.weights.control_fell if c.rise >= policy.errors.large_drop else 0.0,
            first_seen_at=c.onset,
            sustained_s=c.sustained_s,
        )
        for c in facts.control_fell
    ]
