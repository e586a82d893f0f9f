"""The rule without evidence, for comparison: `decision: threshold`, a limit on the last five minutes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.decisions.quiet import DAY, Runs
from bench.decisions.report import Line
from bench.decisions.simulation import LIMITS, ROUTE, Behaviour
from gateway.control.monitoring.thresholds import Window, breach
from gateway.core.folding import Progress, Tick
from gateway.core.limits import RollbackLimit
from gateway.model.metrics import Metric
from gateway.model.snapshot import Arm
from gateway.model.ticks import Series

TICK = 10
MINIMUM_SAMPLES = 100
"""The default of `rollback.minimum_samples`."""
_TREATMENT = Series(1, ROUTE, Arm.TREATMENT.label, "", "")
_LIMITS = {Metric.ERROR_RATE: RollbackLimit(Metric.ERROR_RATE, LIMITS.error_rate or 0.0, "")}


def thresholds(runs: Runs) -> Iterator[Line]:
    """Row T: healthy and broken treatments under the plain rule, at 1 % of the traffic."""
    for rate in (1, 10, 100):
        for errors in (0.005, 1.0):
            found = [_requests(np.random.default_rng([100, rate, seed]), rate, errors) for seed in runs(20)]
            ended = [one for one in found if one is not None]
            shown = f"{len(ended)} of {len(found)} rolled back"
            if ended:
                shown += f", half of them within {np.median(ended):.0f} requests to treatment"
            what = f"threshold on 5 min, {rate}/s, w = .01, p = {errors}, 24 h, ticks of {TICK} s"
            yield Line("T", what, len(found), "", shown, None)


def _requests(rng: np.random.Generator, rate: float, errors: float) -> int | None:
    """Treatment's requests until a rollback, None without one in a day."""
    window, behaviour, requests = Window(300.0), Behaviour(errors=errors), 0
    for at in range(0, round(DAY), TICK):
        treated = int(rng.poisson(rate * TICK * 0.01))
        requests += treated
        tick = Tick(at * 1000, {_TREATMENT: behaviour.counts(rng, treated)})
        window.add(Progress((tick,), (tick,), (tick,)))
        if treated and breach(window, _LIMITS, MINIMUM_SAMPLES):
            return requests
    return None
