"""What people are told to expect: the figures that the table of decisions has."""

from __future__ import annotations

import math

import pytest

from gateway.core.evidence.detection import Detection, expected_detection


def expect(rate: float, *, late: bool = False, share: float = 0.01, limit: float = 0.02) -> Detection:
    """At ten requests per second and the usual certainty."""
    return expected_detection(
        rate, limit=limit, requests_per_second=10.0, share=share, alpha=0.001, late=late
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


def test_a_limit_of_zero_is_a_limit() -> None:
    """Every failure is one too many; control is what remains to be compared with."""
    assert 5 <= expect(0.5, limit=0.0).requests < 40
