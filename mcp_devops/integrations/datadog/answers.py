"""What the two query APIs answer, read into points. Not here: what is asked, or what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from mcp_devops.errors import InvalidArguments, UpstreamUnavailable

SOURCE = "datadog"
MAX_POINTS = 20_000
"""Points of one series that are read; an answer within Datadog's own limits has 1,500."""
FEWEST_FOR_SPACING = 4
"""Points from which their spacing is believed: fewer may be far apart by chance."""


@dataclass(frozen=True)
class Points:
    """The answer to one query.

    Attributes:
        values: By the bucket's start in epoch seconds; None where the source had null.
        unit_s: Seconds in one unit of the value; None: the metric has no unit of time.
        found: Whether there was a series at all.
    """

    values: Mapping[int, float | None] = field(default_factory=dict)
    unit_s: float | None = None
    found: bool = False


def read_v2(body: Any, count: int) -> list[Points]:
    """Read an answer of `POST /api/v2/query/timeseries`: one Points for each formula.

    Raises:
        UpstreamUnavailable: It is not the published shape.
        InvalidArguments: Status 200 with an error inside, or several series of one query.
    """
    try:
        if said := body.get("errors"):
            raise refused(said if isinstance(said, str) else "; ".join(map(str, said)))
        attributes = body["data"]["attributes"]
        series, values = attributes.get("series") or [], attributes.get("values") or []
        times = [_moment(t) for t in attributes.get("times") or []]
        if len(series) != len(values) or any(len(v) != len(times) for v in values):
            raise _strange()
        rows = [
            (int(s.get("query_index", 0)), _unit(s.get("unit")), list(zip(times, v, strict=True)))
            for s, v in zip(series, values, strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as wrong:
        raise _strange() from wrong
    return _placed(rows, count)


def read_v1(body: Any, count: int) -> list[Points]:
    """Read an answer of `GET /api/v1/query`: one Points for each query, commas between them.

    Raises:
        UpstreamUnavailable: It is not the published shape.
        InvalidArguments: Status 200 with an error inside, or several series of one query.
    """
    try:
        if body["status"] != "ok":
            raise refused(str(body.get("error") or body.get("message") or ""))
        rows = []
        for series in body.get("series") or []:
            index = series.get("query_index")
            if index is None and count > 1:
                raise _strange()
            points = [(_moment(at), value) for at, value in series["pointlist"]]
            rows.append((int(index or 0), _unit(series.get("unit")), points))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as wrong:
        raise _strange() from wrong
    return _placed(rows, count)


def refused(said: str) -> InvalidArguments:
    """The error for a query that Datadog does not run, with what it says."""
    return InvalidArguments(
        "Datadog cannot run the query.",
        fix="Correct the query, in the arguments or in the settings.",
        source=SOURCE,
        upstream=said,
    )


def check_spacing(answer: Sequence[Points], step_s: int) -> None:
    """Make sure that the buckets are those that were asked for.

    A source that has too many points to give answers coarser buckets: their counts would be read
    as those of a shorter time.

    Raises:
        InvalidArguments: They are not.
    """
    for points in answer:
        times = sorted(points.values)
        gaps = math.gcd(*(b - a for a, b in pairwise(times)), 0)
        coarse = len(times) >= FEWEST_FOR_SPACING and gaps > step_s
        if coarse or any(t % step_s for t in times):
            raise InvalidArguments(
                f"Datadog answered buckets of {gaps} s; {step_s} s were asked for.",
                fix="Choose another step_s or a shorter baseline; own queries end in"
                " .rollup(sum, $step).",
                source=SOURCE,
                answered_s=gaps,
            )


def _placed(rows: Sequence[tuple[int, float | None, list[Any]]], count: int) -> list[Points]:
    found: dict[int, Points] = {}
    for index, unit, pairs in rows:
        if not 0 <= index < count or len(pairs) > MAX_POINTS:
            raise _strange()
        if index in found:
            raise InvalidArguments(
                "A query gives several series, one was expected.",
                fix="Aggregate it: sum:metric{...} without `by {...}`.",
                source=SOURCE,
            )
        found[index] = Points({at: _number(value) for at, value in pairs}, unit, True)
    return [found.get(i, Points()) for i in range(count)]


def _moment(milliseconds: Any) -> int:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        raise _strange()
    seconds = milliseconds / 1000
    if not seconds.is_integer() or abs(seconds) > 1e11:
        raise _strange()
    return int(seconds)


def _number(value: Any) -> float | None:
    """A finite number of zero or more; everything else is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value)
    return number if math.isfinite(number) and number >= 0 else None


def _unit(unit: Any) -> float | None:
    """Seconds in one unit, from [{"family": "time", "scale_factor": ...}, per-unit or null]."""
    first = unit[0] if isinstance(unit, list) and unit else None
    if not isinstance(first, Mapping) or first.get("family") != "time":
        return None
    scale = _number(first.get("scale_factor"))
    return scale or None


def _strange() -> UpstreamUnavailable:
    return UpstreamUnavailable(
        "Datadog's answer is not of the published shape.",
        fix="Check MCP_DEVOPS_DATADOG__SITE, and whether a proxy stands in between.",
        source=SOURCE,
    )
