"""The plain rule's window: what it knows while requests are still open.

Where streams are long a tick is settled later than the window reaches back, so nothing may wait for that.
"""

from __future__ import annotations

import math

import pytest

from gateway.control.monitoring.thresholds import Window, breach
from gateway.core.evidence.detection import expected_breach
from gateway.core.folding import Progress, Tick
from gateway.core.limits import RollbackLimit
from gateway.model.metrics import Metric
from gateway.model.scores import Score
from gateway.model.ticks import Counts, Series, bucket_of

LIMITS = {
    metric: RollbackLimit(metric, limit, "a phase")
    for metric, limit in (
        (Metric.ERROR_RATE, 0.02),
        (Metric.PERFORMANCE_DEGRADATION, 0.15),
        (Metric.USER_SATISFACTION, 0.9),
    )
}
SAMPLES = 100
NOTHING = Counts()


def tick(treatment: Counts, control: Counts = NOTHING, at: int = 60_000) -> tuple[Tick, ...]:
    """A tick of both arms, of which an endless stream is still open."""
    return (
        Tick(
            at,
            {
                Series(1, "default", arm, "", ""): counts
                for arm, counts in (("treatment", treatment), ("control", control))
            },
        ),
    )


def answered(latency: float) -> Counts:
    """As many answers as it takes, and one that does not end."""
    return Counts(SAMPLES + 1, SAMPLES + 1, ended=SAMPLES, latencies={bucket_of(latency): SAMPLES})


def test_the_slowdown_does_not_wait_for_the_longest_stream() -> None:
    window = Window(300.0)
    seen = tick(answered(0.2), answered(0.1))
    window.add(Progress(closed=seen, grown=seen))
    assert "performance_degradation of treatment is 100 % " in breach(window, LIMITS, SAMPLES)


def test_streams_that_are_cut_after_their_tick_closed_are_failures() -> None:
    window = Window(300.0)
    seen = tick(answered(0.1))
    window.add(Progress(closed=seen, grown=seen))
    assert breach(window, LIMITS, SAMPLES) == ""
    window.add(Progress(grown=tick(Counts(truncated=SAMPLES // 2))))
    assert "error_rate of treatment is 49.5 % " in breach(window, LIMITS, SAMPLES)


def test_ratings_count_with_the_tick_that_they_come_with() -> None:
    """Those that are posted come with no request, and so with no tick that settles."""
    window = Window(300.0)
    rated = Counts(scores={"user_satisfaction": Score(SAMPLES, 10.0, 10.0)})
    window.add(Progress(closed=tick(rated)))
    assert "user_satisfaction of treatment is 0.1 " in breach(window, LIMITS, SAMPLES)


@pytest.mark.parametrize("failing", [1, 2, 5])
def test_it_is_as_late_as_people_are_told(failing: int) -> None:
    """Five requests a second, of which so many fail from a moment on: the good ones go out of the window."""
    window, seconds = Window(60.0), 0
    for second in range(60):
        window.add(Progress(closed=tick(Counts(5, 5), at=second * 1000)))
    while not breach(window, LIMITS, SAMPLES):
        window.add(Progress(closed=tick(Counts(5, 5, failing), at=(60 + seconds) * 1000)))
        seconds += 1
    told = expected_breach(
        failing / 5, limit=0.02, requests_per_second=50, share=0.1, window=60.0, minimum_samples=SAMPLES
    )
    assert seconds == math.ceil(told.seconds)


@pytest.mark.parametrize(("rate", "samples"), [(0.02, SAMPLES), (1.0, 301)])
def test_what_keeps_its_limit_or_fills_no_window_is_never_rolled_back(rate: float, samples: int) -> None:
    """Exactly at the limit; and one sample more than five requests a second make in a minute."""
    told = expected_breach(
        rate, limit=0.02, requests_per_second=50, share=0.1, window=60.0, minimum_samples=samples
    )
    assert told.requests == told.seconds == math.inf
