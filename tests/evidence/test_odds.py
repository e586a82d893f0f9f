"""The likelihood ratios: exact, fair, and against scipy's distributions."""

from __future__ import annotations

import itertools
import math

import pytest
import scipy
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.evidence import odds
from gateway.core.evidence.capital import GRID
from tests.support.examples import examples

SUMS = [(1, 59, 1), (60, 5940, 30), (30, 30, 12)]


def tables(n: int, m: int, bad: int) -> list[tuple[int, float]]:
    """Every number of bad outcomes that treatment can have, with its probability if nothing differs."""
    support = range(max(0, bad - m), min(n, bad) + 1)
    return [(x, float(scipy.stats.hypergeom.pmf(x, n + m, bad, n))) for x in support]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "bad"), SUMS)
def test_against_control_is_fair_to_nine_digits(n: int, m: int, bad: int) -> None:
    """Over all tables with the same sums every ratio is 1 on average, if treatment is like control."""
    for k in range(len(GRID)):
        average = math.fsum(
            chance * math.exp(odds.against_control(n, x, m, bad - x)[k]) for x, chance in tables(n, m, bad)
        )
        assert average == pytest.approx(1.0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "x", "bad"), [(5, 400, 3, 4), (60, 5940, 9, 30), (30, 30, 2, 12), (200, 50, 90, 100)]
)
def test_against_control_is_fishers_noncentral_hypergeometric(n: int, m: int, x: int, bad: int) -> None:
    """The ratio of its probability to the central one's, as scipy has them."""
    for ratio, found in zip(GRID, odds.against_control(n, x, m, bad - x), strict=True):
        central = scipy.stats.hypergeom.logpmf(x, n + m, bad, n)
        wanted = scipy.stats.nchypergeom_fisher.logpmf(x, n + m, n, bad, ratio) - central
        assert found == pytest.approx(float(wanted), abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "bad"), [(9, 31, 7), (31, 9, 7), (20, 20, 20)])
def test_the_bound_for_long_sums_is_below_the_exact_ratio_on_average(
    n: int, m: int, bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives some evidence away and never makes any up, whichever arm is smaller."""
    monkeypatch.setattr(odds, "LONGEST_SUM", -1)
    for k in range(len(GRID)):
        average = math.fsum(
            chance * math.exp(odds.against_control(n, x, m, bad - x)[k]) for x, chance in tables(n, m, bad)
        )
        assert average <= 1.0 + 1e-12


def test_a_long_sum_is_bounded_and_close_to_the_exact_one_for_a_small_arm() -> None:
    """One table has a term too many to be summed, the other one has not: they say about the same."""
    exact = odds.against_control(odds.LONGEST_SUM - 1, 120, 10**6, 20_000)
    bounded = odds.against_control(odds.LONGEST_SUM + 1, 120, 10**6, 20_000)
    assert bounded[1] == pytest.approx(exact[1], abs=0.1)


@pytest.mark.parametrize(
    ("n", "x", "m", "y"), [(0, 0, 50, 3), (50, 3, 0, 0), (10, 0, 90, 0), (10, 10, 90, 90), (0, 0, 0, 0)]
)
def test_nothing_is_learned_where_nothing_differs(n: int, x: int, m: int, y: int) -> None:
    """One arm alone, nothing bad, or everything bad: the ratio is exactly 1."""
    assert set(odds.against_control(n, x, m, y)) == {0.0}


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.005, 0.02, 0.3])
@pytest.mark.parametrize("count", [1, 40])
def test_against_limit_is_fair_at_the_limit_and_less_below(limit: float, count: int) -> None:
    """The expectation over a binomial at the limit is 1, below it less."""
    for probability in (limit, limit / 2):
        for k in range(len(GRID)):
            average = math.fsum(
                float(scipy.stats.binom.pmf(x, count, probability))
                * math.exp(odds.against_limit(limit, count, x)[k])
                for x in range(count + 1)
            )
            assert average <= 1.0 + 1e-9
            if probability == limit:
                assert average == pytest.approx(1.0, abs=1e-9)


def test_a_score_weighs_less_than_yes_or_no_with_the_same_mean() -> None:
    """Outcomes between 0 and 1 are convex combinations: two halves say no more than a yes and a no."""
    whole = [math.exp(one) for one in odds.against_limit(0.05, 1, 1)]
    none = [math.exp(one) for one in odds.against_limit(0.05, 1, 0)]
    for half, yes, no in zip(odds.against_limit(0.05, 1, 0.5), whole, none, strict=True):
        assert math.exp(half) <= (yes + no) / 2


def test_a_limit_of_zero_is_no_division_by_zero() -> None:
    """One failure where none may be is damning, not infinite."""
    found = odds.against_limit(0.0, 10, 1)
    assert all(math.isfinite(one) for one in found)
    assert max(found) > 5


@examples(25)
@given(st.integers(1, 60), st.integers(1, 300), st.data())
def test_more_failures_of_treatment_are_more_evidence(n: int, m: int, data: st.DataObject) -> None:
    """Among as many failures in all, every odds ratio gains with each that is treatment's."""
    bad = data.draw(st.integers(1, n + m - 1))
    support = range(max(0, bad - m), min(n, bad) + 1)
    assume(len(support) > 1)
    ratios = [odds.against_control(n, x, m, bad - x) for x in support]
    for less, more in itertools.pairwise(ratios):
        assert all(a < b for a, b in zip(less, more, strict=True))
