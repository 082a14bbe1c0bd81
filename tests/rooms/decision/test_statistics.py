"""The reference method's tables, as tests."""

from __future__ import annotations

import math

import pytest

from mcp_devops.decision import statistics as st

COUNTS = [
    # k1, n1, k0, n0, rho, phi, p_above, ln_e, ratio interval
    (4, 6, 0, 6, 1.5, 1, 0.9632, 1.5395, (1.7587, 2164.8893)),
    (11, 5, 0, 5, 1.5, 1, 0.9993, 4.6660, (5.3747, 5722.9882)),
    (703, 10, 10, 10, 1.5, 1, 1.0, 312.9903, (42.8580, 121.7027)),
    (0, 1000, 0, 1000, 1.0, 1, 0.5, 0.0, (0.0062, 161.4476)),
    (12, 2000, 30, 30000, 1.0, 1, 1.0, 8.1538, (3.3777, 10.3718)),
    (12, 2000, 30, 30000, 2.0, 1, 0.9986, 2.4576, (3.3777, 10.3718)),
    (12, 2000, 30, 30000, 1.5, 2, 0.9957, None, None),
    (20, 1000, 120, 6000, 1.0, 1, 0.5115, -3.0866, (0.6648, 1.4698)),
    (28, 1996, 2, 698, 1.0, 1, 0.9964, 2.8740, (1.6774, 17.6797)),
    (28, 1996, 2, 698, 1.5, 1, 0.9685, 1.1184, (1.6774, 17.6797)),
    (130, 10000, 100, 10000, 1.05, 1, 0.9464, -0.9936, (1.0453, 1.6189)),
    (110, 10000, 100, 10000, 1.05, 1, 0.6316, -2.5945, (0.8766, 1.3810)),
]


@pytest.mark.parametrize(("k1", "n1", "k0", "n0", "rho", "phi", "p", "e", "interval"), COUNTS)
def test_counts_give_the_probabilities_of_the_reference(
    k1: float,
    n1: float,
    k0: float,
    n0: float,
    rho: float,
    phi: float,
    p: float,
    e: float | None,
    interval: tuple[float, float] | None,
) -> None:
    assert st.p_above(k1, n1, k0, n0, rho, phi) == pytest.approx(p, abs=5e-5)
    if e is not None:
        assert st.ln_e(k1, n1, k0, n0, rho, phi) == pytest.approx(e, abs=5e-5)
    if interval is not None:
        assert st.ratio_interval(k1, n1, k0, n0) == pytest.approx(interval, abs=5e-3)


@pytest.mark.parametrize(
    ("k", "n", "limit", "expected"),
    [
        (12, 1000, 0.005, 0.9967),
        (5, 1000, 0.005, 0.5304),
        (3, 400, 0.005, 0.7798),
        (0, 461, 0.005, 0.0318),
        (2, 1500, 0.005, 0.0104),
    ],
)
def test_an_absolute_limit_has_the_probabilities_of_the_reference(
    k: float, n: float, limit: float, expected: float
) -> None:
    assert st.p_over_limit(k, n, limit) == pytest.approx(expected, abs=5e-5)


def test_other_tests_on_the_same_counts_give_the_same_size() -> None:
    from scipy.stats import binomtest, poisson_means_test

    ours = 1 - st.p_above(12, 2000, 30, 30000)
    means = poisson_means_test(12, 2000, 30, 30000, alternative="greater").pvalue
    shares = binomtest(12, 42, 2000 / 32000, alternative="greater").pvalue
    assert ours == pytest.approx(2.63e-6, rel=5e-3)
    assert means == pytest.approx(3.44e-6, rel=5e-3)
    assert shares == pytest.approx(6.68e-6, rel=5e-3)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((2, 0, 3, 1, 7, 2, 0, 4, 1, 2, 9, 1), 1.5189),
        ((2,) * 12, 1.0),
        ((1, 2, 1, 0, 2, 1, 40, 2, 1, 0, 1, 2), 2.4853),
        ((2, 0, 3), 1.0),
        ((0,) * 11 + (4,), 1.0),
    ],
)
def test_dispersion_is_that_of_the_reference(errors: tuple[int, ...], expected: float) -> None:
    assert st.dispersion([(k, 500.0) for k in errors]) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("k0", "n0", "n1", "floor", "errors", "ratio"),
    [
        (30, 30000, 1000, 0.0, 5, 6.6108),
        (30, 30000, 1000, 0.005, 6, 7.7764),
        (30, 30000, 2000, 0.0, 7, 4.4633),
        (30, 30000, 2000, 0.005, 12, 7.2672),
        (30, 30000, 10000, 0.0, 24, 2.7537),
        (30, 30000, 10000, 0.005, 60, 6.5315),
        (300, 30000, 2000, 0.0, 40, 2.2564),
        (300, 30000, 2000, 0.005, 40, 2.2564),
    ],
)
def test_the_smallest_visible_rise_is_that_of_the_reference(
    k0: float, n0: float, n1: float, floor: float, errors: int, ratio: float
) -> None:
    found = st.minimum_detectable(k0, n0, n1, floor=floor)
    assert found is not None
    assert found.errors == errors
    assert found.ratio == pytest.approx(ratio, abs=5e-5)


def test_without_an_error_before_the_smallest_visible_rise_is_a_rate() -> None:
    found = st.minimum_detectable(0, 1000, 1000)
    assert found is not None
    assert (found.errors, found.rate, found.ratio) == (5, 0.005, None)


@pytest.mark.parametrize(("n0", "n1"), [(0, 1000), (1000, 0), (1000, 4)])
def test_too_few_requests_show_nothing_at_all(n0: float, n1: float) -> None:
    assert st.minimum_detectable(0, n0, n1) is None


