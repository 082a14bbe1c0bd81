from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from mcp_devops.errors import NotConfigured
from mcp_devops.settings import (
    CONFIG_VARIABLE,
    IntegrationSettings,
    Names,
    ServerSettings,
    config_file,
    unknown_tables,
    unknown_variables,
)

SECRET = "hunter2-" + "q9Z8" * 8


class LampSettings(IntegrationSettings):
    """Settings of a made-up system."""

    table = "lamp"

    brightness: int = 1
    """How bright."""
    rooms: Names = ("hall",)
    """Which rooms."""
    password: SecretStr | None = None
    """Its password."""


def write(place: Path, text: str) -> Path:
    path = place / "mcp-devops.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_option_beats_the_environment_which_beats_the_file_which_beats_the_default(
    quiet_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LampSettings.load().brightness == 1
    write(quiet_place, "[lamp]\nbrightness = 2\n")
    assert LampSettings.load().brightness == 2
    monkeypatch.setenv("MCP_DEVOPS_LAMP__BRIGHTNESS", "3")
    assert LampSettings.load().brightness == 3
    assert LampSettings.load(brightness=4).brightness == 4


def test_a_value_in_one_place_does_not_hide_other_keys_of_another(
    quiet_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(quiet_place, '[lamp]\nbrightness = 2\nrooms = ["stairs", "attic"]\n')
    monkeypatch.setenv("MCP_DEVOPS_LAMP__BRIGHTNESS", "3")
    found = LampSettings.load()
    assert (found.brightness, found.rooms) == (3, ("stairs", "attic"))


def test_the_servers_variables_have_no_table_in_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_DEVOPS_ALLOW_WRITES", "shop, team-*")
    assert ServerSettings.load().allow_writes == ("shop", "team-*")
    assert ServerSettings.env_prefix() == "MCP_DEVOPS_"
    assert LampSettings.env_prefix() == "MCP_DEVOPS_LAMP__"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("", ()),
        (" ", ()),
        (",,", ()),
        ("a", ("a",)),
        ("a,b", ("a", "b")),
        (" a , b ,", ("a", "b")),
        ("team-*,!x", ("team-*", "!x")),
    ],
)
def test_several_names_in_a_variable_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, given: str, read: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_LAMP__ROOMS", given)
    assert LampSettings.load().rooms == read


def test_several_names_in_the_file_are_a_list_or_a_text_with_commas(quiet_place: Path) -> None:
    write(quiet_place, '[lamp]\nrooms = ["a", "b"]\n')
    assert LampSettings.load().rooms == ("a", "b")
    write(quiet_place, '[lamp]\nrooms = "a, b"\n')
    assert LampSettings.load().rooms == ("a", "b")


@given(text=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_stands_in_a_comma_list_no_name_is_empty_or_padded(text: str) -> None:
    names = LampSettings(rooms=text).rooms
    assert all(n and n == n.strip() and "," not in n for n in names)


def test_an_unknown_key_of_the_file_is_refused_by_name_and_its_value_is_not_told(
    quiet_place: Path,
) -> None:
    write(quiet_place, f'[lamp]\npasword = "{SECRET}"\n')
    with pytest.raises(NotConfigured) as refused:
        LampSettings.load()
    said = str(refused.value)
    assert "pasword" in said and "[lamp]" in said and "password" in refused.value.fix
    assert SECRET not in said


def test_a_value_that_does_not_fit_is_refused_without_being_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MCP_DEVOPS_LAMP__BRIGHTNESS", SECRET)
    with pytest.raises(NotConfigured) as refused:
        LampSettings.load()
    assert "brightness" in str(refused.value) and SECRET not in str(refused.value)
    assert "MCP_DEVOPS_LAMP__" in refused.value.fix


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APPROVAL_TTL_S", "0"),
        ("APPROVAL_TTL_S", "3601"),
        ("READ_DEADLINE_S", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("REQUEST_STATE_KEY", "too-short"),
    ],
)
def test_a_value_out_of_bounds_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MCP_DEVOPS_{name}", value)
    with pytest.raises(NotConfigured) as refused:
        ServerSettings.load()
    assert name.lower() in str(refused.value)


