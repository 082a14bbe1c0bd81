from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_devops.errors import (
    DevOpsError,
    InvalidArguments,
    NotConfigured,
    NotFound,
    PermissionDenied,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.reports import read_report
from mcp_devops.integrations.docker.scancompare import (
    MOST_REASONS,
    compare_reports,
)
from mcp_devops.integrations.docker.scanfiles import MAX_REPORT_BYTES
from mcp_devops.integrations.docker.scans import CompareScansInput, ScanAnswer, compare_scans
from mcp_devops.integrations.docker.settings import DockerSettings
from mcp_devops.integrations.docker.vulnerabilities import (
    Severity,
    severity_of,
    severity_of_score,
)
from mcp_devops.toolkit.clock import SystemClock
from tests.support.docker_engine import FIXTURES, context_for

SCANS = FIXTURES / "scans"
HOST = "unix:///nowhere.sock"


def report(name: str) -> Any:
    return read_report((SCANS / name).read_bytes(), name)


async def scanned(args: dict[str, Any], **settings: Any) -> ScanAnswer:
    client = DockerClient(DockerSettings(host=HOST, **settings), SystemClock())
    try:
        return await compare_scans.run(CompareScansInput(**args), context_for(client))
    finally:
        await client.close()


async def compared(before: str, after: str, **settings: Any) -> ScanAnswer:
    settings = {"scan_roots": (str(SCANS),), **settings}
    return await scanned({"before_report": before, "after_report": after}, **settings)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("trivy_before.json", "trivy_after.json"),
        ("grype_before.json", "grype_after.json"),
        ("scout_before.gitlab.json", "scout_after.gitlab.json"),
        ("scout_before.sarif", "scout_after.sarif"),
    ],
)
async def test_a_new_critical_or_high_holds_staging(before: str, after: str) -> None:
    answer = await compared(before, after)
    assert answer.staging_hold
    assert [(f.id, f.severity) for f in answer.new] == [
        ("CVE-2025-5005", "critical"),
        ("CVE-2025-6006", "high"),
    ]
    assert [f.fixed_in for f in answer.new] == ["3.1.6", None]
    assert {f.id for f in answer.fixed} == {"CVE-2024-1001", "CVE-2024-4004"}
    counts = {c.severity: (c.before, c.after, c.new, c.fixed) for c in answer.counts}
    assert counts["critical"] == (1, 2, 1, 0) and counts["high"] == (1, 1, 1, 1)
    assert (answer.persisting, answer.fix_available) == (2, 1)
    assert answer.reasons[0].startswith("critical: CVE-2025-5005 in jinja2")
    assert "Staging hold: 2 new vulnerabilities (1 critical, 1 high)" in answer.headline


@pytest.mark.parametrize("name", ["scout_after.sarif", "trivy_after.sarif", "grype_after.sarif"])
def test_sarif_of_each_scanner_says_what_its_json_says(name: str) -> None:
    plain = {(v.id, v.package): v.severity for v in report("trivy_after.json").found.values()}
    found = {(v.id, v.package): v.severity for v in report(name).found.values()}
    assert found == plain


async def test_a_scan_compared_with_itself_holds_nothing() -> None:
    same = await compared("grype_after.json", "grype_after.json")
    assert not same.staging_hold and not same.new and same.persisting == 4
    assert "No staging hold" in same.headline
    assert any("one image" in n for n in same.notes)


async def test_limits_of_a_comparison_are_said() -> None:
    answer = await compared("trivy_before.json", "grype_after.json")
    assert any("different scanners" in n for n in answer.notes)
    assert any("different databases" in n for n in answer.notes)
    assert any("different formats" in n for n in answer.notes)


def test_a_severity_that_rose_holds_and_is_said() -> None:
    text = (SCANS / "trivy_before.json").read_text(encoding="utf-8")
    risen = read_report(text.replace('"MEDIUM"', '"HIGH"').replace('"LOW"', '"MEDIUM"'))
    found = compare_reports(read_report(text), risen)
    assert found.staging_hold and not found.new
    assert [r for r in found.reasons if "was medium" in r] and len(found.reasons) == 1
    assert {(f.was, f.severity) for f in found.worse} == {("medium", "high"), ("low", "medium")}


