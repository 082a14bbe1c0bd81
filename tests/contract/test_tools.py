"""What every tool owes: invariants, the byte budget, and snapshots that make changes visible."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.catalog import build_catalog, discover
from mcp_devops.server.protocol import describe
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import AnyTool

SNAPSHOTS = Path(__file__).parent / "snapshots"
TOOLS = {spec.name: spec for integration in discover() for spec in integration.tools}
LEANEST_PEER_BYTES = 20_028
"""Bytes of the leanest peer's tools/list as measured (it has seven tools): the default's budget."""
WITH_CHANGES_BYTES = 27_000
"""Budget of the whole list, which an operator asks for with --allow-writes."""
MOST_TOOLS = 20
CORE = ("kubernetes", "prometheus", "incident")
"""The default tool sets; every other one is published only where its system is configured."""
DEFAULT = [s for s in TOOLS.values() if s.system in CORE]


def wire(spec: AnyTool) -> dict[str, Any]:
    return describe(spec).model_dump(mode="json", by_alias=True, exclude_none=True)


def test_there_are_at_most_twenty_tools_by_default() -> None:
    assert len(DEFAULT) <= MOST_TOOLS


def listed_bytes(specs: list[AnyTool]) -> int:
    return len(json.dumps([wire(s) for s in specs], separators=(",", ":")))


def test_the_default_list_is_leaner_than_the_leanest_peers() -> None:
    assert listed_bytes([s for s in DEFAULT if s.risk is Risk.READ]) <= LEANEST_PEER_BYTES


def test_the_list_with_changes_stays_in_its_budget() -> None:
    assert listed_bytes(DEFAULT) <= WITH_CHANGES_BYTES


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_the_tool_is_what_its_snapshot_says(name: str) -> None:
    path = SNAPSHOTS / f"{name}.json"
    now = json.dumps(wire(TOOLS[name]), indent=1, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(now, encoding="utf-8")
    assert path.is_file(), "no snapshot: run `make generate` and review it"
    assert path.read_text(encoding="utf-8") == now, "changed: run `make generate`, review the diff"


def test_no_snapshot_is_left_of_a_tool_that_is_gone() -> None:
    assert {p.stem for p in SNAPSHOTS.glob("*.json")} == set(TOOLS)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_schemas_are_closed_plain_objects_with_described_arguments(name: str) -> None:
    schema = wire(TOOLS[name])["inputSchema"]
    assert schema["type"] == "object" and schema["additionalProperties"] is False
    assert not {"anyOf", "oneOf", "allOf", "$ref", "$defs"} & set(schema)
    text = json.dumps(schema)
    assert "$ref" not in text and '"title"' not in text
    for argument, rule in schema["properties"].items():
        assert rule.get("description"), argument
        assert "anyOf" not in rule, argument


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_output_schemas_are_plain_objects(name: str) -> None:
    schema = wire(TOOLS[name])["outputSchema"]
    assert schema["type"] == "object" and "headline" in schema["required"]
    assert "$ref" not in json.dumps(schema)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_all_four_hints_are_explicit_and_follow_from_the_risk(name: str) -> None:
    hints = wire(TOOLS[name])["annotations"]
    reads = TOOLS[name].risk is Risk.READ
    assert hints["readOnlyHint"] is reads and hints["destructiveHint"] is not reads
    assert {"idempotentHint", "openWorldHint"} <= set(hints)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_description_names_only_tools_that_exist(name: str) -> None:
    systems = {s.system for s in TOOLS.values()}
    words = TOOLS[name].description.replace("`", " ").replace(".", " ").replace(",", " ").split()
    named = {w.strip("();:") for w in words if w.split("_")[0] in systems and "_" in w}
    named -= {"incident_id"}
    assert named <= set(TOOLS), named - set(TOOLS)


def test_change_tools_are_hidden_from_a_read_only_server(tmp_path: Path) -> None:
    from mcp_devops.catalog import published

    settings = ServerSettings(state_dir=tmp_path)
    shown = published(build_catalog(settings), settings)
    assert all(spec.risk is Risk.READ for spec in shown)
