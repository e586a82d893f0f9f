"""Rows in which treatment breaks: how many of its requests it takes until that ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from bench.decisions.quiet import DAY, SLOW, Runs
from bench.decisions.report import Found, Line, detections, false_rollbacks
from bench.decisions.simulation import SPREAD, Behaviour, Simulation, same, until_rollback
from gateway.core.evidence.assessment import Verdict, assess
from gateway.core.evidence.gathering import Limits, Look, fold
from gateway.core.folding import Tick
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series, bucket_of

HEALTHY = Behaviour(errors=0.005)
HALF_A_DAY = DAY / 2
GRACE = 3.0
"""Seconds that a tick is late, where it is looked at late: as long as it is waited for a worker that died."""


def _rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _errors(seed: int, errors: float, *, late: bool, tick: float = 0.25, share: float = 0.01) -> Found | None:
    simulation = Simulation(_rng(6, seed), share)
    if late:
        while simulation.now < HALF_A_DAY:
            simulation.serve(HEALTHY, HEALTHY, 600)
    return until_rollback(simulation, Behaviour(errors=errors), HEALTHY, seconds=tick, most=DAY)


def errors(runs: Runs) -> Iterator[Line]:
    """Rows 6 to 9, but for full production, and 12."""
    early, late = "from phase start", "after 12 healthy hours"
    for row, rate, when, number, most, tick in (
        ("6", 1.0, early, 400, 8, 0.25),
        ("7", 1.0, late, 200, 9, 0.25),
        ("8", 0.2, early, 200, 100, 5.0),
        ("8", 0.2, late, 100, 160, 5.0),
        ("9", 0.05, early, 200, 1450, 10.0),
        ("9", 0.05, late, 100, 2200, 10.0),
    ):
        found = [_errors(seed, rate, late=when == late, tick=tick) for seed in runs(number)]
        yield detections(row, f"p = {rate} {when}, ticks of {tick:g} s", found, most, tick * 0.1)
    found = [_errors(seed, 1.0, late=False, share=0.5) for seed in runs(400)]
    yield detections("12", "p = 1 from phase start, w = .5, ticks of 0.25 s", found, 25, 5)


def _within_a_tick(seed: int, tick: float) -> Found | None:
    """A break at any moment of a tick, under 200 requests a second and a tenth of them on treatment.

    What failed, and the seconds from the break to the look that found it.
    """
    rng = _rng(7, 1, seed)
    simulation = Simulation(rng, 0.1, 200.0)
    while simulation.now < HALF_A_DAY:
        simulation.serve(HEALTHY, HEALTHY, 600)
    failures, broken, begun = simulation.treatment_failures, rng.random(), simulation.now
    verdict = simulation.serve(Behaviour(errors=broken), HEALTHY, tick)
    while verdict is not Verdict.ROLL_BACK and simulation.now - begun < 60:
        verdict = simulation.serve(Behaviour(errors=1.0), HEALTHY, tick)
    if verdict is not Verdict.ROLL_BACK:
        return None
    return simulation.treatment_failures - failures, simulation.now - begun - (1 - broken) * tick


def within_a_tick(runs: Runs) -> Iterator[Line]:
    """Row 7, where a tick has more requests than it takes to convict."""
    for tick, what in (
        (0.25, "heads by quarters of a tick of 1 s, as they are"),
        (1.0, "heads by whole ticks"),
    ):
        found = [_within_a_tick(seed, tick) for seed in runs(100)]
        most = 9 if tick < 1 else np.inf
        yield detections("7", f"p = 1 at any moment of a tick, 200/s, w = .1, {what}", found, most, 20)


def _after_sixty_days(seed: int, delay: float) -> Found | None:
    simulation = Simulation(_rng(7, seed), 1.0, delay=delay)
    while simulation.now < 60 * DAY:
        simulation.serve(HEALTHY, HEALTHY, 600)
    return until_rollback(simulation, Behaviour(errors=1.0), HEALTHY, seconds=1.0, most=600)


def full_production(runs: Runs) -> Iterator[Line]:
    """Row 7 and 12a: nobody is on control until a trial takes some back."""
    for delay, most in ((0.0, 60.0), (GRACE, np.inf)):
        found = [_after_sixty_days(seed, delay) for seed in runs(20)]
        what = f"p = 1 after 60 healthy days in full production, looked at {delay:.0f} s late"
        yield detections("7", what, found, most, 10)
    found = [
        until_rollback(
            Simulation(_rng(12, seed), 1.0, delay=GRACE),
            Behaviour(errors=1.0),
            HEALTHY,
            seconds=1.0,
            most=600,
        )
        for seed in runs(200)
    ]
    slowest = max(600.0 if one is None else one[1] for one in found)
    what = f"full production, p = 1, looked at {GRACE:.0f} s late"
    yield Line("12a", what, len(found), "within 15 s", f"slowest {slowest:.0f} s", slowest <= 15)
    ended = []
    for seed in runs(60):
        simulation = Simulation(_rng(12, 1, seed), 1.0, delay=GRACE)
        verdicts = set()
        while simulation.now < 1800:
            both = Behaviour(errors=1.0 if 300 <= simulation.now < 900 else 0.005)
            verdicts.add(simulation.serve(both, both))
        ended.append(Verdict.ROLL_BACK in verdicts)
    yield false_rollbacks("12a", "full production, 10 min of p = 1 in both arms, half an hour", ended, 0)


def _latency(seed: int, usual: Behaviour, times: float, *, late: bool, tick: float) -> Found | None:
    simulation = Simulation(_rng(10, seed), 0.01, limits=Limits(0.02, 0.15, None))
    simulation.warm_up(usual)
    while late and simulation.now < HALF_A_DAY:
        simulation.serve(usual, usual, 600)
    return until_rollback(simulation, same(usual, times), usual, seconds=tick, most=4 * DAY)


def latency(runs: Runs) -> Iterator[Line]:
    """Row 10, and how it depends on how widely latencies are spread."""
    early, late = "from phase start", "after 12 healthy hours"
    for times, when, number, most, tick in (
        (2.0, early, 100, 90, 2.0),
        (2.0, late, 40, 160, 2.0),
        (1.3, early, 40, 1650, 20.0),
    ):
        for spread, must in ((0.5, most), (SPREAD, most), (1.0, np.inf)):
            usual = replace(SLOW, spread=spread)
            found = [_latency(seed, usual, times, late=when == late, tick=tick) for seed in runs(number)]
            what = f"latency ×{times} {when}, σ(ln) = {spread}, ticks of {tick:.0f} s"
            yield detections("10", what, found, must, tick * 0.1)


def missing(runs: Runs) -> Iterator[Line]:
    """Row 12c, the first half."""
    usual = Behaviour(errors=0.005, client_errors=0.03)
    found = [
        until_rollback(
            Simulation(_rng(12, 3, seed), 0.01), Behaviour(client_errors=1.0), usual, seconds=1.0, most=DAY
        )
        for seed in runs(200)
    ]
    yield detections("12c", "treatment answers 404 to all, control to 3 %", found, np.inf, 0.1)


class Hanging:
    """Treatment answers nothing, and clients leave after half a minute; ticks are seen while they stand."""

    PATIENCE = 30
    TREATMENT = Series(1, "default", Arm.TREATMENT.label, "", "")
    CONTROL = Series(1, "default", Arm.CONTROL.label, "", "")

    def __init__(self, seed: int, slower: float) -> None:
        """Both arms are so many times as slow as they were, since a minute."""
        self.rng = _rng(12, 4, seed)
        self.simulation = Simulation(self.rng, 0.01, limits=Limits(0.02, 0.15, None))
        self.simulation.warm_up(SLOW)
        self.slower = slower
        while slower != 1.0 and self.simulation.now < 420:
            self.simulation.serve(same(SLOW, slower), same(SLOW, slower))
        self.ticks: list[tuple[int, int, np.ndarray]] = []
        """When a tick began, treatment's requests in it, control's latencies in seconds."""

    def requests_until_rollback(self, slow_from: float) -> int | None:
        """Treatment's requests older than so many seconds when the rollback comes."""
        simulation = self.simulation
        begun, now = round(simulation.now), round(simulation.now)
        while now - begun < 7200:
            treated = int(self.rng.poisson(0.1))
            control = self.slower * np.exp(SPREAD * self.rng.standard_normal(self.rng.poisson(9.9)))
            self.ticks = [*self.ticks[-60:], (now, treated, control)]
            now += 1
            look = Look(
                standing=tuple(self._standing(*tick, now) for tick in self.ticks), reported_to=now * 1000
            )
            simulation.state = fold(simulation.state, look, simulation.limits, simulation.unit)
            simulation.treatment_requests += treated
            found = assess(simulation.state, simulation.limits, simulation.parameters, now=now * 1000)
            if found.verdict is Verdict.ROLL_BACK:
                young = sum(tick[1] for tick in self.ticks if now - tick[0] < slow_from)
                return simulation.treatment_requests - young
        return None

    def _standing(self, at: int, treated: int, control: np.ndarray, now: int) -> Tick:
        age = now - at - 1
        over = control[control <= age]
        latencies: dict[int, int] = {}
        for bucket in map(bucket_of, over.tolist()):
            latencies[bucket] = latencies.get(bucket, 0) + 1
        gone = treated if age >= self.PATIENCE else 0
        return Tick(
            at * 1000,
            {
                self.TREATMENT: Counts(
                    treated, withdrawn=gone, ended=gone, left={bucket_of(self.PATIENCE): gone} if gone else {}
                ),
                self.CONTROL: Counts(len(control), len(control), ended=len(over), latencies=latencies),
            },
        )


def hanging(runs: Runs) -> Iterator[Line]:
    """Row 12c, the other half."""
    for slower, number, what in (
        (1.0, 100, "treatment hangs, clients leave after 30 s"),
        (6.0, 40, "the same, a minute after both arms became six times as slow"),
    ):
        slow_from = slower * float(np.exp(SPREAD * NormalDist().inv_cdf(0.9)))
        found = [Hanging(seed, slower).requests_until_rollback(slow_from) for seed in runs(number)]
        requests = [np.inf if one is None else one for one in found]
        high = np.percentile(requests, 95, method="higher")
        shown = f"95 % within {high:.0f} requests older than control's p90, at most {max(requests):.0f}"
        holds = max(requests) <= 30
        yield Line("12c", what, len(found), "≤ 30 requests older than control's p90", shown, holds)
