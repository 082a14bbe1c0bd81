"""Draws one measure over time as SVG: windows shaded, moments marked, gaps left open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from mcp_devops.model.window import Window
from mcp_devops.web.axes import time_label, time_ticks, value_ticks
from mcp_devops.web.html import Child, Html, el

MOST_DOTS = 70
"""Values of one line that get a dot each; in longer lines only those without neighbours do."""
HEADROOM = 20
"""Units above the highest value, where the windows' names stand."""
LABEL_ROW = 15
"""Units of one row of labels."""
BEFORE_SHARE = 0.36
"""Share of a bent time axis that what was before the deployment gets."""
MOST_MOMENTS = 4
"""Moments that are marked: the deployment, the rollback, two changes of capacity."""
CHARACTER = 7.0
"""Units a character takes at the most, on average, in the widest common font."""


@dataclass(frozen=True)
class Line:
    """One line: `kind` is all, old or new; a value of None is a gap."""

    label: str
    kind: str
    step_s: float
    points: tuple[tuple[datetime, float | None], ...]

    @property
    def known(self) -> list[float]:
        """The values there are."""
        return [v for _, v in self.points if v is not None]


@dataclass(frozen=True)
class Moment:
    """A marked instant."""

    at: datetime
    label: str
    style: str


@dataclass(frozen=True)
class Seen:
    """One value that was seen later, by itself: the verification's."""

    at: datetime
    value: float
    good: bool


@dataclass(frozen=True)
class Picture:
    """What one chart shows.

    Attributes:
        key: For ids; unique on the page.
        title: What is measured, for whom.
        describe: The chart in words.
        unit: Says a value with its unit.
        least: The axis reaches at least this value.
        start: Left end.
        end: Right end.
        known_until: Where the measured lines end.
        lines: What is drawn.
        baseline: The window before.
        after: The window after.
        moments: Deployment, rollback.
        seen: A later value.
    """

    key: str
    title: str
    describe: str
    unit: Callable[[float], str]
    least: float
    start: datetime
    end: datetime
    known_until: datetime
    lines: tuple[Line, ...]
    baseline: Window | None = None
    after: Window | None = None
    moments: tuple[Moment, ...] = ()
    seen: Seen | None = None

    @property
    def bend(self) -> datetime | None:
        """Where the time axis changes its scale: a short time after a long one would be a sliver.

        None where both sides have room enough on one scale.
        """
        if self.after is None or not self.start < self.after.start < self.end:
            return None
        before, later = self.after.start - self.start, self.end - self.after.start
        return self.after.start if before > later * 2 else None


