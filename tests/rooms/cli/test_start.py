"""What a start costs is what it imports: nothing heavy before a client asks for something."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from tests.support.process import command, environment

HEAVY = {
    *("aiohttp", "aiosmtplib", "boto3", "botocore", "dbos", "docker", "hcl2"),
    *("jinja2", "kubernetes", "numpy", "opentelemetry.sdk", "prometheus_client", "psycopg"),
    *("requests", "rich", "scipy", "sentry_sdk", "sqlalchemy", "websocket", "yaml"),
}
"""Packages whose import costs more than a bare server may be late by."""
CONFIGURED = {
    "MCP_DEVOPS_PROMETHEUS__URL": "http://127.0.0.1:9",
    "MCP_DEVOPS_SENTRY__URL": "http://127.0.0.1:9",
    "MCP_DEVOPS_SENTRY__TOKEN": "not-a-real-token",
    "MCP_DEVOPS_SENTRY__ORGANIZATION": "acme",
    "MCP_DEVOPS_DATADOG__API_KEY": "not-a-real-key",
    "MCP_DEVOPS_DATADOG__APP_KEY": "not-a-real-key",
    "MCP_DEVOPS_DATADOG__SITE": "datadoghq.eu",
    "MCP_DEVOPS_CLOUDWATCH__REGION": "eu-west-1",
    "MCP_DEVOPS_PAGERDUTY__ROUTING_KEY": "0" * 32,
    "MCP_DEVOPS_SLACK__BOT_TOKEN": "xoxb-not-a-real-token",
    "MCP_DEVOPS_SLACK__CHANNEL": "C0123456789",
    "MCP_DEVOPS_EMAIL__HOST": "127.0.0.1",
    "MCP_DEVOPS_EMAIL__SENDER": "incidents@example.com",
    "MCP_DEVOPS_EMAIL__TO": "ann@example.com",
    "MCP_DEVOPS_DOCKER__HOST": "http://127.0.0.1:9",
}
OPENING = (
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/list", "params": {}},
)


async def started(folder: Path, *options: str, **settings: str) -> tuple[set[str], set[str]]:
    """Systems with tools in the first list, and all modules that the process has imported then."""
    _, *arguments = command(*options, state_dir=folder)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", *arguments),
        env=environment(folder, **settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        for message in OPENING:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        answer: dict[str, object] = {}
        async with asyncio.timeout(60):
            while answer.get("id") != 2:
                answer = json.loads(await process.stdout.readline())
    finally:
        process.kill()
        _, said = await process.communicate()
    result = answer["result"]
    assert isinstance(result, dict)
    systems = {str(tool["name"]).split("_", 1)[0] for tool in result["tools"]}
    return systems, set(re.findall(r"\| +([\w.]+)$", said.decode(), re.MULTILINE))


def heavy(modules: set[str]) -> set[str]:
    return {h for h in HEAVY if any(m == h or m.startswith(f"{h}.") for m in modules)}


@pytest.mark.parametrize("options", [(), ("--allow-writes", "*", "--automatic", "shop")])
async def test_nothing_heavy_is_imported_before_the_first_list(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    systems, modules = await started(tmp_path, *options)
    assert {"kubernetes", "incident"} <= systems
    assert {"mcp", "mcp_devops.catalog"} <= modules, "the modules could be read"
    assert heavy(modules) == set()


async def test_neither_is_where_every_system_is_configured(tmp_path: Path) -> None:
    systems, modules = await started(tmp_path, **CONFIGURED)
    assert {"prometheus", "sentry", "datadog", "docker"} <= systems
    assert heavy(modules) == set()
