"""Infrastructure that is not what its configuration says: another possible cause."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import DRIFT, ENVIRONMENT
from mcp_devops.model.surroundings import Drift
from mcp_devops.model.verdict import Finding


def drift(facts: Facts, policy: Policy) -> list[Finding]:
    """Weigh the heaviest drift: -2.3 where it names the service, else -0.7.

    Nothing where the new revision is worse than the old one in the same minutes, or only its pods
    fail: both run on the same infrastructure. When the drift began is not known, so it never
    explains a symptom by itself.
    """
    heavy = heavy_drift(facts, policy)
    if not heavy:
        return []
    worst = heavy[0]
    others = f" and {len(heavy) - 1} more" if len(heavy) > 1 else ""
    said = f"Infrastructure differs from its configuration: {worst.address}{others}, {worst.what}"
    if facts.new_alone:
        weight = 0.0
        said += "; the old revision runs on the same and does not fail"
    elif worst.names_service:
        weight = policy.weights.drift_here
    else:
        weight = policy.weights.drift
    return [Finding(rule=DRIFT, group=ENVIRONMENT, says=said, weight=weight)]


def heavy_drift(facts: Facts, policy: Policy) -> list[Drift]:
    """Drift that can hurt a service, what names this one first."""
    heavy = [d for d in facts.context.drift if d.weight >= policy.surroundings.heavy_drift]
    return sorted(heavy, key=lambda d: (not d.names_service, -d.weight, d.address, d.what))
