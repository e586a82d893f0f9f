"""Rows about the machinery: slow heads, many workers, expectations by enumeration, cost."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bench.decisions.quiet import DAY, Runs
from bench.decisions.report import Line, false_rollbacks
from bench.decisions.simulation import ALL_LIMITS, LIMITS, ROUTE, Behaviour, Simulation
from gateway.core.evidence.assessment import Parameters, Verdict, assess
from gateway.core.evidence.capital import GRID
from gateway.core.evidence.gathering import Look, fold
from gateway.core.evidence.odds import against_control
from gateway.core.evidence.state import begin, expose
from gateway.core.folding import Fold
from gateway.model.observation import Histogram, Observation, SeriesReport, TickReport, TickReports
from gateway.model.safety import Unit
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series, pack

SERIES = tuple(Series(1, ROUTE, arm.label, "", "") for arm in Arm)
_NUMBERED = tuple(SeriesReport(number, series) for number, series in enumerate(SERIES))
_NOTHING = Histogram((), 0.0)
COST_RUNS, COST_TICKS = 5, 60


def observation(pid: int, through: int, ticks: Mapping[int, Sequence[Counts]]) -> Observation:
    """A worker's report; the counts of a tick are by arm."""
    reports = tuple(
        TickReport(at, " ".join(pack(arm, one) for arm, one in enumerate(counts)))
        for at, counts in ticks.items()
    )
    return Observation(
        incarnation=str(pid),
        pid=pid,
        snapshot=1,
        started_at=0.0,
        routes=(),
        overhead=_NOTHING,
        inflight=(0, 0),
        failovers=(),
        endpoints=(),
        connections=0,
        records_dropped=0,
        ticks=TickReports(through, _NUMBERED, reports, heads=reports, heads_through=through),
    )


def slow_successes(runs: Runs) -> Iterator[Line]:
    """Row 12b: failures are known at once, successes after a minute; nobody is judged by the first to end."""
    ended = [_slow_successes(np.random.default_rng([12, 2, seed])) for seed in runs(10)]
    what = "successes after 60 s, failures at once, p = .01 in both arms, w = .01, 24 h, ticks of 30 s"
    yield false_rollbacks("12b", what, ended, 0)


def _slow_successes(rng: np.random.Generator) -> bool:
    tick = 30_000
    folded, state = Fold(), expose(begin(1, 0, 0), 1, {ROUTE: 0.01})
    ticks: dict[int, list[Counts]] = {}
    for now in range(0, round(DAY * 1000), tick):
        ticks = {
            at: [_aged(one, now - at) for one in counts] for at, counts in ticks.items() if now - at < 200_000
        }
        requests = int(rng.poisson(300))
        treated = int(rng.binomial(requests, 0.01))
        ticks[now] = [_young(rng, requests - treated), _young(rng, treated)]
        folded.take([observation(1, now, ticks)], [1])
        progress = folded.advance(now, 130_000, 300_000)
        look = Look(progress.closed, progress.settled, (), folded.reported_to, tick)
        state = fold(state, look, LIMITS, Unit.REQUEST)
        if assess(state, LIMITS, Parameters(), now=now).verdict is Verdict.ROLL_BACK:
            return True
    return False


def _young(rng: np.random.Generator, requests: int) -> Counts:
    errors = int(rng.binomial(requests, 0.01)) if requests else 0
    return Counts(started=requests, answered=errors, errors=errors, ended=errors)


def _aged(counts: Counts, age: int) -> Counts:
    if age < 60_000:
        return counts
    return Counts(counts.started, counts.started, counts.errors, ended=counts.started)


def split_over_workers(runs: Runs) -> Iterator[Line]:
    """Row 16: the same requests, served by one worker or by many."""
    values = {workers: _split(workers) for workers in (1, 4, 16)}
    first = values[1]
    most = max(abs(value - first) / first for value in values.values())
    shown = ", ".join(f"{workers}: {value:.9g}" for workers, value in values.items())
    yield Line("16", "one stream over 1, 4, 16 workers", 1, "E equal to 1e-9", shown, most <= 1e-9)


