"""Error counts of two arms against each other: all numbers of one comparison, no opinion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeGuard

from mcp_devops.decision import statistics as st
from mcp_devops.decision.policy import Policy
from mcp_devops.model.evidence import Arm, Bucket

if TYPE_CHECKING:
    from mcp_devops.decision.facts import Arms


@dataclass(frozen=True)
class ErrorComparison:
    """One new arm against one reference."""

    source: str
    service: str
    arm: Arm
    """The arm that is judged."""
    concurrent: bool
    """Whether the reference is the old revision in the same minutes."""
    exposure_known: bool
    """Whether `n` counts requests; if not, seconds."""
    k1: float
    n1: float
    k0: float
    n0: float
    phi: float
    rise: float
    """Rate of the new arm minus rate of the reference, as a share (per second without exposure)."""
    p_value: float
    """One-sided: probability that the new arm is not worse."""
    fires: bool
    """Ratio, floor, count and duration all hold."""
    modest: bool
    """The same with the modest ratio."""
    not_yet: bool
    """Hot in the newest bucket, not for long enough yet."""
    spiked: bool
    """More errors than the ratio and the floor allow, but not for long enough."""
    run: st.Run | None
    """The first sustained run of hot buckets."""
    sustained_s: float
    """Seconds that the run is hot."""
    onset: datetime | None
    """Start of the run, or of the newest hot bucket."""
    ended: bool
    """Whether the newest buckets are cold again."""
    passed: bool | None
    """Whether it was hot once and has been no worse than the reference since; null: never hot."""
    began_before: bool
    """Whether the buckets right before the deployment were already hot."""
    detectable: st.Detectable | None
    """What a comparison of this size can show."""
    sees_enough: bool
    """Whether a rise that matters would have shown."""

    @property
    def rate1(self) -> float:
        """Rate of the new arm."""
        return self.k1 / self.n1 if self.n1 else 0.0

    @property
    def rate0(self) -> float:
        """Rate of the reference."""
        return self.k0 / self.n0 if self.n0 else 0.0

    @property
    def numbers(self) -> str:
        """The two rates for a person, with their counts and where they come from."""
        if not self.exposure_known:
            return (
                f"{self.k1:.0f} errors in {self.n1:.0f} s against {self.k0:.0f} in {self.n0:.0f} s "
                f"({self.source}, {self.service}; requests unknown)"
            )
        against = "of the old revision in the same minutes" if self.concurrent else "before"
        return (
            f"{self.rate1:.2%} errors ({self.k1:.0f} of {self.n1:.0f} requests) against "
            f"{self.rate0:.2%} ({self.k0:.0f} of {self.n0:.0f}) {against} "
            f"({self.source}, {self.service})"
        )

    @property
    def chance(self) -> str:
        """The one-sided p value in words."""
        return f"chance that it is no worse {max(self.p_value, 1e-9):.2g} at the most"

    @property
    def smallest_visible(self) -> str:
        """The minimum detectable change in words."""
        if self.detectable is None:
            return "nothing short of total failure"
        if self.detectable.ratio is None:
            return f"less than {self.detectable.rate:.1%} errors"
        return f"less than a {self.detectable.ratio:.1f}-fold rise"


Point = tuple[datetime, float, float]
"""Start, errors, exposure."""


def compare_errors(arms: Arms, policy: Policy) -> list[ErrorComparison]:
    """All comparisons of one source and service.

    New against old in the same minutes, then new, whole service and old revision against the
    baseline. The last one shows whether the trouble is the new revision's own.
    """
    found: list[ErrorComparison] = []
    known = any(b.requests is not None for b in (*arms.baseline, *arms.after, *arms.new))
    baseline = _points(arms.baseline, arms.step_s, known=known)
    phi = st.dispersion([(k, n) for _, k, n in baseline]) if known else 1.0
    new = _points(arms.new, arms.step_s, known=known)
    control = _points(arms.control, arms.step_s, known=known)
    if new and control and known:
        # Concurrent arms see the same bursts, so the baseline's dispersion would count them twice.
        found.append(_compare(arms, Arm.NEW, new, control, [], policy, concurrent=True))
    if len(baseline) >= _least_buckets(arms, policy):
        before = _points(arms.before, arms.step_s, known=known)
        after = _points(arms.after, arms.step_s, known=known)
        for arm, points in ((Arm.NEW, new), (Arm.AFTER, after), (Arm.CONTROL, control)):
            if points:
                found.append(
                    _compare(arms, arm, points, baseline, before, policy, phi=phi, known=known)
                )
    return found


def _least_buckets(arms: Arms, policy: Policy) -> int:
    least = policy.window_rule(arms.source).min_baseline_buckets
    return min(least, policy.time.long_step_buckets) if arms.step_s >= st.LONG_STEP_S else least


def _points(buckets: tuple[Bucket, ...], step_s: float, *, known: bool) -> list[Point]:
    if not known:
        return [(b.start, b.errors, step_s) for b in buckets if is_count(b.errors)]
    return [
        (b.start, min(b.errors, b.requests), b.requests)
        for b in buckets
        if is_count(b.errors) and is_count(b.requests)
    ]


def is_count(value: float | None) -> TypeGuard[float]:
    """Whether a source gave a usable number: not absent, not NaN, not negative."""
    return value is not None and math.isfinite(value) and value >= 0


def _compare(
    arms: Arms,
    arm: Arm,
    new: list[Point],
    reference: list[Point],
    before: list[Point],
    policy: Policy,
    *,
    concurrent: bool = False,
    phi: float = 1.0,
    known: bool = True,
) -> ErrorComparison:
    rules, step_s = policy.errors, arms.step_s
    k1, n1 = _sums(new)
    k0, n0 = _sums(reference)
    # Errors a second have no natural floor: without requests the ratio has to do.
    floor = rules.floor if known else 0.0
    rate0 = k0 / n0 if n0 else 0.0

    def hot(ratio: float) -> list[bool | None]:
        return grid(
            [(t, None if n <= 0 else _exceeds(k / n, rate0, ratio, floor)) for t, k, n in new],
            step_s,
        )

    spans = [(k1, n1), _sums([p for p in new if _within(p, new[-1], rules.recent_s)])]

    def rises(ratio: float) -> bool:
        return any(
            k >= rules.least_errors
            and n > 0
            and n0 > 0
            and k / n - rate0 >= floor
            and (
                st.p_above(k, n, k0, n0, ratio, phi) >= rules.sure
                or (st.ln_e(k, n, k0, n0, ratio, phi) >= math.log(rules.anytime_odds))
            )
            for k, n in spans
        )

    steep, mild = hot(rules.ratio), hot(rules.modest_ratio)
    run = st.sustained(steep, step_s, policy.time.sustained_s)
    # Every steep bucket is a mild one, so the mild run starts no later and moves only to
    # an earlier time when errors are added.
    shown = st.sustained(mild, step_s, policy.time.sustained_s)
    newest_hot = bool(steep) and steep[-1] is True
    first = shown.first if shown else len(steep) - 1 if newest_hot else None
    detectable = st.minimum_detectable(
        k0, n0, n1, rules.ratio, phi, floor, rules.sure, rules.least_errors
    )
    p_value = 1 - st.p_above(k1, n1, k0, n0, 1.0, phi)
    return ErrorComparison(
        source=arms.source,
        service=arms.service,
        arm=arm,
        concurrent=concurrent,
        exposure_known=known,
        k1=k1,
        n1=n1,
        k0=k0,
        n0=n0,
        phi=phi,
        rise=(k1 / n1 if n1 else 0.0) - rate0,
        p_value=p_value,
        fires=run is not None and rises(rules.ratio),
        modest=shown is not None and rises(rules.modest_ratio),
        not_yet=shown is None and newest_hot and rises(rules.ratio),
        spiked=shown is None and rises(rules.ratio),
        run=shown,
        sustained_s=shown.hot * step_s if shown else 0.0,
        onset=None if first is None else new[0][0] + timedelta(seconds=first * step_s),
        ended=shown is not None and st.has_ended(mild, step_s, policy.time.sustained_s),
        passed=_has_passed(new, mild, (k0, n0), phi, step_s, policy),
        began_before=_began_before(before, (k0, n0), phi, policy, floor),
        detectable=detectable,
        sees_enough=known
        and (
            (detectable is not None and detectable.rate - rate0 <= rules.visible_drop)
            or _is_bounded((k1, n1), (k0, n0), phi, rules.visible_drop)
        ),
    )


def _has_passed(
    new: list[Point],
    hot: list[bool | None],
    reference: tuple[float, float],
    phi: float,
    step_s: float,
    policy: Policy,
) -> bool | None:
    """Whether what was hot is over: cold as long as a run must last, and surely no worse then.

    Cold buckets alone do not tell: a small rise that stays is never hot bucket by bucket.
    """
    if not any(hot):
        return None
    if not st.has_ended(hot, step_s, policy.time.sustained_s):
        return False
    last = max(index for index, state in enumerate(hot) if state)
    since = [p for p in new if round((p[0] - new[0][0]).total_seconds() / step_s) > last]
    return 1 - st.p_above(*_sums(since), *reference, 1.0, phi) >= policy.errors.small_p


def _is_bounded(
    new: tuple[float, float], reference: tuple[float, float], phi: float, limit: float
) -> bool:
    """Whether a rise above the limit is ruled out, however little the reference served.

    A new version whose rate is surely below the limit cannot have risen by more.
    """
    if new[1] <= 0 or reference[1] <= 0:
        return False
    return st.rate_bounds(*new, phi)[1] - st.rate_bounds(*reference, phi)[0] <= limit


def _exceeds(rate: float, reference: float, ratio: float, floor: float) -> bool:
    return rate > 0 and rate - reference >= floor and rate >= ratio * reference


def grid(states: list[tuple[datetime, bool | None]], step_s: float) -> list[bool | None]:
    """One or more states on an even grid from the first start on; None for a missing bucket."""
    first = states[0][0]
    places = {round((start - first).total_seconds() / step_s): state for start, state in states}
    return [places.get(index) for index in range(max(places) + 1)]


def _sums(points: list[Point]) -> tuple[float, float]:
    return math.fsum(k for _, k, _ in points), math.fsum(n for _, _, n in points)


def _within(point: Point, newest: Point, seconds: float) -> bool:
    return (newest[0] - point[0]).total_seconds() < seconds


def _began_before(
    before: list[Point], reference: tuple[float, float], phi: float, policy: Policy, floor: float
) -> bool:
    """Whether the last bucket before the deployment was hot by itself.

    Looks at nothing after the deployment: more errors there must not turn it into an innocent.
    """
    k0, n0 = reference
    if not before or n0 <= 0:
        return False
    _, k, n = before[-1]
    rules = policy.errors
    return (
        n > 0
        and k >= rules.least_errors
        and _exceeds(k / n, k0 / n0, rules.ratio, floor)
        and st.p_above(k, n, k0, n0, rules.ratio, phi) >= rules.sure
    )
