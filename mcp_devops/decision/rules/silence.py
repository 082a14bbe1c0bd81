"""The new revision gets no request while the old one does."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.silence import Quiet
from mcp_devops.decision.vocabulary import ERRORS, SILENCE
from mcp_devops.model.verdict import Finding


def silence(facts: Facts, policy: Policy) -> list[Finding]:
    """+2.8 for a silent new revision [C2]; both silent has no weight: that is trouble upstream."""
    return [
        Finding(
            rule=SILENCE,
            group=ERRORS,
            says=s.says,
            weight=policy.weights.silence if s.who is Quiet.NEW else 0.0,
            sustained_s=s.lasted_s,
        )
        for s in facts.silent
    ]