def test_a_variable_that_matches_no_setting_is_found() -> None:
    environ = {
        "MCP_DEVOPS_ALOW_WRITES": "shop",
        "MCP_DEVOPS_LAMP__BRIGHTNES": "2",
        "MCP_DEVOPS_LAMP_BRIGHTNESS": "2",
        "MCP_DEVOPS_ALLOW_WRITES": "shop",
        "MCP_DEVOPS_LAMP__BRIGHTNESS": "2",
        CONFIG_VARIABLE: "x.toml",
        "HOME": "/",
    }
    assert unknown_variables([ServerSettings, LampSettings], environ) == [
        "MCP_DEVOPS_ALOW_WRITES",
        "MCP_DEVOPS_LAMP_BRIGHTNESS",
        "MCP_DEVOPS_LAMP__BRIGHTNES",
    ]


def test_without_a_file_there_is_none_in_force() -> None:
    assert config_file() is None


def test_the_file_in_the_working_directory_is_in_force_unless_a_variable_names_another(
    quiet_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(quiet_place, "[lamp]\nbrightness = 2\n")
    assert config_file() == Path("mcp-devops.toml")
    other = quiet_place / "other.toml"
    other.write_text("[lamp]\nbrightness = 5\n", encoding="utf-8")
    monkeypatch.setenv(CONFIG_VARIABLE, str(other))
    assert config_file() == other
    assert LampSettings.load().brightness == 5


@pytest.mark.parametrize("table", [ServerSettings, LampSettings])
def test_a_named_file_that_is_not_there_is_refused(
    quiet_place: Path, monkeypatch: pytest.MonkeyPatch, table: type[ServerSettings]
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(quiet_place / "gone.toml"))
    with pytest.raises(NotConfigured) as refused:
        table.load()
    assert "gone.toml" in str(refused.value) and CONFIG_VARIABLE in refused.value.fix


def test_a_directory_is_no_settings_file(
    quiet_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(quiet_place))
    with pytest.raises(NotConfigured):
        config_file()


@pytest.mark.parametrize("text", ["[lamp", "brightness", "[lamp]\nbrightness = 1\nbrightness = 2"])
def test_a_file_that_is_not_toml_is_refused_by_name(quiet_place: Path, text: str) -> None:
    write(quiet_place, text)
    with pytest.raises(NotConfigured) as refused:
        LampSettings.load()
    assert "mcp-devops.toml is not valid TOML" in str(refused.value)


def test_a_file_that_is_not_text_is_refused(quiet_place: Path) -> None:
    (quiet_place / "mcp-devops.toml").write_bytes(b"\xff\xfe[lamp]\n")
    with pytest.raises(NotConfigured):
        LampSettings.load()


@pytest.mark.parametrize("text", ["lamp = 3\n", 'lamp = "on"\n', "[[lamp]]\nbrightness = 1\n"])
def test_a_table_that_is_no_table_is_refused(quiet_place: Path, text: str) -> None:
    write(quiet_place, text)
    with pytest.raises(NotConfigured) as refused:
        LampSettings.load()
    assert "lamp" in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(quiet_place: Path) -> None:
    (quiet_place / "mcp-devops.toml").symlink_to("/proc/self/mem")
    with pytest.raises(NotConfigured) as refused:
        LampSettings.load()
    assert "cannot be read" in str(refused.value)


def test_a_table_of_the_file_that_nobody_owns_is_found(quiet_place: Path) -> None:
    assert unknown_tables([ServerSettings, LampSettings]) == []
    write(quiet_place, "loose = 1\n[lamp]\n[lampp]\nbrightness = 1\n[server]\n")
    assert unknown_tables([ServerSettings, LampSettings]) == ["lampp", "loose"]


def test_a_secret_is_masked_wherever_the_settings_are_shown() -> None:
    key = "k" * 40
    assert SECRET not in repr(LampSettings.load(password=SECRET))
    assert key not in repr(ServerSettings.load(request_state_key=key))
