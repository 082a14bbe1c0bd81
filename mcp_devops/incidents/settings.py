"""How incidents are investigated and verified."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.settings import IntegrationSettings


class IncidentSettings(IntegrationSettings):
    """The `[incident]` table; variables start with MCP_DEVOPS_INCIDENT__."""

    table = "incident"

    source_deadline_s: float = Field(20, gt=0, le=120)
    """Seconds one source may take; then it is one line of missing evidence."""
    evidence_age_s: float = Field(600, ge=30, le=3600)
    """Seconds after which evidence is too old to act on."""
    steady_s: float = Field(10, ge=0, le=600)
    """Seconds without a restart before pods count as healthy again."""
    verify_deadline_s: float = Field(240, ge=5, le=3600)
    """Seconds after which a rollback that is not healthy counts as not recovered."""
    verify_window_s: float = Field(30, ge=10, le=600)
    """Seconds of requests that must be good again before a rollback counts as recovered."""
    verify_step_s: float = Field(5, ge=1, le=60)
    """Seconds between two looks at the error rate."""
    error_floor: float = Field(0.005, ge=0, le=0.2)
    """Rise over the baseline's error rate that still counts as recovered (decision.md 2)."""
