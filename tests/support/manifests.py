"""The deployment's manifests, rendered by kubectl."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kustomize"
BASE = FOLDER / "base"
OVERLAYS = ("single", "replicated")


def rendered(overlay: str) -> list[dict[str, Any]]:
    """The objects of an overlay, in kubectl's order."""
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))
