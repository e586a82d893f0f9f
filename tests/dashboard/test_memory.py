"""What the dashboard remembers by itself: requests served and evidence over time, in bounded memory."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.dashboard.document import EvidencePoint, Reach
from gateway.control.dashboard.served import COARSE_REACH, FINE_REACH, Sample, Served
from gateway.control.dashboard.trail import MOST_POINTS, Trail
from gateway.control.dashboard.view import course
from gateway.control.traffic import ArmMetrics
from gateway.control.traffic import Point as TrafficPoint
from tests.support.dashboards import NOW


def fill(seconds: int, every: float = 5.0, rate: float = 10.0) -> Served:
    """Samples of steady traffic up to NOW."""
    served = Served()
    for place in range(int(seconds / every) + 1):
        at = NOW - seconds + place * every
        served.add(Sample(at, int(place * every * rate), int(place * every)))
    return served


@given(st.integers(20, 3000), st.integers(0, 2000), st.integers(10, 900))
def test_what_was_served_between_two_times_is_what_was_counted(length: int, ago: int, span: int) -> None:
    """Ten a second are ten a second, wherever one looks; beyond what is known nothing is said."""
    served = fill(length)
    found = served.between(NOW - ago - span, NOW - ago)
    if ago + span > length:
        assert found is None
    else:
        assert found is not None
        assert found[0] == pytest.approx(10 * span, abs=51)
        assert found[1] == pytest.approx(span, abs=6)


def test_samples_grow_coarse_and_end() -> None:
    """An hour is fine, two days are coarse, nothing is older; old sums still come out right."""
    served = fill(COARSE_REACH + 7200, every=20.0)
    samples = served._samples
    gaps = [after.at - before.at for before, after in itertools.pairwise(samples)]
    assert len(samples) < FINE_REACH / 20 + COARSE_REACH / 500
    assert max(gaps) <= 620
    assert samples[0].at >= NOW - COARSE_REACH
    assert served.between(NOW - 100_000, NOW - 50_000) == pytest.approx((500_000, 50_000))


def test_the_newest_sample_is_always_held() -> None:
    """However often one adds, the newest total is there, and samples are ten seconds apart."""
    served = fill(600, every=0.5)
    assert served._samples[-1].at == NOW
    assert len(served._samples) < 70


def test_a_trail_reaches_back_to_its_beginning() -> None:
    """Points are bounded, the first one stays, and the newest is near."""
    trail = Trail()
    for place in range(20_000):
        trail.add(EvidencePoint(NOW + 5 * place, float(place)))
    assert len(trail.points) <= MOST_POINTS
    assert trail.points[0].at == NOW
    assert trail.points[-1].at > NOW + 5 * 20_000 - 700


def test_a_course_has_no_holes() -> None:
    """Steps in which nobody was counted are there, as nothing; the step of now is not over."""
    arm = ArmMetrics(10, 1, 0, 0, 0.1, 0.2, 0.2, 0.3, 0.4)
    at = int(NOW) - 60
    points = [TrafficPoint(at, 10, {"control": arm}), TrafficPoint(at + 30, 10, {"treatment": arm})]
    made = course(points, Served(), Reach.QUARTER, NOW + 5)
    assert [point.at for point in made] == list(range(at, int(NOW), 10))
    assert (made[0].control.failures, made[0].treatment.requests) == (1, 0)
    assert made[1].control.error_rate is None
    assert made[3].treatment.p90 == 0.3


def test_a_course_shows_what_was_served_though_nothing_was_judged() -> None:
    """Under the latch no request is evidence; the chart of requests does not fall to zero."""
    made = course([], fill(120), Reach.QUARTER, NOW)
    assert len(made) == 12
    assert made[5].served == pytest.approx((100, 10))


def test_a_trail_holds_what_must_be_seen() -> None:
    """A conviction lasts for one look: it stands between the others, once, however near they are."""
    trail = Trail()
    for second in range(0, 60, 5):
        trail.add(EvidencePoint(NOW + second, 0.5))
    for _ in range(3):
        trail.mark(EvidencePoint(NOW + 32.3, 1e15))
    trail.mark(EvidencePoint(NOW - 900, 1e9))
    assert [point.value for point in trail.points].count(1e15) == 1
    assert len(trail.points) == 13
    times = [point.at for point in trail.points]
    assert times == sorted(times)
