"""What errors mean, how drift is weighed, where blocks stand, how processes end."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.terraform import process
from mcp_devops.integrations.terraform.evidence import drift_evidence
from mcp_devops.integrations.terraform.failures import failure, from_text
from mcp_devops.integrations.terraform.plan import Diagnostic
from mcp_devops.integrations.terraform.plan_drift import DriftedResource, DriftReport
from mcp_devops.integrations.terraform.sources import (
    blocks,
    external_data,
    module_key,
    modules,
    positions,
)
from mcp_devops.integrations.terraform.values import AttributeChange
from mcp_devops.integrations.terraform.weighing import weigh
from mcp_devops.model.surroundings import DriftArea as Area
from tests.support.waiting import until

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LOCKED = """
╷
│ Error: Error acquiring the state lock
│
│ Error message: resource temporarily unavailable
│ Lock Info:
│   ID:        7f2a
│   Operation: OperationTypeApply
│   Who:       ann@ci
│   Created:   2026-11-20 10:00:00 UTC
╵
"""


@pytest.mark.parametrize(
    ("summary", "detail", "code"),
    [
        ("Required plugins are not installed", "", "NOT_CONFIGURED"),
        ("Module not installed", "", "NOT_CONFIGURED"),
        ("Backend initialization required, please run", "", "NOT_CONFIGURED"),
        ("No value for required variable", 'variable "region" is not set', "INVALID_ARGUMENTS"),
        ("No configuration files", "", "NOT_FOUND"),
        ("Invalid expression", "", "PRECONDITION_FAILED"),
        ("Unsupported argument", "", "PRECONDITION_FAILED"),
        ("reading EC2 Instance", "api error ExpiredToken: expired", "CREDENTIALS_REJECTED"),
        ("No valid credential sources found", "", "CREDENTIALS_REJECTED"),
        ("error", "googleapi: Error 403: Forbidden", "PERMISSION_DENIED"),
        ("error", "ThrottlingException: Rate exceeded", "RATE_LIMITED"),
        ("Plugin did not respond", "crashed", "UPSTREAM_UNAVAILABLE"),
    ],
)
def test_a_complaint_becomes_the_error_of_who_can_mend_it(
    summary: str, detail: str, code: str
) -> None:
    error = failure([Diagnostic("error", summary, detail, "main.tf", 3)], 1)
    assert error.code == code and error.fix


def test_a_lock_is_said_with_its_holder_from_events_and_from_plain_text() -> None:
    error = failure([], 1, "tofu", LOCKED)
    assert error.details["lock"]["id"] == "7f2a" and "ann@ci" in error.what
    assert from_text(LOCKED)[0].summary == "Error acquiring the state lock"


def test_warnings_are_no_errors_and_silence_is_a_failure_with_its_code() -> None:
    error = failure([Diagnostic("warning", "Invalid expression", "")], 137)
    assert error.code == "UPSTREAM_UNAVAILABLE" and "137" in error.what


@calm
@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_any_complaint_becomes_an_error(summary: str, detail: str, stderr: str) -> None:
    error = failure([Diagnostic("error", summary, detail)], 1, "terraform", stderr)
    assert error.fix and len(error.upstream) <= 256
    assert failure([], 1, "terraform", stderr).fix


@pytest.mark.parametrize(
    ("kind", "action", "paths", "area", "least"),
    [
        ("kubernetes_deployment", "update", ["spec[0].container[0].image"], Area.IMAGE, 0.9),
        ("kubernetes_deployment", "update", ["spec[0].replicas"], Area.CAPACITY, 0.8),
        ("aws_ecs_service", "update", ["desired_count"], Area.CAPACITY, 0.8),
        ("aws_security_group", "update", ["description", "ingress[0]"], Area.NETWORK, 0.8),
        ("aws_route53_record", "update", ["records[0]"], Area.DNS, 0.8),
        ("aws_route_table", "update", ["route[0].gateway_id"], Area.NETWORK, 0.8),
        ("aws_autoscaling_policy", "update", ["adjustment"], Area.CAPACITY, 0.8),
        ("aws_opensearch_domain", "update", ["access_policies"], Area.OTHER, 0.3),
        ("aws_iam_role_policy", "update", ["policy"], Area.ACCESS, 0.7),
        ("aws_db_instance", "update", ["vpc_security_group_ids[0]"], Area.NETWORK, 0.7),
        ("aws_s3_bucket", "update", ["bucket_prefix"], Area.OTHER, 0.3),
        ("aws_security_group", "update", ["tags.team", "tags_all.team"], Area.OTHER, 0.1),
        ("aws_s3_bucket", "delete", [], Area.OTHER, 0.9),
        ("aws_lb_listener", "delete", [], Area.NETWORK, 0.9),
        ("aws_s3_bucket", "update", [], Area.OTHER, 0.3),
    ],
)  # fmt: skip
def test_a_drift_is_weighed_by_what_it_can_hurt(
    kind: str, action: str, paths: list[str], area: Area, least: float
) -> None:
    found = weigh(kind, action, paths)
    assert found.area is area and found.weight >= least and found.reason


@calm
@given(st.text(max_size=40), st.sampled_from(["update", "delete"]), st.lists(st.text(max_size=30)))
def test_any_resource_has_a_weight_between_zero_and_one(
    kind: str, action: str, paths: list[str]
) -> None:
    assert 0 < weigh(kind, action, paths).weight <= 1


def test_evidence_is_in_order_of_weight_with_time_and_place() -> None:
    at = datetime(2026, 11, 20, 10, tzinfo=UTC)
    change = AttributeChange(path="image", before="a:1", after="a:2")
    light = DriftedResource(
        address="b", action="delete", area=Area.OTHER, weight=0.2, reason="gone"
    )
    heavy = DriftedResource(
        address="a", action="update", area=Area.IMAGE, weight=0.9, reason="image",
        declared_at="main.tf:3", changes=(change,),
    )  # fmt: skip
    report = DriftReport(
        headline="h", directory="d", workspace="w", at=at, version="v", drifted=(light, heavy)
    )
    first, second = drift_evidence(report)
    assert (first.address, first.at, first.where) == ("a", at, "main.tf:3")
    assert first.what == "update: image; image: a:1 -> a:2" and second.what == "delete: gone"


@pytest.mark.parametrize(
    ("address", "value", "service", "named"),
    [
        ("aws_security_group.checkout_api", "x", "checkout-api", True),
        ("aws_security_group.shared", "https://checkout.example", "checkout", True),
        ("aws_security_group.checkouts", "precheckout", "checkout", False),
        ("aws_security_group.a", "x", "", False),
        ("aws_security_group.a(b", "x", "a(b", True),
    ],
)
def test_drift_that_names_the_service_is_told_apart(
    address: str, value: str, service: str, named: bool
) -> None:
    drifted = DriftedResource(
        address=address, action="update", area=Area.NETWORK, weight=0.8, reason="r",
        changes=(AttributeChange(path="p", before=value, after="y"),),
    )  # fmt: skip
    report = DriftReport(
        headline="h",
        directory="d",
        workspace="w",
        at=datetime(2026, 11, 20, 10, tzinfo=UTC),
        version="v",
        drifted=(drifted,),
    )
    assert drift_evidence(report, service)[0].names_service is named


TEXT = """
locals {
  text = <<-EOT
    resource "demo_service" "fake" {
  EOT
}

resource "demo_service" "web" {
  lifecycle {
    prevent_destroy = true
  }
}
"""


def test_blocks_are_found_by_the_grammar_which_no_heredoc_fools(tmp_path: Path) -> None:
    pytest.importorskip("hcl2")
    file = tmp_path / "main.tf"
    file.write_text(TEXT)
    heads = {b.head: b.line for b in blocks(file)}
    assert heads["resource", "demo_service", "web"] == 8
    assert ("resource", "demo_service", "fake") not in heads


def test_blocks_are_found_by_pattern_in_a_broken_file_and_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "main.tf"
    file.write_text(TEXT + "= broken")
    assert ("resource", "demo_service", "web") in {b.head for b in blocks(file)}
    monkeypatch.setitem(sys.modules, "hcl2", None)
    assert ("resource", "demo_service", "web") in {b.head for b in blocks(file)}


def test_blocks_of_json_files_are_found_in_both_spellings(tmp_path: Path) -> None:
    file = tmp_path / "main.tf.json"
    whole = {"resource": {"t": {"n": {}}}, "data": [{"external": {"x": {}}}]}
    file.write_text(json.dumps(whole, indent=1))
    assert {b.head for b in blocks(file)} == {("resource", "t", "n"), ("data", "external", "x")}
    assert positions(tmp_path, {("", "t", "n")}) == {("", "t", "n"): "main.tf.json:4"}
    assert external_data(tmp_path) == ["main.tf.json:10"]
    file.write_text("{broken")
    assert blocks(file) == []


def test_unreadable_huge_and_missing_files_have_no_blocks(tmp_path: Path) -> None:
    huge = tmp_path / "huge.tf"
    huge.write_text("#" * 1_000_001 + '\ndata "external" "x" {}')
    assert blocks(huge) == [] and blocks(tmp_path / "gone.tf") == []
    assert external_data(tmp_path) == [] and external_data(tmp_path / "gone") == []


def test_module_addresses_are_found_in_the_manifest(tmp_path: Path) -> None:
    assert module_key('module.a["x.module.y"].module.b[0]') == "a.b" and module_key("") == ""
    manifest = tmp_path / ".terraform/modules/modules.json"
    manifest.parent.mkdir(parents=True)
    entries = [{"Key": "", "Dir": "."}, {"Key": "a", "Dir": "../a"}, {"Key": 1}, 3]
    manifest.write_text(json.dumps({"Modules": entries}))
    assert modules(tmp_path) == {"": tmp_path, "a": tmp_path / "../a"}
    manifest.write_text("{broken")
    assert modules(tmp_path) == {"": tmp_path}


async def run(code: str, cwd: Path, deadline_s: float = 10, grace_s: float = 0.2) -> process.Output:
    env = {"PATH": "/usr/bin:/bin"}
    argv = [sys.executable, "-c", code]
    return await process.run(argv, cwd, env, deadline_s=deadline_s, grace_s=grace_s)


async def test_a_program_gets_no_input_and_its_streams_are_kept_apart(tmp_path: Path) -> None:
    code = "import sys; print(repr(sys.stdin.read())); print('e', file=sys.stderr); sys.exit(3)"
    assert await run(code, tmp_path) == process.Output(3, b"''\n", b"e\n")


async def test_a_program_that_ignores_interrupts_is_killed_with_its_children(
    tmp_path: Path,
) -> None:
    child = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    )
    with pytest.raises(DevOpsError) as raised:
        await run(code, tmp_path, deadline_s=1.5)
    assert raised.value.code == "UPSTREAM_TIMEOUT"
    stat = Path("/proc") / (tmp_path / "pid").read_text() / "stat"

    async def dead() -> bool:
        # The signal is sent; a process that runs just now meets it a moment later.
        try:
            return stat.read_text().rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    assert await until(dead)


async def test_what_a_program_writes_is_for_its_user_only(tmp_path: Path) -> None:
    await run("open('plan', 'w').close()", tmp_path)
    assert (tmp_path / "plan").stat().st_mode & 0o777 == 0o600


async def test_a_flood_of_output_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_OUTPUT_BYTES", 1000)
    with pytest.raises(DevOpsError) as raised:
        await run("print('x' * 300_000)", tmp_path)
    assert raised.value.code == "UNSUPPORTED"


async def test_a_program_that_cannot_be_started_is_said_as_a_setting(tmp_path: Path) -> None:
    file = tmp_path / "terraform"
    file.touch()
    with pytest.raises(DevOpsError) as raised:
        await process.run([str(file)], tmp_path, {}, deadline_s=1, grace_s=1)
    assert raised.value.code == "NOT_CONFIGURED"
