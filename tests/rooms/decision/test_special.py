"""Own beta and gamma functions, held against scipy's over all that counts can be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

from mcp_devops.decision.special import (
    beta_above,
    beta_odds,
    gamma_above,
    gamma_quantile,
    ln_beta,
)

counts = st.floats(0, 1e6).map(lambda k: k + 0.5) | st.integers(0, 2000).map(lambda k: k + 0.5)
shares = st.floats(0.01, 0.99)


@settings(deadline=None)  # the first example imports scipy
@given(counts, counts, st.floats(1e-9, 1 - 1e-9))
def test_the_beta_tail_is_scipys(a: float, b: float, x: float) -> None:
    from scipy.special import betaincc

    assert beta_above(a, b, x) == approx(float(betaincc(a, b, x)), rel=1e-7, abs=1e-290)


@settings(deadline=None)
@given(counts, counts, st.floats(-6, 6))
def test_the_beta_tail_is_scipys_where_it_decides(a: float, b: float, away: float) -> None:
    from scipy.special import betaincc

    x = a / (a + b) + away * math.sqrt(a * b / (a + b + 1)) / (a + b)
    if 0 < x < 1:
        assert beta_above(a, b, x) == approx(float(betaincc(a, b, x)), rel=1e-8, abs=1e-300)


@settings(deadline=None)
@given(counts, counts, shares)
def test_beta_quantiles_are_scipys(a: float, b: float, share: float) -> None:
    from scipy.special import betaincinv

    odds = beta_odds(a, b, share)
    assert odds / (1 + odds) == approx(float(betaincinv(a, b, share)), rel=1e-8)


@settings(deadline=None)
@given(counts, st.floats(-8, 8))
def test_the_gamma_tail_is_scipys(shape: float, away: float) -> None:
    from scipy.special import gammaincc

    x = max(0.0, shape + away * math.sqrt(shape))
    assert gamma_above(shape, x) == approx(float(gammaincc(shape, x)), rel=1e-8, abs=1e-300)


@settings(deadline=None)
@given(counts, shares)
def test_gamma_quantiles_are_scipys(shape: float, share: float) -> None:
    from scipy.special import gammaincinv

    assert gamma_quantile(shape, share) == approx(float(gammaincinv(shape, share)), rel=1e-8)


@settings(deadline=None)
@given(counts, counts)
def test_the_log_of_beta_is_scipys(a: float, b: float) -> None:
    from scipy.special import betaln

    assert ln_beta(a, b) == approx(float(betaln(a, b)), rel=1e-9, abs=1e-8)


@pytest.mark.parametrize(("a", "b"), [(1e8, 1e8), (1e8, 1e3), (1e9, 0.5)])
def test_huge_counts_are_scipys(a: float, b: float) -> None:
    from scipy.special import betaincc, betaincinv

    for share in (0.05, 0.5, 0.95):
        x = float(betaincinv(a, b, share))
        assert beta_above(a, b, x) == approx(float(betaincc(a, b, x)), rel=1e-7)
    assert 1 / beta_odds(b, a, 0.05) == approx(beta_odds(a, b, 0.95), rel=1e-7)


def test_the_ends_are_certain() -> None:
    assert (beta_above(2, 3, 0), beta_above(2, 3, 1)) == (1.0, 0.0)
    assert (gamma_above(2, 0), gamma_above(2, 1e9)) == (1.0, 0.0)
    assert beta_above(1e6, 0.5, 1e-9) == 1.0


def test_odds_keep_what_a_share_near_one_would_lose() -> None:
    assert beta_odds(1e9, 0.5, 0.95) == approx(1 / beta_odds(0.5, 1e9, 0.05), rel=1e-6)
