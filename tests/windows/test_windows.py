"""What gates judge by survives whatever the control process dies of, and is about the right traffic."""

from __future__ import annotations

import json
import math
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.control.monitoring.thresholds import Reading, Window
from gateway.control.store.api import Tick as Row
from gateway.control.store.sqlite import STORE_FILE, SqliteStore
from gateway.control.traffic import ArmMetrics
from gateway.control.windows import Standing, Windows
from gateway.core.folding import Progress
from gateway.core.judging import judge
from gateway.model.codec import decode, encode
from gateway.model.gates import (
    Contrast,
    Evidence,
    Exceedance,
    MetricsThreshold,
    OnNoData,
    Proportion,
    Threshold,
    Verdict,
)
from gateway.model.metrics import Metric
from gateway.model.observation import Observation, Outcome
from gateway.model.snapshot import Arm
from gateway.model.units import Comparison, Operator
from tests.support.counting import SNAPSHOT, Clock, CountingWorker, response

RETENTION = 90 * 86_400.0
TREATMENT, CONTROL = Arm.TREATMENT, Arm.CONTROL
GATE = MetricsThreshold(
    id="gate",
    thresholds=(
        Threshold("error_rate", Comparison(Operator.LESS, 0.01)),
        Threshold("performance_degradation", Comparison(Operator.LESS, 0.1)),
        Threshold("response_time", Comparison(Operator.LESS, 5.0)),
    ),
    window=3600.0,
    minimum_samples=300,
    on_no_data=OnNoData.HOLD,
    confidence=0.95,
)


class Gateway:
    """A worker, a store, and one control process after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.kept: bytes | None = None
        self.workers = [CountingWorker(self.clock, 1)]
        self.snapshot = SNAPSHOT
        self.reports: dict[str, Observation] = {}

    @property
    def worker(self) -> CountingWorker:
        return self.workers[-1]

    def keep(self, data: bytes) -> None:
        self.kept = data

    async def start(self, phase: str = "canary", epoch: int = 1) -> None:
        """A control process begins."""
        self.store = await SqliteStore.open(self.path, RETENTION, now=self.clock.wall)
        self.windows = await Windows.restore(
            self.store, self.kept, self.keep, retention=RETENTION, now=self.clock.wall, monotonic=self.clock
        )
        self.standing = phase, epoch
        self.windows.resume(lambda: Standing(*self.standing, self.snapshot))

    async def die(self) -> None:
        """The control process is gone, without another word."""
        await self.store.close()

    def begin(self, phase: str, epoch: int, **changes: object) -> None:
        """A new snapshot is published, and the windows begin afresh."""
        self.publish(**changes)
        self.standing = phase, epoch
        self.windows.restart_evidence()

    def publish(self, **changes: object) -> None:
        """A newer snapshot reaches the workers."""
        self.snapshot = replace(self.snapshot, version=self.snapshot.version + 1, **changes)  # type: ignore[arg-type]
        for worker in self.workers:
            worker.follow(self.snapshot)

    def replace_worker(self) -> None:
        """The worker dies, and another takes its place."""
        self.workers = [CountingWorker(self.clock, self.worker.pid + 1, self.snapshot)]

    def later(self, seconds: float) -> None:
        """Let time pass, one report and one look a second."""
        for _ in range(math.ceil(seconds)):
            self.clock.at += seconds / math.ceil(seconds)
            for worker in self.workers:
                report = worker.report()
                self.reports[report.incarnation] = decode(Observation, encode(report))
            self.look()

    def look(self) -> Progress:
        """What the monitor does, without its judgement."""
        progress = self.windows.take(self.reports.values(), [worker.pid for worker in self.workers])
        if round(self.clock.at) % 7 == 0:
            self.windows.flush()
        return progress

    def evidence(self) -> Evidence:
        return self.windows.evidence(GATE)

    def errors(self) -> Proportion:
        sample = self.evidence().samples["error_rate"]
        assert isinstance(sample, Proportion)
        return sample

    def metrics(self) -> dict[str, tuple[int, int]]:
        """Requests and errors of treatment, by phase and epoch."""
        return {
            f"{stay.phase}.{stay.epoch}": (
                stay.arms["treatment"].requests,
                stay.arms["treatment"].errors,
            )
            for stay in self.windows.phases()
        }


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose first control process runs."""
    running = Gateway(tmp_path / STORE_FILE)
    await running.start()
    yield running
    await running.store.close()


