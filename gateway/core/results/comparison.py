"""One group against control in one metric: the difference, the lift, and their intervals.

It does not know which metric it is, nor which direction is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.core.results import sequence
from gateway.core.results.tally import Summary


@dataclass(frozen=True, slots=True)
class Comparison:
    """A group against control. Both intervals hold at 99 % at all times together.

    `difference` is group minus control, `lift` the same relative to control's mean: None where that is
    zero. `lift_interval` has zero inside exactly while `interval` has; None where control's mean may
    itself be zero. `p_value` is valid at any time, too.
    """

    group: str
    control_mean: float
    group_mean: float
    difference: float
    lift: float | None
    interval: tuple[float, float]
    lift_interval: tuple[float, float] | None
    p_value: float


def compare(group: str, treated: Summary, control: Summary, planned: float) -> Comparison:
    """Compare two groups of at least one participant each.

    `planned` is the number of participants, over all groups, that the experiment was planned for.
    """
    difference = treated.mean - control.mean
    participants = treated.n + control.n
    variance = difference_variance(treated, control)
    margin = sequence.margin(variance, participants, planned)
    return Comparison(
        group=group,
        control_mean=control.mean,
        group_mean=treated.mean,
        difference=difference,
        lift=difference / abs(control.mean) if control.mean != 0.0 else None,
        interval=(difference - margin, difference + margin),
        lift_interval=_lift_interval(treated, control, sequence.margin(1.0, participants, planned)),
        p_value=sequence.p_value(difference, variance, participants, planned),
    )


def fixed_p_value(treated: Summary, control: Summary) -> float:
    """The p-value of one look on a day that was fixed beforehand."""
    return sequence.fixed_p_value(treated.mean - control.mean, difference_variance(treated, control))


def difference_variance(treated: Summary, control: Summary) -> float:
    """The variance of the difference between two means."""
    return treated.variance / treated.n + control.variance / control.n


def _lift_interval(treated: Summary, control: Summary, margin: float) -> tuple[float, float] | None:
    """Every lift that the data do not contradict, by the margin of variance 1; None without two ends.

    Fieller's interval for a ratio of means (Journal of the Royal Statistical Society B 16, 1954): for each
    ratio, the mean of what the group exceeds that ratio times control by must have zero in its interval.
    """
    squared = margin * margin
    spread, control_spread = squared * treated.variance / treated.n, squared * control.variance / control.n
    known = control.mean * control.mean - control_spread
    if known <= 0.0:
        return None
    centre = treated.mean * control.mean
    # In this form nothing is the difference of two large numbers.
    reach = math.sqrt(known * spread + treated.mean * treated.mean * control_spread)
    low, high = ((centre + side * reach) / known - 1.0 for side in (-1.0, 1.0))
    return (low, high) if control.mean > 0.0 else (-high, -low)
