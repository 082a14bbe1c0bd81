"""Images as evidence of an incident: scan reports found by image, and how two images differ."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread

from mcp_devops.errors import InvalidArguments, NotFound, PermissionDenied
from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.images import difference
from mcp_devops.integrations.docker.scancompare import compare_reports, summary
from mcp_devops.integrations.docker.scanfiles import report_from_file
from mcp_devops.integrations.docker.vulnerabilities import ScanReport
from mcp_devops.model.surroundings import ImageDifference, ImageRisk

MOST_REPORTS = 200
"""Newest reports that are looked through for an image; older ones are of images long gone."""
ENDINGS = (".json", ".sarif")


async def image_risk(client: DockerClient, previous: str, image: str) -> ImageRisk:
    """New vulnerabilities of an image, by the newest report of each under scan_roots.

    Raises:
        NotFound: One of the images has no report.
        NotConfigured, PermissionDenied: As report_from_file.
    """
    wanted = {name: _canonical(name) for name in (previous, image)}
    found: dict[str, ScanReport] = {}
    for path in await anyio.to_thread.run_sync(_newest, client.settings.scan_roots):
        if len(found) == len(wanted):
            break
        report = await _read(client, path)
        for name, canonical in wanted.items():
            if name not in found and report is not None and _is_of(report, canonical):
                found[name] = report
    lost = [name for name in wanted if name not in found]
    if lost:
        raise NotFound(
            f"No scan report of {' or '.join(lost)} lies under the scan roots.",
            fix="Let the pipeline write one for each image; docker_compare_scans can run a scanner"
            " if the operator allows it.",
            source="docker",
        )
    comparison = compare_reports(found[previous], found[image])
    return ImageRisk(
        image=image,
        previous=previous,
        hold=comparison.staging_hold,
        summary=summary(comparison),
        reasons=comparison.reasons,
        new_by_severity={c.severity: c.new for c in comparison.counts if c.new},
        limits=comparison.notes,
    )


async def image_difference(client: DockerClient, previous: str, image: str) -> ImageDifference:
    """How two images differ, if the engine has both.

    Raises:
        NotFound: The engine lacks one of them.
        DevOpsError: As the client raises.
    """
    found = await difference(client, previous, image)
    names = ", ".join(c.what for c in found.changes[:5])
    more = f" Differs: {names}." if names else ""
    return ImageDifference(image=image, previous=previous, summary=f"{found.headline}{more}")


async def _read(client: DockerClient, path: str) -> ScanReport | None:
    """A report, read once: it is kept under its time and size. None: the file is none."""
    try:
        status = await anyio.to_thread.run_sync(os.stat, path)
        key = (path, status.st_mtime_ns, status.st_size)
        if key not in client.scans:
            client.scans[key] = await report_from_file(client.settings, path)
            while len(client.scans) > MOST_REPORTS:
                client.scans.pop(next(iter(client.scans)))
        return client.scans[key]
    except (InvalidArguments, NotFound, PermissionDenied, OSError):
        # Not every file beside the reports is one, and one may vanish meanwhile; an image whose
        # own report cannot be read is reported as having none.
        return None


def _newest(roots: tuple[str, ...]) -> list[str]:
    """Paths of possible reports, newest first."""
    found = sorted(
        {(_changed(path), str(path)) for root in roots for path in _files(Path(root))}, reverse=True
    )
    return [path for _, path in found[:MOST_REPORTS]]


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield from (Path(folder) / n for n in names if n.endswith(ENDINGS))


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _canonical(image: str) -> str:
    """A reference without what is the default: the hub's name, `library/`, `latest`."""
    name = image
    for prefix in ("index.docker.io/", "docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def _is_of(report: ScanReport, image: str) -> bool:
    if report.image and _canonical(report.image) == image:
        return True
    digest = image.partition("@")[2]
    return bool(digest) and digest in (report.image_id, report.image.partition("@")[2])