async def test_evidence_is_treatment_s_settled_traffic(gateway: Gateway) -> None:
    """Bad heads and cut streams are errors; a request that is open is nothing yet."""
    gateway.worker.serve(TREATMENT, 97)
    gateway.worker.serve(TREATMENT, 2, status=500)
    gateway.worker.serve(CONTROL, 50, status=500)
    cut = gateway.worker.start(TREATMENT)
    cut.answer(response(), False)
    gateway.later(4)
    assert gateway.evidence().requests == 0
    cut.end(response(), Outcome.TRUNCATED, False, 4.0, 0.05)
    gateway.later(1)
    assert gateway.errors() == Proportion(100, 3)
    assert gateway.evidence().requests == 100


async def test_client_errors_are_no_errors_of_an_arm(gateway: Gateway) -> None:
    """They are counted beside, and their speed says nothing."""
    gateway.worker.serve(TREATMENT, 3, status=404)
    gateway.worker.serve(TREATMENT, 1, status=429)
    gateway.later(4)
    assert gateway.errors() == Proportion(4, 1)
    metrics = gateway.windows.phases()[-1].arms["treatment"]
    assert (metrics.client_errors, metrics.errors, metrics.mean) == (3, 1, None)


@pytest.mark.slow
async def test_latencies_are_compared_in_strata_of_both_arms(gateway: Gateway) -> None:
    """A treatment 30 % slower, whatever the hour does to both: the judgement finds it."""
    rng = random.Random(7)
    for minute in range(45):
        hour = 0.1 * (1 + minute / 10)
        for _ in range(40):
            gateway.worker.serve(CONTROL, seconds=hour * rng.lognormvariate(0, 0.3))
            gateway.worker.serve(TREATMENT, seconds=1.3 * hour * rng.lognormvariate(0, 0.3))
        gateway.later(60)
    sample = gateway.evidence().samples["performance_degradation"]
    assert isinstance(sample, Contrast)
    assert len(sample.strata) in (5, 6)
    assert sum(stratum.treatment_count for stratum in sample.strata) == 45 * 40
    judgement = judge(GATE, 1, gateway.evidence(), epoch=1, window=3600.0, at=0.0)
    verdicts = {finding.metric: finding.verdict for finding in judgement.findings}
    values = {finding.metric: finding.value for finding in judgement.findings}
    assert verdicts == {
        "error_rate": Verdict.PASS,
        "performance_degradation": Verdict.FAIL,
        "response_time": Verdict.PASS,
    }
    assert values["performance_degradation"] == pytest.approx(0.3, abs=0.03)


async def test_strata_state_the_moments_of_log_latency(gateway: Gateway) -> None:
    """Means and variances from buckets are those of the latencies themselves."""
    rng = random.Random(1)
    latencies = [rng.lognormvariate(-1, 0.5) for _ in range(400)]
    for seconds in latencies:
        gateway.worker.serve(TREATMENT, seconds=seconds)
        gateway.worker.serve(CONTROL, seconds=2 * seconds)
    gateway.later(4)
    sample = gateway.evidence().samples["performance_degradation"]
    assert isinstance(sample, Contrast)
    (stratum,) = sample.strata
    logs = [math.log(seconds) for seconds in latencies]
    mean = sum(logs) / 400
    variance = sum((value - mean) ** 2 for value in logs) / 399
    assert stratum.treatment_mean == pytest.approx(mean, abs=0.001)
    assert stratum.control_mean - stratum.treatment_mean == pytest.approx(math.log(2), abs=0.001)
    assert stratum.treatment_variance == pytest.approx(variance, rel=0.01)


async def test_response_time_counts_what_exceeds_the_limit(gateway: Gateway) -> None:
    """The p90 for people, the number beyond the limit for the judgement."""
    gateway.worker.serve(TREATMENT, 95, seconds=1.0)
    gateway.worker.serve(TREATMENT, 5, seconds=6.0)
    gateway.later(4)
    sample = gateway.evidence().samples["response_time"]
    assert isinstance(sample, Exceedance)
    assert (sample.trials, sample.beyond, sample.share) == (100, 5, 0.1)
    assert sample.quantile == pytest.approx(1.0, rel=0.003)


