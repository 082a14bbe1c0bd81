"""Errors of the new revision against the old one in the same minutes: the best evidence."""

from __future__ import annotations

from mcp_devops.decision.comparison import ErrorComparison
from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import CONCURRENT, ERRORS
from mcp_devops.model.verdict import Finding


def errors_concurrent(facts: Facts, policy: Policy) -> list[Finding]:
    """Weigh each concurrent comparison.

    Large drop +4.5 [C2]; a small one that passes ratio, floor, count and duration as much as
    before against after, +3.0; a small one without them +1.5; enough data and no drop -1.8 [C2].
    """
    return [
        Finding(
            rule=CONCURRENT,
            group=ERRORS,
            says=says,
            weight=weight,
            first_seen_at=c.onset,
            sustained_s=c.sustained_s,
        )
        for c in facts.judged
        if c.concurrent
        for weight, says in [_weigh(c, facts, policy)]
    ]


def _weigh(c: ErrorComparison, facts: Facts, policy: Policy) -> tuple[float, str]:
    rules, weights = policy.errors, policy.weights
    if facts.is_large(c):
        return weights.concurrent_large, (
            f"{c.numbers}: {c.rise * 100:.1f} points worse, limit {rules.large_drop * 100:g}; "
            f"{c.chance}"
        )
    if c.fires:
        return weights.fires, (
            f"{c.numbers}: more than {rules.ratio:g} times as many, sustained; {c.chance}"
        )
    small = c.rise >= rules.small_drop and c.p_value < rules.small_p
    if (small and c.k1 >= rules.least_errors) or c.modest or c.not_yet:
        return weights.concurrent_small, f"{c.numbers}: somewhat worse; {c.chance}"
    if c.sees_enough and not c.spiked:
        return weights.no_drop, f"{c.numbers}: no rise, and it would have shown"
    if c.spiked:
        return 0.0, f"{c.numbers}: a spike, not sustained"
    return 0.0, f"{c.numbers}: no clear difference; {c.smallest_visible} would not show"
