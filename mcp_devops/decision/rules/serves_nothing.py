"""The new revision's pods serve nothing, or took the capacity down: silence, seen from the pods."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import ERRORS, SERVES_NOTHING
from mcp_devops.model.verdict import Finding


def serves_nothing(facts: Facts, policy: Policy) -> list[Finding]:
    """+2.8, the weight of silence, in the errors' group.

    A pod that is not ready gets no request, so this is what silence would look like without a
    metric source. An outage that the new revision's pods caused counts alike: requests that find
    no pod fail, and no series counts them.
    """
    reading, rollout = facts.pods, facts.context.rollout
    if not reading.serves_nothing or rollout is None:
        return []
    says = (
        f"The new revision serves nothing: {rollout.new.ready} of {rollout.new.pods} pods ready, "
        f"{reading.lasted_s:.0f} s after the change"
        if rollout.new.ready == 0
        else f"Only {rollout.available} of {rollout.desired} pods are available since the change, "
        f"{rollout.new.failing} of {rollout.new.pods} new ones fail"
    )
    return [
        Finding(
            rule=SERVES_NOTHING,
            group=ERRORS,
            says=says,
            weight=policy.weights.silence,
            sustained_s=reading.lasted_s,
        )
    ]
