"""Differences between two groups, with intervals that stay valid however often one looks.

The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (arXiv
2103.06476, theorem 2.2) over participants, its p-value, and the ordinary z-test for the one planned
day. Floats in, floats out; it knows no metric, no group and no threshold of a verdict.

`variance` is always that of the estimated difference: v_T / n_T + v_C / n_C. `participants` is
n_T + n_C, and `planned` the number of participants at which the sequence is tightest.
"""

from __future__ import annotations

import math

ANYTIME_ERROR = 0.01
"""How often, at most, the sequence ever misses the truth: intervals hold at 99 % at all times together."""


def tuning(planned: float, error: float = ANYTIME_ERROR) -> float:
    """r²: the mixture's variance that makes the sequence tightest at `planned` participants."""
    spent = -2.0 * math.log(error)
    return (spent + math.log1p(spent)) / planned


def margin(variance: float, participants: float, planned: float, error: float = ANYTIME_ERROR) -> float:
    """Half the width of the interval around the difference."""
    gain = participants * tuning(planned, error)
    return math.sqrt(variance * (gain + 1.0) / gain * (math.log1p(gain) - 2.0 * math.log(error)))


def p_value(
    difference: float, variance: float, participants: float, planned: float, error: float = ANYTIME_ERROR
) -> float:
    """The always-valid p-value: at most `error` exactly while zero is outside of the interval."""
    if variance <= 0.0:
        return 1.0 if difference == 0.0 else 0.0
    gain = participants * tuning(planned, error)
    log_evidence = gain * difference * difference / variance / (2.0 * (gain + 1.0)) - 0.5 * math.log1p(gain)
    return math.exp(-max(0.0, log_evidence))


def fixed_p_value(difference: float, variance: float) -> float:
    """The two-sided p-value of a z-test: right for one look on a day that was fixed beforehand."""
    if variance <= 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return math.erfc(abs(difference) / math.sqrt(2.0 * variance))


def participants_needed(
    difference: float, variance: float, participants: float, planned: float, level: float = ANYTIME_ERROR
) -> float | None:
    """How many participants would bring the p-value of a difference of this size down to `level`.

    It takes the difference and the participants' own variance to stay as they are. None where nothing
    would do, or more than a billion.
    """
    if difference == 0.0:
        return None
    ratio = tuning(planned)
    effort = variance * participants / (difference * difference)
    count = participants
    for _ in range(_MOST_ROUNDS):
        # What the margin asks of the count, with its logarithm taken from the round before.
        share = effort * (math.log1p(count * ratio) - 2.0 * math.log(level))
        last, count = count, (share + math.sqrt(share * share + 4.0 * share / ratio)) / 2.0
        if count > _MOST_PARTICIPANTS:
            return None
        if abs(count - last) <= _ROUNDING * count:
            break
    return math.ceil(count)


_MOST_PARTICIPANTS = 1e9
"""Beyond this no forecast is worth giving."""
_MOST_ROUNDS = 100
"""A round gains about a digit, for the logarithm hardly moves; ten are usual."""
_ROUNDING = 1e-12
