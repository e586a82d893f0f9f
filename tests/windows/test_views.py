"""Traffic as people and gates get to see it: views, their course over time, scores, late ones too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.control.alerting.lookout import readings
from gateway.control.store.sqlite import STORE_FILE
from gateway.control.traffic import ArmMetrics, Times, Traffic
from gateway.control.windows import Span
from gateway.core.folding import Progress, add
from gateway.core.judging import judge
from gateway.model.gates import Mean, MetricsThreshold, OnNoData, Proportion, Threshold, Verdict
from gateway.model.metrics import Metric
from gateway.model.observation import Outcome
from gateway.model.scores import Score
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series
from gateway.model.units import Comparison, Operator
from tests.support.counting import CountingWorker
from tests.windows.test_windows import Gateway

TREATMENT, CONTROL = Arm.TREATMENT, Arm.CONTROL
SCORES = MetricsThreshold(
    id="scores",
    thresholds=(
        Threshold("user_satisfaction", Comparison(Operator.GREATER, 0.8)),
        Threshold("cost_per_request", Comparison(Operator.LESS, 0.02)),
    ),
    window=60.0,
    minimum_samples=10,
    on_no_data=OnNoData.HOLD,
    confidence=0.95,
)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose first control process runs."""
    running = Gateway(tmp_path / STORE_FILE)
    await running.start()
    yield running
    await running.store.close()


def leave(worker: CountingWorker, seconds: float) -> None:
    """A client waits so long for treatment and leaves."""
    worker.start(TREATMENT).end(None, Outcome.CLIENT_CLOSED, False, seconds, -1.0)


async def test_a_view_states_everything_of_both_arms(gateway: Gateway) -> None:
    """Counts, rates, latencies, first bytes, who left, and scores, by route and arm."""
    gateway.worker.serve(TREATMENT, 8, seconds=0.4, scores={"accuracy": 0.5})
    gateway.worker.serve(TREATMENT, 2, status=500)
    leave(gateway.worker, 30.0)
    gateway.worker.serve(CONTROL, 10, seconds=0.2)
    gateway.later(4)
    for span in Span:
        view = gateway.windows.view(span)
        treatment = view.arms["treatment"]
        assert view.routes == {"default": view.arms}
        assert (treatment.requests, treatment.errors, treatment.error_rate) == (10, 2, 0.2)
        assert treatment.left == 1
        assert treatment.p50 == pytest.approx(0.4, rel=0.003)
        assert treatment.mean == pytest.approx(0.4, rel=0.003)
        assert treatment.first_byte.p90 == pytest.approx(0.2, rel=0.05)
        assert treatment.scores == {"accuracy": Score(8, 4.0, 2.0)}
        assert view.degradation == pytest.approx(1.0, rel=0.01)


async def test_the_window_forgets_what_the_phase_keeps(gateway: Gateway) -> None:
    """One is of the last seconds, the other of the whole stay, whatever periods it has."""
    gateway.windows.look_back = 30.0
    gateway.worker.serve(TREATMENT, 5)
    gateway.later(70)
    gateway.windows.restart_windows()
    gateway.later(2)
    gateway.worker.serve(TREATMENT, 1)
    gateway.later(3)
    assert gateway.windows.view(Span.WINDOW).arms["treatment"].requests == 1
    phase = gateway.windows.view(Span.PHASE)
    assert phase.arms["treatment"].requests == 6
    assert phase.until - phase.since == pytest.approx(75, abs=1)
    gateway.begin("limited_production", 2)
    assert gateway.windows.view(Span.WINDOW).arms["treatment"].requests == 1
    gateway.later(1)
    assert gateway.windows.view(Span.PHASE).arms["treatment"].requests == 0


