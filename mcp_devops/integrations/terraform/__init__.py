"""Terraform and OpenTofu: drift and state, without writing either. Never apply, never init.

What a plan may execute is checked before (safety.py); what an allowed provider does is not
confined, so roots must be directories that only trusted people write.
"""

from __future__ import annotations

import os
import shutil

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.terraform.client import TerraformClient
from mcp_devops.integrations.terraform.environment import secret_values
from mcp_devops.integrations.terraform.evidence import drift_around, drift_evidence
from mcp_devops.integrations.terraform.plan_drift import DriftReport, plan_drift
from mcp_devops.integrations.terraform.settings import TerraformSettings
from mcp_devops.integrations.terraform.show_state import show_state
from mcp_devops.toolkit.integration import Health, Integration

__all__ = ["INTEGRATION", "DriftReport", "TerraformClient", "drift_around", "drift_evidence"]


async def _ping(client: TerraformClient) -> Health:
    if not client.settings.roots:
        return Health(True, "reads copied state files; runs nothing")
    try:
        found = await client.version()
    except DevOpsError as problem:
        return Health(False, problem.what, problem.fix)
    return Health(True, f"{found.program} {found.version}")


def _why_off(settings: TerraformSettings) -> str | None:
    if not settings.roots and settings.state_dir is None:
        return "MCP_DEVOPS_TERRAFORM__ROOTS is not set"
    if settings.roots and shutil.which(settings.binary) is None:
        return "the binary of MCP_DEVOPS_TERRAFORM__BINARY is not found"
    return None


INTEGRATION = Integration(
    name="terraform",
    settings=TerraformSettings,
    client=TerraformClient,
    connect=TerraformClient,
    close=TerraformClient.close,
    tools=(plan_drift, show_state),
    why_off=_why_off,
    ping=_ping,
    secrets=lambda settings: secret_values(settings.pass_env, os.environ),
)