class Plot:
    """One layout of a picture.

    Args:
        picture: What is drawn.
        shape: wide or narrow: the sheet shows one of them.
    """

    def __init__(self, picture: Picture, shape: str) -> None:
        self.picture = picture
        self.shape = shape
        self.width, self.height = (920, 250) if shape == "wide" else (330, 230)
        rows = min(len(picture.moments), MOST_MOMENTS)
        self.right, self.bottom, self.top = 10, 40, 8 + LABEL_ROW * rows
        self.height += LABEL_ROW * max(rows - 2, 0)
        highest = max(
            [v for line in picture.lines for v in line.known]
            + ([picture.seen.value] if picture.seen else []),
            default=0.0,
        )
        self.ticks = value_ticks(max(highest, picture.least))
        longest = max(text_width(picture.unit(value)) for value in self.ticks)
        self.left = max(longest + 10, 62 if shape == "wide" else 46)
        self._floor = self.height - self.bottom
        self._span = max((picture.end - picture.start).total_seconds(), 1.0)

    def x(self, at: datetime) -> float:
        """Where an instant lies; those outside lie on the edge."""
        start, bend, end = self.picture.start, self.picture.bend, self.picture.end
        if bend is None:
            share = (at - start).total_seconds() / self._span
        elif at < bend:
            share = BEFORE_SHARE * ((at - start) / (bend - start))
        else:
            share = BEFORE_SHARE + (1 - BEFORE_SHARE) * ((at - bend) / (end - bend))
        return self.left + min(max(share, 0.0), 1.0) * (self.width - self.left - self.right)

    def _ticks(self) -> list[datetime]:
        start, bend, end = self.picture.start, self.picture.bend, self.picture.end
        wide = self.shape == "wide"
        if bend is None:
            return time_ticks(start, end, 8 if wide else 4)
        later = [t for t in time_ticks(bend, end, 6 if wide else 3) if t > bend]
        # Two labels at the bend would stand in each other's way.
        room = (bend - start) / (8 if wide else 4)
        return [t for t in time_ticks(start, bend, 4 if wide else 2) if bend - t > room] + later

    def y(self, value: float) -> float:
        """Where a value lies."""
        share = value / self.ticks[-1]
        return self._floor - share * (self._floor - self.top - HEADROOM)

    def draw(self) -> Html:
        """The SVG."""
        name = f"{self.picture.key}-{self.shape}"
        return el(
            "svg",
            el("title", self.picture.title, id=f"{name}-t"),
            el("desc", self.picture.describe, id=f"{name}-d"),
            self._bands(),
            self._axes(),
            self._blank(),
            [self._line(line) for line in self.picture.lines],
            [self._moment(m, row) for row, m in enumerate(self.picture.moments[:MOST_MOMENTS])],
            self._seen(),
            class_=f"chart {self.shape}",
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            aria_labelledby=f"{name}-t {name}-d",
        )

    def _text(
        self, x: float, y: float, said: str, anchor: str = "middle", strong: bool = False
    ) -> Html:
        style = "strong" if strong else None
        return el("text", said, x=x, y=y, text_anchor=anchor, class_=style)

    def _bands(self) -> Child:
        found = (
            (self.picture.baseline, "before", "baseline"),
            (self.picture.after, "after", "after"),
        )
        return [self._band(window, kind, said) for window, kind, said in found if window]

    def _band(self, window: Window, kind: str, said: str) -> Child:
        x, end = self.x(window.start), self.x(window.end)
        wide = end - x
        return [
            el(
                "rect",
                x=x, y=self.top, width=max(wide, 0.0), height=self._floor - self.top,
                class_=f"band-{kind}",
            ),
            self._text(x + wide / 2, self.top + 14, said) if wide > 48 else None,
        ]  # fmt: skip

    def _axes(self) -> Child:
        right = self.width - self.right
        made: list[Child] = []
        for value in self.ticks:
            y = self.y(value)
            made.append(el("line", x1=self.left, x2=right, y1=y, y2=y, class_="axis"))
            made.append(self._text(self.left - 6, y + 4, self.picture.unit(value), "end"))
        moments = self._ticks()
        whole = all(m.second == 0 for m in moments)
        for moment in moments:
            x = self.x(moment)
            made.append(el("line", x1=x, x2=x, y1=self._floor, y2=self._floor + 5, class_="axis"))
            edge = "end" if x > right - 16 else "middle"
            said = time_label(moment, self._span, whole)
            made.append(
                self._text(
                    min(x, right) if edge == "middle" else right, self._floor + 18, said, edge
                )
            )
        middle = (self.left + right) / 2
        said = f"UTC, {self.picture.start:%Y-%m-%d}"
        if self.picture.bend is not None:
            said += "; two time scales"
            said += ", wider since the deployment" if self.shape == "wide" else ""
        made.append(self._text(middle, self.height - 5, said))
        return made

    def _blank(self) -> Child:
        """The stretch of which nothing is kept."""
        x, end = self.x(self.picture.known_until), self.width - self.right
        if end - x < 12:
            return None
        y = self.y(self.ticks[-1] / 2)
        # The label stands where no moment is marked through it.
        marked = [self.x(m.at) for m in self.picture.moments[:MOST_MOMENTS]]
        edges = sorted([x, end, *(m for m in marked if x < m < end)])
        left, right = max(pairwise(edges), key=lambda gap: gap[1] - gap[0])
        words = ("not recorded", "no data")
        said = next((word for word in words if text_width(word) < right - left), None)
        return [
            el("line", x1=x + 4, x2=end - 4, y1=y, y2=y, class_="blank"),
            self._text((left + right) / 2, y - 7, said) if said else None,
        ]

    def _line(self, line: Line) -> Child:
        runs = runs_of(line)
        dots = sum(map(len, runs)) <= MOST_DOTS
        made: list[Child] = []
        for run in runs:
            places = [(self.x(at), self.y(value)) for at, value in run]
            if len(places) > 1:
                path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
                made.append(el("polyline", points=path, class_=f"s-{line.kind}"))
            if dots or len(places) == 1:
                made += [_dot(line.kind, x, y) for x, y in places]
        return el("g", made)

    def _moment(self, moment: Moment, row: int) -> Child:
        x = self.x(moment.at)
        y = 12 + LABEL_ROW * row
        anchor, shift = "start", 4.0
        if x + text_width(moment.label) + 6 > self.width:
            anchor, shift = "end", -4.0
        return [
            el("line", x1=x, x2=x, y1=y - 9, y2=self._floor, class_=moment.style),
            self._text(x + shift, y, moment.label, anchor, strong=True),
        ]

    def _seen(self) -> Child:
        seen = self.picture.seen
        if seen is None:
            return None
        x, y = self.x(seen.at), self.y(seen.value)
        shape = f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"
        said = f"{self.picture.unit(seen.value)} after"
        return [
            el("path", d=shape, class_="seen" if seen.good else "seen-bad"),
            self._text(min(x + 4, self.width - 4), y - 11, said, "end", strong=True),
        ]


def text_width(text: str) -> float:
    """About how wide a label is, erring on the large side."""
    return len(text) * CHARACTER


def runs_of(line: Line) -> list[list[tuple[datetime, float]]]:
    """The unbroken stretches of a line, each value at the middle of its bucket."""
    half = timedelta(seconds=line.step_s / 2)
    runs: list[list[tuple[datetime, float]]] = []
    last: datetime | None = None
    for at, value in line.points:
        if value is None:
            last = None
            continue
        if last is None or (at - last).total_seconds() > line.step_s * 1.5:
            runs.append([])
        runs[-1].append((at + half, value))
        last = at
    return runs


def _dot(kind: str, x: float, y: float) -> Html:
    """Round for the new revision, square for the old, small for both together."""
    if kind == "old":
        return el("rect", x=x - 2.5, y=y - 2.5, width=5, height=5, class_="p-old")
    return el("circle", cx=x, cy=y, r=3 if kind == "new" else 1.8, class_=f"p-{kind}")


def draw(picture: Picture) -> Html:
    """A picture in both layouts, with its caption."""
    return el(
        "figure",
        el("figcaption", picture.title),
        Plot(picture, "wide").draw(),
        Plot(picture, "narrow").draw(),
    )


def swatch(kind: str) -> Html:
    """A short piece of a line, for the legend."""
    return el(
        "svg",
        el("line", x1=1, x2=33, y1=6, y2=6, class_=f"s-{kind}"),
        _dot(kind, 17, 6),
        viewBox="0 0 34 12",
        aria_hidden="true",
    )


def within(moments: Sequence[Moment], start: datetime, end: datetime) -> tuple[Moment, ...]:
    """Those that the chart's stretch holds, in order."""
    return tuple(sorted((m for m in moments if start <= m.at <= end), key=lambda m: m.at))
