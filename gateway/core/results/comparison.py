"""A group against control in one metric: the difference, the lift, and what may be believed of them.

It does not know which metric it is, nor which way is better.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.results import sequence
from gateway.core.results.tally import Summary


@dataclass(frozen=True, slots=True)
class Comparison:
    """A group against control. Both intervals hold at 99 % at all times together.

    `difference` is group minus control, `lift` the same relative to control's mean: None where that is
    zero. `p_value` is valid at any time, too.
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
    lift = lift_interval = None
    if control.mean != 0.0:
        lift = difference / abs(control.mean)
        lift_margin = sequence.margin(_lift_variance(treated, control), participants, planned)
        lift_interval = lift - lift_margin, lift + lift_margin
    return Comparison(
        group=group,
        control_mean=control.mean,
        group_mean=treated.mean,
        difference=difference,
        lift=lift,
        interval=(difference - margin, difference + margin),
        lift_interval=lift_interval,
        p_value=sequence.p_value(difference, variance, participants, planned),
    )


def fixed_p_value(treated: Summary, control: Summary) -> float:
    """The p-value of one look on a day that was fixed beforehand."""
    return sequence.fixed_p_value(treated.mean - control.mean, difference_variance(treated, control))


def difference_variance(treated: Summary, control: Summary) -> float:
    """The variance of the difference between two means."""
    return treated.variance / treated.n + control.variance / control.n


def _lift_variance(treated: Summary, control: Summary) -> float:
    """The variance of the relative difference, to first order (the delta method)."""
    ratio = treated.mean / control.mean
    total = treated.variance / treated.n + ratio * ratio * control.variance / control.n
    return total / (control.mean * control.mean)