async def test_degradation_compares_within_ten_minutes(gateway: Gateway) -> None:
    """A drift that both arms share is none of treatment's, though it has more of the slow traffic."""
    gateway.windows.look_back = 3000.0
    for seconds, treatment in ((0.1, 10), (0.8, 90)):
        gateway.worker.serve(TREATMENT, treatment, seconds=seconds * 1.1)
        gateway.worker.serve(CONTROL, 100 - treatment, seconds=seconds)
        gateway.later(5)
        gateway.clock.at += 595
    for span in Span:
        assert gateway.windows.view(span).degradation == pytest.approx(0.1, abs=0.01)


async def test_without_control_there_is_no_degradation(gateway: Gateway) -> None:
    """Nothing to compare with is not nothing wrong."""
    gateway.worker.serve(TREATMENT, 50)
    gateway.later(4)
    assert gateway.windows.view(Span.WINDOW).degradation is None


async def test_users_first_requests_and_others_are_shown_together(gateway: Gateway) -> None:
    """The mark is for evidence; people see all requests."""
    gateway.worker.serve(TREATMENT, 2, first=True)
    gateway.worker.serve(TREATMENT, 3)
    gateway.later(4)
    assert gateway.windows.view(Span.PHASE).arms["treatment"].requests == 5
    assert gateway.errors() == Proportion(5, 0)


async def test_the_course_is_fine_for_an_hour_and_coarse_before(gateway: Gateway) -> None:
    """Every request is in it exactly once, settled or not."""
    begin = gateway.clock.wall()
    for _ in range(100):
        gateway.worker.serve(TREATMENT, 1)
        gateway.worker.serve(CONTROL, 2, seconds=0.3)
        gateway.clock.at += 55
        gateway.later(5)
    for step in (10, 60, 600, 3600):
        points = gateway.windows.series(0, step)
        assert sum(point.arms["treatment"].requests for point in points) == 100, step
        assert sum(point.arms["control"].requests for point in points) == 200, step
        assert [point.at % step for point in points] == [0] * len(points)
        assert len({point.at for point in points}) == len(points)
    recent = gateway.windows.series(gateway.clock.wall() - 600, 60)
    assert sum(point.arms["treatment"].requests for point in recent) == pytest.approx(10, abs=1)
    assert all(point.at >= begin + 5400 - 120 for point in recent)
    assert {point.span for point in recent} == {60}
    assert recent[3].arms["control"].p50 == pytest.approx(0.3, rel=0.05)


async def test_the_course_outlives_the_control_process(gateway: Gateway) -> None:
    """Counts come back from the store; quantiles of then are not known any more, and not made up."""
    gateway.worker.serve(TREATMENT, 30, status=500)
    gateway.worker.serve(TREATMENT, 10)
    gateway.later(30)
    await gateway.die()
    await gateway.start()
    gateway.worker.serve(TREATMENT, 5)
    gateway.later(5)
    points = gateway.windows.series(0, 600)
    arms = [point.arms["treatment"] for point in points]
    assert sum(arm.requests for arm in arms) == 45
    assert sum(arm.errors for arm in arms) == 30
    fine = gateway.windows.series(0, 10)
    assert {point.span for point in fine} == {10}
    assert [arm.requests for point in fine if (arm := point.arms.get("treatment"))] == [40, 5]
    assert gateway.windows.series(gateway.clock.wall() + 700, 10) == ()


async def test_the_window_outlives_the_control_process(gateway: Gateway) -> None:
    """Counts and the slowdown come back; quantiles are of what came since, and alerts know of how many."""
    for _ in range(10):
        gateway.worker.serve(TREATMENT, 30, seconds=0.2)
        gateway.worker.serve(TREATMENT, 10, status=500)
        gateway.worker.serve(CONTROL, 30)
        gateway.later(3)
    gateway.later(10)
    before = gateway.windows.view(Span.WINDOW)
    await gateway.die()
    await gateway.start()
    gateway.worker.serve(TREATMENT, 5, seconds=0.2)
    gateway.later(3)
    after = gateway.windows.view(Span.WINDOW)
    assert after.arms["treatment"].requests == before.arms["treatment"].requests + 5 == 405
    assert after.arms["treatment"].errors == before.arms["treatment"].errors == 100
    assert after.degradation == pytest.approx(before.degradation)
    assert after.arms["control"].p90 is None
    samples = {
        (reading.metric, reading.arm): reading.samples
        for reading in readings(gateway.windows.recent(), gateway.windows.recent_contrast())
    }
    assert samples[Metric.ERROR_RATE, "treatment"] == 405
    assert samples[Metric.RESPONSE_TIME, "treatment"] == 5


