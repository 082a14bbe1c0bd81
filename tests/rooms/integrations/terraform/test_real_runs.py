"""Against a real Terraform or OpenTofu, with a provider that really drifts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import anyio
import pytest

from mcp_devops.errors import DevOpsError
from mcp_devops.gateway.opening import open_gateway
from mcp_devops.integrations.terraform import INTEGRATION, drift_around, drift_evidence
from mcp_devops.integrations.terraform.plan_drift import DriftReport, PlanDrift, plan_drift
from mcp_devops.integrations.terraform.show_state import DescribeState, show_state
from mcp_devops.model.surroundings import DriftArea as Area
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.answer import ResponseFormat
from mcp_devops.toolkit.context import Caller
from tests.support.terraform_world import PASSWORD, World, context

EVERYTHING = ResponseFormat.DETAILED


async def drift(world: World, args: PlanDrift | None = None, **settings: object) -> DriftReport:
    return await plan_drift.run(args or PlanDrift(), context(world.client(**settings)))


async def refused(world: World, args: PlanDrift | None = None, **settings: object) -> DevOpsError:
    with pytest.raises(DevOpsError) as raised:
        await drift(world, args, **settings)
    assert not list(world.temp.iterdir())
    return raised.value


async def test_nothing_drifted_is_said_whatever_the_exit_code_is(world: World) -> None:
    before = world.digest()
    found = await drift(world)
    assert found.total == 0 and found.headline.startswith("No drift")
    assert world.digest() == before and not list(world.temp.iterdir())


async def test_changed_and_deleted_resources_are_found_weighed_and_placed(world: World) -> None:
    world.service("web", image="app:0.9", replicas=1)
    (world.cloud / "worker-b.json").unlink()
    world.service("redis", replicas=0)
    before = world.digest()
    found = await drift(world)
    assert world.digest() == before and not list(world.temp.iterdir())
    by_address = {r.address: r for r in found.drifted}
    web = by_address["demo_service.web"]
    assert web.action == "update" and web.area is Area.IMAGE
    assert [(c.path, c.before, c.after) for c in web.changes] == [
        ("image", "app:1.0", "app:0.9"),
        ("replicas", "3", "1"),
    ]
    assert by_address['demo_service.worker["b"]'].action == "delete"
    assert by_address["module.cache.demo_service.redis"].area is Area.CAPACITY
    assert found.total == 3 and "\x1b" not in found.model_dump_json()
    evidence = drift_evidence(found)
    assert [e.weight for e in evidence] == sorted((e.weight for e in evidence), reverse=True)
    assert all(e.at == found.at for e in evidence)


async def test_an_investigation_takes_the_services_root_and_uses_a_fresh_plan_again(
    world: World,
) -> None:
    world.service("web", replicas=1)
    client = world.client(services={"web": str(world.root)}, reuse_s=600)
    first = await drift_around(client, "web")
    assert first[0].address == "demo_service.web" and first[0].names_service
    world.service("web", replicas=3)
    assert await drift_around(client, "web") == first
    assert await drift_around(world.client(reuse_s=0), "web") == []


async def test_drift_is_mapped_to_file_and_line_also_in_modules(world: World) -> None:
    pytest.importorskip("hcl2")
    world.service("web", replicas=1)
    world.service("redis", replicas=0)
    (world.cloud / "worker-a.json").unlink()
    found = await drift(world)
    places = {r.address: r.declared_at for r in found.drifted}
    assert places["demo_service.web"] == "main.tf:17"
    assert places['demo_service.worker["a"]'] == "main.tf:24"
    assert places["module.cache.demo_service.redis"] == "cache/main.tf:8"


async def test_sensitive_values_are_masked_wherever_they_stand(world: World) -> None:
    other = PASSWORD[::-1]
    world.service("web", password=other, env=f"url with {PASSWORD} inside")
    (world.cloud / "worker-b.json").unlink()
    found = await drift(world, PlanDrift(response_format=EVERYTHING))
    text = found.model_dump_json() + found.text()
    assert PASSWORD not in text and other not in text
    web = next(r for r in found.drifted if r.address == "demo_service.web")
    assert {c.path for c in web.changes} == {"env", "password"}


async def test_a_held_lock_is_said_with_its_holder_and_not_broken(world: World) -> None:
    (world.cloud / "slow").write_text("30")
    holder = subprocess.Popen(  # noqa: ASYNC220 - it only has to be there
        [world.client().settings.binary, "plan", "-refresh-only", "-input=false"],
        cwd=world.root,
        env=os.environ | {"TF_CLI_CONFIG_FILE": str(world.config)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    info = world.root / ".terraform.tfstate.lock.info"
    try:
        with anyio.fail_after(20):
            while not info.exists():
                await anyio.sleep(0.05)
        error = await refused(world, PlanDrift(lock=True), lock_timeout_s=0)
        assert error.code == "UPSTREAM_UNAVAILABLE" and "locked" in error.what
        assert error.details["lock"]["id"] and info.exists()
        (world.cloud / "slow").unlink()
        assert (await drift(world)).total == 0, "without the lock it answers"
    finally:
        os.killpg(holder.pid, 9)
        holder.wait()


@pytest.mark.parametrize("lock", [False, True])
async def test_a_run_past_its_deadline_leaves_no_process_no_file_and_no_lock(
    world: World, lock: bool
) -> None:
    (world.cloud / "slow").write_text("60")
    before = world.digest()
    error = await refused(world, PlanDrift(lock=lock), deadline_s=3)
    assert error.code == "UPSTREAM_TIMEOUT"
    assert world.digest() == before and not world.processes()


async def test_a_cancelled_call_leaves_no_process_and_no_file(world: World) -> None:
    (world.cloud / "slow").write_text("60")
    before = world.digest()
    with anyio.move_on_after(3) as scope:
        await drift(world)
    assert scope.cancelled_caught
    assert world.digest() == before and not world.processes() and not list(world.temp.iterdir())


async def test_a_run_killed_from_outside_is_a_failure_and_leaves_no_process(world: World) -> None:
    (world.cloud / "slow").write_text("60")
    before = world.digest()

    async def kill() -> None:
        while not (pids := world.pids("plan")):
            await anyio.sleep(0.05)
        await anyio.sleep(1)
        os.kill(pids[0], signal.SIGKILL)

    async with anyio.create_task_group() as group:
        group.start_soon(kill)
        error = await refused(world)
    assert error.code == "UPSTREAM_UNAVAILABLE" and "-9" in error.what
    assert world.digest() == before and not world.processes()


async def test_a_workspace_that_does_not_exist_is_not_read_as_no_drift(world: World) -> None:
    error = await refused(world, PlanDrift(workspace="prod"))
    assert error.code == "NOT_FOUND" and error.details["candidates"] == ["default"]
    (world.root / ".terraform/environment").write_text("gone")
    assert (await refused(world)).code == "NOT_FOUND"


async def test_an_empty_workspace_is_no_data(world: World) -> None:
    world.tf("workspace", "new", "empty")
    assert (await refused(world, PlanDrift(workspace="empty"))).code == "NO_DATA"
    world.service("web", replicas=1)
    assert (await drift(world, PlanDrift(workspace="default"))).total == 1


@pytest.mark.parametrize("lost", [".terraform", ".terraform/providers", ".terraform/modules"])
async def test_a_directory_without_init_is_said_as_such(world: World, lost: str) -> None:
    shutil.rmtree(world.root / lost)
    error = await refused(world)
    assert error.code == "NOT_CONFIGURED" and error.details["reason"] == "needs_init"


async def test_a_syntax_error_is_said_with_its_place(world: World) -> None:
    (world.root / "bad.tf").write_text('resource "demo_service" "x" {\n  name = \n}\n')
    error = await refused(world)
    assert error.code == "PRECONDITION_FAILED" and error.details["file"] == "bad.tf"


async def test_expired_credentials_are_said_as_such(world: World) -> None:
    (world.cloud / "broken").write_text("ExpiredToken: the security token has expired")
    assert (await refused(world)).code == "CREDENTIALS_REJECTED"


async def test_a_missing_variable_is_named_and_a_variable_file_gives_it(world: World) -> None:
    (world.root / "more.tf").write_text('variable "region" {\n  type = string\n}\n')
    error = await refused(world)
    assert error.code == "INVALID_ARGUMENTS" and error.details["variables"] == ["region"]
    (world.root / "eu.tfvars").write_text('region = "eu"\n')
    assert (await drift(world, PlanDrift(var_files=("eu.tfvars",)))).total == 0


async def test_a_provider_nobody_allowed_is_not_run(world: World) -> None:
    error = await refused(world, allowed_providers=("registry.terraform.io/*",))
    assert error.code == "PERMISSION_DENIED"
    assert error.details["providers"] == ["local.test/demo/demo"]


async def test_an_external_data_source_is_refused_with_its_place(world: World) -> None:
    (world.root / "ext.tf").write_text('data "external" "x" {\n  program = ["touch", "x"]\n}\n')
    error = await refused(world)
    assert error.code == "PERMISSION_DENIED" and error.details["places"] == ["ext.tf:1"]


async def test_injected_arguments_and_foreign_variables_do_not_reach_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CLI_ARGS_plan", "-destroy")
    monkeypatch.setenv("TF_WORKSPACE", "nowhere")
    assert (await drift(world, pass_env=("TF_*",))).total == 0


async def test_a_state_is_described_from_its_backend_without_values(world: World) -> None:
    found = await show_state.run(DescribeState(), context(world.client()))
    assert found.state.types == {"demo_service": 4}
    assert found.state.modules == {"root": 3, "module.cache": 1}
    assert found.state.outputs == {"address": "https://shop.test", "pw": "(sensitive)"}
    assert found.state.serial and PASSWORD not in found.model_dump_json()


async def test_a_copied_state_is_described_from_the_configured_directory(
    world: World, tmp_path: Path
) -> None:
    replica = tmp_path / "replica"
    replica.mkdir()
    raw = (world.root / "terraform.tfstate").read_bytes()
    (replica / "prod.tfstate").write_bytes(raw)
    client = world.client(state_dir=replica, roots=(), binary="nothing-of-this-name")
    found = await show_state.run(DescribeState(state_file="prod.tfstate"), context(client))
    assert found.state.resources == 4 and found.state.serial == json.loads(raw)["serial"]


async def test_a_directory_without_state_is_no_data(world: World) -> None:
    (world.root / "terraform.tfstate").unlink()
    assert (await refused(world)).code == "NO_DATA"
    with pytest.raises(DevOpsError) as raised:
        await show_state.run(DescribeState(), context(world.client()))
    assert raised.value.code == "NO_DATA"


async def test_a_ping_says_program_and_version(world: World) -> None:
    assert INTEGRATION.ping is not None
    health = await INTEGRATION.ping(world.client())
    assert health.ok and health.says.split()[0] in ("terraform", "tofu")


async def test_through_the_door_no_secret_reaches_the_answer_or_the_journal(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ROOTS": str(world.root),
        "BINARY": world.client().settings.binary,
        "ALLOWED_PROVIDERS": "local.test/*",
        "CLI_CONFIG_FILE": str(world.config),
    }.items():
        monkeypatch.setenv(f"MCP_DEVOPS_TERRAFORM__{name}", value)
    world.service("web", env=f"{PASSWORD} and more", password=PASSWORD[::-1])
    door = open_gateway(
        ServerSettings(state_dir=tmp_path / "state"), channel="test", integrations=[INTEGRATION]
    )
    async with door as gateway:
        reply = await gateway.call("terraform_plan_drift", {}, Caller("ann", "test"))
        again = await gateway.call(
            "terraform_plan_drift", {"directory": "/"}, Caller("ann", "test")
        )
    assert reply.data is not None and reply.data["total"] == 1
    assert PASSWORD not in reply.text and "INVALID_ARGUMENTS" in again.text
    stored = b"".join(p.read_bytes() for p in (tmp_path / "state").rglob("*") if p.is_file())
    assert stored and PASSWORD.encode() not in stored
