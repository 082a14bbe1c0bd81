"""Clients from npm, each in its own folder of a cache outside the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

INSTALL_S = 420
"""Seconds an installation may take: one of the packages has 356 MB."""


@dataclass(frozen=True)
class Package:
    """What is installed together, and the file that says it is there."""

    folder: str
    names: tuple[str, ...]
    entry: str

    @property
    def modules(self) -> Path:
        """Its modules in the cache."""
        return cache() / self.folder / "node_modules"


CONFORMANCE_ENTRY = "@modelcontextprotocol/conformance/dist/index.js"
NODE_AND_CONFORMANCE = Package(
    "conformance-0.1.16",
    ("node@22", "@modelcontextprotocol/conformance@0.1.16"),
    CONFORMANCE_ENTRY,
)
"""The system's node may be too old; every JavaScript client runs with this one."""
CONFORMANCE = Package(
    "conformance-0.2.0-alpha.12",
    ("@modelcontextprotocol/conformance@0.2.0-alpha.12",),
    CONFORMANCE_ENTRY,
)
INSPECTOR = Package(
    "inspector-2.12.0",
    ("@modelcontextprotocol/inspector@2.12.0",),
    "@modelcontextprotocol/inspector/clients/launcher/build/index.js",
)
CLAUDE_CODE = Package("claude-code-2.1.328", ("@anthropic-ai/claude-code@2.1.328",), ".bin/claude")


def cache() -> Path:
    """Where packages are kept from run to run."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mcp-devops-clients"


def installed(package: Package) -> Path:
    """The package's entry file, installed now if it is not there; skips where it cannot be had."""
    entry = package.modules / package.entry
    if entry.exists():
        return entry
    if shutil.which("npm") is None:
        pytest.skip(f"{package.folder} is not installed and there is no npm")
    cache().mkdir(parents=True, exist_ok=True)
    # Under its final name only when it is whole: a broken-off installation is never taken for one.
    with tempfile.TemporaryDirectory(dir=cache(), ignore_cleanup_errors=True) as part:
        _install(package, part)
        whole = Path(part) / "whole"
        whole.mkdir()
        (Path(part) / "node_modules").rename(whole / "node_modules")
        try:
            whole.rename(cache() / package.folder)
        except OSError:  # another run was faster
            assert entry.exists(), f"{package.folder} in the cache is not whole: remove it"
    if not entry.exists():
        pytest.skip(f"{package.folder} was installed without {entry.name}")
    return entry


def _install(package: Package, folder: str) -> None:
    quietly = ["--no-audit", "--no-fund", "--no-package-lock", "--fetch-retry-mintimeout=1000"]
    command = ["npm", "install", *quietly, "--prefix", folder]
    try:
        done = subprocess.run(
            [*command, *package.names],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {package.folder} within {INSTALL_S} s")
    if done.returncode != 0:
        code = re.search(r"npm (?:error|ERR!) code (\S+)", done.stderr)
        why = code[1] if code else f"exit code {done.returncode}"
        pytest.skip(f"npm cannot install {package.folder} ({why}): is its registry reachable?")
