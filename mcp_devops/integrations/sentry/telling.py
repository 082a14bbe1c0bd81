"""Sentry's answers put together to the arms of one comparison, with what is missing. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.sentry.projects import Project
from mcp_devops.integrations.sentry.questions import FAILED, P99, REQUESTS, Question, Told
from mcp_devops.model.evidence import Arm, Bucket, RequestSeries
from mcp_devops.model.window import Window, Windows
from mcp_devops.toolkit.comparing import RequestComparison, VersionedService, before

SAMPLED = (
    "requests are the transactions that Sentry stored, after sampling; failures include 4xx"
    " statuses"
)
UNCOUNTED = "error events only, nobody counted the requests"


@dataclass(frozen=True)
class SentryComparison(RequestComparison):
    """The same with where the numbers are from.

    Attributes:
        projects: Slugs that were asked about.
        dataset: `spans`: failed of all transactions; `errors`: error events, without requests.
        endpoint: The API path that answered.
        error_events: Error events inside each arm's window, where they were had.
        notes: What is missing beside the series, in words.
    """

    projects: tuple[str, ...] = ()
    dataset: str = "errors"
    endpoint: str = ""
    error_events: Mapping[Arm, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heard:
    """All answers of one comparison, by release; None stands for the whole service."""

    errors: Mapping[str | None, Told | DevOpsError]
    spans: Mapping[str | None, Told | DevOpsError]
    known: Mapping[str, bool | DevOpsError]


def tell(
    service: VersionedService,
    windows: Windows,
    projects: tuple[Project, ...],
    question: Question,
    heard: Heard,
) -> SentryComparison:
    """Choose the dataset that tells most, and make each arm's series of it.

    Raises:
        DevOpsError: Neither dataset was answered for the whole service: why errors were not.
    """
    errors, spans = heard.errors[None], heard.spans[None]
    spans_tell = isinstance(spans, Told) and _has_traffic(spans, windows)
    if not spans_tell and isinstance(errors, DevOpsError):
        raise errors
    chosen = heard.spans if spans_tell else heard.errors
    notes: list[str] = []
    if isinstance(spans, DevOpsError):
        notes.append(f"transactions could not be had ({spans.code})")
    elif not spans_tell:
        notes.append("no transactions before and after the deployment")
    if isinstance(errors, DevOpsError):
        notes.append(f"error events could not be had ({errors.code})")
    arms: list[tuple[Arm, Window, str | None]] = [
        (Arm.BASELINE, before(windows), None),
        (Arm.AFTER, windows.after, None),
    ]
    for arm, release in ((Arm.NEW, service.new), (Arm.CONTROL, service.old)):
        if release is None or release not in chosen:
            continue
        why = _why_left_out(release, chosen[release], heard.known[release], spans_tell, windows)
        if why is None:
            arms.append((arm, windows.after, release))
        else:
            notes.append(why)
    series: list[RequestSeries] = []
    events: dict[Arm, float] = {}
    for arm, window, release in arms:
        told = chosen[release]
        if isinstance(told, DevOpsError):
            continue
        series.append(
            _series(service.service, windows, arm, window, question.step_s, told, spans_tell, notes)
        )
        counted = heard.errors[release]
        if isinstance(counted, Told) and (release is None or heard.known[release] is True):
            inside = windows.baseline if arm is Arm.BASELINE else window
            total = _events(counted, inside, question.step_s)
            if total is not None:
                events[arm] = total
    told = chosen[None]
    return SentryComparison(
        windows=windows,
        series=tuple(series),
        projects=tuple(p.slug for p in projects),
        dataset="spans" if spans_tell else "errors",
        endpoint=told.endpoint if isinstance(told, Told) else "",
        error_events=events,
        notes=tuple(notes),
    )


def _why_left_out(
    release: str,
    told: Told | DevOpsError,
    known: bool | DevOpsError,
    spans_tell: bool,
    windows: Windows,
) -> str | None:
    """Why a release has no series of its own; None: it has."""
    if isinstance(told, DevOpsError):
        return f"release {release!r} could not be had ({told.code})"
    if spans_tell:
        if not _traffic(told, windows.after):
            return f"no transactions of release {release!r}: silent, or not tagged"
        return None
    if known is not True:
        code = known.code if isinstance(known, DevOpsError) else "unknown"
        return f"Sentry does not confirm release {release!r} ({code}): its zero would mean nothing"
    return None


def _has_traffic(told: Told, windows: Windows) -> bool:
    return _traffic(told, windows.baseline) > 0 and _traffic(told, windows.after) > 0


def _traffic(told: Told, window: Window) -> float:
    axis = told.axes.get(REQUESTS)
    if axis is None:
        return 0.0
    start, end = window.start.timestamp(), window.end.timestamp()
    return math.fsum(v for at, v in axis.points.items() if start <= at < end)


def _events(told: Told, window: Window, step_s: int) -> float | None:
    """Error events in a window's complete buckets; None: there is no such bucket."""
    points = told.axes[REQUESTS].points if REQUESTS in told.axes else {}
    found = [points[at] for at in _starts(window, step_s) if at in points]
    return math.fsum(found) if found else None


def _starts(window: Window, step_s: int) -> list[float]:
    """Starts of the buckets that lie whole inside a window."""
    first = math.ceil(window.start.timestamp() / step_s) * step_s
    last = math.floor(window.end.timestamp() / step_s) * step_s
    return [float(at) for at in range(first, last, step_s)]


def _series(
    service: str,
    windows: Windows,
    arm: Arm,
    window: Window,
    step_s: int,
    told: Told,
    spans: bool,
    notes: list[str],
) -> RequestSeries:
    make = _span_bucket if spans else _error_bucket
    guessed = any(a.guessed for a in told.axes.values())
    note = [SAMPLED] if spans else [UNCOUNTED, *notes[:1]]
    if guessed:
        note.append("few samples in some buckets")
    return RequestSeries(
        source="sentry",
        service=service,
        arm=arm,
        step_s=step_s,
        buckets=tuple(make(told, at) for at in _starts(window, step_s)),
        queries=(told.query,),
        note="; ".join(note),
        windows=windows,
    )


def _span_bucket(told: Told, at: float) -> Bucket:
    """Requests, failures and p99. No transaction is unknown: sampling may have left none."""
    start = datetime.fromtimestamp(at, UTC)
    requests = _value(told, REQUESTS, at)
    if not requests:
        return Bucket(start=start)
    failed, p99 = _value(told, FAILED, at), _value(told, P99, at)
    return Bucket(
        start=start,
        requests=requests,
        errors=None if failed is None else min(failed, requests),
        p99_ms=None if p99 is None else p99 * told.axes[P99].unit_ms,
    )


def _error_bucket(told: Told, at: float) -> Bucket:
    start = datetime.fromtimestamp(at, UTC)
    return Bucket(start=start, errors=_value(told, REQUESTS, at))


def _value(told: Told, axis: str, at: float) -> float | None:
    found = told.axes.get(axis)
    return None if found is None else found.points.get(at)
