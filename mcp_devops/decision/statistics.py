"""Closed forms for counts, latency and time: how sure the numbers let us be.

Counts may be fractional (Prometheus `increase` extrapolates). An arm without exposure says
nothing, so its functions return the answer that can trigger neither an action nor an all-clear.

Sources: reference method, sections 2 to 6 and 10; every table there is a test here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mcp_devops.decision.special import beta_above, beta_odds, gamma_above, gamma_quantile, ln_beta

COLD, HOT, MISSING = False, True, None
"""States of a bucket in `sustained`: at most one missing bucket may lie inside a run."""

LONG_STEP_S = 300.0
"""From this bucket length on, two hot buckets of three in a row count as sustained."""


def p_above(
    k1: float, n1: float, k0: float, n0: float, rho: float = 1.0, phi: float = 1.0
) -> float:
    """Probability that the new rate exceeds `rho` times the old one, given both counts.

    Args:
        k1: Errors of the new arm, a count.
        n1: Requests of the new arm.
        k0: Errors of the reference arm.
        n0: Requests of the reference arm.
        rho: Ratio to exceed.
        phi: Dispersion, at least 1; counts are divided by it.

    Returns:
        A probability (Jeffreys prior); .5 where either arm has no exposure.
    """
    if n1 <= 0 or n0 <= 0:
        return 0.5
    return beta_above(k1 / phi + 0.5, k0 / phi + 0.5, rho * n1 / (rho * n1 + n0))


def ratio_interval(
    k1: float, n1: float, k0: float, n0: float, phi: float = 1.0
) -> tuple[float, float]:
    """The 90 % credible interval of the ratio of the two rates; (0, inf) without exposure."""
    if n1 <= 0 or n0 <= 0:
        return (0.0, math.inf)
    low, high = (beta_odds(k1 / phi + 0.5, k0 / phi + 0.5, share) for share in (0.05, 0.95))
    return (low * n0 / n1, high * n0 / n1)


def ln_e(
    k1: float,
    n1: float,
    k0: float,
    n0: float,
    rho: float = 1.0,
    phi: float = 1.0,
    a: float = 0.5,
) -> float:
    """Natural log of the anytime evidence against "new rate <= rho times old rate".

    Between concurrent arms with phi = 1 this is an e-process: it may be looked at as often as
    one likes, and reaches 20 with a probability of at most 1/20 if nothing is wrong. Before
    against after it is a Bayes factor, right on average only.

    Returns:
        ln E; 0 without exposure; -inf where the counts are far below the null.
    """
    if n1 <= 0 or n0 <= 0:
        return 0.0
    k1, k0, p0 = k1 / phi, k0 / phi, rho * n1 / (rho * n1 + n0)
    above, prior = beta_above(k1 + a, k0 + a, p0), beta_above(a, a, p0)
    if above <= 0 or prior <= 0:
        return -math.inf
    tail = math.log(above / prior) - k1 * math.log(p0) - k0 * math.log1p(-p0)
    return ln_beta(k1 + a, k0 + a) - ln_beta(a, a) + tail


def p_over_limit(k1: float, n1: float, limit: float) -> float:
    """Probability that the rate exceeds an absolute limit (a share); .5 without exposure."""
    if n1 <= 0:
        return 0.5
    return gamma_above(k1 + 0.5, limit * n1)


def rate_bounds(k: float, n: float, phi: float = 1.0) -> tuple[float, float]:
    """One-sided 95 % bounds of a rate, (lower, upper), under the Jeffreys prior.

    Args:
        k: Errors; fractions are fine.
        n: Requests, more than 0.
        phi: Dispersion of the counts.
    """
    shape, scale = k / phi + 0.5, phi / n
    lower = gamma_quantile(shape, 0.05) * scale if k > 0 else 0.0
    return lower, gamma_quantile(shape, 0.95) * scale


def cp_lower(right: int, n: int, alpha: float = 0.05) -> float:
    """One-sided Clopper-Pearson lower bound of the share of right decisions, `right` of `n`."""
    if right <= 0:
        return 0.0
    odds = beta_odds(right, n - right + 1, alpha)
    return odds / (1 + odds)


def p_none(expected: float) -> float:
    """Probability of not one request where `expected` were due (Poisson)."""
    return math.exp(-max(expected, 0.0))


def dispersion(counts: Sequence[tuple[float, float]]) -> float:
    """How much more than Poisson the error counts of normal buckets scatter.

    The largest 2 % of the terms (at least one) are left out: bursts of one bucket belong to
    normal days and are dealt with by `sustained`.

    Args:
        counts: (errors, requests) of each baseline bucket.

    Returns:
        phi >= 1; exactly 1 with fewer than 10 buckets or fewer than 5 errors.
    """
    usable = [(k, n) for k, n in counts if n > 0]
    errors, requests = math.fsum(k for k, _ in usable), math.fsum(n for _, n in usable)
    if len(usable) < 10 or errors < 5:
        return 1.0
    rate = errors / requests
    terms = sorted((k - rate * n) ** 2 / (rate * n) for k, n in usable)
    kept = terms[: len(terms) - max(1, round(0.02 * len(terms)))]
    return max(1.0, math.fsum(kept) / len(kept))


@dataclass(frozen=True)
class Detectable:
    """The smallest change that a comparison of this size can show."""

    errors: int
    """Errors in the new arm from which the comparison fires."""
    rate: float
    """That count as a share of the new arm's requests."""
    ratio: float | None
    """Ratio of the rates found with 80 % power; null where the reference had no error."""


