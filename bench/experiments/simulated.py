"""Rows 13 to 15: gates exactly, looks at equal and different groups, broken and sound splits."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from bench.decisions.report import Line
from gateway.core.judging import judge
from gateway.core.results import sequence
from gateway.core.results.assessment import Plan, SuccessMeasure, assess
from gateway.core.results.comparison import compare
from gateway.core.results.sample_ratio import Dealt, check
from gateway.core.results.tally import Arrivals, GroupTally, Summary, Tally
from gateway.core.results.verdict import Verdict
from gateway.model.experiment import Direction
from gateway.model.gates import Evidence, MetricsThreshold, OnNoData, Proportion, Threshold
from gateway.model.gates import Verdict as GateVerdict
from gateway.model.metrics import Metric
from gateway.model.units import Comparison, Operator

DAY = 86_400.0
LIMIT = Comparison(Operator.LESS, 0.01)
GATE = MetricsThreshold(
    id="canary.metrics",
    thresholds=(Threshold(Metric.ERROR_RATE, LIMIT),),
    minimum_samples=300,
    window=DAY,
    confidence=0.95,
    on_no_data=OnNoData.HOLD,
)
LOOKS = 8


def _passes(bad: int, trials: int, look: int) -> bool:
    evidence = Evidence(trials, {Metric.ERROR_RATE: Proportion(trials, bad)}, True)
    return judge(GATE, look, evidence, epoch=1, window=DAY, at=0.0).verdict is GateVerdict.PASS


def _most_that_pass(trials: int, look: int) -> int:
    def is_too_many(bad: int) -> bool:
        return not _passes(bad, trials, look)

    return bisect.bisect_left(range(trials // 20), True, key=is_too_many) - 1


def _passing(looks: int, rate: float, per_window: int) -> float:
    """How probably a treatment with that error rate passes at one of the looks, exactly."""
    passed, trials, undecided = 0.0, 0, np.ones(1)
    for look in range(1, looks + 1):
        more = per_window if look == 1 else per_window // 2
        trials += more
        counts = np.arange(more // 10)
        undecided = np.convolve(undecided, stats.binom.pmf(counts, more, rate))
        passing = _most_that_pass(trials, look) + 1
        passed += float(undecided[:passing].sum())
        undecided[:passing] = 0.0
    return passed


def gates(_: int) -> Iterator[Line]:
    """Row 13, without a random number."""
    for trials in (864, 8640):
        found = _passing(LOOKS, LIMIT.value, trials)
        what = f"gate at .01, true p = .01, {trials} requests a window, {LOOKS} looks"
        yield Line("13", what, 1, "passes ≤ 5 %", f"{found:.1%}", found <= 0.05)
    first = _passing(1, 0.002, 864)
    yield Line("13", "p = .002, 864 requests, first look", 1, "passes ≥ 85 %", f"{first:.1%}", first >= 0.85)
    for rate in (0.002, 0.005):
        shown = " · ".join(f"{_passing(looks, rate, 864):.1%}" for looks in (1, 2, 3))
        yield Line("13", f"p = {rate}, by the first, second, third look", 1, "", shown, None)


PARTICIPANTS = 10_080
"""Of each group at the planned end: 14 an hour for 30 days."""
HOURS = 720
PLAN = Plan(
    groups=("control", "treatment"),
    control="control",
    success=(SuccessMeasure("accuracy", Direction.UP),),
    minimum_sample_size=1000,
    planned_end=30 * DAY,
)
WEIGHTS = {1: {"control": Fraction(1), "treatment": Fraction(1)}}


def _tally(figures: list[Summary]) -> Tally:
    groups = tuple(
        GroupTally(group, figure.n, figure.n, (figure,))
        for group, figure in zip(PLAN.groups, figures, strict=True)
    )
    return Tally(groups, tuple(Arrivals(1, group.group, group.participants) for group in groups))


def _verdict(rng: np.random.Generator, lift: float) -> Verdict:
    """The first verdict of an experiment that is looked at every hour; CONTINUE if there never is one.

    The hours at which nothing is shown are passed over by their p-value; whatever shows something is
    assessed whole, as the planned day is.
    """
    counts = PARTICIPANTS // HOURS * np.arange(1, HOURS + 1)
    courses = []
    for mean in (1.0, 1.0 + lift):
        values = rng.normal(mean, 1.0, PARTICIPANTS)
        means = np.cumsum(values)[counts - 1] / counts
        variances = (np.cumsum(values**2)[counts - 1] - counts * means**2) / (counts - 1)
        courses.append(list(zip(counts.tolist(), means.tolist(), variances.tolist(), strict=True)))
    for hour, figures in enumerate(zip(*courses, strict=True), 1):
        control, treated = (Summary("accuracy", *figure) for figure in figures)
        if hour < HOURS and not (PLAN.suffices(control, treated) and _shows(control, treated)):
            continue
        tally = _tally([control, treated])
        planned_day = tally if hour == HOURS else None
        at = hour * 3600.0
        conclusion = assess(PLAN, tally, WEIGHTS, at=at, counted_for=at, planned_day=planned_day).conclusion
        if conclusion.verdict is Verdict.SHIP or "is worse" in conclusion.explanation:
            return conclusion.verdict
    return Verdict.CONTINUE


def _shows(control: Summary, treated: Summary) -> bool:
    return compare("treatment", treated, control, PLAN.participants).p_value <= sequence.ANYTIME_ERROR


def peeking(fewer: int) -> Iterator[Line]:
    """Row 14: an A/A experiment, and one with the effect that a fixed test finds with power .80."""
    runs = 3000 // fewer
    equal = [_verdict(np.random.default_rng((14, seed)), 0.0) for seed in range(runs)]
    called = sum(verdict is not Verdict.CONTINUE for verdict in equal) / runs
    yield Line("14", "A/A, hourly, 30 days: called different", runs, "≤ 5 %", f"{called:.1%}", called <= 0.05)
    effect = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) * math.sqrt(2 / PARTICIPANTS)
    different = [_verdict(np.random.default_rng((15, seed)), effect) for seed in range(runs)]
    power = sum(verdict is Verdict.SHIP for verdict in different) / runs
    yield Line(
        "14", "shipped, at the effect with .80 fixed power", runs, "≥ .75", f"{power:.3f}", power >= 0.75
    )


def sample_ratio(fewer: int) -> Iterator[Line]:
    """Row 15: hourly for 30 days at 100 users an hour; and a split of .45 that says .5."""
    runs = 2000 // fewer
    alarms = 0
    for seed in range(runs):
        ours = np.cumsum(np.random.default_rng((16, seed)).binomial(100, 0.5, HOURS)).tolist()
        alarms += any(not _sound(x, 100 * hour) for hour, x in enumerate(ours, 1))
    share = alarms / runs
    yield Line(
        "15", "sample ratio, A/A, 30 days hourly: alarms", runs, "≤ .2 %", f"{share:.2%}", share <= 0.002
    )
    found = []
    for seed in range(runs):
        ours = np.cumsum(np.random.default_rng((17, seed)).binomial(50, 0.45, 200)).tolist()
        found.append(next((50 * k for k, x in enumerate(ours, 1) if not _sound(x, 50 * k)), math.inf))
    middle, high, worst = np.percentile(found, [50, 95, 100], method="higher")
    within = float(np.mean(np.array(found) <= 5000))
    shown = f"{middle:.0f} · {high:.0f} · {worst:.0f} users; {within:.2%} within 5000"
    yield Line(
        "15", "w = .5, truly .45: found, 50 · 95 · 100 %", runs, "≤ 5000 users", shown, bool(high <= 5000)
    )


def _sound(ours: int, users: int) -> bool:
    return check([Dealt((1.0, 1.0), (ours, users - ours))]).ok
