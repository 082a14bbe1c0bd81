"""Prometheus' own tool, where it is installed, as a judge of what we export and ask for."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def promtool(*arguments: str, given: bytes) -> str:
    """What it says on its standard error and output; a test fails where it objects."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: apt-get install -y --no-install-recommends prometheus")
    done = subprocess.run(
        [program, *arguments], input=given, capture_output=True, check=False, timeout=60
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said
