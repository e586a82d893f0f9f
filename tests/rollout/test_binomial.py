"""The exact tails, against scipy."""

from __future__ import annotations

import math
import random

import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.binomial import at_least, at_most

PRECISION = 1e-11


@pytest.mark.slow
def test_the_tails_agree_with_scipy() -> None:
    """1000 draws of trials up to ten million, within six standard deviations of the mean."""
    draw = random.Random(2026)
    for _ in range(1000):
        trials = int(10 ** draw.uniform(0, 7))
        probability = 10 ** draw.uniform(-4, -0.02)
        deviation = math.sqrt(trials * probability * (1 - probability))
        count = min(trials, max(0, round(trials * probability + deviation * draw.uniform(-6, 6))))
        assert at_most(count, trials, probability) == pytest.approx(
            scipy.stats.binom.cdf(count, trials, probability), abs=PRECISION
        )
        assert at_least(count, trials, probability) == pytest.approx(
            scipy.stats.binom.sf(count - 1, trials, probability), abs=PRECISION
        )


@given(st.integers(1, 40), st.integers(0, 40), st.fractions(0, 1, max_denominator=50))
def test_the_tails_agree_with_the_definition(trials: int, count: int, probability: float) -> None:
    """Summed up exactly, for few trials, 0 and 1 included."""
    exact = sum(
        math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k)
        for k in range(min(count, trials) + 1)
    )
    assert at_most(count, trials, float(probability)) == pytest.approx(float(exact), abs=1e-13)


@given(st.integers(1, 10**7), st.integers(-1, 10**7), st.floats(0, 1))
def test_the_tails_are_complements(trials: int, count: int, probability: float) -> None:
    """P(X <= x) + P(X >= x + 1) = 1, also beyond both ends."""
    both = at_most(count, trials, probability) + at_least(count + 1, trials, probability)
    assert both == pytest.approx(1.0, abs=PRECISION)
