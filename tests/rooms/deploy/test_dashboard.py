"""The dashboard asks for nothing that is not exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcp_devops.gateway.door import CallRecord
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.server.metrics import Metrics
from mcp_devops.settings import ServerSettings
from tests.support.promtool import promtool
from tests.support.toy import ToyClient, toy

BOARD = Path(__file__).parents[3] / "deploy" / "grafana" / "mcp-devops.json"
NAME = re.compile(r"\bmcp_devops_[a-z_]+")
SHARED = "the same on every replica"


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(BOARD.read_text(encoding="utf-8"))
    return found


def queries() -> Iterator[str]:
    for panel in board()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


async def exported(folder: Path) -> tuple[set[str], dict[str, str]]:
    """Names of series that can be asked for, and the HELP of each family."""
    settings = ServerSettings(state_dir=folder)
    async with open_gateway(settings, channel="test", integrations=[toy(ToyClient())]) as gateway:
        metrics = Metrics(gateway)
        metrics.observe(CallRecord("toy_get_lamp", "UPSTREAM_TIMEOUT", 1.0))
        text = (await metrics.render()).decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    names: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= (
            {f"{name}_{part}" for part in ("bucket", "sum", "count")}
            if (kind == "histogram")
            else {name}
        )
    return names, helps


async def test_each_name_on_the_dashboard_is_exported(tmp_path: Path) -> None:
    names, _ = await exported(tmp_path)
    asked = {name for query in queries() for name in NAME.findall(query)}
    assert len(asked) > 20
    assert asked <= names, "the dashboard asks for what is not exported"


async def test_each_exported_family_is_on_the_dashboard(tmp_path: Path) -> None:
    _, helps = await exported(tmp_path)
    shown = " ".join(queries())
    missing = {name for name in helps if name.startswith("mcp_devops_") and name not in shown}
    assert missing - {name for name in helps if name.endswith("_created")} == set()


async def test_each_help_says_whose_number_it_is_and_shared_ones_are_not_added_up(
    tmp_path: Path,
) -> None:
    _, helps = await exported(tmp_path)
    own = {n for n, says in helps.items() if "This process only" in says}
    shared = {n for n, says in helps.items() if SHARED in says}
    assert {"mcp_devops_info"} | own | shared >= {n for n in helps if not n.endswith("_created")}
    for query in queries():
        if re.match(r"sum by \(|sum\(", query) and "max by" not in query:
            assert not any(re.search(rf"\b{name}(_|\b)", query) for name in shared), query


def test_panels_do_not_overlap_and_all_ask_the_chosen_source() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(set(places)) == len(places) and max(x for x, _ in places) < 24
    sources = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert sources == {"${datasource}"}
    variables = {variable["name"]: variable for variable in board()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    used = set(re.findall(r"\$\{?(\w+)", " ".join(queries())))
    assert used <= set(variables)


def test_every_panel_has_a_unit_and_no_axis_has_two() -> None:
    for panel in board()["panels"]:
        if panel["type"] == "row":
            continue
        unit = panel["fieldConfig"]["defaults"].get("unit")
        assert unit, panel["title"]
        asked = " ".join(target["expr"] for target in panel["targets"])
        seconds = bool(re.search(r"_seconds(_bucket|_sum|\{)", asked))
        counted = panel["type"] == "stat" or not seconds
        assert (unit == "s") is not counted, panel["title"]
        if unit == "s":
            assert all("_seconds" in target["expr"] for target in panel["targets"])


def test_prometheus_own_tool_can_read_every_query(tmp_path: Path) -> None:
    filled = [
        query.replace("$job", ".*").replace("$window", "24h").replace("$__all", ".*")
        for query in queries()
    ]
    rules = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(filled)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}), encoding="utf-8")
    assert f"{len(filled)} rules found" in promtool("check", "rules", str(path), given=b"")
