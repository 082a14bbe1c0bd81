"""The image of deploy/Dockerfile, built by a real engine that reaches no registry and no index.

Its base is made of Debian's packages, what pip needs is brought along in `wheels/`: the way that
deploy/README.md gives to companies whose builders reach nothing. Kept for the next run: the base,
by what it is made of, and the first stage, whose layers are the engine's cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.support.docker_engine import AVAILABLE as ENGINE
from tests.support.docker_engine import docker

ROOT = Path(__file__).parents[2]
PACKAGES = ("ca-certificates", "python-is-python3", "python3", "python3-pip", "python3-venv")
LEFT_OUT = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt",
            "proc", "sys", "dev")  # fmt: skip
"""Folders that the base has empty."""
TITLE = "org.opencontainers.image.title=mcp-devops"
CACHE = "mcp-devops-test-build:1"
"""The first stage of the last build."""


def why_not() -> str | None:
    """Why no image can be built here."""
    if not ENGINE:
        return "needs an engine: TEST_CLUSTER and DOCKER_HOST are not set"
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        return "needs root and debootstrap (apt-get install debootstrap) to make a base image"
    return None


@asynccontextmanager
async def product() -> AsyncIterator[tuple[str, int]]:
    """The name of the image, and how many bytes it has over its base; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        name = f"mcpd-{uuid.uuid4().hex[:8]}:1"
        try:
            # One at a time: the second finds the first one's layers.
            async with _alone():
                base = await _base(Path(folder))
                await _build(Path(folder), base, name)
            yield name, await _size(name) - await _size(base)
        finally:
            # Nor beside a build: its layers have no name yet, and would be taken for left over.
            with anyio.CancelScope(shield=True):
                async with _alone():
                    await _remove(name)


async def _remove(name: str) -> None:
    await docker("rmi", "-f", name, check=False)
    # A container that was not gone yet kept the image, without its name.
    await docker("image", "prune", "-f", "--filter", f"label={TITLE}", check=False)


@asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    with (Path(tempfile.gettempdir()) / "mcp-devops-test-image.lock").open("w") as lock:
        await anyio.to_thread.run_sync(fcntl.flock, lock, fcntl.LOCK_EX)
        yield


async def _size(image: str) -> int:
    return int(await docker("inspect", "--format", "{{.Size}}", image))


async def _run(*command: str) -> str:
    done = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT)
    said = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, f"{command[0]}: {said[-2000:]}"
    return said


async def _base(folder: Path) -> str:
    """A minimal Debian with Python, from where this machine's packages come from."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    made_of = "\n".join((codename, *PACKAGES, *LEFT_OUT))
    name = f"mcp-devops-test-base:{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if not (await docker("images", "-q", name)).strip():
        targets = await _run("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)")
        source = next(ln.split()[1] for ln in targets.splitlines() if ln.split()[0] == codename)
        root = folder / "root"
        await _run(
            *("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
            *(codename, str(root), source),
        )
        without = [f"--exclude=./{each}/*" for each in LEFT_OUT]
        archive = folder / "root.tar"
        await _run("tar", "-C", str(root), *without, "-cf", str(archive), ".")
        await docker("import", str(archive), name)
        await _run("rm", "-r", str(root), str(archive))
    ask = ("-c", "import sys; print(*sys.version_info[:2])")
    has = await docker("run", "--rm", "--network", "none", "--entrypoint", "python", name, *ask)
    if has.split()[-2:] != [str(n) for n in sys.version_info[:2]]:
        pytest.skip(f"wheels are fetched for this Python, and the base has {has.strip()}")
    return name


async def _build(folder: Path, base: str, name: str) -> None:
    """As deploy/README.md says, with no network at all."""
    context = folder / "context"
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for each in [line[1:] for line in kept if line.startswith("!")]:
        source, target = ROOT / each, context / each
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and each != "wheels":
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, target)
    await _run(
        *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"),
        *("--require-hashes", "-r", str(ROOT / "deploy" / "requirements.lock")),
        *("-d", str(context / "wheels")),
    )
    before = (await docker("images", "-q", CACHE)).strip()
    command = (
        *("build", "-f", str(ROOT / "deploy" / "Dockerfile"), "--network", "none"),
        *("--build-arg", f"PYTHON_IMAGE={base}", "--build-arg", "PIP_NO_INDEX=1"),
    )
    for more in (("--target", "build", "-t", CACHE), ("-t", name)):
        said = await docker(*command, *more, str(context), check=False)
        assert "Successfully tagged" in said, said[-3000:]
    now = (await docker("images", "-q", CACHE)).strip()
    if before and before != now:
        await docker("rmi", before, check=False)