def _split(workers: int) -> float:
    drawing, dealing = np.random.default_rng(16), np.random.default_rng(workers)
    folded, state = Fold(), expose(begin(1, 0, 0), 1, {ROUTE: 0.1})
    ticks: list[dict[int, list[Counts]]] = [{} for _ in range(workers)]
    for now in range(0, 600_000, 1000):
        requests = int(drawing.poisson(50))
        treated = drawing.random(requests) < 0.1
        failed = drawing.random(requests) < np.where(treated, 0.03, 0.01)
        worker_of = dealing.integers(0, workers, requests)
        for worker, held in enumerate(ticks):
            mine = worker_of == worker
            held[now] = [_over(failed[mine & ~treated]), _over(failed[mine & treated])]
        reports = [observation(worker, now + 1000, held) for worker, held in enumerate(ticks)]
        behind = True
        while behind:  # reports are taken in by portions
            folded.take(reports, range(workers))
            progress = folded.advance(now + 1000, 60_000, 60_000)
            state = fold(state, Look(progress.closed, progress.settled), LIMITS, Unit.REQUEST)
            behind = folded.behind
        for held in ticks:
            for at in [at for at in held if at < now - 10_000]:
                del held[at]
    return assess(state, LIMITS, Parameters(), now=600_000).value


def _over(failed: np.ndarray) -> Counts:
    number = len(failed)
    return Counts(started=number, answered=number, errors=int(failed.sum()), ended=number)


def expectations(runs: Runs) -> Iterator[Line]:
    """Row 17: under the hypothesis a likelihood ratio is 1 on average, over all tables with these sums."""
    for n, m, bad in ((1, 59, 1), (60, 5940, 30), (30, 30, 12)):
        everything = math.comb(n + m, bad)
        averages = [0.0] * len(GRID)
        for x in range(max(0, bad - m), min(n, bad) + 1):
            chance = math.comb(n, x) * math.comb(m, bad - x) / everything
            for k, ratio in enumerate(against_control(n, x, m, bad - x)):
                averages[k] += chance * math.exp(ratio)
        error = max(abs(average - 1.0) for average in averages)
        yield Line(
            "17",
            f"E[L] over all tables, n, m, S = {n}, {m}, {bad}",
            1,
            "1 to 1e-9",
            f"{error:.1e}",
            error <= 1e-9,
        )


def cost(runs: Runs) -> Iterator[Line]:
    """Row 18: processor time of a tick, folded and judged, with every guardrail in use."""
    for share, rate in ((0.01, 100), (0.5, 100), (0.1, 2000)):
        # Whoever else uses the caches adds to it, and nobody takes anything away.
        spent = min(_milliseconds_a_tick(share, rate) for _ in range(COST_RUNS))
        what = f"all guardrails, {rate}/s, w = {share}, the least of {COST_RUNS} runs of {COST_TICKS} ticks"
        yield Line("18", what, COST_RUNS, "≤ 2 ms per tick", f"{spent:.2f} ms", spent <= 2.0)


def _milliseconds_a_tick(share: float, rate: int) -> float:
    busy = Behaviour(errors=0.01, client_errors=0.03, truncations=0.005, median=1.0)
    simulation = Simulation(np.random.default_rng(18), share, rate, ALL_LIMITS)
    simulation.warm_up(busy, 6)
    looks = []
    for _ in range(COST_TICKS):
        requests = int(simulation.rng.poisson(rate))
        treated = int(simulation.rng.binomial(requests, share))
        arms = busy.counts(simulation.rng, requests - treated), busy.counts(simulation.rng, treated)
        looks.append(dict(zip(SERIES, arms, strict=True)))
    begun = time.process_time()
    for counts in looks:
        simulation.take(counts, 1.0)
        simulation.look()
    return (time.process_time() - begun) / COST_TICKS * 1000
