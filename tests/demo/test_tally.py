"""The figures that are made of the users' samples."""

import math

from gateway.demo.tally import WINDOW, Ending, Sample, Tally, quantiles
from gateway.model.snapshot import Arm


def sample(
    at: float,
    arm: Arm | None = Arm.CONTROL,
    user: str = "ada-1",
    ending: Ending = Ending.OK,
    duration: float = 0.1,
    streamed: bool = False,
) -> Sample:
    """A sample that ended at `at`."""
    status = 200 if ending is Ending.OK else 500
    return Sample(at, user, arm, streamed, status, ending, duration / 2, duration)


def test_totals_stay_while_shares_and_rates_look_back() -> None:
    """After the window has passed the arm has its requests still, and no share."""
    tally = Tally(0.0)
    for second in range(1, 6):
        tally.add(sample(float(second), Arm.TREATMENT))
    now = 5.0 + WINDOW + 1.0
    tally.add(sample(now, Arm.CONTROL))
    figures = tally.figures(now)
    assert figures[Arm.TREATMENT].requests == 5
    assert figures[Arm.TREATMENT].share == 0.0
    assert figures[Arm.CONTROL].share == 1.0
    assert figures[Arm.CONTROL].rate == 1 / WINDOW
    assert tally.overall_share(Arm.TREATMENT) == 5 / 6


def test_failures_count_but_do_not_enter_the_latencies() -> None:
    """A failure that is answered at once must not make its arm look fast."""
    tally = Tally(0.0)
    tally.add(sample(1.0, duration=0.2))
    tally.add(sample(1.1, duration=0.001, ending=Ending.FAILED))
    figures = tally.figures(2.0)[Arm.CONTROL]
    assert (figures.errors, figures.error_rate) == (1, 0.5)
    assert figures.completion.p50 == figures.completion.p99 == 0.2


def test_streams_and_completions_are_timed_apart() -> None:
    """A stream counts by its first byte, a completion by its whole."""
    tally = Tally(0.0)
    tally.add(sample(1.0, duration=0.2))
    tally.add(sample(3.0, duration=2.0, streamed=True))
    figures = tally.figures(3.0)[Arm.CONTROL]
    assert figures.completion.p99 == 0.2
    assert figures.first_token.p50 == 1.0


def test_a_changed_split_shows_at_once() -> None:
    """After the change only requests that began after it are looked at; the totals go on."""
    tally = Tally(0.0)
    tally.add(sample(4.0, Arm.TREATMENT))
    tally.restart_window(5.0)
    tally.add(sample(5.5, Arm.TREATMENT, duration=1.0))  # was open when the split changed
    tally.add(sample(5.6, Arm.CONTROL, duration=0.1))
    figures = tally.figures(6.0)
    assert figures[Arm.CONTROL].share == 1.0
    assert figures[Arm.TREATMENT].share == 0.0
    assert figures[Arm.TREATMENT].requests == 2


def test_users_that_both_arms_answered_are_movers() -> None:
    """Everyone is counted once, and who changed arm is known."""
    tally = Tally(0.0)
    for user, arm in (("a", Arm.CONTROL), ("b", Arm.TREATMENT), ("c", Arm.CONTROL), ("c", Arm.TREATMENT)):
        tally.add(sample(1.0, arm, user))
    assert (tally.users, tally.movers) == (3, 1)


def test_what_the_gateway_did_not_answer_is_no_arms_fault() -> None:
    """Without the arm's header there is no arm to blame."""
    tally = Tally(0.0)
    tally.add(sample(1.0, None, ending=Ending.NO_CONNECTION))
    assert tally.unanswered == 1
    assert [figures.requests for figures in tally.figures(1.0).values()] == [0, 0]


def test_the_curve_counts_whole_seconds() -> None:
    """Oldest first, without the second that is not over, never longer than asked for."""
    tally = Tally(100.0)
    for at in (100.1, 101.2, 101.3, 102.5, 103.9):
        tally.add(sample(at))
    assert tally.curve(Arm.CONTROL, 103.95, 10) == [1, 2, 1]
    assert tally.curve(Arm.CONTROL, 103.95, 2) == [2, 1]
    assert tally.curve(Arm.TREATMENT, 103.95, 10) == [0, 0, 0]


def test_quantiles_are_values_that_were_seen() -> None:
    """Nearest rank; of nothing they are NaN."""
    assert quantiles([5.0]).p99 == 5.0
    hundred = quantiles([float(value) for value in range(1, 101)])
    assert (hundred.p50, hundred.p90, hundred.p99) == (50.0, 90.0, 99.0)
    assert math.isnan(quantiles([]).p50)
