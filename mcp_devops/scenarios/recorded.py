"""The recordings: found by folder, from the installed package or from the repository's fixtures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from mcp_devops.errors import NotFound
from mcp_devops.model.record import Record
from mcp_devops.scenarios.packing import Samples, read_packed, unpack_samples

HERE = Path(__file__).parent
PLACES = (HERE / "recorded", HERE.parents[1] / "fixtures" / "scenarios")
"""A wheel carries the recordings beside this file; a checkout has them among the fixtures."""


class Expectation(Record):
    """What the right handling of a scenario is."""

    action: str
    """The verdict's action."""
    outcome: str | None = None
    """Outcome of the rollback if it is carried out: recovered or not_recovered."""


class About(Record):
    """A scenario's `scenario.json`."""

    title: str
    """A few words."""
    story: str
    """What happened, in a sentence or two."""
    namespace: str
    """Where; the only namespace that can be read or changed."""
    workload: str
    """The Deployment that was rolled out."""
    speed: float = Field(12, ge=1, le=60)
    """Pace of time after the rollback, in replayed seconds a second."""
    hurried_s: float = Field(ge=1, le=3600)
    """Replayed seconds after the rollback for which that pace is kept."""
    settings: dict[str, str]
    """Variables of the server's environment: windows as short as the recording."""
    expect: Expectation
    """The right handling."""


@dataclass(frozen=True)
class Scenario:
    """One recorded incident.

    Attributes:
        name: Name of its folder.
        about: What it is about.
        cluster: What the Kubernetes API answered.
        samples: What Prometheus had stored.
        begun_at: Recorded second at which the samples begin.
        rolled_back_at: Recorded second of the rollback; the look at the cluster was just before.
        ended_at: Recorded second at which the recording ends.
    """

    name: str
    about: About
    cluster: dict[str, Any]
    samples: list[Samples]
    begun_at: float
    rolled_back_at: float
    ended_at: float


def folders() -> dict[str, Path]:
    """Every recording's folder by name."""
    for place in PLACES:
        found = {p.parent.name: p.parent for p in sorted(place.glob("*/scenario.json"))}
        if found:
            return found
    return {}


def about(name: str) -> About:
    """What a scenario is about.

    Raises:
        NotFound: There is none of that name.
    """
    return About.model_validate_json((_folder(name) / "scenario.json").read_bytes())


def scans(name: str) -> Path | None:
    """Folder of a scenario's scan reports, if it has some.

    Raises:
        NotFound: There is no scenario of that name.
    """
    folder = _folder(name) / "scans"
    return folder if folder.is_dir() else None


def load(name: str) -> Scenario:
    """Read a recording.

    Raises:
        NotFound: There is none of that name.
    """
    folder = _folder(name)
    cluster = read_packed(folder / "cluster.json.gz")
    metrics = read_packed(folder / "metrics.json.gz")
    return Scenario(
        name=name,
        about=about(name),
        cluster=cluster,
        samples=unpack_samples(metrics),
        begun_at=metrics["start"],
        rolled_back_at=cluster["rolled_back_at"],
        ended_at=metrics["end"],
    )


def _folder(name: str) -> Path:
    known = folders()
    if name not in known:
        raise NotFound(
            f"There is no scenario {name!r}.",
            fix=f"Known: {', '.join(known) or 'none; this installation has no recordings'}.",
            known=list(known),
        )
    return known[name]
