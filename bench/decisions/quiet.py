"""Rows in which nobody is to be rolled back: whatever treatment does, control does as well, or it may."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from bench.decisions.report import Line, false_rollbacks
from bench.decisions.simulation import ALL_LIMITS, Behaviour, Simulation, same
from gateway.core.evidence.assessment import Parameters, Verdict
from gateway.core.evidence.gathering import Limits
from gateway.model.safety import Unit
from gateway.model.snapshot import Arm
from gateway.model.ticks import FIRST_SECONDS, Counts, Series

DAY = 86_400.0
SLOW = Behaviour(median=1.0)


class Runs(Protocol):
    """Which runs of a row are to be done: so many by default, or as many as are `asked` for a false alarm
    of the row's probability to show; None where no number is asked for."""

    def __call__(self, default: int, asked: int | None = None) -> range: ...


def _rolls_back(
    simulation: Simulation, behave: Callable[[float], Behaviour], until: float, tick: float
) -> bool:
    """Both arms behave alike, as a function of the time."""
    while simulation.now < until:
        both = behave(simulation.now)
        if simulation.serve(both, both, tick) is Verdict.ROLL_BACK:
            return True
    return False


def _steady(errors: float) -> Callable[[float], Behaviour]:
    return lambda _: Behaviour(errors=errors)


def at_the_limit(runs: Runs) -> Iterator[Line]:
    """Row 1."""
    ended, alone = [], []
    for seed in runs(120, asked=2000):
        simulation = Simulation(
            np.random.default_rng([1, seed]), 0.01, parameters=Parameters(alpha=0.01, minimum_failures=1)
        )
        ended.append(_rolls_back(simulation, _steady(0.02), 30 * DAY, 600))
        alone.append(simulation.strongest >= 100)
    note = f"; one guardrail alone at 100 in {sum(alone)}"
    yield false_rollbacks("1", "30 days at the limit, T = C, α = .01, ticks of 10 min", ended, 0.01, note)


def equal_arms(runs: Runs) -> Iterator[Line]:
    """Row 2."""
    for errors in (0.005, 0.01):
        for rate in (1, 10, 100):
            ended = [
                _rolls_back(
                    Simulation(np.random.default_rng([2, rate, seed]), 0.01, rate),
                    _steady(errors),
                    DAY,
                    60,
                )
                for seed in runs(60, asked=500)
            ]
            yield false_rollbacks("2", f"A/A, p = {errors}, 24 h, {rate}/s, ticks of 60 s", ended, 1 / 500)


def _outages(at: float) -> Behaviour:
    if any(begin <= at < begin + 60 for begin in (600, 1200, 1800)):
        return Behaviour(errors=1.0)
    return Behaviour(errors=0.3 if 2400 <= at < 3000 else 0.005)


def shared_outages(runs: Runs) -> Iterator[Line]:
    """Row 3."""
    for share in (0.01, 0.1, 0.5, 1.0):
        ended = [
            _rolls_back(Simulation(np.random.default_rng([3, seed]), share), _outages, 3600, 5.0)
            for seed in runs(40, asked=1000)
        ]
        what = f"three outages of 60 s and 10 min of .3 in both arms, w = {share}, 1 h, ticks of 5 s"
        yield false_rollbacks("3", what, ended, 2 / 1000)


def _diurnal(at: float) -> Behaviour:
    """From .002 to .05 and back in a day: beyond the limit of .02 half of the time."""
    return Behaviour(errors=0.01 * math.exp(1.61 * math.sin(2 * math.pi * at / DAY)))


def shared_drift_of_errors(runs: Runs) -> Iterator[Line]:
    """Row 4."""
    ended = [
        _rolls_back(Simulation(np.random.default_rng([4, seed]), 0.1), _diurnal, 2 * DAY, 60)
        for seed in runs(100, asked=500)
    ]
    yield false_rollbacks(
        "4", "rates from .002 to .05 over the day in both arms, w = .1, 48 h", ended, 1 / 500
    )


