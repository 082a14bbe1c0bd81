"""How recordings lie on disk: gzipped JSON, samples as differences. Pure but for the files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Samples:
    """One series: its labels with `__name__`, times in epoch seconds, and values."""

    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float]


def write_packed(path: Path, content: Any) -> int:
    """Write gzipped JSON, the same bytes for the same content.

    Returns:
        Bytes written.
    """
    raw = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    packed = gzip.compress(raw, 9, mtime=0)
    path.write_bytes(packed)
    return len(packed)


def read_packed(path: Path) -> Any:
    """Read gzipped JSON."""
    return json.loads(gzip.decompress(path.read_bytes()))


def pack_samples(matrix: Sequence[Json], start: float, end: float) -> Json:
    """Pack a Prometheus matrix: times in milliseconds and values, both as differences.

    Series of one target that were scraped together share their list of times.
    """
    times: list[list[int]] = []
    known: dict[tuple[int, ...], int] = {}
    series = []
    for entry in matrix:
        stamps = tuple(round(float(t) * 1000) for t, _ in entry["values"])
        if stamps not in known:
            known[stamps] = len(times)
            times.append(_differences(stamps))
        values = [float(v) for _, v in entry["values"]]
        packed = _differences([int(v) if v.is_integer() else v for v in values])
        series.append({"labels": entry["metric"], "times": known[stamps], "values": packed})
    return {"start": round(start, 3), "end": round(end, 3), "times": times, "series": series}


def unpack_samples(packed: Json) -> list[Samples]:
    """The series of a packed recording."""
    times = [[t / 1000 for t in _sums(row)] for row in packed["times"]]
    return [
        Samples(s["labels"], times[s["times"]], [float(v) for v in _sums(s["values"])])
        for s in packed["series"]
    ]


def _differences(values: Sequence[Any]) -> list[Any]:
    return [*values[:1], *(b - a for a, b in pairwise(values))]


def _sums(steps: Sequence[Any]) -> list[Any]:
    found = []
    total: Any = 0
    for step in steps:
        total += step
        found.append(total)
    return found
