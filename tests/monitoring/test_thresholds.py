"""The plain rule's window: what it knows while requests are still open.

Where streams are long a tick is settled later than the window reaches back, so nothing may wait for that.
"""

from __future__ import annotations

from gateway.control.monitoring.thresholds import Window, breach
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


def tick(treatment: Counts, control: Counts = NOTHING) -> tuple[Tick, ...]:
    """A tick of both arms, of which an endless stream is still open."""
    return (
        Tick(
            60_000,
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
    assert "performance_degradation is 1.0" in breach(window, LIMITS, SAMPLES)


def test_streams_that_are_cut_after_their_tick_closed_are_failures() -> None:
    window = Window(300.0)
    seen = tick(answered(0.1))
    window.add(Progress(closed=seen, grown=seen))
    assert breach(window, LIMITS, SAMPLES) == ""
    window.add(Progress(grown=tick(Counts(truncated=SAMPLES // 2))))
    assert "error_rate is 0.495 " in breach(window, LIMITS, SAMPLES)


def test_ratings_count_with_the_tick_that_they_come_with() -> None:
    """Those that are posted come with no request, and so with no tick that settles."""
    window = Window(300.0)
    rated = Counts(scores={"user_satisfaction": Score(SAMPLES, 10.0, 10.0)})
    window.add(Progress(closed=tick(rated)))
    assert "user_satisfaction is 0.1 " in breach(window, LIMITS, SAMPLES)
