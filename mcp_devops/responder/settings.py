"""How long the unattended server keeps what has ended."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.settings import OwnTable


class HousekeepingSettings(OwnTable):
    """The `[housekeeping]` table; variables start with MCP_DEVOPS_HOUSEKEEPING__.

    Journal, incidents, approvals and actions are kept for ever, whatever stands here.
    """

    table = "housekeeping"

    keep_days: float = Field(90, ge=7, le=3650)
    """Days that ended runs, messages to people that were sent or given up, webhook deliveries and
    what is known of deleted workloads are kept; of each workload the newest 200 runs stay."""
    keep_steps_days: float = Field(7, ge=1, le=3650)
    """Days that the steps of ended runs are kept, by which a run goes on after a crash."""
