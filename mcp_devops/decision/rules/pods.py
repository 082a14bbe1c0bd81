"""Pods of the new revision against pods of the old one."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.pod_reading import cause_of
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import PODS, PODS_RULE
from mcp_devops.model.evidence import PodCause, RolloutHealth
from mcp_devops.model.verdict import Finding


def pods(facts: Facts, policy: Policy) -> list[Finding]:
    """Weigh the pods.

    +3.0 if the new revision fails for good and the old one is, or was, healthy; -1.5 if both
    fail alike, a node or the capacity is at fault, or a key is gone that the old template needs
    too; 0 while it is not proven. Healthy pods have no weight: they may serve errors.
    """
    rollout = facts.context.rollout
    if rollout is None:
        return []
    reading, weights = facts.pods, policy.weights
    text = _describe(rollout)
    # A pod without a place does not acquit its siblings that fail requests beside the old ones.
    elsewhere = 0.0 if facts.worse_than_control else weights.pods_elsewhere
    if reading.proven:
        weight, says = weights.pods_new_only, f"{text}; the old revision does not fail"
    elif reading.shared:
        weight, says = weights.pods_elsewhere, f"{text}; old pods fail the same way"
    elif reading.placed_badly:
        weight, says = elsewhere, f"{text}; a node or missing capacity, not code"
    elif reading.configuration_gone:
        weight = elsewhere
        says = f"{text}; the template does not refer to anything new, so a key was removed outside"
    elif reading.troubled:
        weight, says = 0.0, f"{text}; not proven to be lasting yet"
    else:
        weight, says = 0.0, text
    return [
        Finding(
            rule=PODS_RULE,
            group=PODS,
            says=says,
            weight=weight,
            sustained_s=reading.lasted_s if reading.proven else None,
        )
    ]


def _describe(rollout: RolloutHealth) -> str:
    new, cause = rollout.new, cause_of(rollout)
    why = "" if cause is PodCause.NONE else f" ({cause.value.replace('_', ' ')})"
    old = "none left" if rollout.old is None else f"{rollout.old.ready} of {rollout.old.pods} ready"
    return (
        f"New revision: {new.ready} of {new.pods} pods ready, {new.failing} failing{why}, "
        f"{new.restarts} restarts; old revision: {old}; "
        f"{rollout.available} of {rollout.desired} available"
    )
