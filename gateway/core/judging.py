"""Is a metric shown to be within its limit? The statistics of the metrics gates.

Pure functions of counts and sums: exact binomial tails for what is counted, a normal approximation
for logs of latency and for plain means. Three answers: shown to be within, shown to be beyond,
neither. The first look, for which the window was made, spends four fifths of the error
`1 - confidence`, and all later ones the last fifth, each half of what its predecessor left: so over
all looks together a treatment at or beyond its limit passes with probability at most `1 - confidence`.
What has passed stays so by the error that it passed by.

It does not know when a look is due nor what follows from it; see `core.gates`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

from gateway.core import binomial
from gateway.model.gates import (
    Contrast,
    Evidence,
    Exceedance,
    Finding,
    Judgement,
    Mean,
    MetricsThreshold,
    Proportion,
    Sample,
    Stratum,
    Threshold,
    Verdict,
)
from gateway.model.units import Comparison

NO_CONTROL = "no_control"
"""Reason where there is no concurrent control to compare with."""
NO_DATA = "no_data"
SAMPLE_RATIO = "sample_ratio"

FIRST_LOOK_SHARE = 0.8
"""Halves from the first look on would make it twice as strict, for looks that are seldom needed."""

LEAST_FOR_NORMAL = 30
"""Numbers of a kind below which their mean is not taken to be normal, nor their spread to be known: of a
single one it would be zero. What is counted needs no such bound, for its tails are exact."""
LEAST_ERROR = sys.float_info.min
"""Of a look, however many there were: a gate may be held for months, and halves run out of floats."""

_MOST_TRIALS = 10**9
"""Beyond this no advice on sample size is worth giving."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """A metric's value and what the look says of it; `note` is for people.

    `stands` is True for what is so however few the samples are.
    """

    verdict: Verdict
    value: float | None
    note: str
    stands: bool = False


def judge(
    gate: MetricsThreshold,
    look: int,
    evidence: Evidence,
    *,
    epoch: int,
    window: float,
    at: float,
    passed_at: int | None = None,
) -> Judgement:
    """Judge every threshold of a gate at look number `look` (from 1).

    `passed_at` is the look at which it passed, if it has at every one since: it goes on passing by the
    error of that look. Else most that pass narrowly would be taken back by the next look, which is
    stricter; and nothing passes by it that has not passed already.
    """
    if passed_at is not None:
        kept = Judgement(gate.id, epoch, look, window, at, _findings(gate, passed_at, evidence), passed_at)
        if kept.verdict is Verdict.PASS:
            return kept
    judged = Judgement(gate.id, epoch, look, window, at, _findings(gate, look, evidence))
    return replace(judged, passed_at=look) if judged.verdict is Verdict.PASS else judged


def _findings(gate: MetricsThreshold, look: int, evidence: Evidence) -> tuple[Finding, ...]:
    delta = error_of_look(gate.confidence, look)
    return tuple(_finding(gate, threshold, evidence, delta) for threshold in gate.thresholds)


def error_of_look(confidence: float, look: int) -> float | None:
    """The error that look number `look` (from 1) may spend; None for point estimates (confidence 0)."""
    if confidence == 0.0:
        return None
    error = 1.0 - confidence
    if look == 1:
        return FIRST_LOOK_SHARE * error
    return max(LEAST_ERROR, math.ldexp((1.0 - FIRST_LOOK_SHARE) * error, 1 - look))


def _finding(
    gate: MetricsThreshold, threshold: Threshold, evidence: Evidence, delta: float | None
) -> Finding:
    sample = evidence.samples.get(threshold.metric)
    no_data = gate.on_no_data.verdict
    if sample is None or _is_empty(sample):
        reading = _Reading(no_data, None, f"{NO_DATA}: nothing was reported")
    elif isinstance(sample, Mean) and delta is not None and sample.count < LEAST_FOR_NORMAL:
        note = f"{NO_DATA}: {sample.count} of {LEAST_FOR_NORMAL} values"
        reading = _Reading(no_data, sample.total / sample.count, note)
    else:
        reading = _read(threshold.comparison, sample, delta)
    if not evidence.sample_ratio_ok:
        note = f"{SAMPLE_RATIO}: the arms' sizes contradict their shares"
        reading = _Reading(Verdict.INCONCLUSIVE, reading.value, note)
    elif evidence.requests < gate.minimum_samples and not reading.stands:
        note = f"{NO_DATA}: {evidence.requests} of {gate.minimum_samples} requests"
        reading = _Reading(no_data, reading.value, note)
    return Finding(threshold.metric, reading.verdict, reading.value, threshold.comparison, reading.note)


def _is_empty(sample: Sample) -> bool:
    match sample:
        case Proportion() | Exceedance():
            return sample.trials == 0
        case Mean():
            return sample.count == 0
        case Contrast():
            return False


def _read(limit: Comparison, sample: Sample, delta: float | None) -> _Reading:
    match sample:
        case Proportion():
            return _read_proportion(limit, sample, delta)
        case Exceedance():
            return _read_exceedance(limit, sample, delta)
        case Contrast():
            return _read_contrast(limit, sample, delta)
        case Mean():
            return _read_mean(limit, sample, delta)


def _read_proportion(limit: Comparison, sample: Proportion, delta: float | None) -> _Reading:
    bad = sample.bad / sample.trials
    rising = not limit.operator.is_upper_bound
    value = 1.0 - bad if rising else bad
    if delta is None:
        return _by_estimate(limit, value, f"{sample.bad} bad of {sample.trials}")
    most = 1.0 - limit.value if rising else limit.value
    return _counted(sample.trials, sample.bad, most, delta, value)


def _read_exceedance(limit: Comparison, sample: Exceedance, delta: float | None) -> _Reading:
    if delta is None:
        return _by_estimate(limit, sample.quantile, f"{sample.beyond} beyond of {sample.trials}")
    return _counted(sample.trials, sample.beyond, sample.share, delta, sample.quantile)


def _counted(trials: int, bad: int, limit: float, delta: float, value: float) -> _Reading:
    """Exact: the tails at the limit itself, so that no bound has to be found by inversion."""
    counted = f"{bad} bad of {trials}"
    if binomial.at_most(bad, trials, limit) <= delta:
        return _Reading(Verdict.PASS, value, f"{counted}, shown at error {delta:.2g}")
    if binomial.at_least(bad, trials, limit) <= delta:
        return _Reading(Verdict.FAIL, value, f"{counted}, beyond the limit at error {delta:.2g}", stands=True)
    needed = trials_needed(bad / trials, limit, delta)
    advice = "no number would do at this rate" if needed is None else f"about {needed} would do at this rate"
    return _Reading(Verdict.INCONCLUSIVE, value, f"{counted}; {advice}")


def trials_needed(rate: float, limit: float, delta: float) -> int | None:
    """How many trials would pass at `rate` bad; None where none would, or more than a billion.

    Without a failure this is the least n with `(1 - limit)**n <= delta`: 299 for .01 at .05.
    """
    if rate >= limit:
        return None

    def passes(trials: int) -> bool:
        return binomial.at_most(math.ceil(rate * trials), trials, limit) <= delta

    high = 1
    while not passes(high):
        high *= 2
        if high > _MOST_TRIALS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _read_contrast(limit: Comparison, sample: Contrast, delta: float | None) -> _Reading:
    found = slowdown(sample)
    if found is None:
        return _Reading(
            Verdict.INCONCLUSIVE, None, f"{NO_CONTROL}: no ten minutes with both arms", stands=True
        )
    difference, error = found
    if delta is not None and (lack := _lack(sample)):
        return _Reading(Verdict.INCONCLUSIVE, math.expm1(difference), lack, stands=True)
    return _by_bounds(limit, difference, error, delta, math.expm1)


def _lack(sample: Contrast) -> str:
    """Which arm has too few successes where both were compared; "" where both have enough."""
    compared = [stratum for stratum in sample.strata if _has_both(stratum)]
    treatment = sum(stratum.treatment_count for stratum in compared)
    control = sum(stratum.control_count for stratum in compared)
    if control < LEAST_FOR_NORMAL:
        return f"{NO_CONTROL}: {control} of {LEAST_FOR_NORMAL} successes of control to compare with"
    if treatment < LEAST_FOR_NORMAL:
        return f"{NO_DATA}: {treatment} of {LEAST_FOR_NORMAL} successes to compare"
    return ""


def _has_both(stratum: Stratum) -> bool:
    """Whether both arms have a variance in it."""
    return min(stratum.treatment_count, stratum.control_count) > 1


def slowdown(sample: Contrast) -> tuple[float, float] | None:
    """How much slower treatment is, as a difference of log latencies, and its standard error.

    None where no stratum has both arms. `expm1` of it is `performance_degradation`.
    """
    total = variance = difference = 0.0
    for stratum in filter(_has_both, sample.strata):
        n, m = stratum.treatment_count, stratum.control_count
        weight = n * m / (n + m)
        total += weight
        difference += weight * (stratum.treatment_mean - stratum.control_mean)
        variance += weight * weight * (stratum.treatment_variance / n + stratum.control_variance / m)
    return (difference / total, math.sqrt(variance) / total) if total else None


def _read_mean(limit: Comparison, sample: Mean, delta: float | None) -> _Reading:
    mean = sample.total / sample.count
    variance = max(0.0, sample.squares - sample.count * mean * mean) / max(1, sample.count - 1)
    return _by_bounds(limit, mean, math.sqrt(variance / sample.count), delta, float)


def _by_bounds(
    limit: Comparison, estimate: float, error: float, delta: float | None, scale: Callable[[float], float]
) -> _Reading:
    """Pass where the whole interval keeps the limit, fail where none of it does."""
    value = scale(estimate)
    if delta is None:
        return _by_estimate(limit, value, "point estimate")
    margin = -NormalDist().inv_cdf(delta) * error
    bounds = scale(estimate - margin), scale(estimate + margin)
    note = f"between {bounds[0]:.4g} and {bounds[1]:.4g} at error {delta:.2g}"
    kept = [limit.holds(bound) for bound in bounds]
    if all(kept):
        return _Reading(Verdict.PASS, value, note)
    return _Reading(Verdict.INCONCLUSIVE if any(kept) else Verdict.FAIL, value, note)


def _by_estimate(limit: Comparison, value: float, note: str) -> _Reading:
    return _Reading(Verdict.PASS if limit.holds(value) else Verdict.FAIL, value, note)
