"""Which directories, files, workspaces, variables, providers and programs are let in."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.terraform import INTEGRATION
from mcp_devops.integrations.terraform import client as terraform_client
from mcp_devops.integrations.terraform.client import TerraformClient
from mcp_devops.integrations.terraform.environment import environment, passed, secret_values
from mcp_devops.integrations.terraform.places import (
    checked_workspace,
    file_inside,
    working_directory,
)
from mcp_devops.integrations.terraform.safety import (
    check_cli_config,
    check_external,
    check_providers,
)
from mcp_devops.integrations.terraform.settings import TerraformSettings
from mcp_devops.toolkit.clock import SystemClock


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "prod/eu").mkdir(parents=True)
    (root / "prod/eu.tfvars").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.tfvars").touch()
    (root / "way-out").symlink_to(tmp_path / "outside")
    (root / "way-in").symlink_to(root / "prod")
    (root / "loop").symlink_to(root / "loop")
    return root.resolve()


def code_of(asked: str | None, *roots: Path) -> str:
    with pytest.raises(DevOpsError) as raised:
        working_directory(asked, [str(r) for r in roots])
    return raised.value.code


def test_directories_below_a_root_are_found_relative_absolute_and_through_links(
    root: Path,
) -> None:
    assert working_directory(None, [str(root)]) == root
    assert working_directory("prod/eu", [str(root)]) == root / "prod/eu"
    assert working_directory(str(root / "prod"), [str(root), str(root)]) == root / "prod"
    assert working_directory("way-in", [str(root)]) == root / "prod"


@pytest.mark.parametrize("asked", ["..", "../outside", "way-out", "/", "prod/../../outside", "~"])
def test_directories_outside_every_root_are_refused(root: Path, asked: str) -> None:
    assert code_of(asked, root) in ("INVALID_ARGUMENTS", "NOT_FOUND")


def test_missing_files_loops_and_nul_bytes_are_not_found(root: Path) -> None:
    for asked in ("nothing", "prod/eu.tfvars", "loop", "a\0b", "x" * 5000):
        assert code_of(asked, root) == "NOT_FOUND"


def test_several_directories_that_fit_are_named(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "prod").mkdir(parents=True)
    assert code_of(None, root, other) == "AMBIGUOUS"
    assert code_of("prod", root, other) == "AMBIGUOUS"
    assert code_of(None, tmp_path / "gone") == "NOT_CONFIGURED"


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.text(alphabet="./~\0ab-\\root\u202e", max_size=40))
def test_no_text_leads_out_of_the_root(root: Path, asked: str) -> None:
    try:
        found = working_directory(asked, [str(root)])
    except DevOpsError:
        return
    assert found == root or root in found.parents


def test_variable_files_are_relative_and_inside(root: Path) -> None:
    assert file_inside(root, "prod/eu.tfvars", "var_files") == root / "prod/eu.tfvars"
    for name in ("/etc/hostname", "../outside/secret.tfvars", "way-out/secret.tfvars", "prod", ""):
        with pytest.raises(DevOpsError):
            file_inside(root, name, "var_files")


@pytest.mark.parametrize("name", ["", "-x", ".", "..", "a/b", "a b", "a\n", "é", "x" * 91])
def test_names_no_workspace_has_are_refused(name: str) -> None:
    with pytest.raises(DevOpsError):
        checked_workspace(name)


def test_a_workspace_may_be_absent_or_plain() -> None:
    assert checked_workspace(None) is None and checked_workspace("prod-eu_1.2") == "prod-eu_1.2"


def test_a_run_sees_an_allow_list_and_never_our_own_settings(tmp_path: Path) -> None:
    ours = {
        "PATH": "/bin", "HOME": "/h", "SOMETHING": "else", "AWS_PROFILE": "p",
        "AWS_SECRET_ACCESS_KEY": "wJalr-made-up", "MCP_DEVOPS_SENTRY__TOKEN": "t",
        "TF_CLI_ARGS_plan": "-destroy", "TF_LOG": "TRACE", "TF_VAR_x": "1", "LD_PRELOAD": "x.so",
        "TF_REATTACH_PROVIDERS": "{}", "TF_WORKSPACE": "w", "TF_CLI_CONFIG_FILE": "/evil",
    }  # fmt: skip
    seen = environment(("*",), ours, tmp_path / "cli.tfrc", "prod")
    assert seen["TF_WORKSPACE"] == "prod" and seen["TF_CLI_CONFIG_FILE"] == f"{tmp_path}/cli.tfrc"
    assert seen["TF_INPUT"] == "0" and seen["CHECKPOINT_DISABLE"] == "1"
    assert not {"MCP_DEVOPS_SENTRY__TOKEN", "TF_CLI_ARGS_plan", "TF_LOG", "LD_PRELOAD",
                "TF_REATTACH_PROVIDERS"} & set(seen)  # fmt: skip
    few = environment((), ours, tmp_path / "cli.tfrc")
    assert "AWS_PROFILE" not in few and "SOMETHING" not in few and "TF_WORKSPACE" not in few
    assert passed(("AWS_*",), ours).keys() == {"AWS_PROFILE", "AWS_SECRET_ACCESS_KEY"}
    assert secret_values(("AWS_*",), ours) == ["wJalr-made-up"]


@pytest.mark.parametrize(
    "address",
    [
        "evil.test/hashicorp/aws",
        "registry.terraform.io/hashicorp/../evil",
        "registry.terraform.io/a b/c",
        "",
        "terraform.io/builtin/terraform2",
    ],
)
def test_providers_that_fit_no_pattern_are_refused(address: str) -> None:
    with pytest.raises(DevOpsError) as raised:
        check_providers([address], TerraformSettings())
    assert raised.value.code == "PERMISSION_DENIED"


def test_providers_of_the_public_registries_are_allowed_by_default() -> None:
    known = ["registry.terraform.io/hashicorp/aws", "registry.opentofu.org/integrations/github",
             "terraform.io/builtin/terraform"]  # fmt: skip
    check_providers(known, TerraformSettings())


def test_an_external_data_source_is_found_by_its_block_and_by_its_provider(tmp_path: Path) -> None:
    (tmp_path / "a.tf").write_text('\n\ndata "external" "x" {\n}\n')
    for providers in ([], ["registry.terraform.io/hashicorp/external"]):
        with pytest.raises(DevOpsError) as raised:
            check_external(tmp_path, providers, TerraformSettings())
        assert raised.value.details["places"] == ["a.tf:3"]
    check_external(tmp_path, [], TerraformSettings(allow_external_data=True))
    (tmp_path / "a.tf").write_text('# no data "external" here\n')
    check_external(tmp_path, [], TerraformSettings())
    with pytest.raises(DevOpsError):
        check_external(tmp_path, ["any.test/x/external"], TerraformSettings())


def test_local_provider_builds_need_a_setting(tmp_path: Path) -> None:
    config = tmp_path / "cli.tfrc"
    config.write_text("provider_installation {\n  dev_overrides {\n  }\n}\n")
    with pytest.raises(DevOpsError, match="dev_overrides"):
        check_cli_config(TerraformSettings(cli_config_file=config))
    check_cli_config(TerraformSettings(cli_config_file=config, allow_dev_overrides=True))
    with pytest.raises(DevOpsError, match="cannot be read"):
        check_cli_config(TerraformSettings(cli_config_file=tmp_path / "gone"))


def test_the_integration_is_off_until_a_root_and_a_binary_are_there(tmp_path: Path) -> None:
    why = INTEGRATION.why_off
    assert "ROOTS" in (why(TerraformSettings()) or "")
    gone = TerraformSettings(roots=(str(tmp_path),), binary="no-such-binary")
    assert "BINARY" in (why(gone) or "")
    assert why(TerraformSettings(roots=(str(tmp_path),), binary="sh")) is None
    assert why(TerraformSettings(state_dir=tmp_path)) is None
    assert INTEGRATION.secrets(TerraformSettings()) == []


@pytest.mark.parametrize("binary", ["no-such-binary", "true"])
async def test_a_binary_that_is_none_is_said_by_the_ping(binary: str) -> None:
    given = TerraformSettings(binary=binary, roots=("/",))
    client = TerraformClient(given, SystemClock())
    assert INTEGRATION.ping is not None
    health = await INTEGRATION.ping(client)
    await INTEGRATION.close(client)
    assert not health.ok and "MCP_DEVOPS_TERRAFORM__BINARY" in health.fix


async def test_a_ping_without_roots_runs_nothing(tmp_path: Path) -> None:
    client = TerraformClient(TerraformSettings(state_dir=tmp_path), SystemClock())
    assert INTEGRATION.ping is not None and (await INTEGRATION.ping(client)).ok


def test_state_files_are_read_only_from_the_configured_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TerraformClient(TerraformSettings(state_dir=root), SystemClock())
    assert client.replica("prod/eu.tfvars") == b""
    for name in ("../outside/secret.tfvars", "way-out/secret.tfvars", "/etc/hostname"):
        with pytest.raises(DevOpsError):
            client.replica(name)
    monkeypatch.setattr(terraform_client, "MAX_OUTPUT_BYTES", -1)
    with pytest.raises(DevOpsError, match="larger"):
        client.replica("prod/eu.tfvars")
    with pytest.raises(DevOpsError, match="state files"):
        TerraformClient(TerraformSettings(), SystemClock()).replica("a")
