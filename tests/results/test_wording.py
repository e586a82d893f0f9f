"""Figures of an experiment as sentences have them: for people, not for machines."""

from __future__ import annotations

import pytest

from gateway.core.results.wording import amount, chance, percent


@pytest.mark.parametrize(
    ("value", "metric", "told"),
    [
        (0.90684, "accuracy", "90.68 %"),
        (0.0, "error_rate", "0 %"),
        (0.98, "user_satisfaction", "98 %"),
        (0.36728, "response_time", "367 ms"),
        (1.2361, "response_time", "1.24 s"),
        (0.0021, "cost_per_request", "0.0021"),
        (27_413.2, "tokens", "27,413"),
        (-1_200_000.0, "profit", "-1,200,000"),
    ],
)
def test_an_amount_is_told_in_the_metric_s_unit(value: float, metric: str, told: str) -> None:
    """Shares in percent, times in their unit, thousands apart."""
    assert amount(value, metric) == told


@pytest.mark.parametrize(
    ("p_value", "told"),
    [
        (1.0, "p = 1"),
        (0.0123, "p = 0.012"),
        (0.001, "p = 0.001"),
        (1.6e-13, "p < 0.001"),
        (0.0, "p < 0.001"),
    ],
)
def test_a_chance_is_told_without_exponents(p_value: float, told: str) -> None:
    """Nobody reads `1.6e-13`."""
    assert chance(p_value) == told


@pytest.mark.parametrize(
    ("share", "told"),
    [(0.0321, "+3.21 %"), (-0.5, "-50 %"), (9.994, "+999 %"), (15.9, "+1,590 %"), (-36.7, "-3,670 %")],
)
def test_a_change_is_told_without_exponents(share: float, told: str) -> None:
    """Failures may be sixteen times as many, and nobody reads `+1.59e+03 %`."""
    assert percent(share) == told
