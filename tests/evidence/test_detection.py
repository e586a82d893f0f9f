"""What people are told to expect: the figures that the table of decisions has."""

from __future__ import annotations

import math

import pytest

from gateway.core.evidence.detection import Detection, expected_detection


def expect(
    rate: float, *, late: bool = False, share: float = 0.01, limit: float = 0.02, traffic: float = 10.0
) -> Detection:
    """At the usual certainty, looked at four times a second."""
    return expected_detection(
        rate, limit=limit, requests_per_second=traffic, share=share, interval=0.25, alpha=0.001, late=late
    )


def test_everything_broken_takes_the_minimum_of_failures() -> None:
    """Five requests, fifty seconds at ten requests per second and one percent."""
    found = expect(1.0)
    assert (found.requests, found.seconds) == (5, pytest.approx(50.0))


@pytest.mark.parametrize(
    ("rate", "late", "least", "most"),
    [
        (1.0, True, 5, 9),
        (0.2, False, 20, 100),
        (0.2, True, 50, 160),
        (0.05, False, 400, 1450),
        (0.05, True, 800, 2200),
    ],
)
def test_expectations_are_of_the_size_that_simulation_finds(
    rate: float, late: bool, least: float, most: float
) -> None:
    """Between the median of a run and what 95 % of the runs keep."""
    assert least <= expect(rate, late=late).requests <= most


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.02])
def test_what_keeps_its_limit_is_never_rolled_back(rate: float) -> None:
    """There is nothing to wait for."""
    assert expect(rate).seconds == math.inf


def test_no_traffic_finds_nothing() -> None:
    """Without requests to treatment there is no evidence, and no division by zero."""
    assert expect(1.0, share=0.0).requests == math.inf


def test_a_larger_share_finds_sooner() -> None:
    """In seconds, for any rate."""
    for rate in (1.0, 0.2, 0.05):
        times = [expect(rate, share=share).seconds for share in (0.01, 0.05, 0.25, 0.5)]
        assert times == sorted(times, reverse=True)


def test_full_production_pays_for_its_trial() -> None:
    """More requests than with a control to compare with, yet within fifteen seconds."""
    found = expect(1.0, share=1.0)
    assert expect(1.0, share=0.5).requests < found.requests < 60
    assert found.seconds < 15


SIMULATED = [
    (1.0, 0.05, 1.0, 8),
    (1.0, 0.95, 1.0, 17),
    (1.0, 0.95, 0.2, 162),
    (10.0, 0.9, 0.2, 875),
    (10.0, 0.992, 0.2, 180),
    (10.0, 1.0, 0.05, 1803),
    (100.0, 0.5, 1.0, 30),
    (100.0, 0.99, 0.2, 8727),
    (1000.0, 0.05, 1.0, 11),
    (1000.0, 0.5, 1.0, 121),
    (1000.0, 0.9, 1.0, 222),
    (1000.0, 0.99, 0.05, 47965),
    (1000.0, 1.0, 1.0, 364),
]
"""Requests a second, share, failure rate; treatment's requests until the rollback, the median of a few runs
of `bench.decisions.simulation` with ticks of a quarter of a second, after twelve healthy hours."""


@pytest.mark.parametrize(("traffic", "share", "rate", "found"), SIMULATED)
def test_the_forecast_is_right_within_a_factor_of_two(
    traffic: float, share: float, rate: float, found: float
) -> None:
    """For any traffic and share: a look waits for its time, and where control is thin a trial comes first."""
    told = expect(rate, late=True, share=share, traffic=traffic)
    assert found / 2 <= told.requests <= found * 2
    assert told.seconds >= 0.25


def test_a_limit_of_zero_is_a_limit() -> None:
    """Every failure is one too many; control is what remains to be compared with."""
    assert 5 <= expect(0.5, limit=0.0).requests < 40
