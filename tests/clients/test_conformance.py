"""The protocol's own conformance suite against the server as it is, and with fixtures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients.processes import Done, run

pytestmark = pytest.mark.client

BASELINES = Path(__file__).parent / "baselines"
FIRST = "first-2025-11-25"
RUNS = {
    FIRST: (),
    "2025-11-25": ("--requirements", "2025-11-25"),
    "2026-07-28": ("--requirements", "2026-07-28"),
}
"""The older suite knows one revision, the newer one freezes what each requires."""
SCORED = {FIRST: 30, "2025-11-25": 30, "2026-07-28": 37}
"""Scenarios that count."""
UNSCORED = re.compile(r"^\s+[✓✗] (\S+) \((?:extension|pending|added-after-release)\)$", re.M)


@pytest.fixture(params=RUNS)
def revision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def suite(revision: str, conformance_first: Path, conformance: Path) -> list[str | Path]:
    entry = conformance_first if revision == FIRST else conformance
    return ["node", entry, "server", *RUNS[revision]]


def test_the_real_server_fails_only_what_asks_for_fixtures(
    revision: str,
    suite: list[str | Path],
    open_server: str,
    node_environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    baseline = BASELINES / f"{revision}.yml"
    done = run(
        [*suite, "--url", open_server, "--expected-failures", baseline, "-o", tmp_path / "out"],
        node_environment,
        tmp_path,
    )
    # An unlisted failure fails this, and so does an entry that passes by now.
    assert done.code == 0, str(done)


def test_with_its_fixtures_loaded_every_scored_scenario_passes(
    revision: str,
    suite: list[str | Path],
    fixture_server: str,
    node_environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    done = run([*suite, "--url", fixture_server, "-o", out], node_environment, tmp_path)
    assert done.code == 0, str(done)
    checks = scored(out, done)
    assert len(checks) == SCORED[revision], sorted(checks)
    wrong = {
        f"{scenario}: {check['id']}": check.get("errorMessage")
        for scenario, found in checks.items()
        for check in found
        if check["status"] in ("FAILURE", "WARNING")
    }
    assert not wrong
    assert all(any(c["status"] == "SUCCESS" for c in found) for found in checks.values())


@pytest.mark.parametrize("name", RUNS)
def test_a_baseline_excuses_no_scenario_that_needs_no_fixture(name: str) -> None:
    listed = yaml.safe_load((BASELINES / f"{name}.yml").read_text(encoding="utf-8"))["server"]
    assert {entry.split(":")[0] for entry in listed if ":" in entry} <= {"server-stateless"}
    excused = {entry for entry in listed if ":" not in entry}
    own = ("tools-call-", "elicitation-", "resources-read-", "resources-templates-", "prompts-get-")
    asked = ("input-required-result-", "logging-set-level")
    assert all(entry.startswith((*own, *asked)) for entry in excused), excused


def scored(out: Path, done: Done) -> dict[str, list[dict[str, Any]]]:
    """The checks of each scenario that counts."""
    unscored = set(UNSCORED.findall(done.out))
    found: dict[str, list[dict[str, Any]]] = {}
    for file in out.glob("server-*/checks.json"):
        scenario = re.sub(r"^server-|-\d{4}-\d{2}-\d{2}T[\d-]+Z$", "", file.parent.name)
        if scenario not in unscored:
            found[scenario] = json.loads(file.read_text(encoding="utf-8"))
    return found
