"""Whose doing it is: shares of code, infrastructure, upstream, none (requirement A6)."""

from __future__ import annotations

import math

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.rules.drift import heavy_drift
from mcp_devops.decision.rules.outbound import dependency_fails
from mcp_devops.decision.rules.scaling import events_near_onset, latency_alone
from mcp_devops.decision.silence import Quiet
from mcp_devops.model.verdict import Cause, CauseProbability


def causes(facts: Facts, policy: Policy) -> tuple[CauseProbability, ...]:
    """Softmax of ln prior + evidence, most probable first."""
    rules = policy.causes
    return shares(
        policy,
        {
            Cause.NEW_CODE: _code(facts, policy),
            Cause.INFRASTRUCTURE: _infrastructure(facts, policy),
            Cause.UPSTREAM: rules.decisive if points_upstream(facts) else 0.0,
            Cause.NONE: rules.quiet_for_none if is_quiet(facts) else 0.0,
        },
    )


def shares(policy: Policy, evidence: dict[Cause, float]) -> tuple[CauseProbability, ...]:
    """Shares of the causes from their evidence in log-odds; absent evidence is 0."""
    rules = policy.causes
    priors = {
        Cause.NEW_CODE: rules.code,
        Cause.INFRASTRUCTURE: rules.infrastructure,
        Cause.UPSTREAM: rules.upstream,
        Cause.NONE: rules.none,
    }
    masses = {c: prior * math.exp(evidence.get(c, 0.0)) for c, prior in priors.items()}
    total = math.fsum(masses.values())
    ranked = sorted(masses, key=lambda c: (-masses[c], c.value))
    return tuple(CauseProbability(cause=c, probability=masses[c] / total) for c in ranked)


def name(ranked: tuple[CauseProbability, ...], policy: Policy) -> Cause:
    """The most probable cause, or unknown below one half."""
    first = ranked[0]
    return first.cause if first.probability >= policy.limits.unknown_below else Cause.UNKNOWN


def points_upstream(facts: Facts) -> bool:
    """Whether the trouble is shared: old and new alike, several services, a failing dependency.

    Or total silence.

    Others' trouble alone says nothing about a service that shows none itself.
    """
    return (
        facts.both_sick
        or (facts.several_sick and facts.has_symptoms)
        or (facts.has_symptoms and bool(dependency_fails(facts, facts.policy)))
        or facts.pods.shared
        or any(s.who is Quiet.BOTH for s in facts.silent)
    )


def sees_enough(facts: Facts) -> bool:
    """Whether some comparison would have shown a rise that matters."""
    return any(c.sees_enough for c in facts.judged)


def is_degraded(facts: Facts) -> bool:
    """Whether anything is wrong, whoever did it: then "no action" is not an answer."""
    return facts.has_symptoms or points_upstream(facts)


def is_quiet(facts: Facts) -> bool:
    """Whether enough was seen, and nothing is up."""
    return sees_enough(facts) and not is_degraded(facts)


def dropped(facts: Facts) -> bool:
    """Whether requests fail more with the new version, by counts, silence or pods."""
    small = facts.policy.errors.small_drop
    return (
        facts.errors_up
        or facts.pods.proven
        or any(s.who is Quiet.NEW for s in facts.silent)
        or any(c.spiked and c.rise >= small and not c.began_before for c in facts.judged)
    )


def _code(facts: Facts, policy: Policy) -> float:
    if points_upstream(facts):
        return policy.causes.no_drop_for_code
    if dropped(facts):
        return policy.causes.drop_for_code
    blamed_on_the_past = any(c.began_before for c in facts.judged)
    return policy.causes.no_drop_for_code if sees_enough(facts) or blamed_on_the_past else 0.0


def _infrastructure(facts: Facts, policy: Policy) -> float:
    rules = policy.causes
    if facts.pods.placed_badly or facts.pods.configuration_gone:
        return rules.decisive
    if latency_alone(facts) and events_near_onset(facts, policy):
        return rules.decisive
    heavy = heavy_drift(facts, policy) if facts.has_symptoms and not facts.new_alone else []
    if heavy:
        return rules.decisive if heavy[0].names_service else rules.slow_for_infrastructure
    if dropped(facts) or not sees_enough(facts):
        return 0.0
    doubled = [
        c for c in facts.latency_judged if c.hot and c.ratio >= policy.latency.infrastructure_ratio
    ]
    if doubled:
        return rules.slow_for_infrastructure
    return 0.0 if facts.latency_up else rules.not_slow_for_infrastructure
