"""The part of the page that shows requests: charts by source, the windows in numbers, a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from mcp_devops.incidents.account import Account
from mcp_devops.model.arms import ArmSummary, summarise
from mcp_devops.model.evidence import Arm, Bucket, RequestSeries
from mcp_devops.model.window import Windows
from mcp_devops.text.people import percent, plural
from mcp_devops.web import words
from mcp_devops.web.chart import Line, Moment, Picture, Seen, draw, swatch, within
from mcp_devops.web.html import Child, Html, el

MOST_SOURCES = 4
"""Metric sources that are drawn; nobody has asked more of them about one service."""
MOST_ROWS = 240
"""Rows of the table: four hours of minutes."""
STRETCH = 3.0
"""A later moment is drawn while it is at most this many times the measured stretch away."""

KINDS = {Arm.BASELINE: "all", Arm.AFTER: "all", Arm.CONTROL: "old", Arm.NEW: "new"}
LEGEND = {"all": "whole service", "old": "old revision", "new": "new revision"}
Measure = Callable[[Bucket], float | None]


def error_rate(bucket: Bucket) -> float | None:
    """Failed requests by requests; None where either is not known, or nothing was asked."""
    if bucket.requests is None or bucket.errors is None or bucket.requests <= 0:
        return None
    return min(max(bucket.errors / bucket.requests, 0.0), 1.0)


def p99(bucket: Bucket) -> float | None:
    """Milliseconds."""
    return bucket.p99_ms


def sources_of(account: Account) -> dict[str, list[RequestSeries]]:
    """The request series by source, those with numbers first."""
    found: dict[str, list[RequestSeries]] = {}
    for series in account.evidence.requests if account.evidence else ():
        found.setdefault(series.source, []).append(series)
    ranked = sorted(found.items(), key=lambda item: not any(map(_has_numbers, item[1])))
    return dict(ranked)


def requests_part(account: Account) -> Child:
    """Charts and numbers of every source; a sentence where there is none."""
    found = sources_of(account)
    if not any(_has_numbers(s) for group in found.values() for s in group):
        return el(
            "p",
            el("strong", "No request numbers are recorded. "),
            "That is not the same as no errors: nothing counted this service's requests, or the"
            " source did not answer. See what is missing above.",
        )
    return [
        _source(account, name, group, index)
        for index, (name, group) in enumerate(list(found.items())[:MOST_SOURCES])
    ]


def _has_numbers(series: RequestSeries) -> bool:
    return any(error_rate(b) is not None or b.p99_ms is not None for b in series.buckets)


def _source(account: Account, name: str, group: list[RequestSeries], index: int) -> Child:
    windows = next((s.windows for s in group if s.windows), None)
    windows = windows or (account.evidence.windows if account.evidence else None)
    if not any(map(_has_numbers, group)):
        return [el("h3", name), el("p", f"{name} has no numbers for these minutes.")]
    notes = list(dict.fromkeys(s.note for s in group if s.note))
    queries = list(dict.fromkeys(q for s in group for q in s.queries))
    arms = [summarise(s, windows) for s in group]
    return [
        el("h3", f"Counted by {name}, for {group[0].service}"),
        _legend(group),
        [draw(p) for p in _pictures(account, group, windows, index)],
        _windows_in_numbers(arms),
        [el("p", "Limit of the data: ", note, class_="small") for note in notes[:4]],
        _table(group, name),
        el(
            "details",
            el("summary", f"{plural(len(queries), 'query')} behind it"),
            [el("p", el("code", q)) for q in queries[:12]],
        )
        if queries
        else None,
    ]


def _legend(group: Sequence[RequestSeries]) -> Html:
    shown = dict.fromkeys(line.kind for line in lines_of(group, error_rate))
    shown |= dict.fromkeys(line.kind for line in lines_of(group, p99))
    items = [el("li", swatch(kind), LEGEND[kind]) for kind in LEGEND if kind in shown]
    missing = [
        LEGEND[KINDS[s.arm]]
        for s in group
        if s.arm in (Arm.CONTROL, Arm.NEW) and not _has_numbers(s)
    ]
    items += [el("li", f"{label}: no data", class_="dim") for label in missing]
    return el("ul", items, class_="legend")


def lines_of(group: Sequence[RequestSeries], measure: Measure) -> tuple[Line, ...]:
    """One line an arm; the whole service after is left out where it is one arm's own line."""
    made = [
        (s.arm, Line(words.ARMS[s.arm], KINDS[s.arm], s.step_s,
                     tuple((b.start, measure(b)) for b in s.buckets)))
        for s in group
    ]  # fmt: skip
    apart = [line.points for arm, line in made if arm in (Arm.CONTROL, Arm.NEW)]
    return tuple(
        line for arm, line in made if line.known and not (arm is Arm.AFTER and line.points in apart)
    )


