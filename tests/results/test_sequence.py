"""Intervals that may be looked at always: against scipy, a table worked out apart, and their own laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.results import sequence

VARIANCES = st.floats(1e-6, 1e6)
COUNTS = st.integers(2, 10**7)


def evidence_by_integration(difference: float, variance: float, participants: int, planned: float) -> float:
    """The likelihood ratio under a normal mixture of effects, integrated numerically, log of it.

    Effects of a participant have variance 1 after scaling; the mixture's variance is r².
    """
    ratio = (-2 * math.log(0.01) + math.log(1 - 2 * math.log(0.01))) / planned
    score = difference / math.sqrt(variance) * math.sqrt(participants)
    peak = score * ratio / (participants * ratio + 1)
    width = math.sqrt(ratio / (participants * ratio + 1))
    grid = np.linspace(peak - 12 * width, peak + 12 * width, 200_001)
    logs = grid * score - grid**2 * participants / 2 + scipy.stats.norm.logpdf(grid, scale=math.sqrt(ratio))
    top = logs.max()
    return float(top + np.log(np.trapezoid(np.exp(logs - top), grid)))


@pytest.mark.slow
@pytest.mark.parametrize("difference", [0.0, 0.01, -0.05, 0.1, 0.4])
@pytest.mark.parametrize(("variance", "participants", "planned"), [(5e-4, 2000, 2000), (1e-3, 90_000, 4000)])
def test_the_p_value_is_that_of_the_mixture(
    difference: float, variance: float, participants: int, planned: float
) -> None:
    """The closed form is the integral over all effects, weighted normally."""
    expected = min(1.0, math.exp(-evidence_by_integration(difference, variance, participants, planned)))
    found = sequence.p_value(difference, variance, participants, planned)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.slow
@pytest.mark.parametrize(("variance", "participants", "planned"), [(5e-4, 2000, 2000), (1e-3, 90_000, 4000)])
def test_the_interval_ends_where_the_mixture_reaches_a_hundred(
    variance: float, participants: int, planned: float
) -> None:
    """The margin is the difference at which the evidence is 1/.01, found by a root search."""

    def surplus(difference: float) -> float:
        return evidence_by_integration(difference, variance, participants, planned) - math.log(100)

    root = scipy.optimize.brentq(surplus, 1e-6, 1.0, xtol=1e-15, rtol=1e-14)
    assert sequence.margin(variance, participants, planned) == pytest.approx(root, rel=1e-9)


TABLE = [
    (0.25, 1000, 0.25, 1000, 0.1, 2000, 0.0798640740534192, 0.000356940493482603),
    (0.25, 1000, 0.25, 1000, 0.05, 2000, 0.0798640740534192, 0.35475557398529),
    (0.09, 5000, 0.16, 3000, 0.04, 2000, 0.0308553252141252, 0.000117330836912228),
    (1.5, 20000, 1.2, 180000, -0.05, 4000, 0.0356889843319054, 5.55889747266307e-06),
    (0.04, 1000, 0.04, 1000, 0.001, 20000, 0.0386036005268507, 1),
]
"""Variances and counts of treatment and control, difference, planned; margin and p-value to 15 digits.

Worked out with 40 decimal digits from the formulas of the paper (arXiv 2103.06476).
"""


@pytest.mark.parametrize(("v_t", "n_t", "v_c", "n_c", "difference", "planned", "margin", "p_value"), TABLE)
def test_the_table_holds(
    v_t: float,
    n_t: int,
    v_c: float,
    n_c: int,
    difference: float,
    planned: float,
    margin: float,
    p_value: float,
) -> None:
    """Figures worked out apart, to 1e-9."""
    variance = v_t / n_t + v_c / n_c
    assert sequence.margin(variance, n_t + n_c, planned) == pytest.approx(margin, rel=1e-9)
    assert sequence.p_value(difference, variance, n_t + n_c, planned) == pytest.approx(p_value, rel=1e-9)


@given(difference=st.floats(-100, 100), variance=VARIANCES, participants=COUNTS, planned=COUNTS)
def test_interval_and_p_value_say_the_same(
    difference: float, variance: float, participants: int, planned: int
) -> None:
    """Zero is outside of the interval exactly where p is below .01."""
    margin = sequence.margin(variance, participants, planned)
    p_value = sequence.p_value(difference, variance, participants, planned)
    if abs(abs(difference) / margin - 1) > 1e-9:
        assert (abs(difference) > margin) == (p_value < sequence.ANYTIME_ERROR)


@given(
    difference=st.floats(-10, 10),
    variance=VARIANCES,
    participants=COUNTS,
    planned=COUNTS,
    power=st.integers(-20, 20),
)
def test_side_and_unit_do_not_matter(
    difference: float, variance: float, participants: int, planned: int, power: int
) -> None:
    """The same p whichever group is called control, and in whatever unit the metric is."""
    unit = 2.0**power
    found = sequence.p_value(difference, variance, participants, planned)
    assert sequence.p_value(-difference, variance, participants, planned) == found
    assert sequence.p_value(difference * unit, variance * unit * unit, participants, planned) == found
    assert sequence.fixed_p_value(-difference, variance) == sequence.fixed_p_value(difference, variance)
    scaled = sequence.margin(variance * unit * unit, participants, planned)
    assert scaled == unit * sequence.margin(variance, participants, planned)


@pytest.mark.slow
@given(z=st.floats(-30, 30))
def test_the_fixed_test_is_the_z_test(z: float) -> None:
    """Two-sided, against scipy."""
    assert sequence.fixed_p_value(z * 0.1, 0.01) == pytest.approx(2 * scipy.stats.norm.sf(abs(z)), rel=1e-9)


def test_without_variance_a_difference_is_certain() -> None:
    """Metrics that never vary: equal is equal, and different is different."""
    assert sequence.p_value(0.0, 0.0, 2000, 2000) == sequence.fixed_p_value(0.0, 0.0) == 1.0
    assert sequence.p_value(0.1, 0.0, 2000, 2000) == sequence.fixed_p_value(0.1, 0.0) == 0.0
    assert sequence.margin(0.0, 2000, 2000) == 0.0


@given(difference=st.floats(0.01, 2), variance=st.floats(1e-6, 1e-3))
def test_the_forecast_is_the_first_number_that_shows_it(difference: float, variance: float) -> None:
    """One participant less would not do."""
    needed = sequence.participants_needed(difference, variance, 1000, 2000)
    assert needed is not None

    def shows(count: float) -> bool:
        return sequence.margin(variance * 1000 / count, count, 2000) <= difference

    assert shows(needed + 1e-6)
    assert needed == 1 or not shows(needed - 1.0)


def test_no_number_shows_no_difference() -> None:
    """Equal means are no forecast, nor is what a billion participants would not show."""
    assert sequence.participants_needed(0.0, 0.1, 1000, 2000) is None
    assert sequence.participants_needed(1e-9, 0.1, 1000, 2000) is None
