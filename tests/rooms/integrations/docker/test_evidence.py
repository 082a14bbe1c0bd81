"""Scan reports found by image, and the difference of two images, for an investigation."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from mcp_devops.errors import NotConfigured, NotFound
from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.evidence import image_risk
from mcp_devops.integrations.docker.settings import DockerSettings
from mcp_devops.toolkit.clock import SystemClock
from tests.support.docker_engine import FIXTURES

SCANS = FIXTURES / "scans"


def reports(folder: Path, **images: str) -> Path:
    """Trivy reports of images: file stem and image name."""
    for stem, image in images.items():
        data = json.loads((SCANS / f"trivy_{stem}.json").read_text(encoding="utf-8"))
        data["ArtifactName"] = image
        (folder / f"{stem}.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def client(*roots: Path) -> DockerClient:
    settings = DockerSettings(scan_roots=tuple(map(str, roots)), engine=False)
    return DockerClient(settings, SystemClock())


async def test_reports_are_found_by_the_image_they_are_of(tmp_path: Path) -> None:
    reports(tmp_path, before="docker.io/library/shop:1", after="shop:2")
    (tmp_path / "notes.json").write_text("[]", encoding="utf-8")
    (tmp_path / "readme.txt").write_text("x", encoding="utf-8")
    found = await image_risk(client(tmp_path), "shop:1", "shop:2")
    assert found.hold and found.new_by_severity["critical"] == 1
    assert found.reasons[0].startswith("critical") and found.summary.startswith("Staging hold")
    assert (found.previous, found.image) == ("shop:1", "shop:2")


async def test_the_newest_report_of_an_image_counts(tmp_path: Path) -> None:
    reports(tmp_path, before="shop:1", after="shop:2")
    clean = tmp_path / "clean.json"
    shutil.copy(tmp_path / "before.json", clean)
    clean.write_text(clean.read_text(encoding="utf-8").replace("shop:1", "shop:2"), "utf-8")
    for name, age in (("before.json", 300), ("after.json", 200), ("clean.json", 100)):
        at = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (at, at))
    found = await image_risk(client(tmp_path), "shop:1", "shop:2")
    assert not found.hold


async def test_an_image_without_a_report_is_named(tmp_path: Path) -> None:
    reports(tmp_path, before="shop:1")
    with pytest.raises(NotFound, match="No scan report of shop:9"):
        await image_risk(client(tmp_path), "shop:1", "shop:9")
    with pytest.raises(NotFound):
        await image_risk(client(tmp_path / "gone"), "shop:1", "shop:2")


async def test_a_report_that_changed_is_read_again(tmp_path: Path) -> None:
    reports(tmp_path, before="shop:1", after="shop:2")
    docker = client(tmp_path)
    assert (await image_risk(docker, "shop:1", "shop:2")).hold
    reports(tmp_path, after="shop:3")
    os.utime(tmp_path / "after.json", ns=(1, 1))
    assert (await image_risk(docker, "shop:1", "shop:3")).hold
    with pytest.raises(NotFound):
        await image_risk(docker, "shop:1", "shop:2")


async def test_an_engine_that_is_switched_off_is_not_asked() -> None:
    docker = client()
    assert not docker.has_engine
    with pytest.raises(NotConfigured, match="switched off"):
        await docker.version()