async def test_without_control_there_is_nothing_to_compare_with(gateway: Gateway) -> None:
    """At 100 % the contrast has no stratum: inconclusive, not a pass."""
    gateway.worker.serve(TREATMENT, 500)
    gateway.later(4)
    judgement = judge(GATE, 1, gateway.evidence(), epoch=1, window=3600.0, at=0.0)
    assert judgement.findings[1].verdict is Verdict.INCONCLUSIVE


async def test_a_new_window_has_only_requests_of_its_own_snapshot(gateway: Gateway) -> None:
    """What was decided before counts for the window before, though it ends long after."""
    slow = gateway.worker.start(TREATMENT)
    gateway.worker.serve(TREATMENT, 5)
    gateway.worker.serve(CONTROL, 5)
    gateway.begin("limited_production", 2)
    gateway.worker.serve(TREATMENT, 3)
    gateway.later(2)
    slow.answer(response(503), False)
    slow.end(response(503), Outcome.UPSTREAM_ERROR, False, 2.0, 0.05)
    gateway.later(4)
    assert gateway.errors() == Proportion(3, 0)
    assert gateway.evidence().samples["performance_degradation"] == Contrast(())
    assert gateway.metrics() == {"canary.1": (6, 1), "limited_production.2": (3, 0)}


async def test_windows_that_begin_without_a_new_snapshot_begin_with_the_next_tick(gateway: Gateway) -> None:
    """There is nothing else to tell requests apart by."""
    gateway.worker.serve(TREATMENT, 5)
    gateway.standing = "canary", 2
    gateway.windows.restart_windows()
    gateway.later(2)
    gateway.worker.serve(TREATMENT, 2)
    gateway.later(4)
    assert gateway.errors() == Proportion(2, 0)


async def test_a_publication_in_between_keeps_the_window(gateway: Gateway) -> None:
    """A reload that changes nothing of the share goes on counting."""
    gateway.worker.serve(TREATMENT, 5)
    gateway.later(3)
    gateway.publish(feature_flags=("other",))
    gateway.worker.serve(TREATMENT, 2)
    gateway.later(4)
    assert gateway.errors() == Proportion(7, 0)


async def test_shorter_limits_hold_for_what_begins_under_them(gateway: Gateway) -> None:
    """A request that may take two minutes counts when it fails, though five seconds are in force by then."""
    patient, brief = (
        tuple(replace(one, timeouts=replace(one.timeouts, first_byte=seconds)) for one in SNAPSHOT.upstreams)
        for seconds in (120.0, 5.0)
    )
    gateway.publish(upstreams=patient, settle=120.0)
    tally = gateway.worker.start(TREATMENT)
    gateway.later(2)
    gateway.publish(upstreams=brief, settle=5.0)
    gateway.later(100)
    tally.answer(response(504), False)
    tally.end(response(504), Outcome.UPSTREAM_ERROR, False, 102.0, 102.0)
    gateway.later(2)
    assert gateway.errors() == Proportion(1, 1)


async def test_windows_that_begin_afresh_in_the_same_stay_keep_the_phase_s_metrics(gateway: Gateway) -> None:
    """A changed share restarts the gates' windows; the phase's own numbers go on."""
    gateway.worker.serve(TREATMENT, 5)
    gateway.worker.serve(CONTROL, 5)
    gateway.later(4)
    gateway.begin("canary", 1)
    gateway.worker.serve(TREATMENT, 2, status=500)
    gateway.later(4)
    assert gateway.errors() == Proportion(2, 2)
    assert gateway.evidence().samples["performance_degradation"] == Contrast(())
    assert gateway.metrics() == {"canary.1": (7, 2)}


@pytest.mark.parametrize("second", range(0, 40, 3))
async def test_a_control_process_that_dies_at_any_time_loses_and_doubles_nothing(
    gateway: Gateway, second: int
) -> None:
    """What the store has not, the workers still have."""
    stream = gateway.worker.start(CONTROL)
    stream.answer(response(), False)
    for now in range(40):
        gateway.worker.serve(TREATMENT, 2)
        gateway.worker.serve(TREATMENT, 1, status=500)
        gateway.later(1)
        if now == 25:
            stream.end(response(), Outcome.OK, False, 25.0, 0.05)
        if now == second:
            await gateway.die()
            gateway.clock.at += 2.7
            await gateway.start()
    gateway.later(5)
    assert gateway.errors() == Proportion(120, 40)
    assert gateway.metrics() == {"canary.1": (120, 40)}
    course = gateway.windows.series(0, 600)
    assert sum(point.arms["treatment"].requests for point in course) == 120
    contrast = gateway.evidence().samples["performance_degradation"]
    assert isinstance(contrast, Contrast)


