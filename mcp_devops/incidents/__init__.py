"""Incidents: investigate, decide, roll back, verify, tell. Needs several systems; knows no MCP."""

from __future__ import annotations

from mcp_devops.incidents.decide import decide
from mcp_devops.incidents.investigate import investigate
from mcp_devops.incidents.postmortem import draft_postmortem
from mcp_devops.incidents.prompts import PROMPTS
from mcp_devops.incidents.records import explain, get_incident, list_incidents
from mcp_devops.incidents.resources import RESOURCES
from mcp_devops.incidents.roll_back import roll_back
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.integration import Integration


def _connect(settings: IncidentSettings, clock: Clock) -> IncidentSettings:
    """The room has no connection of its own: its client is its settings."""
    return settings


async def _close(client: IncidentSettings) -> None:
    """Nothing to end."""


INTEGRATION = Integration(
    name="incident",
    settings=IncidentSettings,
    client=IncidentSettings,
    connect=_connect,
    close=_close,
    tools=(investigate, decide, roll_back, get_incident, list_incidents, explain, draft_postmortem),
    resources=RESOURCES,
    prompts=PROMPTS,
)
