"""The results of an experiment: every metric, every group against control, and what follows.

A function of a plan and a tally, without a clock. Nothing of a metric is told before a group has
`minimum_sample_size` participants with it. It does not know where tallies come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from gateway.core.results.sample_ratio import SampleRatio
from gateway.core.results.tally import Tally
from gateway.core.results.verdict import Conclusion
from gateway.model.experiment import Direction


@dataclass(frozen=True, slots=True)
class SuccessMeasure:
    """A metric that the experiment is judged by, and which way it is better."""

    metric: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Plan:
    """What was laid down beforehand. Times are Unix seconds.

    `groups` in their order, `control` among them; `planned_end` None: no end is planned.
    """

    groups: tuple[str, ...]
    control: str
    success: tuple[SuccessMeasure, ...]
    minimum_sample_size: int
    started_at: float
    planned_end: float | None


@dataclass(frozen=True, slots=True)
class GroupMean:
    """A metric in a group; `mean` None while too few of its participants reported it."""

    group: str
    n: int
    mean: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A group against control. Both intervals hold at 99 % at all times together.

    `difference` is group minus control; `lift` the same relative to control, None where control's
    mean is zero.
    """

    group: str
    difference: float
    lift: float | None
    interval: tuple[float, float]
    lift_interval: tuple[float, float] | None
    p_value: float


@dataclass(frozen=True, slots=True)
class MetricResult:
    """A metric: its groups in their order, and those comparisons that may be shown."""

    metric: str
    direction: Direction | None
    groups: tuple[GroupMean, ...]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """All that may be said of an experiment at a time.

    `days_to_go` is a forecast: until the difference seen so far would be shown, or the planned end; None where
    neither is in sight.
    """

    metrics: tuple[MetricResult, ...]
    sample_ratio: SampleRatio
    conclusion: Conclusion
    days_to_go: float | None


def assess(
    plan: Plan,
    tally: Tally,
    weights: Mapping[int, Mapping[str, Fraction]],
    *,
    at: float,
    planned_day: Tally | None = None,
) -> Results:
    """Judge a tally at time `at`.

    `weights` has each epoch's declared weights by group. `planned_day` is the tally as it was at the
    first moment at or after the planned end: keep that one, for the fixed test is right only once.
    """
    raise NotImplementedError