@pytest.mark.parametrize("second", range(0, 40, 3))
async def test_the_plain_rule_s_window_goes_on_over_a_restart(gateway: Gateway, second: int) -> None:
    """What is settled comes from the store, and the rest from the workers again: each request once."""
    window = Window(300.0)
    for now in range(42):
        if now < 40:
            gateway.worker.serve(TREATMENT, 2)
            gateway.worker.serve(TREATMENT, 1, status=500)
            gateway.worker.serve(CONTROL, 3)
        gateway.clock.at += 1
        report = gateway.worker.report()
        gateway.reports[report.incarnation] = report
        window.add(gateway.look())
        if now == second:
            await gateway.die()
            await gateway.start()
            window = Window(300.0)
            window.restore(gateway.windows.restored, 0, round(gateway.clock.offset * 1000))
    readings = {reading.metric: reading for reading in window.readings()}
    assert readings[Metric.ERROR_RATE] == Reading(Metric.ERROR_RATE, 40 / 120, 120)
    assert readings[Metric.PERFORMANCE_DEGRADATION].samples == 80


async def test_a_worker_that_died_before_the_control_process_still_counts(gateway: Gateway) -> None:
    """The ledger holds its last report, and hands it on."""
    gateway.worker.serve(TREATMENT, 4)
    gateway.later(1)
    gateway.replace_worker()
    await gateway.die()
    await gateway.start()
    gateway.worker.serve(TREATMENT, 3)
    gateway.later(5)
    assert gateway.errors() == Proportion(7, 0)


async def test_a_stopped_gateway_goes_on_with_what_it_had(gateway: Gateway) -> None:
    """New workers, a new clock, the same stay in the phase: window, strata and metrics go on."""
    gateway.worker.serve(TREATMENT, 40, status=500)
    gateway.worker.serve(TREATMENT, 60, seconds=0.2)
    gateway.worker.serve(CONTROL, 60, seconds=0.1)
    gateway.worker.start(TREATMENT).answer(response(), False)
    gateway.later(3)
    assert gateway.errors() == Proportion(0, 0), "a stream is open"
    gateway.windows.close()
    await gateway.die()
    gateway.kept, gateway.reports = None, {}
    gateway.clock.at, gateway.clock.offset = 50.0, gateway.clock.wall() + 2.0 - 50.0
    gateway.snapshot = SNAPSHOT
    gateway.workers = [CountingWorker(gateway.clock, 9)]
    await gateway.start()
    gateway.worker.serve(TREATMENT, 10, seconds=0.2)
    gateway.worker.serve(CONTROL, 10, seconds=0.1)
    gateway.later(5)
    assert gateway.errors() == Proportion(111, 40)
    contrast = gateway.evidence().samples["performance_degradation"]
    assert isinstance(contrast, Contrast)
    assert sum(stratum.control_count for stratum in contrast.strata) == 70
    (stay,) = gateway.windows.phases()
    assert stay.arms["control"].p90 == pytest.approx(0.1, rel=0.011)
    assert stay.arms["treatment"].p50 == pytest.approx(0.2, rel=0.011)

    gateway.later(15)
    await gateway.die()
    await gateway.start()
    gateway.later(5)
    assert gateway.errors() == Proportion(111, 40), "control died alone after that"
    contrast = gateway.evidence().samples["performance_degradation"]
    assert isinstance(contrast, Contrast)
    assert sum(stratum.control_count for stratum in contrast.strata) == 70


@pytest.mark.parametrize("step", [-3600.0, 0.0, 4.0, 3600.0])
async def test_a_step_of_the_wall_clock_while_control_is_away_changes_nothing(
    gateway: Gateway, step: float
) -> None:
    """Ticks are of the monotonic clock; what was stored is not counted again."""
    for _ in range(25):
        gateway.worker.serve(TREATMENT, 2)
        gateway.later(1)
    await gateway.die()
    gateway.clock.offset += step
    await gateway.start()
    gateway.worker.serve(TREATMENT, 2)
    gateway.later(5)
    assert gateway.errors() == Proportion(52, 0)


