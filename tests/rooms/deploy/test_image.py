"""The Dockerfile, read as the engine reads it. tests/cluster builds its last stage."""

from __future__ import annotations

import json
import re
import shlex
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import anyio

from mcp_devops.journal.database import open_database
from mcp_devops.responder.metrics import Readiness, telling
from mcp_devops.toolkit.clock import SystemClock

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its argument, lines joined, comments gone."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split()[0], line.split(None, 1)[1].strip()) for line in lines]


def last_stage() -> list[tuple[str, str]]:
    given = instructions()
    start = max(n for n, (what, _) in enumerate(given) if what == "FROM")
    return given[start:]


def of(kind: str, given: list[tuple[str, str]]) -> list[str]:
    return [argument for what, argument in given if what == kind]


def test_the_base_image_is_chosen_when_it_is_built_and_no_registry_is_named() -> None:
    assert of("FROM", instructions()) == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    (default,) = [given for given in of("ARG", instructions()) if "=" in given]
    image = default.split("=", 1)[1]
    assert "/" not in image and re.fullmatch(r"python:3\.\d+-slim", image)


def test_it_runs_as_nobody_in_particular_and_without_a_shell() -> None:
    last = last_stage()
    (user,) = of("USER", last)
    assert all(int(number) >= 10_000 for number in user.split(":"))
    assert not of("RUN", last) and not of("ADD", instructions())
    for kind in ("ENTRYPOINT", "CMD"):
        assert json.loads(of(kind, last)[-1])
    check = of("HEALTHCHECK", last)[0]
    assert isinstance(json.loads(check.split("CMD", 1)[1]), list)
    assert of("VOLUME", last) == ['["/var/lib/mcp-devops"]']


def test_only_files_whose_hashes_are_locked_are_installed_and_build_it() -> None:
    steps = [json.loads(step) for step in of("RUN", instructions())]
    (download,) = [s for s in steps if "download" in s]
    (wheel,) = [s for s in steps if "wheel" in s]
    (install,) = [s for s in steps if "install" in s]
    assert {"--require-hashes", "--no-deps"} <= set(download)
    for later in (wheel, install):
        assert "--no-index" in later
        assert later[later.index("--find-links") + 1] == download[download.index("-d") + 1]
    assert install[-1] == "mcp-devops[response,postgres]"


def locked(file: Path) -> dict[str, set[str]]:
    """Hashes of each package with its version and marker."""
    text = re.sub(r"^ *#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = [entry.split() for entry in text.replace("\\\n", " ").splitlines()]
    return {
        words[0]: {w for w in words if w.startswith("--hash=")}
        for words in found
        if "==" in words[0]
    }


def test_the_images_lock_is_a_part_of_the_projects_and_what_builds_it() -> None:
    image = locked(ROOT / "deploy" / "requirements.lock")
    project = locked(ROOT / "requirements.lock")
    builds = {"hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"}
    names = {entry.split("==")[0] for entry in image}
    assert {"mcp", "kubernetes", "dbos", "psycopg-binary", "hatchling"} <= names
    assert not {"pytest", "mypy", "boto3", "moto"} & names
    for entry, hashes in image.items():
        assert hashes, entry
        if entry.split("==")[0] not in builds:
            assert project.get(entry) == hashes, f"run: make lock ({entry})"


def test_what_is_copied_exists_and_is_sent_to_the_engine() -> None:
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in kept if line.startswith("!")]
    assert "*" in kept
    given = [
        source
        for argument in of("COPY", instructions())
        if "--from" not in argument
        for source in shlex.split(argument)[:-1]
    ]
    assert len(given) >= 6
    # The pattern lets the folder be missing.
    assert "wheel[s]" in given
    copied = ["wheels" if source == "wheel[s]" else source for source in given]
    for source in copied:
        assert source == "wheels" or (ROOT / source).exists(), source
        assert any(fnmatchcase(source, pattern) for pattern in allowed), source
    assert sorted(copied) == sorted(allowed), "nothing is sent that is not used"


async def test_the_health_check_fails_where_nothing_answers(tmp_path: Path) -> None:
    program, *arguments = json.loads(of("HEALTHCHECK", last_stage())[0].split("CMD", 1)[1])
    assert program == "python"

    async def check(url: str) -> int:
        command = [sys.executable, *arguments]
        done = await anyio.run_process(command, check=False, env={"HEALTH_URL": f"{url}/healthz"})
        return done.returncode

    async def render() -> bytes:
        return b""

    async with open_database(tmp_path / "state.db") as database:
        async with telling(":0", render, Readiness(database, SystemClock())) as url:
            assert await check(url) == 0
        assert await check(url) != 0