def minimum_detectable(
    k0: float,
    n0: float,
    n1: float,
    rho: float = 1.5,
    phi: float = 1.0,
    floor: float = 0.005,
    sure: float = 0.95,
    least_errors: int = 5,
) -> Detectable | None:
    """The smallest rise that could be seen with these requests.

    Returns:
        The limit, or None if not even failure of every request would fire, or without exposure.
    """
    if n1 <= 0 or n0 <= 0:
        return None

    def fires(k: int) -> bool:
        return k / n1 - k0 / n0 >= floor and p_above(k, n1, k0, n0, rho, phi) >= sure

    low, high = least_errors, math.floor(n1)
    if high < low or not fires(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fires(middle) else (middle + 1, high)
    if k0 <= 0:
        return Detectable(low, low / n1, None)
    return Detectable(low, low / n1, gamma_quantile(low, 0.8) / (n1 * (k0 + 0.5) / n0))


@dataclass(frozen=True)
class LatencyPoint:
    """One bucket's percentile against the baseline."""

    shift: float
    """ln(value / baseline median)."""
    scores: float
    """The shift in robust standard deviations of the baseline."""

    def hot(self, ratio: float, least_scores: float) -> bool:
        """Whether it is both far enough in size and far enough out of the usual scatter."""
        return self.shift >= math.log(ratio) and self.scores >= least_scores


def latency_point(
    baseline: Sequence[float], value: float, least_scale: float = 0.05
) -> LatencyPoint:
    """Place a latency against the baseline's median and median absolute deviation, in logs.

    Args:
        baseline: Positive latencies in milliseconds, at least one.
        value: The latency to place, milliseconds, positive.
        least_scale: Smallest scale of the scatter; .05 is five per cent.
    """
    middle = median(baseline)
    scale = 1.4826 * median(abs(math.log(b / middle)) for b in baseline)
    shift = math.log(value / middle)
    return LatencyPoint(shift, shift / max(scale, least_scale))


def p_larger(new: Sequence[float], old: Sequence[float]) -> float:
    """One-sided p value of the rank-sum test that `new` is larger, normal form with ties.

    Exact enough from 8 values a side.

    Returns:
        The p value; 1 with an empty side or when all values are equal.
    """
    m, n = len(new), len(old)
    if not m or not n:
        return 1.0
    wins = sum((x > y) + 0.5 * (x == y) for x in new for y in old)
    everything = [*new, *old]
    ties = sum(c**3 - c for c in (everything.count(v) for v in set(everything)))
    total = m + n
    variance = m * n / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return 0.5 * math.erfc((wins - m * n / 2 - 0.5) / math.sqrt(2 * variance))


@dataclass(frozen=True)
class Run:
    """A stretch of hot buckets that lasted long enough."""

    first: int
    """Index of its first hot bucket."""
    last: int
    """Index of its last hot bucket."""
    hot: int
    """Hot buckets in it."""


def run_length(step_s: float, sustained_s: float = 60.0) -> int:
    """Hot buckets that make a run: never one, and at least `sustained_s` seconds of them."""
    return max(2, math.ceil(sustained_s / step_s))


def sustained(
    buckets: Sequence[bool | None], step_s: float, sustained_s: float = 60.0
) -> Run | None:
    """The first run of hot buckets that is long enough to be no spike.

    A missing bucket is unknown: it neither counts nor breaks, at most one inside a run. From
    300-second buckets on, two hot ones of three in a row suffice.

    Args:
        buckets: True hot, False cold, None missing; in order of time, without holes.
        step_s: Bucket length in seconds.
        sustained_s: Seconds that make it sustained.
    """
    long_step = step_s >= LONG_STEP_S
    needed = run_length(step_s, sustained_s)
    for first, state in enumerate(buckets):
        if state is not True:
            continue
        run = _run_from(buckets, first, long_step=long_step)
        if run.hot >= needed:
            return run
    return None


def _run_from(buckets: Sequence[bool | None], first: int, *, long_step: bool) -> Run:
    last, hot, missing = first, 1, 0
    for index in range(first + 1, len(buckets)):
        state = buckets[index]
        if state is True:
            last, hot = index, hot + 1
        elif long_step:
            if index - last >= 2:
                break
        elif state is False:
            break
        else:
            missing += 1
            if missing > 1:
                break
    return Run(first, last, hot)


def has_ended(buckets: Sequence[bool | None], step_s: float, sustained_s: float = 60.0) -> bool:
    """Whether the newest buckets are cold again, for as long as a run would have to last."""
    known = [state for state in buckets if state is not None]
    newest = known[-run_length(step_s, sustained_s) :]
    return len(newest) >= run_length(step_s, sustained_s) and not any(newest)
