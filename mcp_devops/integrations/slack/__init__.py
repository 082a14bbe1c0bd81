"""Slack: tells a team, asks it, hears its answers. Not here: whose answer counts, or until when."""

from __future__ import annotations

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.settings import AnswerPath, SlackSettings
from mcp_devops.toolkit.integration import Health, Integration

_PATHS = {
    AnswerPath.SOCKET: "answers come by Socket Mode",
    AnswerPath.HTTP: "answers come by signed HTTP",
    AnswerPath.POLLING: "answers are polled for: reactions and replies",
}


def _why_off(settings: SlackSettings) -> str | None:
    # Without a channel of its own it still tells those that the response policy names.
    return None if settings.bot_token else "MCP_DEVOPS_SLACK__BOT_TOKEN is not set"


async def _ping(client: SlackClient) -> Health:
    try:
        who = await client.whoami()
    except DevOpsError as problem:
        return Health(False, problem.what, problem.fix)
    how = _PATHS[client.settings.answers]
    if not client.settings.channel:
        how += "; no channel is set (MCP_DEVOPS_SLACK__CHANNEL): only the policy's are told"
    return Health(True, f"answers as {who['user']} in {who['team']}; {how}")


def _secrets(settings: SlackSettings) -> list[str]:
    held = (settings.bot_token, settings.app_token, settings.signing_secret)
    return [s.get_secret_value().strip() for s in held if s]


INTEGRATION = Integration(
    name="slack",
    settings=SlackSettings,
    client=SlackClient,
    connect=SlackClient,
    close=SlackClient.close,
    tools=(),
    why_off=_why_off,
    ping=_ping,
    secrets=_secrets,
)
