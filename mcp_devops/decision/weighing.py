"""From findings to one probability: prior, one finding a group, caps.

Findings of one group are correlated, so only the strongest counts. In the errors' and latency's
groups a finding that blames outranks one that acquits: the other source may simply not look
where it hurts, and a worse signal must never make the verdict milder. Among several that blame,
the one is taken that leaves the highest probability after caps, for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mcp_devops.decision.policy import WEIGHT_LIMIT, Policy
from mcp_devops.decision.vocabulary import (
    ENVIRONMENT,
    ERRORS,
    GROUPS,
    LATENCY,
    NO_EXPOSURE,
    PODS,
    REGRESSION,
    SAME_TIME_RULES,
)
from mcp_devops.model.verdict import Finding


@dataclass(frozen=True)
class Weighed:
    """The probability, and what made it."""

    probability: float
    """That the deployment did it, after caps."""
    log_odds: float
    """Before caps: prior and counted weights added up."""
    prior: float
    """Probability before looking."""
    findings: tuple[Finding, ...]
    """All findings, the counted ones marked, strongest first."""
    cap: float | None
    """The cap that held the probability down; null: none did."""

    @property
    def blaming(self) -> tuple[Finding, ...]:
        """All findings that blame the deployment, counted or not."""
        return tuple(f for f in self.findings if f.weight > 0)


def weigh(findings: Iterable[Finding], prior: float, policy: Policy) -> Weighed:
    """Add the strongest finding of each group to the prior's log-odds.

    Args:
        findings: All rules' findings, in any order.
        prior: The service's change-failure rate, between 0 and 1, both excluded.
        policy: Caps.
    """
    ordered = sorted(findings, key=_rank)
    choices = [_candidates([f for f in ordered if f.group == group]) for group in GROUPS]
    best: tuple[float, float, float | None, tuple[Finding, ...]] | None = None
    for errors in choices[GROUPS.index(ERRORS)]:
        counted = tuple(
            f
            for group, choice in zip(GROUPS, choices, strict=True)
            if (f := errors if group == ERRORS else choice[0]) is not None
        )
        log_odds = _logit(prior) + math.fsum(_limited(f.weight) for f in counted)
        probability = 1 / (1 + math.exp(-log_odds))
        cap = _cap(counted, policy)
        capped = probability if cap is None else min(probability, cap)
        if best is None or (capped, log_odds) > best[:2]:
            best = capped, log_odds, cap if capped < probability else None, counted
    assert best is not None  # noqa: S101 - every group has at least the choice None
    capped, log_odds, cap, counted = best
    chosen = {id(f) for f in counted}
    marked = [f if id(f) in chosen else f.model_copy(update={"counted": False}) for f in ordered]
    return Weighed(capped, log_odds, prior, tuple(marked), cap)


def _rank(finding: Finding) -> tuple[object, ...]:
    """Strongest first; the same time before the past; then any fixed order."""
    return (
        -abs(finding.weight),
        finding.weight,
        finding.rule not in SAME_TIME_RULES,
        finding.rule != REGRESSION,
        finding.rule,
        finding.says,
    )


def _candidates(group: Sequence[Finding]) -> Sequence[Finding | None]:
    if not group:
        return [None]
    if group[0].group in (ERRORS, LATENCY):
        blaming = [f for f in group if f.weight > 0]
        return blaming or group[:1]
    return group[:1]


def _cap(counted: Sequence[Finding], policy: Policy) -> float | None:
    blaming = [f for f in counted if f.weight > 0 and f.group != ENVIRONMENT]
    if any(f.rule == NO_EXPOSURE for f in blaming) and not any(f.group == PODS for f in blaming):
        return policy.limits.exposure_unknown_cap
    if not any(f.rule in SAME_TIME_RULES for f in blaming):
        return policy.limits.before_after_cap
    return None


def _limited(weight: float) -> float:
    return max(-WEIGHT_LIMIT, min(WEIGHT_LIMIT, weight))


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
