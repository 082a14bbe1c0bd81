"""Other services in the same minutes."""

from __future__ import annotations

import math

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import ENVIRONMENT, NEIGHBOURS
from mcp_devops.model.verdict import Finding


def neighbours(facts: Facts, policy: Policy) -> list[Finding]:
    """Weigh the others: -1.5 if several are sick, +0.7 if several were measured and are fine.

    A sick one that deployed itself in the same period is another culprit; with n of them this
    deployment keeps an equal share, so -ln(n + 1), and at most as much as several sick ones.
    Not where the new revision is worse than a steady old one: then the question is answered.

    The latter only where this service lost a point of success rate or its pods fail: it then
    says that the trouble is its own. Below a point the other explanation is noise, and healthy
    neighbours say nothing about that.
    """
    sick = facts.sick_neighbours
    names = ", ".join(sick[:5])
    if facts.several_sick:
        return [
            _finding(
                f"{len(sick)} other services are sick in the same minutes ({names}), "
                f"limit {policy.pods.several}",
                policy.weights.several_services,
            )
        ]
    rivals = sorted(n.service for n in facts.context.neighbours if n.sick and n.deployed_recently)
    if rivals and not facts.worse_than_control:
        return [
            _finding(
                f"Sick as well, and deployed themselves: {', '.join(rivals[:5])}; "
                "each may be the one that did it",
                max(policy.weights.several_services, -math.log(len(rivals) + 1)),
            )
        ]
    if sick:
        return [_finding(f"Also sick: {names}", 0.0)]
    fine = [
        n
        for n in facts.context.neighbours
        if not n.sick
        and n.after_error_rate is not None
        and n.requests is not None
        and n.requests >= policy.pods.neighbour_requests
    ]
    ours = facts.pods.proven or any(
        c.fires and not c.began_before and c.rise >= policy.errors.small_drop for c in facts.judged
    )
    if ours and len(fine) >= policy.pods.neighbours_known:
        return [
            _finding(
                f"{len(fine)} other services were measured and are fine",
                policy.weights.neighbours_fine,
            )
        ]
    return []


def _finding(says: str, weight: float) -> Finding:
    return Finding(rule=NEIGHBOURS, group=ENVIRONMENT, says=says, weight=weight)
