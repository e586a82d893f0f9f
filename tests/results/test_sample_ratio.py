"""Whether the groups are as large as their weights say: against a product of single predictions."""

from __future__ import annotations

import math
import random
from itertools import accumulate

import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.results.sample_ratio import Dealt, check, log_evidence, stirling_error


def by_single_users(weights: list[float], users: list[int]) -> float:
    """The same evidence as a product over users: how much better each was predicted than by its weight."""
    total = sum(weights)
    shares = [weight / total for weight in weights]
    terms = [
        math.log((1000 * share + x) / share)
        for share, count in zip(shares, users, strict=True)
        for x in range(count)
    ]
    return math.fsum(terms) - math.fsum(math.log(1000 + n) for n in range(sum(users)))


@given(
    dealt=st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 300)), min_size=1, max_size=5),
)
def test_the_evidence_is_the_product_over_users(dealt: list[tuple[float, int]]) -> None:
    """Any number of groups, any weights."""
    weights, users = [weight for weight, _ in dealt], [count for _, count in dealt]
    assert log_evidence(weights, users) == pytest.approx(by_single_users(weights, users), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("w", "x", "n"), [(0.5, 480, 1000), (0.5, 5200, 10_000), (0.1, 130, 1000)])
def test_two_groups_make_the_beta_of_the_rules(w: float, x: int, n: int) -> None:
    """lnB(aw + x, a(1-w) + n - x) - lnB(aw, a(1-w)) - x ln w - (n-x) ln(1-w), by scipy."""
    a = 1000
    expected = scipy.special.betaln(a * w + x, a * (1 - w) + n - x) - scipy.special.betaln(a * w, a * (1 - w))
    expected -= x * math.log(w) + (n - x) * math.log(1 - w)
    assert log_evidence([w, 1 - w], [x, n - x]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.01, 0.5, 3.0, 19.99, 20.01, 1e3, 1e7])
def test_stirlings_error_is_what_his_formula_lacks(value: float) -> None:
    """Against scipy where that does not cancel, and continuous where the series begins."""
    main = (value - 0.5) * math.log(value) - value + 0.5 * math.log(2 * math.pi)
    rounding = 1e-15 * max(1.0, main)
    assert stirling_error(value) == pytest.approx(scipy.special.gammaln(value) - main, abs=10 * rounding)


def test_half_a_million_users_lose_no_digit() -> None:
    """Where differences of log-gamma would be wrong by 1e-8, the sum over users says the same."""
    users = [250_400, 249_600]
    assert log_evidence([1, 1], users) == pytest.approx(by_single_users([1, 1], users), abs=1e-9)


def test_epochs_multiply() -> None:
    """Different weights, one verdict: two mild suspicions make an alarm."""
    mild = Dealt((50.0, 50.0), (2870, 3130))
    other = Dealt((10.0, 90.0), (690, 5310))
    assert check([mild]).ok
    assert check([other]).ok
    both = check([mild, other])
    assert not both.ok
    assert both.p_value == pytest.approx(check([mild]).p_value * check([other]).p_value, rel=1e-9)


def test_an_even_split_is_believed() -> None:
    """Nobody at all, and as many as were expected."""
    assert check([]).p_value == check([Dealt((1.0, 1.0), (0, 0))]).p_value == 1.0
    assert check([Dealt((1.0, 3.0), (2500, 7500))]).ok


def test_users_of_a_group_without_weight_are_impossible() -> None:
    """A single one is enough; a group without weight and users says nothing."""
    impossible = check([Dealt((1.0, 0.0), (5, 1))])
    assert (impossible.p_value, impossible.ok) == (0.0, False)
    assert check([Dealt((1.0, 1.0, 0.0), (5, 5, 0))]) == check([Dealt((1.0, 1.0), (5, 5))])


def test_a_sound_split_is_hardly_ever_called_broken() -> None:
    """Row 15 of the figures, smaller: 400 experiments looked at every 50 users, not one alarm expected."""
    draw = random.Random(15)
    looks = range(50, 5001, 50)
    alarms = 0
    for _ in range(400):
        running = accumulate(draw.getrandbits(50).bit_count() for _ in looks)
        counts = [(x, n - x) for x, n in zip(running, looks, strict=True)]
        alarms += any(not check([Dealt((1.0, 1.0), users)]).ok for users in counts)
    assert alarms <= 1


def test_a_broken_split_is_found_soon() -> None:
    """Row 15 of the figures: half and half declared, .45 dealt, found within 5000 users."""
    draw = random.Random(15)
    for _ in range(100):
        x = sum(draw.random() < 0.45 for _ in range(5000))
        assert not check([Dealt((1.0, 1.0), (x, 5000 - x))]).ok
