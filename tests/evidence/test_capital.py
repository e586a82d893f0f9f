"""Capital: what is staked when, in logarithms, and that nothing of it gets lost or doubled."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.evidence.capital import FIRST_STAKE, FRESH, GRID, LOG_MOST, STAKE_A_SECOND
from tests.support.examples import examples

NOTHING = (0.0,) * len(GRID)
DAYS = 30 * 86_400


def test_half_is_staked_at_the_beginning() -> None:
    """The other half follows second by second over 30 days."""
    assert FRESH.value == pytest.approx(FIRST_STAKE)
    assert FRESH.after(NOTHING, DAYS).value == pytest.approx(2 * FIRST_STAKE)


def test_stakes_go_on_after_thirty_days() -> None:
    """Without them a break on day 31 would take thousands of requests more than one on day 30."""
    ruined = FRESH.after((-1e4,) * len(GRID), DAYS)
    assert ruined.value == 0.0
    assert ruined.after(NOTHING, 2 * DAYS).value == pytest.approx(0.5)


def test_a_stake_is_placed_before_the_step_and_grows_with_it() -> None:
    """A_k <- (A_k + s/K) * L_k."""
    doubled = FRESH.after((math.log(2),) * len(GRID), 10)
    assert doubled.value == pytest.approx(2 * (0.5 + 10 * STAKE_A_SECOND))


@examples(25)
@given(st.lists(st.integers(0, 5), max_size=20))
def test_steps_at_which_nothing_happened_may_be_left_out(waits: list[int]) -> None:
    """Stakes wait for the next step: exact, whatever the gaps."""
    step = (0.3,) * len(GRID)
    second, all_steps = 0, FRESH
    for wait in waits:
        second += wait
        all_steps = all_steps.after(NOTHING, second)
    assert all_steps.after(step, second).logs == pytest.approx(FRESH.after(step, second).logs)


def test_a_second_is_paid_once() -> None:
    """Ticks of one second share its stake, and a clock that steps back pays nothing."""
    capital = FRESH.after(NOTHING, 7)
    assert capital.after(NOTHING, 7) == capital
    assert capital.after(NOTHING, 3) == capital


def test_ruin_and_fortune_are_numbers() -> None:
    """Thousands of healthy days, or failures, neither underflow nor overflow, and ruin is never final."""
    poor = FRESH.after((-1e6,) * len(GRID), 0).after((30.0,) * len(GRID), 1)
    assert poor.value == pytest.approx(STAKE_A_SECOND * math.exp(30.0))
    rich = FRESH.after((1e6,) * len(GRID), 0)
    assert rich.value == pytest.approx(len(GRID) * math.exp(LOG_MOST))
