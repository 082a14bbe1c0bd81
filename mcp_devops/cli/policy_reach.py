"""What the server's own settings change about a policy: who is not reached, what is not done."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mcp_devops.cli.serving import server_settings

if TYPE_CHECKING:
    from mcp_devops.model.target import Workload
    from mcp_devops.response_policy.policy import Page, Rules

_SLACK_ID = re.compile(r"[UW][A-Z0-9]{5,20}")


def server_says(target: Workload, rules: Rules) -> list[str]:
    """What the settings, as this process sees them, change for a workload."""
    return [*_about_acting(target), *people_missed(rules)]


def people_missed(rules: Rules) -> list[str]:
    """Whom the rules name and these settings do not reach, or not for so long."""
    return [*_about_asking(rules), *_about_telling(rules.page)]


def _about_acting(target: Workload) -> list[str]:
    from mcp_devops.gateway.permission import matches

    settings = server_settings([], [], [], None)
    says = []
    if not matches(target.namespace, settings.allow_writes):
        says.append(f"MCP_DEVOPS_ALLOW_WRITES does not name {target.namespace}: no change at all.")
    alone = matches(target.namespace, settings.automatic_namespaces)
    if alone and "policy" in settings.approval_channels:
        says.append(
            f"MCP_DEVOPS_AUTOMATIC_NAMESPACES names {target.namespace}: an agent's rollback on an"
            " automatic verdict is approved there too, within this file's scopes, quiet hours and"
            " limits."
        )
    return says


def _about_asking(rules: Rules) -> list[str]:
    from mcp_devops.integrations.slack.settings import SlackSettings

    says = []
    longest = server_settings([], [], [], None).approval_ttl_s / 60
    if rules.approval.wait_minutes > longest:
        says.append(
            f"MCP_DEVOPS_APPROVAL_TTL_S ends a question after {longest:g} min, whatever"
            f" wait_minutes says ({rules.approval.wait_minutes:g})."
        )
    ids = [a for a in rules.approval.approvers if _SLACK_ID.fullmatch(a)]
    if ids and not SlackSettings.load().bot_token:
        says.append(f"Slack is not set up, so {', '.join(ids)} cannot answer.")
    return says


def _about_telling(page: Page) -> list[str]:
    from mcp_devops.integrations.email.records import MailSeverity
    from mcp_devops.integrations.email.settings import EmailSettings
    from mcp_devops.integrations.pagerduty.settings import PagerDutySettings
    from mcp_devops.integrations.slack.settings import SlackSettings

    slack, mail = SlackSettings.load(), EmailSettings.load()
    alerts = bool(PagerDutySettings.load().all_keys())
    posts, mails = bool(slack.bot_token), bool(mail.host and mail.sender)
    says = []
    if page.pagerduty and not alerts:
        says.append("PagerDuty is not set up (MCP_DEVOPS_PAGERDUTY__ROUTING_KEY): no alert.")
    if page.slack_channel and not posts:
        says.append("Slack is not set up (MCP_DEVOPS_SLACK__BOT_TOKEN): no message.")
    if page.email and not mails:
        says.append("No mail server is set up (MCP_DEVOPS_EMAIL__HOST and SENDER): no mail.")
    told = [
        page.pagerduty and alerts,
        posts and (page.slack_channel or slack.channel),
        mails and (page.email or mail.recipients(MailSeverity(page.severity.value))),
    ]
    if not any(told):
        says.append("Nobody at all is told.")
    return says
