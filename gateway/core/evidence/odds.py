"""Likelihood ratios of counts: how much better "worse by this odds ratio" explains them than "no worse".

The result is the logarithm for every odds ratio of `capital.GRID`. Before the logarithm, each ratio has an
expectation of at most 1 while the hypothesis holds, whatever came before. Pure mathematics on counts.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

from gateway.core.evidence.capital import GRID

LONGEST_SUM = 5000
"""Terms beyond which the sum over all tables is replaced by a bound of it."""
LEAST_LIMIT = 1e-6
"""A limit of zero is read as one in a million: no data ever is impossible, merely damning."""
_PRECISION = 1e-13
"""Of a sum. The logarithms of the ratios are good to 1e-11 then in strata of some thousands, and to 1e-8 in
those of a million, where differences of `lgamma` lose digits."""
_LOG_GRID = tuple(map(math.log, GRID))
_NOTHING = (0.0,) * len(GRID)


def against_limit(limit: float, count: int, bad: float) -> tuple[float, ...]:
    """For H0: each of `count` outcomes in [0, 1], which sum up to `bad`, has a mean of at most `limit`.

    `(p/limit)**bad * ((1-p)/(1-limit))**(count-bad)` with p of the odds `ratio * limit/(1-limit)`, which
    is `ratio**bad / (1 + limit * (ratio-1))**count`. By convexity it holds for outcomes between 0 and 1
    too (Waudby-Smith and Ramdas, arXiv 2010.09686).
    """
    costs = _costs(max(limit, LEAST_LIMIT))
    return tuple([bad * gain - count * cost for gain, cost in zip(_LOG_GRID, costs, strict=True)])


@lru_cache(maxsize=64)
def _costs(limit: float) -> tuple[float, ...]:
    return tuple(math.log1p(limit * (ratio - 1.0)) for ratio in GRID)


def against_control(
    treatment: int, treatment_bad: float, control: int, control_bad: float
) -> tuple[float, ...]:
    """For H0: a bad outcome is no likelier in treatment than in control, however likely it is in both.

    Given how many were bad in all, where they fell says everything: Fisher's noncentral hypergeometric
    distribution, exact for whole numbers. Where the sum would be long, or scores are not whole, Hoeffding's
    bound by sampling with replacement (1963, theorem 4) on the smaller arm is used: less, never more.
    """
    total_bad = treatment_bad + control_bad
    if not (treatment and control and 0 < total_bad < treatment + control):
        return _NOTHING
    terms = min(treatment, total_bad) - max(0, total_bad - control)
    if terms <= LONGEST_SUM and float(treatment_bad).is_integer() and float(control_bad).is_integer():
        return _hypergeometric(treatment, int(treatment_bad), control, int(total_bad))
    rate = total_bad / (treatment + control)
    if treatment <= control:
        return against_limit(rate, treatment, treatment_bad)
    costs = (math.log1p(rate * (1.0 / ratio - 1.0)) for ratio in GRID)
    return tuple([-control_bad * gain - control * cost for gain, cost in zip(_LOG_GRID, costs, strict=True)])


def _hypergeometric(treatment: int, treatment_bad: int, control: int, total_bad: int) -> tuple[float, ...]:
    """`ratio**treatment_bad * Z(1) / Z(ratio)` with `Z(ratio) = sum_j C(n, j) C(m, s-j) ratio**j`."""
    n, m, s = treatment, control, total_bad
    least = max(0, s - m)
    # The odds ratios at which a term is as large as the next one: ever larger, so the terms have one peak.
    level = [(j + 1) * (m - s + j + 1) / ((n - j) * (s - j)) for j in range(least, min(n, s))]
    # Z(1) without the factorials that all terms share, ln n! m!.
    everything = math.lgamma(n + m + 1) - math.lgamma(s + 1) - math.lgamma(n + m - s + 1)
    everything -= math.lgamma(n + 1) + math.lgamma(m + 1)
    found = []
    for ratio, gain in zip(GRID, _LOG_GRID, strict=True):
        above = bisect_right(level, ratio)
        peak = least + above
        largest = math.lgamma(peak + 1) + math.lgamma(n - peak + 1)
        largest += math.lgamma(s - peak + 1) + math.lgamma(m - s + peak + 1)
        total = math.log(_from_peak(level, above, ratio))
        found.append((treatment_bad - peak) * gain + everything + largest - total)
    return tuple(found)


def _from_peak(level: Sequence[float], peak: int, ratio: float) -> float:
    """The sum of the terms, the largest taken as 1, from there outwards until nothing is added."""
    total = term = 1.0
    for even in level[peak:]:
        term *= ratio / even
        total += term
        if term < _PRECISION:
            break
    term = 1.0
    for even in reversed(level[:peak]):
        term *= even / ratio
        total += term
        if term < _PRECISION:
            break
    return total
