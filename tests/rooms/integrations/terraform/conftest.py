from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import terraform_world
from tests.support.terraform_world import World


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory) -> World:
    if why := terraform_world.why_not():
        pytest.skip(why)
    return World(tmp_path_factory.mktemp("terraform")).make()


@pytest.fixture
def world(applied: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An applied configuration of one's own; temporary files of runs go to `world.temp`."""
    own = applied.copy(tmp_path / "world")
    monkeypatch.setattr("tempfile.tempdir", str(own.temp))
    return own
