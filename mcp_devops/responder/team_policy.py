"""Holds every server to the team's response policy: its thresholds, and who may say yes."""

from __future__ import annotations

from mcp_devops.decision.policy import Policy
from mcp_devops.gateway.approvals import ApprovalDesk, Terms
from mcp_devops.gateway.door import Gateway
from mcp_devops.incidents.judging import Judging
from mcp_devops.model.action import ActionPlan
from mcp_devops.responder.policy_file import PolicyFile
from mcp_devops.responder.settings import ResponseSettings


async def follow_team_policy(gateway: Gateway) -> PolicyFile:
    """Judge by the thresholds of the policy file, and ask whom it names, from now on.

    An agent's server and the unattended one then say the same of the same evidence, and let the
    same people answer.

    Returns:
        The policy, which follows the file.

    Raises:
        NotConfigured: The file cannot be read, or is not valid.
    """
    path = ResponseSettings.load().policy_file
    policy = PolicyFile(path, gateway.clock, await gateway.services.get(Policy))
    policy.require()
    if path is not None:
        judging = await gateway.services.get(Judging)
        judging.follow(lambda target: policy.current.explain(target).judging)
        desk = await gateway.services.get(ApprovalDesk)
        desk.terms_of = lambda plan: terms(policy, plan)
    return policy


def terms(policy: PolicyFile, plan: ActionPlan) -> Terms:
    """Who may answer a question about a plan, and for how long."""
    approval = policy.current.explain(plan.target).rules.approval
    return Terms(approval.approvers, approval.wait_minutes * 60)