async def test_the_course_ends_after_two_days(gateway: Gateway) -> None:
    """Its memory is bounded."""
    gateway.worker.serve(TREATMENT, 1)
    gateway.later(10)
    gateway.clock.at += 49 * 3600
    gateway.worker.serve(TREATMENT, 2)
    gateway.later(10)
    assert sum(point.arms["treatment"].requests for point in gateway.windows.series(0, 600)) == 2


async def test_scores_decide_gates(gateway: Gateway) -> None:
    """Satisfaction by counting what is wrong, cost by its mean, both beyond chance."""
    for cost in (0.01, 0.012):
        gateway.worker.serve(TREATMENT, 100, scores={"user_satisfaction": 0.95, "cost_per_request": cost})
    gateway.later(4)
    evidence = gateway.windows.evidence(SCORES)
    assert evidence.samples["user_satisfaction"] == Proportion(200, 10)
    cost = evidence.samples["cost_per_request"]
    assert isinstance(cost, Mean)
    assert (cost.count, cost.total) == (200, pytest.approx(2.2))
    assert judge(SCORES, 1, evidence, epoch=1, window=60.0, at=0.0).verdict is Verdict.PASS


async def test_arms_of_the_wrong_sizes_hold_every_gate(gateway: Gateway) -> None:
    """Whoever knows the sample ratio is asked at each look."""
    gateway.worker.serve(TREATMENT, 1000, scores={"user_satisfaction": 1.0, "cost_per_request": 0.01})
    gateway.later(4)
    gateway.windows.sample_ratio_ok = lambda: False
    evidence = gateway.windows.evidence(SCORES)
    assert judge(SCORES, 1, evidence, epoch=1, window=60.0, at=0.0).verdict is Verdict.INCONCLUSIVE


async def test_a_late_rating_is_compared_with_those_of_users_who_were_drawn_alike(gateway: Gateway) -> None:
    """It comes with a tick of now, but under the snapshot that its user was drawn by."""
    newest = gateway.windows._standing().snapshot.version
    gateway.windows.add_outcome("treatment", "default", "user_satisfaction", 0.9)
    gateway.windows.add_outcome("control", "default", "user_satisfaction", 0.9, drawn_by=newest - 1)
    gateway.worker.serve(TREATMENT)
    gateway.clock.at += 1
    (tick,) = gateway.windows.take([gateway.worker.report()], [gateway.worker.pid]).closed
    rated = {series.arm: series.snapshot for series, counts in tick.counts.items() if counts.scores}
    assert rated == {"treatment": newest, "control": newest - 1}


async def test_a_rating_again_counts_but_is_not_its_user_s_first(gateway: Gateway) -> None:
    """For views and gates like any other; who looks at users alone does not see it."""
    for first in (True, False, False):
        gateway.windows.add_outcome("treatment", "default", "user_satisfaction", 0.5, first=first)
    gateway.worker.serve(TREATMENT)
    gateway.clock.at += 1
    (tick,) = gateway.windows.take([gateway.worker.report()], [gateway.worker.pid]).closed
    rated = {series.first: counts.scores["user_satisfaction"].count for series, counts in tick.counts.items()}
    assert rated == {True: 1, False: 2}
    assert gateway.windows.evidence(SCORES).samples["user_satisfaction"] == Proportion(3, 2)


