from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_devops.catalog import build_catalog
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.integrations.sentry import INTEGRATION
from mcp_devops.integrations.sentry.compare_error_rates import ErrorRates
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.context import Caller
from tests.support.sentry import NOW, ORG, TOKEN, Traffic, World, ago, issue, release, sentry

CALLER = Caller("ann", "test")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("MCP_DEVOPS_SENTRY__ORGANIZATION", ORG)
    monkeypatch.setenv("MCP_DEVOPS_SENTRY__TOKEN", TOKEN)
    return monkeypatch


def test_the_tools_are_published_only_where_it_is_configured(
    configured: pytest.MonkeyPatch,
) -> None:
    names = {"sentry_compare_error_rates", "sentry_list_release_issues", "sentry_list_deploys"}
    assert set(build_catalog(ServerSettings(), [INTEGRATION]).tools) == names
    configured.delenv("MCP_DEVOPS_SENTRY__TOKEN")
    assert not build_catalog(ServerSettings(), [INTEGRATION]).tools


async def test_through_the_door_answers_fit_their_schema_and_hold_no_token(
    configured: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = World(
        traffic=[Traffic(ago(90), NOW, errors=2)],
        releases=[release("c@1", ago(9))],
        issues={'first-release:"c@1"': [issue(n, title=f"key {TOKEN}") for n in range(40)]},
    )
    async with sentry(there) as client:
        configured.setenv("MCP_DEVOPS_SENTRY__URL", client.settings.url)
        settings = ServerSettings(state_dir=tmp_path)
        async with open_gateway(
            settings, channel="test", clock=there.clock, integrations=[INTEGRATION]
        ) as door:
            compared = await door.call(
                "sentry_compare_error_rates",
                {
                    "service": "checkout",
                    "deployed_at": ago(20).isoformat(),
                    "response_format": "detailed",
                },
                CALLER,
            )
            listed = await door.call("sentry_list_release_issues", {"release": "c@1"}, CALLER)
            early = await door.call(
                "sentry_compare_error_rates",
                {"service": "checkout", "deployed_at": NOW.isoformat()},
                CALLER,
            )
    assert compared.data and listed.data and not compared.failed
    assert ErrorRates.model_validate(compared.data).dataset == "errors"
    assert compared.data["series"][0]["buckets"] and "no rate" in compared.text
    assert TOKEN not in json.dumps(listed.data) + listed.text
    assert early.error and early.error["code"] == "NO_DATA"
