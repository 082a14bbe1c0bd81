"""Holds every server to the team's response policy: its thresholds, and who may say yes.

An agent's server and the unattended one then say the same of the same evidence, and let the same
people answer.
"""

from __future__ import annotations

from mcp_devops.decision.policy import Policy
from mcp_devops.gateway.approval import Terms
from mcp_devops.model.action import ActionPlan
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.response_policy.settings import ResponseSettings
from mcp_devops.toolkit.clock import Clock


def team_policy(clock: Clock, base: Policy) -> PolicyFile:
    """The policy that the settings name; without one, what is built in."""
    return PolicyFile(ResponseSettings.load().policy_file, clock, base)


def terms(team: PolicyFile, plan: ActionPlan) -> Terms:
    """Who may answer a question about a plan, and for how long; without a file: the server's."""
    if not team.current.origin:
        return Terms()
    approval = team.current.explain(plan.target).rules.approval
    return Terms(approval.approvers, approval.wait_minutes * 60)
