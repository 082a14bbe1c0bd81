"""The part of PromQL that request counters and histograms need, over recorded samples. Pure.

Numbers follow Prometheus: `increase` extrapolates to the window's edges as it does there, and
`histogram_quantile` interpolates inside a bucket. What is not read here is refused, not guessed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mcp_devops.scenarios.counting import (
    AGGREGATIONS,
    OPERATIONS,
    OVER_TIME,
    Points,
    quantile,
)
from mcp_devops.scenarios.packing import Samples

LOOKBACK_S = 10.0
"""Age at which a sample is stale: five scrapes; Prometheus is told when a target goes, we are not.
"""

Labels = dict[str, str]
Vector = list[tuple[Labels, float]]
Value = float | Vector


class BadQuery(ValueError):
    """A query that cannot be parsed, or lies outside the part that is replayed."""


@dataclass(frozen=True)
class Selector:
    """Matchers, and the window of a range selector in seconds."""

    matchers: tuple[tuple[str, str, str], ...]
    window_s: float | None = None

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether a series has what the matchers ask for."""
        return all(_matches(op, value, labels.get(k, "")) for k, op, value in self.matchers)


def _matches(op: str, wanted: str, found: str) -> bool:
    if op in ("=", "!="):
        return (found == wanted) == (op == "=")
    return (re.fullmatch(wanted, found) is not None) == (op == "=~")


Node = Callable[[Sequence[Samples], float], Value]

_TOKEN = re.compile(
    r"\s*(?:(?P<duration>\d+(?:ms|[smhdw])(?:\d+(?:ms|[smhdw]))*)(?![\w.])"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[a-zA-Z_:][\w:]*)"
    r'|(?P<string>"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\')'
    r"|(?P<op>=~|!~|!=|[=+\-*/(){}\[\],]))"
)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ESCAPES = {"n": "\n", "t": "\t"}


def compile_query(text: str) -> Node:
    """Parse an expression.

    Raises:
        BadQuery: With what is not understood.
    """
    parser = _Parser(text)
    node = parser.expression()
    parser.end()
    return node


def parse_selector(text: str) -> Selector:
    """Parse an instant selector, as /api/v1/series takes it.

    Raises:
        BadQuery: It is something else.
    """
    parser = _Parser(text)
    found = parser.selector()
    parser.end()
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise BadQuery(f"unexpected character {text[position]!r} at {position}")
            self._tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            position = match.end()

    def _peek(self, ahead: int = 0) -> str:
        place = self._at + ahead
        return self._tokens[place][1] if place < len(self._tokens) else ""

    def _take(self, wanted: str | None = None, kind: str | None = None) -> str:
        if self._at >= len(self._tokens):
            raise BadQuery("unexpected end of the query")
        found_kind, found = self._tokens[self._at]
        if (wanted is not None and found != wanted) or (kind is not None and found_kind != kind):
            raise BadQuery(f"unexpected {found!r}, wanted {wanted or kind}")
        self._at += 1
        return found

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise BadQuery(f"{self._peek()!r} is not replayed here")

    def expression(self) -> Node:
        node = self._product()
        while self._peek() in ("+", "-"):
            node = _binary(self._take(), node, self._product())
        return node

    def _product(self) -> Node:
        node = self._factor()
        while self._peek() in ("*", "/"):
            node = _binary(self._take(), node, self._factor())
        return node

    def _factor(self) -> Node:
        kind = self._tokens[self._at][0] if self._at < len(self._tokens) else ""
        if kind == "number":
            number = float(self._take())
            return lambda series, at: number
        if self._peek() == "-":
            self._take()
            return _binary("*", lambda series, at: -1.0, self._factor())
        if self._peek() == "(":
            self._take()
            node = self.expression()
            self._take(")")
            return node
        if kind == "name" and self._peek(1) in ("(", "by", "without"):
            return self._call()
        selector = self.selector()
        if selector.window_s is not None:
            raise BadQuery("a range selector stands only inside a function")
        return lambda series, at: _instant(selector, series, at)

    def _call(self) -> Node:
        name = self._take()
        if name in AGGREGATIONS:
            return self._aggregation(AGGREGATIONS[name])
        self._take("(")
        if name in OVER_TIME:
            selector = self.selector()
            if selector.window_s is None:
                raise BadQuery(f"{name} wants a range selector")
            self._take(")")
            return _over_time(OVER_TIME[name], selector, selector.window_s)
        if name == "histogram_quantile":
            share = float(self._take(kind="number"))
            self._take(",")
            node = self.expression()
            self._take(")")
            return lambda series, at: _quantiles(share, _vector(node(series, at)))
        if name == "vector":
            node = self.expression()
            self._take(")")
            return lambda series, at: [({}, _scalar(node(series, at)))]
        raise BadQuery(f"the function {name} is not replayed here")

    def _aggregation(self, fold: Callable[[list[float]], float]) -> Node:
        keep = self._grouping()
        self._take("(")
        node = self.expression()
        self._take(")")
        keep = keep or self._grouping() or (lambda labels: {})
        return lambda series, at: _aggregated(fold, keep, _vector(node(series, at)))

    def _grouping(self) -> Callable[[Labels], Labels] | None:
        if self._peek() not in ("by", "without"):
            return None
        by = self._take() == "by"
        names = set()
        self._take("(")
        while self._peek() != ")":
            names.add(self._take(kind="name"))
            if self._peek() == ",":
                self._take()
        self._take(")")
        if by:
            return lambda labels: {k: v for k, v in labels.items() if k in names}
        dropped = names | {"__name__"}
        return lambda labels: {k: v for k, v in labels.items() if k not in dropped}

    def selector(self) -> Selector:
        matchers: list[tuple[str, str, str]] = []
        if self._peek() != "{":
            matchers.append(("__name__", "=", self._take(kind="name")))
        if self._peek() == "{":
            self._take()
            while self._peek() != "}":
                key = self._take(kind="name")
                op = self._take(kind="op")
                if op not in ("=", "!=", "=~", "!~"):
                    raise BadQuery(f"{op!r} is no matcher")
                matchers.append((key, op, _string(self._take(kind="string"), op)))
                if self._peek() == ",":
                    self._take()
            self._take("}")
        if self._peek() != "[":
            return Selector(tuple(matchers))
        self._take()
        window = _seconds(self._take(kind="duration"))
        self._take("]")
        return Selector(tuple(matchers), window)


