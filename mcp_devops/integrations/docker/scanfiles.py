"""Where scan reports come from: files under the allowed roots, or a scanner that may be run."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import anyio
import anyio.to_thread

from mcp_devops.errors import (
    InvalidArguments,
    NotConfigured,
    NotFound,
    PermissionDenied,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.hosts import SOURCE
from mcp_devops.integrations.docker.reports import read_report
from mcp_devops.integrations.docker.settings import DockerSettings
from mcp_devops.integrations.docker.vulnerabilities import ScanReport

MAX_REPORT_BYTES = 32 * 1024 * 1024
"""Bytes of one report; a large image's Trivy JSON has some 10 MB."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "trivy": ("trivy", "image", "--quiet", "--scanners", "vuln", "--format", "json"),
    "grype": ("grype", "--quiet", "--output", "json"),
    "scout": ("docker", "scout", "cves", "--format", "sarif"),
}
"""Argument list of each scanner; the image follows as one argument that begins with no dash."""


async def report_from_file(settings: DockerSettings, path: str) -> ScanReport:
    """Read a report under one of the allowed roots.

    Args:
        settings: For scan_roots.
        path: Absolute, or relative to a root; links are followed before it is judged.

    Raises:
        NotConfigured: No root is allowed.
        InvalidArguments: The path leads outside, or the file is no report.
        NotFound, PermissionDenied: As named.
    """
    if not settings.scan_roots:
        raise NotConfigured(
            "Reading scan reports is off: no directory is allowed.",
            fix="Set MCP_DEVOPS_DOCKER__SCAN_ROOTS to the directory that your pipeline writes to.",
            source=SOURCE,
        )
    content = await anyio.to_thread.run_sync(_read, settings.scan_roots, path)
    return await anyio.to_thread.run_sync(read_report, content, Path(path).name)


def _read(roots: tuple[str, ...], path: str) -> bytes:
    found = _inside(roots, path)
    try:
        # Opened without waiting, so that a pipe in the directory cannot block the thread.
        handle = os.open(found, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError as refused:
        raise PermissionDenied(
            f"The report {Path(path).name!r} may not be read.",
            fix="Let an administrator give this user read access to it.",
            source=SOURCE,
        ) from refused
    except OSError as gone:
        raise _no_file(path) from gone
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidArguments(
                f"{Path(path).name!r} is not a file.", fix="Name a report.", source=SOURCE
            )
        content = file.read(MAX_REPORT_BYTES + 1)
    if len(content) > MAX_REPORT_BYTES:
        raise InvalidArguments(
            f"The report is larger than {MAX_REPORT_BYTES:,} bytes.",
            fix="Write it for vulnerabilities only (`trivy --scanners vuln`).",
            source=SOURCE,
        )
    return content


def _inside(roots: tuple[str, ...], path: str) -> Path:
    """The real path, if it lies in a root. Whether a file outside exists is not told."""
    bases = [Path(os.path.realpath(root)) for root in roots]
    reached = [(base, Path(os.path.realpath(base / path))) for base in bases]
    inside = [found for base, found in reached if found.is_relative_to(base) and found != base]
    for found in inside:
        if found.exists():
            return found
    if inside:
        raise _no_file(path)
    raise InvalidArguments(
        "The report lies outside the allowed directories.",
        fix=f"Allowed: {', '.join(roots)} (MCP_DEVOPS_DOCKER__SCAN_ROOTS).",
        source=SOURCE,
    )


def _no_file(path: str) -> NotFound:
    return NotFound(
        f"There is no report {path!r}.", fix="Check its path and directory.", source=SOURCE
    )


async def report_from_scan(client: DockerClient, image: str) -> ScanReport:
    """Run the scanner on an image, if that is allowed.

    Args:
        client: For the settings and the engine's address.
        image: A checked reference: it is passed as one argument.

    Raises:
        NotConfigured: Running a scanner is not allowed, or none is installed.
        UpstreamTimeout, UpstreamUnavailable: It took too long, or failed.
    """
    settings = client.settings
    name, command = _scanner(settings)
    environment = dict(os.environ)
    if client.endpoint.scheme in ("unix", "tcp"):
        environment["DOCKER_HOST"] = client.endpoint.url
    try:
        with anyio.fail_after(settings.scanner_timeout_s):
            done = await anyio.run_process(
                [*command, image],
                stdin=subprocess.DEVNULL,
                check=False,
                env=environment,
            )
    except TimeoutError as late:
        raise UpstreamTimeout(
            f"{name} did not finish within {settings.scanner_timeout_s:g} s.",
            fix="Raise MCP_DEVOPS_DOCKER__SCANNER_TIMEOUT_S, or scan in the pipeline and compare"
            " the reports.",
            source=SOURCE,
        ) from late
    except OSError as broken:
        raise _failed(name, type(broken).__name__, "") from broken
    if done.returncode != 0:
        tail = done.stderr.decode("utf-8", "replace").strip()[-256:]
        raise _failed(name, f"exit code {done.returncode}", tail)
    return await anyio.to_thread.run_sync(read_report, done.stdout, f"{name} of {image}")


def _scanner(settings: DockerSettings) -> tuple[str, tuple[str, ...]]:
    if not settings.allow_scanner:
        raise NotConfigured(
            "Running a scanner is off.",
            fix="Compare two report files, or set MCP_DEVOPS_DOCKER__ALLOW_SCANNER=true.",
            source=SOURCE,
        )
    names = [settings.scanner] if settings.scanner else ["trivy", "grype"]
    for name in names:
        if shutil.which(COMMANDS[name][0]):
            return name, COMMANDS[name]
    raise NotConfigured(
        f"No scanner is on the PATH (looked for {', '.join(names)}).",
        fix="Install one, or compare two report files.",
        source=SOURCE,
    )


def _failed(name: str, how: str, said: str) -> UpstreamUnavailable:
    return UpstreamUnavailable(
        f"{name} could not scan the image ({how}).",
        fix="Run it by hand on the server's host; it may lack its database or the image.",
        source=SOURCE,
        upstream=said,
    )
