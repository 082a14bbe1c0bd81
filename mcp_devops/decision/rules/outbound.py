"""Calls that the service makes and that fail: its dependency's trouble, or its own doing."""

from __future__ import annotations

from enum import StrEnum

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import ENVIRONMENT, OUTBOUND
from mcp_devops.model.surroundings import OutboundCalls
from mcp_devops.model.verdict import Finding


class Whose(StrEnum):
    """Whose doing failing calls are."""

    DEPENDENCY = "dependency"
    """The old revision's calls fail as well, or nothing tells the revisions apart."""
    NEW_REVISION = "new_revision"
    """Only the new revision's calls fail."""


def outbound(facts: Facts, policy: Policy) -> list[Finding]:
    """-1.5 for calls to a dependency that began to fail, 0 where only the new revision's do."""
    failing = failing_calls(facts, policy)
    if not failing:
        return []
    worst, whose = failing[0]
    before = worst.baseline_error_rate
    rates = f"{worst.after_error_rate or 0:.1%} of {worst.calls:.0f} calls"
    was = "" if before is None else f", {before:.1%} before"
    if whose is Whose.DEPENDENCY:
        return [
            _finding(
                f"Calls to {worst.dependency} fail: {rates}{was}", policy.weights.outbound_fails
            )
        ]
    return [
        _finding(
            f"Only the new revision's calls to {worst.dependency} fail: "
            f"{worst.new_error_rate or 0:.1%} against {worst.old_error_rate or 0:.1%}",
            0.0,
        )
    ]


def failing_calls(facts: Facts, policy: Policy) -> list[tuple[OutboundCalls, Whose]]:
    """Dependencies whose calls began to fail, the worst first."""
    found = []
    for calls in facts.context.outbound:
        rose = (calls.after_error_rate or 0.0) - (calls.baseline_error_rate or 0.0)
        if calls.failed < policy.errors.least_errors or rose < policy.surroundings.outbound_rise:
            continue
        found.append((calls, _whose(calls, facts, policy)))
    return sorted(
        found, key=lambda f: (f[1], -(f[0].after_error_rate or 0.0), f[0].dependency, repr(f[0]))
    )


def dependency_fails(facts: Facts, policy: Policy) -> list[OutboundCalls]:
    """Dependencies that fail for the old revision too, or for all that can be seen."""
    return [c for c, whose in failing_calls(facts, policy) if whose is Whose.DEPENDENCY]


def _whose(calls: OutboundCalls, facts: Facts, policy: Policy) -> Whose:
    """The new revision's own only where the old one calls the same and is well."""
    old, new = calls.old_error_rate, calls.new_error_rate
    before = calls.baseline_error_rate or 0.0
    if old is not None and new is not None:
        well = old - before < policy.surroundings.outbound_rise
        return Whose.NEW_REVISION if well and new > old else Whose.DEPENDENCY
    return Whose.NEW_REVISION if facts.new_alone else Whose.DEPENDENCY


def _finding(says: str, weight: float) -> Finding:
    return Finding(rule=OUTBOUND, group=ENVIRONMENT, says=says, weight=weight)
