"""What the error tracker says of the release: issues that it brought."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import CHANGE, ISSUES
from mcp_devops.model.verdict import Finding


def issues(facts: Facts, policy: Policy) -> list[Finding]:
    """+0.5 for new or regressed errors with enough events; no issue has no weight.

    Every release brings some issues, so it is no more than a hint; that there is none may mean
    that nothing is reported.
    """
    found = facts.context.issues
    if found is None or not found.serious:
        return []
    enough = found.events >= policy.errors.least_errors
    return [
        Finding(
            rule=ISSUES,
            group=CHANGE,
            says=f"{found.serious} new or regressed errors in release {found.release}, "
            f"{found.events} events ({found.source})",
            weight=policy.weights.release_issues if enough else 0.0,
        )
    ]
