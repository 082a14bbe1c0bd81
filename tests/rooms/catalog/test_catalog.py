from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.catalog import DuplicateName, build_catalog, discover, published
from mcp_devops.errors import InvalidArguments, NotConfigured, NotFound
from mcp_devops.settings import IntegrationSettings, ServerSettings
from mcp_devops.toolkit.integration import AnyIntegration
from mcp_devops.toolkit.risk import Rbac, Risk
from tests.support.toy import ToyClient, toy


class OtherSettings(IntegrationSettings):
    """Settings of a second system."""

    table = "other"


@pytest.fixture(autouse=True)
def quiet_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [v for v in os.environ if v.startswith("MCP_DEVOPS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def house(**changes: Any) -> AnyIntegration:
    return replace(toy(ToyClient()), **changes)


def other(**changes: Any) -> AnyIntegration:
    """A second integration without anything to offer."""
    empty: dict[str, Any] = {"tools": (), "resources": (), "prompts": ()}
    return house(**{"name": "other", "settings": OtherSettings, **empty, **changes})


def test_integrations_are_found_because_their_folder_exists() -> None:
    names = [i.name for i in discover()]
    assert {"kubernetes", "prometheus"} <= set(names)
    assert names[-1] == "incident" and names[:-1] == sorted(names[:-1])


def test_all_tools_of_all_integrations_carry_their_systems_name() -> None:
    for integration in discover():
        assert all(t.system == integration.name for t in integration.tools)


def test_two_tools_of_one_name_are_refused() -> None:
    twice = house(tools=toy(ToyClient()).tools * 2)
    with pytest.raises(DuplicateName) as refused:
        build_catalog(ServerSettings(), [twice])
    assert "toy_get_lamp" in str(refused.value)


def test_a_tool_declared_by_another_system_is_refused() -> None:
    with pytest.raises(DuplicateName):
        build_catalog(ServerSettings(), [other(tools=toy(ToyClient()).tools)])


def test_a_clash_is_refused_even_where_one_of_the_two_is_off() -> None:
    off = house(why_off=lambda settings: "not set up")
    with pytest.raises(DuplicateName):
        build_catalog(ServerSettings(), [house(), off])


def test_asking_for_some_tool_sets_switches_the_others_off() -> None:
    catalog = build_catalog(ServerSettings(toolsets=("other",)), [house(), other()])
    assert list(catalog.tools) == [] and catalog.resources == () and catalog.prompts == ()
    reasons = {m.integration.name: m.why_off for m in catalog.members}
    assert reasons["other"] is None and "--toolsets" in str(reasons["toy"])


def test_without_a_wish_everything_that_is_configured_is_on() -> None:
    catalog = build_catalog(ServerSettings(), [house(), other()])
    assert set(catalog.tools) == {"toy_get_lamp", "toy_restart_lamp"}
    assert len(catalog.resources) == 2 and len(catalog.prompts) == 1


def test_a_tool_set_that_does_not_exist_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArguments) as refused:
        build_catalog(ServerSettings(toolsets=("toy", "tyo")), [house(), other()])
    assert "tyo" in str(refused.value) and refused.value.fix == "Known: other, toy."


def test_an_integration_says_itself_why_it_is_off() -> None:
    catalog = build_catalog(ServerSettings(), [house(why_off=lambda s: f"no {s.colour} lamps")])
    assert catalog.members[0].why_off == "no red lamps"
    assert not catalog.tools and not catalog.resources and not catalog.prompts
    with pytest.raises(NotFound) as refused:
        catalog.find("toy_get_lamp")
    assert "no red lamps" in str(refused.value) and "doctor" in refused.value.fix


def test_an_integration_with_bad_settings_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_KUBERNETES__MAX_CONNECTIONS", "many")
    with pytest.raises(NotConfigured):
        build_catalog(ServerSettings())


def test_a_tool_is_found_by_its_name_and_belongs_to_its_integration() -> None:
    catalog = build_catalog(ServerSettings(), [house(), other()])
    spec = catalog.find("toy_get_lamp")
    assert spec.title == "Look at a lamp"
    assert catalog.owner(spec).integration.name == "toy"


def test_a_mistyped_tool_name_is_answered_with_the_near_ones() -> None:
    catalog = build_catalog(ServerSettings(), [house()])
    with pytest.raises(NotFound) as refused:
        catalog.find("toy_get_lmap")
    assert "toy_get_lamp" in refused.value.fix
    assert "toy_get_lamp" in refused.value.details["near"]
    with pytest.raises(NotFound) as lost:
        catalog.find("%%%")
    assert lost.value.fix == "Call tools/list."


def test_what_cannot_be_called_is_not_offered() -> None:
    for catalog in (build_catalog(ServerSettings(), [house()]), build_catalog(ServerSettings())):
        shown = published(catalog, ServerSettings())
        assert shown and all(spec.risk is Risk.READ for spec in shown)
        everything = published(catalog, ServerSettings(allow_writes=("shop",)))
        assert set(everything) == set(catalog.tools.values())
        assert len(everything) > len(shown)


def test_permissions_are_told_once_whatever_number_of_tools_needs_them() -> None:
    get = replace(
        toy(ToyClient()).tools[0], needs=(Rbac("get", "lamps"), Rbac("get", "lamps", "x"))
    )
    again = replace(get, name="toy_list_lamps", needs=(Rbac("get", "lamps"), Rbac("list", "lamps")))
    catalog = build_catalog(ServerSettings(), [house(tools=(get, again))])
    assert catalog.needs() == (
        Rbac("get", "lamps"),
        Rbac("get", "lamps", "x"),
        Rbac("list", "lamps"),
    )
    real = build_catalog(ServerSettings()).needs()
    assert len(real) == len(set(real)) > 0


def test_the_default_tool_set_is_small() -> None:
    assert len(published(build_catalog(ServerSettings()), ServerSettings())) <= 20