@pytest.mark.parametrize(("n1", "n0"), [(0, 100), (100, 0), (0, 0)])
def test_an_arm_without_requests_neither_blames_nor_acquits(n1: float, n0: float) -> None:
    assert st.p_above(5, n1, 0, n0) == 0.5
    assert st.ln_e(5, n1, 0, n0) == 0.0
    assert st.ratio_interval(5, n1, 0, n0) == (0.0, math.inf)


def test_a_limit_without_requests_is_neither_passed_nor_kept() -> None:
    assert st.p_over_limit(3, 0, 0.01) == 0.5


def test_huge_and_hopeless_counts_do_not_overflow() -> None:
    assert st.p_above(1e7, 1e7, 0, 1e7) == 1.0
    assert st.ln_e(0, 1e9, 1e6, 1e6) == -math.inf
    assert st.ln_e(1e6, 1e6, 0, 1e6) > 1e5
    assert st.ratio_interval(1e18, 1, 0, 1)[1] == pytest.approx(5.1063e20, rel=1e-4)


def test_fractional_counts_are_counts() -> None:
    low, high = st.p_above(11.9, 2000, 30, 30000), st.p_above(12.1, 2000, 30, 30000)
    assert low < st.p_above(12, 2000, 30, 30000) < high


@pytest.mark.parametrize(
    ("value", "shift", "hot"), [(520, 0.2561, True), (505, 0.2269, True), (470, 0.1550, False)]
)
def test_a_percentile_is_hot_as_in_the_reference(value: float, shift: float, hot: bool) -> None:
    point = st.latency_point([400, 410, 395, 405, 420, 398], value)
    assert point.shift == pytest.approx(shift, abs=5e-5)
    assert point.hot(1.25, 3.5) is hot


@pytest.mark.parametrize(
    ("step", "pattern", "expected"),
    [
        (60, "h-hh", True),
        (60, "hchc", False),
        (60, "h-h", True),
        (60, "h--h", False),
        (60, "cch-", False),
        (15, "hhhc", False),
        (15, "hh-hh", True),
        (15, "h-h-hhh", True),
        (300, "hch", True),
        (300, "hcc", False),
        (300, "h-h", True),
        (300, "hccch", False),
        (30, "hh", True),
        (120, "h", False),
        (60, "", False),
    ],
)
def test_sustained_is_as_in_the_reference(step: float, pattern: str, expected: bool) -> None:
    states = [{"h": st.HOT, "c": st.COLD, "-": st.MISSING}[c] for c in pattern]
    assert (st.sustained(states, step) is not None) is expected


def test_a_run_tells_where_it_began_and_how_long_it_was_hot() -> None:
    run = st.sustained([False, True, None, True, True, False], 60)
    assert run == st.Run(first=1, last=4, hot=3)


@pytest.mark.parametrize(
    ("states", "ended"),
    [([True, True, False, False], True), ([True, True, False], False), ([False], False)],
)
def test_trouble_has_ended_when_the_newest_buckets_are_cold(
    states: list[bool | None], ended: bool
) -> None:
    assert st.has_ended(states, 60) is ended


def test_ten_requests_due_and_none_seen_is_no_accident() -> None:
    assert st.p_none(10) == pytest.approx(4.5e-5, rel=0.02)
    assert st.p_none(-1) == 1.0


@pytest.mark.parametrize(
    ("right", "n", "bound"),
    [
        (13, 13, 0.7942),
        (14, 14, 0.8074),
        (20, 21, 0.7933),
        (21, 22, 0.8019),
        (36, 36, 0.9202),
        (35, 36, 0.8749),
        (43, 45, 0.8666),
        (0, 5, 0.0),
    ],
)
def test_the_bound_of_right_decisions_is_that_of_the_reference(
    right: int, n: int, bound: float
) -> None:
    assert st.cp_lower(right, n) == pytest.approx(bound, abs=5e-5)


@pytest.mark.parametrize(
    ("errors", "bound", "decisions"),
    [
        (0, 0.80, 14), (0, 0.85, 19), (0, 0.92, 36),
        (1, 0.80, 22), (1, 0.85, 30), (1, 0.92, 58),
        (2, 0.80, 30), (2, 0.85, 40), (2, 0.92, 77),
        (3, 0.80, 37), (3, 0.85, 50), (3, 0.92, 95),
    ],
)  # fmt: skip
def test_so_many_right_decisions_are_needed_before_acting_alone(
    errors: int, bound: float, decisions: int
) -> None:
    assert st.cp_lower(decisions - errors, decisions) >= bound
    assert st.cp_lower(decisions - 1 - errors, decisions - 1) < bound


def test_the_rank_sum_agrees_with_scipy() -> None:
    from scipy.stats import mannwhitneyu

    new = [410, 420, 450, 470, 500, 505, 510, 610, 610]
    old = [400, 402, 405, 410, 410, 415, 420, 480]
    expected = mannwhitneyu(new, old, alternative="greater", method="asymptotic").pvalue
    assert st.p_larger(new, old) == pytest.approx(float(expected), rel=1e-9)
    assert st.p_larger([], old) == 1.0
    assert st.p_larger([1, 1], [1, 1]) == 1.0


@pytest.mark.parametrize(
    ("k", "n", "lower", "upper"),
    [(0, 1000, 0.0, 0.00192), (10, 1000, 0.00580, 0.01634), (170, 1000, 0.1494, 0.1924)],
)
def test_the_bounds_of_a_rate_hold_it_between_them(
    k: float, n: float, lower: float, upper: float
) -> None:
    assert st.rate_bounds(k, n) == pytest.approx((lower, upper), rel=0.01, abs=1e-9)
    assert st.rate_bounds(k, n, 2.0)[1] > upper
