"""One file a rule: what it compares, its limit, its signed weight. Adding them up is not here."""

from __future__ import annotations

from collections.abc import Callable

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.rules.change import change
from mcp_devops.decision.rules.control import control
from mcp_devops.decision.rules.drift import drift
from mcp_devops.decision.rules.errors_before_after import errors_before_after
from mcp_devops.decision.rules.errors_concurrent import errors_concurrent
from mcp_devops.decision.rules.errors_without_requests import errors_without_requests
from mcp_devops.decision.rules.issues import issues
from mcp_devops.decision.rules.latency_before_after import latency_before_after
from mcp_devops.decision.rules.latency_concurrent import latency_concurrent
from mcp_devops.decision.rules.neighbours import neighbours
from mcp_devops.decision.rules.outbound import outbound
from mcp_devops.decision.rules.pods import pods
from mcp_devops.decision.rules.regression import regression
from mcp_devops.decision.rules.scaling import scaling
from mcp_devops.decision.rules.serves_nothing import serves_nothing
from mcp_devops.decision.rules.silence import silence
from mcp_devops.model.verdict import Finding

Rule = Callable[[Facts, Policy], list[Finding]]

RULES: tuple[Rule, ...] = (
    errors_concurrent,
    errors_before_after,
    errors_without_requests,
    regression,
    silence,
    serves_nothing,
    latency_concurrent,
    latency_before_after,
    pods,
    control,
    neighbours,
    outbound,
    scaling,
    drift,
    change,
    issues,
)
"""All rules. Adding one: a file here, a name in the vocabulary, a line in this tuple."""
