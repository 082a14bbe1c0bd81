"""Errors where nobody counted the requests: time is the exposure, the probability capped at .70."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.rules.errors_before_after import weigh_past
from mcp_devops.decision.vocabulary import ERRORS, NO_EXPOSURE
from mcp_devops.model.verdict import Finding


def errors_without_requests(facts: Facts, policy: Policy) -> list[Finding]:
    """Weigh errors a second against the past. More users are more errors too: never "no drop"."""
    return [
        Finding(
            rule=NO_EXPOSURE,
            group=ERRORS,
            says=says,
            weight=max(weight, 0.0),
            first_seen_at=c.onset,
            sustained_s=c.sustained_s,
        )
        for c in facts.judged
        if not c.exposure_known
        for weight, says in [weigh_past(c, policy)]
    ]