class StickyClients:
    """Users that come again and again, some of whom always fail; each stays in his arm."""

    USERS = 2000
    SHARE, FAILING = 0.1, 0.003

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._treated = rng.random(self.USERS) < self.SHARE
        self._fails = rng.random(self.USERS) < self.FAILING
        self._begins = rng.random(self.USERS)
        self._marked = np.full(self.USERS, -math.inf)

    def firsts(self, at: float, requests: int) -> dict[Series, Counts]:
        """Of so many requests those that are their users' first in ten minutes, each user's own."""
        users = np.unique(self._rng.integers(0, self.USERS, requests))
        periods = np.floor(at / FIRST_SECONDS - self._begins[users])
        is_first = periods > self._marked[users]
        self._marked[users] = periods
        present = users[is_first]
        counts = {}
        for arm, mine in ((Arm.TREATMENT, self._treated[present]), (Arm.CONTROL, ~self._treated[present])):
            here = present[mine]
            if number := len(here):
                errors = int(self._fails[here].sum() + self._rng.binomial(number, 0.002))
                series = Series(1, "default", arm.label, "", "", first=True)
                counts[series] = Counts(number, number, min(errors, number), ended=number)
        return counts


def sticky_failing_clients(runs: Runs) -> Iterator[Line]:
    """Row 5."""
    ended = []
    for seed in runs(60, asked=300):
        rng = np.random.default_rng([5, seed])
        clients = StickyClients(rng)
        simulation = Simulation(rng, clients.SHARE, unit=Unit.USER)
        verdicts = set()
        for tick in range(2880):
            simulation.take(clients.firsts(tick * 30.0, 300), 30.0)
            verdicts.add(simulation.look(30.0))
        ended.append(Verdict.ROLL_BACK in verdicts)
    what = ".3 % of 2000 sticky clients always fail, w = .1, unit user, 24 h, ticks of 30 s"
    yield false_rollbacks("5", what, ended, 1 / 300)


def equal_latency(runs: Runs) -> Iterator[Line]:
    """Row 11."""
    limits = Limits(None, 0.15, None)
    for seed, times, moved, what in (
        ((11,), 1.0, _steadily, "latency ×1.0 under a limit of .15"),
        ((11,), 1.1, _steadily, "latency ×1.1 under a limit of .15"),
        ((11, 2), 1.0, _drifting, "latency drifts by ×4 over the day in both arms"),
        ((11, 3), 1.1, _jumping, "latency ×1.1, and jumps by ×10 and back in both arms, every 15 min"),
    ):
        ended = [
            _slow(np.random.default_rng([*seed, run]), limits, times, moved) for run in runs(40, asked=400)
        ]
        yield false_rollbacks("11", f"{what}, w = .1, 1/s, 24 h, ticks of 60 s", ended, 0)


def _steadily(_: float) -> float:
    return 1.0


def _drifting(at: float) -> float:
    return 2 ** math.sin(2 * math.pi * at / DAY)


def _jumping(at: float) -> float:
    return 10.0 if at % 1800 < 900 else 1.0


def _slow(rng: np.random.Generator, limits: Limits, times: float, moved: Callable[[float], float]) -> bool:
    """Control is as many times as slow as `moved` says of the time, treatment so many `times` more."""
    simulation = Simulation(rng, 0.1, 1.0, limits)
    simulation.warm_up(SLOW)
    while simulation.now < DAY:
        control = same(SLOW, moved(simulation.now))
        if simulation.serve(same(control, times), control, 60) is Verdict.ROLL_BACK:
            return True
    return False


def everything_at_once(runs: Runs) -> Iterator[Line]:
    """Row 2 with every guardrail in use."""
    both = Behaviour(errors=0.01, client_errors=0.03, truncations=0.005, median=1.0)
    ended = []
    for seed in runs(40, asked=500):
        simulation = Simulation(np.random.default_rng([21, seed]), 0.1, 1.0, ALL_LIMITS)
        simulation.warm_up(both)
        ended.append(_rolls_back(simulation, lambda _: both, DAY, 60))
    yield false_rollbacks("2", "A/A with all guardrails, w = .1, 1/s, 24 h, ticks of 60 s", ended, 1 / 500)
