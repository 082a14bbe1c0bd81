from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.clients.packages import (
    CLAUDE_CODE,
    CONFORMANCE,
    INSPECTOR,
    NODE_AND_CONFORMANCE,
    installed,
)
from tests.clients.processes import ROOT, SCENARIO, TOKEN, client_environment, serving
from tests.support.process import command, environment

LISTENING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")


@pytest.fixture(scope="session")
def node() -> Path:
    """A folder with a node that is new enough."""
    installed(NODE_AND_CONFORMANCE)
    return NODE_AND_CONFORMANCE.modules / ".bin"


@pytest.fixture(scope="session")
def node_environment(node: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a JavaScript client: our node first, a home of its own."""
    home = tmp_path_factory.mktemp("home")
    return client_environment(home) | {"PATH": f"{node}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def conformance_first(node: Path) -> Path:
    return installed(NODE_AND_CONFORMANCE)


@pytest.fixture(scope="session")
def conformance(node: Path) -> Path:
    return installed(CONFORMANCE)


@pytest.fixture(scope="session")
def inspector(node: Path) -> Path:
    return installed(INSPECTOR)


@pytest.fixture(scope="session")
def claude() -> Path:
    return installed(CLAUDE_CODE)


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the real server over HTTP, playing a recorded incident."""
    with _http(tmp_path_factory.mktemp("open")) as url:
        yield f"{url}/mcp"


@pytest.fixture(scope="session")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same, for callers with a token."""
    folder = tmp_path_factory.mktemp("guarded")
    with _http(folder, MCP_DEVOPS_HTTP__TOKENS=f"ann={TOKEN}") as url:
        yield f"{url}/mcp"


def _http(folder: Path, **more: str) -> AbstractContextManager[str]:
    options = ("--scenario", SCENARIO, "--http", "127.0.0.1:0", "--log-level", "INFO")
    program = command(*options, state_dir=folder)
    return serving(program, environment(folder, **more), ROOT, LISTENING)


@pytest.fixture(scope="session")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the same app with the conformance suite's fixtures, behind authentication."""
    folder = tmp_path_factory.mktemp("fixtures")
    program = [sys.executable, "-m", "tests.support.conformance_server", str(folder)]
    with serving(program, environment(folder), ROOT, re.compile(r"^(http://\S+/mcp)$")) as url:
        yield url