def _string(token: str, op: str) -> str:
    text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), token[1:-1])
    if op in ("=~", "!~"):
        try:
            re.compile(text)
        except re.error as problem:
            raise BadQuery(f"bad regular expression {text!r}: {problem}") from None
    return text


def _seconds(token: str) -> float:
    return sum(float(n) * _UNITS[u] for n, u in re.findall(r"(\d+)(ms|[smhdw])", token))


def _vector(value: Value) -> Vector:
    if isinstance(value, float):
        raise BadQuery("a vector was wanted here, not a number")
    return value


def _scalar(value: Value) -> float:
    if not isinstance(value, float):
        raise BadQuery("a number was wanted here, not a vector")
    return value


def _instant(selector: Selector, series: Sequence[Samples], at: float) -> Vector:
    found: Vector = []
    for one in series:
        if selector.fits(one.labels):
            place = bisect_right(one.times, at) - 1
            if place >= 0 and at - one.times[place] <= LOOKBACK_S:
                found.append((dict(one.labels), one.values[place]))
    return found


def _over_time(
    fold: Callable[[Points, float, float], float | None], selector: Selector, window_s: float
) -> Node:
    def run(series: Sequence[Samples], at: float) -> Value:
        found: Vector = []
        start = at - window_s
        for one in series:
            if not selector.fits(one.labels):
                continue
            first, last = bisect_left(one.times, start), bisect_right(one.times, at)
            points = list(zip(one.times[first:last], one.values[first:last], strict=True))
            value = fold(points, start, at)
            if value is not None:
                found.append(({k: v for k, v in one.labels.items() if k != "__name__"}, value))
        return found

    return run


def _aggregated(
    fold: Callable[[list[float]], float], keep: Callable[[Labels], Labels], vector: Vector
) -> Vector:
    groups: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for labels, value in vector:
        groups.setdefault(tuple(sorted(keep(labels).items())), []).append(value)
    return [(dict(key), fold(values)) for key, values in groups.items()]


def _quantiles(share: float, vector: Vector) -> Vector:
    groups: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for labels, value in vector:
        if "le" in labels:
            rest = {k: v for k, v in labels.items() if k not in ("le", "__name__")}
            edge = float(labels["le"])
            groups.setdefault(tuple(sorted(rest.items())), []).append((edge, value))
    return [(dict(key), quantile(share, buckets)) for key, buckets in groups.items()]


def _binary(sign: str, left: Node, right: Node) -> Node:
    apply = OPERATIONS[sign]

    def run(series: Sequence[Samples], at: float) -> Value:
        a, b = left(series, at), right(series, at)
        if isinstance(a, float) and isinstance(b, float):
            return apply(a, b)
        if isinstance(a, float):
            return [(_unnamed(labels), apply(a, v)) for labels, v in _vector(b)]
        if isinstance(b, float):
            return [(_unnamed(labels), apply(v, b)) for labels, v in _vector(a)]
        others = {tuple(sorted(_unnamed(labels).items())): v for labels, v in b}
        found: Vector = []
        for labels, value in a:
            bare = _unnamed(labels)
            other = others.get(tuple(sorted(bare.items())))
            if other is not None:
                found.append((bare, apply(value, other)))
        return found

    return run


def _unnamed(labels: Mapping[str, str]) -> Labels:
    return {k: v for k, v in labels.items() if k != "__name__"}