def test_many_reasons_are_counted() -> None:
    data = json.loads((SCANS / "trivy_before.json").read_text(encoding="utf-8"))
    one = data["Results"][0]["Vulnerabilities"][0]
    rows = [{**one, "VulnerabilityID": f"CVE-2030-{n:04}"} for n in range(40)]
    data["Results"][0]["Vulnerabilities"] = [*rows, {**one, "Severity": "odd"}]
    found = compare_reports(report("trivy_before.json"), read_report(json.dumps(data)))
    assert len(found.reasons) == MOST_REASONS and found.reasons[-1] == "and 31 more"
    assert len(found.new) == 25 and any("unknown severity" in n for n in found.notes)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "nonsense", '{"runs": []}', '{"runs": [{}]}', '{"runs": [{"tool": {}}]}',
        '{"runs": [{"tool": {"driver": {"name": "x"}}}]}', '{"matches": [{}]}', '{"matches": [1]}',
        '{"SchemaVersion": 2}', '{"SchemaVersion": 2, "Results": [{"Vulnerabilities": [{}]}]}',
        '{"vulnerabilities": [{}], "scan": {}}', '{"vulnerabilities": [], "scan": []}',
    ],
)  # fmt: skip
def test_a_broken_report_is_refused_and_never_reads_as_clean(text: str) -> None:
    with pytest.raises(InvalidArguments) as raised:
        read_report(text)
    assert "does not mean the image is clean" in raised.value.what


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["runs", "tool", "driver", "name", "results", "rules", "matches", "vulnerability",
             "artifact", "id", "SchemaVersion", "Results", "Vulnerabilities", "scan",
             "vulnerabilities", "properties", "message", "text"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_any_json_is_read_or_refused(data: Any) -> None:
    try:
        read_report(json.dumps(data))
    except InvalidArguments as refused:
        assert refused.fix


def test_an_image_without_vulnerabilities_is_clean() -> None:
    clean = read_report('{"matches": [], "source": {"target": "dir"}, "descriptor": {}}')
    assert not clean.found and clean.image == "dir"
    assert not compare_reports(clean, clean).staging_hold


def test_severities_are_read_in_every_spelling() -> None:
    assert [severity_of(w) for w in ("CRITICAL", "Moderate", "info", None)] == [
        Severity.CRITICAL, Severity.MEDIUM, Severity.NEGLIGIBLE, Severity.UNKNOWN,
    ]  # fmt: skip
    scores = [severity_of_score(s) for s in ("9.0", 7, "4.1", "0.1", 0, "x")]
    assert scores == [5, 4, 3, 2, 0, 0]


async def failed(before: str, after: str, **settings: Any) -> DevOpsError:
    with pytest.raises(DevOpsError) as raised:
        await compared(before, after, **settings)
    return raised.value


async def test_reports_are_read_only_under_the_allowed_directories(tmp_path: Path) -> None:
    root, outside = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    outside.mkdir()
    good = (SCANS / "trivy_before.json").read_bytes()
    (root / "a.json").write_bytes(good)
    (outside / "b.json").write_bytes(good)
    (root / "link.json").symlink_to(outside / "b.json")
    os.mkfifo(root / "pipe")
    roots = {"scan_roots": (str(root),)}
    assert not (await compared("a.json", str(root / "a.json"), **roots)).staging_hold
    for path in ("../out/b.json", str(outside / "b.json"), "link.json", "/etc/passwd", "."):
        problem = await failed("a.json", path, **roots)
        assert isinstance(problem, InvalidArguments) and "outside" in problem.what
    assert isinstance(await failed("a.json", "absent.json", **roots), NotFound)
    assert "not a file" in (await failed("a.json", "pipe", **roots)).what
    assert isinstance(await failed("a.json", "a.json", scan_roots=()), NotConfigured)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_report_without_read_permission_is_an_operators_matter(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    (tmp_path / "a.json").chmod(0)
    problem = await failed("a.json", "a.json", scan_roots=(str(tmp_path),))
    assert isinstance(problem, PermissionDenied)


async def test_a_report_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(MAX_REPORT_BYTES + 1)  # a hole: it takes no room on the disk
    problem = await failed("a.json", "a.json", scan_roots=(str(tmp_path),))
    assert "larger than" in problem.what


def scanner(folder: Path, script: str) -> None:
    path = folder / "trivy"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


IMAGES = {"before_image": "shop:1", "after_image": "shop:2"}


async def test_a_scanner_runs_with_the_image_as_one_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    scanner(
        tmp_path,
        f'echo "$DOCKER_HOST $@" >> {tmp_path}/asked\n'
        f'case "$7" in\nshop:1) cat {SCANS}/trivy_before.json;;\n'
        f"*) cat {SCANS}/trivy_after.json;;\nesac",
    )
    answer = await scanned(IMAGES, allow_scanner=True)
    assert answer.staging_hold
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    expected = f"{HOST} image --quiet --scanners vuln --format json"
    assert asked == [f"{expected} shop:1", f"{expected} shop:2"]


async def test_a_scanner_that_is_forbidden_absent_slow_or_failing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    async def problem(**settings: Any) -> DevOpsError:
        with pytest.raises(DevOpsError) as raised:
            await scanned(IMAGES, **settings)
        return raised.value

    assert isinstance(await problem(), NotConfigured)
    absent = await problem(allow_scanner=True, scanner="grype")
    assert isinstance(absent, NotConfigured) and "grype" in absent.what
    scanner(tmp_path, "echo no database >&2; exit 1")
    failing = await problem(allow_scanner=True)
    assert isinstance(failing, UpstreamUnavailable) and failing.upstream == "no database"
    scanner(tmp_path, "exec sleep 30")
    slow = await problem(allow_scanner=True, scanner_timeout_s=0.2)
    assert isinstance(slow, UpstreamTimeout)
    (tmp_path / "trivy").write_bytes(b"\x7fELF-not")
    assert isinstance(await problem(allow_scanner=True), UpstreamUnavailable)


@pytest.mark.parametrize(
    "args",
    [
        {}, {"before_report": "a"}, {"before_report": "a", "after_image": "b"},
        {"before_report": "a", "after_report": "b", "after_image": "c"}, {"before_image": "-x"},
        {"before_report": "a", "after_report": "b", "before_image": "c", "after_image": "d"},
    ],
)  # fmt: skip
def test_two_reports_or_two_images_are_asked_for(args: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        CompareScansInput(**args)
