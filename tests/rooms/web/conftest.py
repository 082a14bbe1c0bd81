from __future__ import annotations

from pathlib import Path

import pytest

from tests.rooms.incidents.conftest import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Replayed incidents, with the real tools over them."""
    return Desk(tmp_path, monkeypatch)
