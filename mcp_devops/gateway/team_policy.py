"""Holds every server to the team's response policy: its thresholds, and who may say yes.

An agent's server and the unattended one then say the same of the same evidence, and let the same
people answer.
"""

from __future__ import annotations

from datetime import datetime

from mcp_devops.decision.policy import Policy
from mcp_devops.gateway.approval import Terms
from mcp_devops.model.action import ActionPlan
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.response_policy.hours import strictest
from mcp_devops.response_policy.policy import Automatic, Explanation, ResponsePolicy
from mcp_devops.response_policy.settings import ResponseSettings
from mcp_devops.toolkit.clock import Clock


def team_policy(clock: Clock, base: Policy) -> PolicyFile:
    """The policy that the settings name; without one, what is built in."""
    return PolicyFile(ResponseSettings.load().policy_file, clock, base)


def terms(team: PolicyFile, clock: Clock, plan: ActionPlan) -> Terms:
    """Who may answer a question about a plan, and for how long; without a file: the server's."""
    policy = team.current
    if not policy.origin:
        return Terms()
    found = policy.explain(plan.target)
    approval = found.rules.approval
    because = person_because(policy, found, clock.now())
    return Terms(approval.approvers, approval.wait_minutes * 60, because)


def person_because(policy: ResponsePolicy, found: Explanation, now: datetime) -> str:
    """Why a workload's scope, or the hour, wants a person; empty: neither does."""
    if found.rules.automatic is not Automatic.VERDICT:
        place = found.scope if found.line is None else f"{found.scope} (line {found.line})"
        return f"{place} says automatic: {found.rules.automatic.value}"
    quiet = strictest(policy.document.quiet_hours, now)
    if quiet is None:
        return ""
    hours, end = quiet
    return f"quiet hours ({hours.says()}) until {end:%Y-%m-%d %H:%M} UTC: {hours.effect.value}"