async def test_a_stopped_gateway_that_moved_on_begins_afresh(gateway: Gateway) -> None:
    """The rollout's state says another epoch: the windows of the old one are over."""
    gateway.worker.serve(TREATMENT, 5)
    gateway.later(12)
    await gateway.die()
    await gateway.start("development", 2)
    assert gateway.evidence().requests == 0
    assert gateway.metrics() == {"canary.1": (5, 0), "development.2": (0, 0)}


async def test_phases_are_remembered_with_latencies_of_both_arms(gateway: Gateway) -> None:
    """After the phase ended, after restarts, and after the store merged its ticks."""
    for seconds in (0.1, 0.2, 0.3, 0.4, 5.0):
        gateway.worker.serve(TREATMENT, 20, seconds=seconds)
    gateway.worker.serve(CONTROL, 10, status=500)
    gateway.later(15)
    gateway.begin("limited_production", 2)
    gateway.later(15)
    await gateway.die()
    gateway.clock.at += 5 * 86_400
    await gateway.start("limited_production", 2)
    await gateway.store.prune(gateway.clock.wall())
    await gateway.die()
    await gateway.start("limited_production", 2)
    canary, _ = gateway.windows.phases()
    assert (canary.phase, canary.epoch) == ("canary", 1)
    assert canary.since == pytest.approx(1000.0 + gateway.clock.offset)
    assert canary.arms["control"] == ArmMetrics(10, 10, 0, 0, 1.0, None, None, None, None)
    treatment = canary.arms["treatment"]
    assert (treatment.requests, treatment.error_rate) == (100, 0.0)
    assert treatment.mean == pytest.approx(1.2, rel=0.011)
    assert treatment.p50 == pytest.approx(0.3, rel=0.011)
    assert treatment.p90 == treatment.p99 == pytest.approx(5.0, rel=0.011)


async def test_a_phase_outlives_the_retention_of_its_beginning(gateway: Gateway) -> None:
    """Its totals are stored anew each day, and found after everything older is dropped."""
    for _ in range(4):
        gateway.worker.serve(TREATMENT, 5)
        gateway.later(15)
        gateway.clock.at += 86_400
        gateway.later(15)
    store = await SqliteStore.open(gateway.path, 2 * 86_400.0, now=gateway.clock.wall)
    await store.prune(gateway.clock.wall())
    await store.close()
    await gateway.die()
    gateway.kept = None
    await gateway.start()
    assert gateway.errors() == Proportion(20, 0)


async def test_the_recent_window_shows_what_is_open_too(gateway: Gateway) -> None:
    """For people: by route and arm, settled or not, and no older than asked for."""
    gateway.windows.look_back = 60.0
    gateway.worker.serve(TREATMENT, 7)
    gateway.later(80)
    gateway.worker.start(CONTROL)
    gateway.worker.serve(TREATMENT, 2, status=500)
    gateway.later(3)
    gateway.worker.serve(TREATMENT, 1)
    gateway.later(1)
    recent = gateway.windows.recent()
    treatment = recent["default", "treatment"]
    assert (treatment.answered, treatment.errors) == (3, 2)
    assert recent["default", "control"].started == 1


async def test_foreign_rows_do_not_stop_the_gateway(gateway: Gateway) -> None:
    """A store from elsewhere: counted afresh, and said so."""
    gateway.store.add_ticks([Row(int(gateway.clock.wall()), 10, json.dumps(["sums", 77, "x"]), {"a": 1})])
    await gateway.die()
    await gateway.start()
    gateway.worker.serve(TREATMENT, 2)
    gateway.later(4)
    assert gateway.errors() == Proportion(2, 0)


async def test_an_old_snapshot_s_stragglers_never_enter_the_first_window(tmp_path: Path) -> None:
    """Requests of a snapshot that was published before the windows ever began belong to none."""
    gateway = Gateway(tmp_path / STORE_FILE)
    gateway.worker.serve(TREATMENT, 5)
    gateway.publish()
    await gateway.start()
    gateway.worker.serve(TREATMENT, 1)
    gateway.later(4)
    assert gateway.errors() == Proportion(1, 0)
    await gateway.store.close()
