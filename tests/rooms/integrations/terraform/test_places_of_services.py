from __future__ import annotations

from pathlib import Path

import pytest

from mcp_devops.errors import NotConfigured
from mcp_devops.integrations.terraform import drift_around
from mcp_devops.integrations.terraform.client import TerraformClient
from mcp_devops.integrations.terraform.settings import TerraformSettings
from mcp_devops.toolkit.clock import SystemClock


async def test_with_several_roots_and_no_name_the_setting_is_told(tmp_path: Path) -> None:
    roots = (str(tmp_path / "a"), str(tmp_path / "b"))
    client = TerraformClient(TerraformSettings(roots=roots), SystemClock())
    with pytest.raises(NotConfigured, match="No Terraform root is named") as raised:
        await drift_around(client, "web")
    assert "MCP_DEVOPS_TERRAFORM__SERVICES" in raised.value.fix


def test_services_are_pairs_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_DEVOPS_TERRAFORM__SERVICES", "web=live/web, *=live/all")
    assert TerraformSettings.load().services == {"web": "live/web", "*": "live/all"}
    monkeypatch.setenv("MCP_DEVOPS_TERRAFORM__SERVICES", "web")
    with pytest.raises(NotConfigured, match="NAME=VALUE"):
        TerraformSettings.load()
