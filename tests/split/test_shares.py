"""Percentages and weights as integers: exact, without holes, monotone."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.shares import share_of, slices, whole_total
from gateway.model.snapshot import FULL_SHARE

percentages = st.fractions(min_value=0, max_value=100, max_denominator=10**6)
weights = st.fractions(min_value=0, max_value=10**6, max_denominator=1000)
weight_lists = st.lists(weights, min_size=1, max_size=12).filter(any)


def test_zero_percent_is_nobody_and_a_hundred_is_everybody() -> None:
    """The ends of the scale are exact: no position is under 0, and the highest one is under 100."""
    assert share_of(Fraction(0)) == 0
    assert share_of(Fraction(100)) == FULL_SHARE


@given(percentages, st.integers(0, FULL_SHARE - 1))
def test_a_position_is_under_a_percentage_by_rational_comparison(percentage: Fraction, h: int) -> None:
    """`h < share_of(p)` says exactly `h < p * 2**64 / 100`, without any rounding."""
    assert (h < share_of(percentage)) == (h < percentage * FULL_SHARE / 100)


@given(percentages)
def test_a_share_separates_its_neighbouring_positions(percentage: Fraction) -> None:
    """The comparison is exact at the threshold itself, where rounding would show."""
    share = share_of(percentage)
    assert share - 1 < percentage * FULL_SHARE / 100 <= share


@given(percentages, percentages)
def test_a_larger_percentage_never_has_a_smaller_share(one: Fraction, other: Fraction) -> None:
    """Shares grow with the percentage, so that raising it removes nobody."""
    low, high = sorted((one, other))
    assert share_of(low) <= share_of(high)


@given(weight_lists, st.sampled_from([FULL_SHARE, 100, 7]))
def test_slices_cover_everything_once(weights: list[Fraction], total: int) -> None:
    """Slices begin at 0, end at the total, and each begins where the one before ended."""
    cut = slices(weights, total)
    assert len(cut) == len(weights)
    assert (cut[0][0], cut[-1][1]) == (0, total)
    assert all(start <= end for start, end in cut)
    assert all(before[1] == after[0] for before, after in pairwise(cut))


@given(weight_lists)
def test_a_slice_is_its_weight_to_the_nearest_position(weights: list[Fraction]) -> None:
    """No slice is off by a whole position, and one of weight zero is empty."""
    for weight, (start, end) in zip(weights, slices(weights, FULL_SHARE), strict=True):
        assert abs(end - start - weight / sum(weights) * FULL_SHARE) < 1
        assert weight > 0 or start == end


@given(weight_lists)
def test_slices_of_the_whole_total_are_the_weights(weights: list[Fraction]) -> None:
    """Counted in weights there is nothing to round: each slice has its weight in whole units."""
    total = whole_total(weights)
    assert [Fraction(end - start, total) for start, end in slices(weights, total)] == [
        weight / sum(weights) for weight in weights
    ]


@given(weights, weights, weights)
def test_of_two_weights_the_raised_one_only_gains(first: Fraction, second: Fraction, more: Fraction) -> None:
    """Raising one of two weights moves their border away from it, so users move only towards it."""
    if not first + second:
        return
    [(_, border), _] = slices([first, second], FULL_SHARE)
    [(_, first_raised), _] = slices([first + more, second], FULL_SHARE)
    [(_, second_raised), _] = slices([first, second + more], FULL_SHARE)
    assert second_raised <= border <= first_raised


def test_whole_weights_are_counted_as_written() -> None:
    """Weights of 50 and 50 total 100, as the mission's formula counts them; halves are scaled."""
    assert whole_total([Fraction(50), Fraction(50)]) == 100
    assert whole_total([Fraction(1, 2), Fraction(1, 3)]) == 5