def _pictures(
    account: Account, group: list[RequestSeries], windows: Windows | None, index: int
) -> list[Picture]:
    starts = [b.start for s in group for b in s.buckets]
    ends = [b.start + timedelta(seconds=s.step_s) for s in group for b in s.buckets]
    start, until = min(starts), max(ends)
    moments = _moments(account, windows)
    seen = _seen(account)
    end = max([until, *_near(start, until, [m.at for m in moments] + ([seen.at] if seen else []))])
    shown = within(moments, start, end)
    made = []
    for key, title, measure, unit, least in (
        ("errors", "Failed requests, share", error_rate, percent, 0.01),
        ("p99", "Slowest 1 % of requests (p99), milliseconds", p99, words.millis, 1.0),
    ):
        lines = lines_of(group, measure)
        if not lines:
            continue
        later = seen if key == "errors" and seen and start <= seen.at <= end else None
        made.append(
            Picture(
                key=f"{key}{index}",
                title=title,
                describe=_describe(lines, unit, shown, later),
                unit=unit,
                least=least,
                start=start,
                end=end,
                known_until=until,
                lines=lines,
                baseline=windows.baseline if windows else None,
                after=windows.after if windows else None,
                moments=shown,
                seen=later,
            )
        )
    return made


def _near(start: datetime, until: datetime, moments: Sequence[datetime]) -> list[datetime]:
    """Later moments that do not squeeze the measured stretch into a corner."""
    room = (until - start) * STRETCH
    return [m + (until - start) / 40 for m in moments if start <= m <= start + room]


def _moments(account: Account, windows: Windows | None) -> tuple[Moment, ...]:
    found = []
    change = account.evidence.change if account.evidence else None
    if windows is not None:
        name = f"revision {change.revision.number} deployed" if change else "deployed"
        found.append(Moment(windows.deployed_at, name, "moment"))
    if account.rolled_back_at is not None:
        found.append(Moment(account.rolled_back_at, "rolled back", "moment-back"))
    if windows is not None and account.evidence is not None:
        near = [e.at for e in account.evidence.scaling if e.at >= windows.baseline.start]
        found += [Moment(at, "capacity changed", "moment-scale") for at in sorted(set(near))[-2:]]
    return tuple(found)


def _seen(account: Account) -> Seen | None:
    checked = account.incident.verification
    if checked is None or checked.error_rate_after is None:
        return None
    return Seen(checked.checked_at, checked.error_rate_after, checked.outcome == "recovered")


def _describe(
    lines: Sequence[Line],
    unit: Callable[[float], str],
    moments: Sequence[Moment],
    seen: Seen | None,
) -> str:
    parts = [
        f"{line.label}: {unit(min(line.known))} to {unit(max(line.known))},"
        f" {plural(len(line.points) - len(line.known), 'gap')}"
        for line in lines
    ]
    parts += [f"{m.label} at {words.clock(m.at)} UTC" for m in moments]
    if seen:
        parts.append(f"{unit(seen.value)} when recovery was checked at {words.clock(seen.at)} UTC")
    return "; ".join(parts) + "."


def _windows_in_numbers(arms: Sequence[ArmSummary]) -> Html:
    head = ("window", "requests", "failed", "error rate", "p99 (median)", "steps with data")
    rows = [
        (
            words.ARMS[a.arm],
            words.count(a.requests),
            words.count(a.errors),
            words.rate(a.error_rate),
            words.millis(a.p99_ms),
            f"{a.buckets_with_data} of {a.buckets}",
        )
        for a in sorted(arms, key=lambda a: list(words.ARMS).index(a.arm))
    ]
    return _grid("The windows that were compared", head, rows, "Windows in numbers")


def _table(group: Sequence[RequestSeries], name: str) -> Html:
    """Every value that the charts show."""
    by_start: dict[datetime, dict[Arm, Bucket]] = {}
    for series in group:
        for bucket in series.buckets:
            by_start.setdefault(bucket.start, {})[series.arm] = bucket
    arms = [a for a in words.ARMS if any(s.arm is a and s.buckets for s in group)]
    head = ["from (UTC)"]
    head += [f"errors, {words.ARMS[a]}" for a in arms] + [f"p99, {words.ARMS[a]}" for a in arms]
    rows = []
    for start in sorted(by_start)[-MOST_ROWS:]:
        found = by_start[start]
        rows.append(
            [
                words.clock(start),
                *(words.rate(error_rate(found[a])) if a in found else "" for a in arms),
                *(words.millis(p99(found[a])) if a in found else "" for a in arms),
            ]
        )
    left = len(by_start) - len(rows)
    cut = f"; the {left} oldest are left out" if left else ""
    caption = f"{name}, {words.day(min(by_start))}{cut}. Empty: not that window."
    return el(
        "details",
        el("summary", f"The charts as a table, {plural(len(rows), 'row')}"),
        _grid(caption, head, rows, "The charts as a table"),
    )


def _grid(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> Html:
    """A table that scrolls by itself where it is too wide, so that the page does not."""
    body = [
        el("tr", el("th", first, scope="row"), [el("td", cell) for cell in rest])
        for first, *rest in rows
    ]
    return el(
        "div",
        el(
            "table",
            el("caption", caption),
            el("thead", el("tr", [el("th", h, scope="col") for h in head])),
            el("tbody", body),
        ),
        class_="scroll",
        role="region",
        aria_label=label,
        tabindex=0,
    )
