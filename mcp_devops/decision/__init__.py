"""Judging: collected facts and a policy in, a verdict with its numbers out.

Pure and repeatable. Not here: fetching facts, asking people, acting, remembering.
"""

from mcp_devops.decision.engine import decide
from mcp_devops.decision.policy import ChangeHistory, Policy

__all__ = ["ChangeHistory", "Policy", "decide"]