async def test_a_late_rating_counts_for_gates_views_and_evidence_once(gateway: Gateway) -> None:
    """And is still there after a restart of the control process."""
    gateway.worker.serve(TREATMENT, 20)
    gateway.later(4)
    for _ in range(50):
        gateway.windows.add_outcome("treatment", "default", "user_satisfaction", 0.9)
    rating = Score()
    for _ in range(50):
        rating += Score.of(0.9)
    assert gateway.windows.evidence(SCORES).samples["user_satisfaction"] == Proportion(50, 5)
    assert gateway.windows.view(Span.PHASE).arms["treatment"].scores == {"user_satisfaction": rating}
    gateway.worker.serve(TREATMENT, 1)
    handed: list[Score] = []
    grown = 0
    for _ in range(10):
        progress = take(gateway)
        handed += scores_of(progress)
        grown += sum(counts.answered for tick in progress.grown for counts in tick.counts.values())
    assert (handed, grown) == ([rating], 1)
    gateway.later(20)
    assert gateway.windows.view(Span.WINDOW).arms["treatment"].scores == {"user_satisfaction": rating}
    await gateway.die()
    await gateway.start()
    assert gateway.windows.evidence(SCORES).samples["user_satisfaction"] == Proportion(50, 5)
    assert gateway.windows.evidence(SCORES).requests == 21


async def test_a_rating_is_stored_though_a_stream_keeps_its_tick_open(gateway: Gateway) -> None:
    """The evidence that it is in is stored every few seconds, too: a restart must not add it once more."""
    gateway.worker.serve(TREATMENT)
    gateway.later(2)
    gateway.worker.start(TREATMENT)
    gateway.later(12)
    gateway.windows.add_outcome("treatment", "default", "user_satisfaction", 0.9)
    gateway.windows.rated_at = 77.0
    gateway.later(12)
    await gateway.die()
    await gateway.start()
    assert gateway.windows.rated_at == 77.0
    assert gateway.windows.evidence(SCORES).samples["user_satisfaction"] == Proportion(1, 1)


def take(gateway: Gateway) -> Progress:
    """One report and one look."""
    gateway.clock.at += 1.0
    report = gateway.worker.report()
    return gateway.windows.take([report], [report.pid])


def scores_of(progress: Progress) -> list[Score]:
    """The ratings in the ticks that closed."""
    sums = Counts()
    for tick in progress.closed:
        for series, counts in tick.counts.items():
            assert series.first or not counts.scores
            sums = add(sums, counts)
    return list(sums.scores.values())


async def test_an_arm_without_traffic_has_no_rates(gateway: Gateway) -> None:
    """None is nothing to say, not zero."""
    gateway.later(3)
    assert gateway.windows.view(Span.WINDOW).arms["control"] == ArmMetrics(
        0, 0, 0, 0, None, None, None, None, None, Times(), 0, {}
    )


@pytest.mark.slow
async def test_the_window_is_the_same_however_often_one_looks(gateway: Gateway) -> None:
    """Looks in between, stragglers and late ratings are all in the sums, and once."""
    gateway.windows.look_back = 60.0
    for second in range(150):
        gateway.worker.serve(TREATMENT, 1)
        if second == 100:
            straggler = gateway.worker.start(TREATMENT)
        if second == 125:
            straggler.end(None, Outcome.RESET, False, 25.0, -1.0)
            gateway.windows.add_outcome("treatment", "default", "user_satisfaction", 1.0)
        gateway.later(1)
        treatment = gateway.windows.view(Span.WINDOW).arms["treatment"]
        served = min(second + 1, 60) + (second >= 125)
        assert served - 1 <= treatment.requests <= served + 11, second
        assert treatment.errors == (second >= 125)
        assert sum(score.count for score in treatment.scores.values()) == (second >= 125)


def test_what_settles_late_is_in_the_window_though_it_was_looked_at() -> None:
    """A sum that was made before does not hide what came to it since."""
    traffic = Traffic()
    series = Series(1, "default", "treatment", "", "")

    def settle(at: int) -> int:
        traffic.remember((at, {series: Counts(started=1, answered=1)}), 300.0)
        return traffic.recent(0.0)["default", "treatment"].answered

    assert [settle(at) for at in (1000, 1100, 1005, 1200, 1105, 1300)] == [1, 2, 3, 4, 5, 6]
