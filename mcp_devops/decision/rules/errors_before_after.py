"""Errors after the deployment against the half hour before: the fallback, capped at .90."""

from __future__ import annotations

from mcp_devops.decision.comparison import ErrorComparison
from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import BEFORE_AFTER, ERRORS
from mcp_devops.model.verdict import Finding


def errors_before_after(facts: Facts, policy: Policy) -> list[Finding]:
    """Weigh each comparison with the past, where requests are known.

    +3.0 iff ratio, floor, count and duration hold; +1.5 for a modest rise, or one that is too
    young; -1.8 for enough data and no drop; 0 if it began before the deployment, or is over.
    """
    return [
        Finding(
            rule=BEFORE_AFTER,
            group=ERRORS,
            says=says,
            weight=weight,
            first_seen_at=c.onset,
            sustained_s=c.sustained_s,
        )
        for c in facts.judged
        if not c.concurrent and c.exposure_known
        for weight, says in [weigh_past(c, policy)]
    ]


def weigh_past(c: ErrorComparison, policy: Policy) -> tuple[float, str]:
    """Weight and sentence of one comparison with the past."""
    rules, weights = policy.errors, policy.weights
    if c.began_before:
        return 0.0, f"{c.numbers}: the rise began before the deployment"
    if c.fires:
        return weights.fires, (
            f"{c.numbers}: more than {rules.ratio:g} times as many for {c.sustained_s:.0f} s"
        )
    if c.modest:
        return weights.modest, (
            f"{c.numbers}: more than {rules.modest_ratio:g} times as many, "
            f"not surely {rules.ratio:g} times"
        )
    if c.not_yet:
        return weights.modest, (
            f"{c.numbers}: up in the newest minutes, not yet for {policy.time.sustained_s:g} s"
        )
    if c.spiked:
        return 0.0, f"{c.numbers}: a spike, not sustained"
    if c.sees_enough:
        return weights.no_drop, f"{c.numbers}: no rise, and it would have shown"
    return 0.0, f"{c.numbers}: no clear difference; {c.smallest_visible} would not show"
