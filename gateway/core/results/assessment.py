"""The results of an experiment: every metric, every group against control, and what follows.

A function of a plan and a tally, without a clock. A metric is shown only once a group has
`minimum_sample_size` participants with it. It does not know where tallies come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from gateway.core.results import sample_ratio, sequence
from gateway.core.results.comparison import Comparison, compare, fixed_p_value
from gateway.core.results.forecast import Course, seconds_to_go
from gateway.core.results.sample_ratio import Dealt, SampleRatio
from gateway.core.results.tally import ERROR_RATE, Summary, Tally
from gateway.core.results.verdict import Case, Conclusion, Finding, conclude
from gateway.model.experiment import Direction

_DAY = 86_400.0
_FEWEST = 2
"""Participants without whom there is no variance."""


@dataclass(frozen=True, slots=True)
class SuccessMeasure:
    """A metric that the experiment is judged by, and which way it is better."""

    metric: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Plan:
    """What was laid down beforehand.

    `groups` in their order, `control` among them; `planned_end` is a Unix time, None where none is planned.
    """

    groups: tuple[str, ...]
    control: str
    success: tuple[SuccessMeasure, ...]
    minimum_sample_size: int
    planned_end: float | None

    @property
    def treated(self) -> tuple[str, ...]:
        """The groups that are compared with control."""
        return tuple(group for group in self.groups if group != self.control)

    @property
    def participants(self) -> int:
        """How many participants it was planned for, at least: the sequence is tightest there."""
        return len(self.groups) * self.enough

    @property
    def enough(self) -> int:
        """The participants with a metric from whom on a group is shown in it."""
        return max(_FEWEST, self.minimum_sample_size)

    def suffices(self, *summaries: Summary) -> bool:
        """Whether each of these has enough participants to be shown."""
        return all(summary.n >= self.enough for summary in summaries)


@dataclass(frozen=True, slots=True)
class GroupMean:
    """A metric in a group; `mean` None while too few of its participants reported it."""

    group: str
    n: int
    mean: float | None


@dataclass(frozen=True, slots=True)
class MetricResult:
    """A metric: its groups in their order, and those comparisons that may be shown.

    `direction` None: it decides nothing.
    """

    metric: str
    direction: Direction | None
    groups: tuple[GroupMean, ...]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """All that may be said of an experiment at a time.

    `metrics` are the success metrics in their order, then the others; `primary` the one that decides,
    None as long as none has data.
    """

    metrics: tuple[MetricResult, ...]
    primary: str | None
    sample_ratio: SampleRatio
    conclusion: Conclusion


def assess(
    plan: Plan,
    tally: Tally,
    weights: Mapping[int, Mapping[str, Fraction]],
    *,
    at: float,
    counted_for: float | None,
    planned_day: Tally | None = None,
) -> Results:
    """Judge a tally at time `at`.

    `weights` has each epoch's declared weights by group. `counted_for` are the seconds in which participants
    were counted up to now; None while nothing is counted, and then nothing is forecast. `planned_day` is the
    tally as it was at the first moment at or after the planned end: keep that one, for the fixed test is
    right only once.
    """
    ratio = sample_ratio.check(_dealt(tally, weights))
    deciding = [measure for measure in plan.success if _reported(plan, tally, measure.metric)]
    findings = [
        tuple(_finding(plan, measure, group, tally, planned_day) for group in plan.treated)
        for measure in deciding
    ]
    course = _course(plan, at, counted_for)
    ahead = None if course is None or course.until_end is None else course.until_end / _DAY
    conclusion = conclude(
        Case(
            control=plan.control,
            primary=_foreseen(plan, tally, course, findings[0]) if findings else (),
            others=tuple(finding for other in (*findings[1:], _failures(plan, tally)) for finding in other),
            minimum_sample_size=plan.minimum_sample_size,
            is_planned_end_over=planned_day is not None and _is_over(plan, at),
            is_sample_ratio_ok=ratio.ok,
            days_to_planned_end=ahead,
        )
    )
    return Results(
        metrics=tuple(_metrics(plan, tally)),
        primary=deciding[0].metric if deciding else None,
        sample_ratio=ratio,
        conclusion=conclusion,
    )


def _is_over(plan: Plan, at: float) -> bool:
    """Whether the planned end is past; it may have been put off after the test of the planned day."""
    return plan.planned_end is not None and at >= plan.planned_end


def _course(plan: Plan, at: float, counted_for: float | None) -> Course | None:
    """What a forecast goes by; None while nothing is counted."""
    if counted_for is None:
        return None
    end = None if plan.planned_end is None or _is_over(plan, at) else plan.planned_end - at
    level = sequence.ANYTIME_ERROR / max(1, len(plan.treated))
    return Course(counted_for, end, plan.enough, plan.participants, level)


def _foreseen(
    plan: Plan, tally: Tally, course: Course | None, findings: tuple[Finding, ...]
) -> tuple[Finding, ...]:
    """The findings with a forecast each."""
    if course is None:
        return findings
    waits = (seconds_to_go(course, *_pair(plan, tally, one.metric, one.group)) for one in findings)
    return tuple(
        replace(finding, days_to_go=None if wait is None else wait / _DAY)
        for finding, wait in zip(findings, waits, strict=True)
    )


def _dealt(tally: Tally, weights: Mapping[int, Mapping[str, Fraction]]) -> Iterable[Dealt]:
    """The arrivals of each epoch with its weights; a group that had none then weighs nothing.

    Of an epoch whose weights nobody knows any more, nothing can be said.
    """
    counts: dict[int, dict[str, int]] = {}
    for arrivals in tally.arrivals:
        counts.setdefault(arrivals.epoch, {})[arrivals.group] = arrivals.users
    for epoch, users in counts.items():
        declared = weights.get(epoch)
        if declared is None:
            continue
        groups = tuple(dict.fromkeys((*declared, *users)))
        yield Dealt(
            tuple(float(declared.get(group, 0)) for group in groups),
            tuple(users.get(group, 0) for group in groups),
        )


def _failures(plan: Plan, tally: Tally) -> tuple[Finding, ...]:
    """What failures say, unless they are a success metric anyway: no group that fails more is better."""
    if any(measure.metric == ERROR_RATE for measure in plan.success):
        return ()
    measure = SuccessMeasure(ERROR_RATE, Direction.DOWN)
    return tuple(_finding(plan, measure, group, tally, None) for group in plan.treated)


def _reported(plan: Plan, tally: Tally, metric: str) -> bool:
    return any(tally.find(group).find(metric).n for group in plan.groups)


def _finding(
    plan: Plan, measure: SuccessMeasure, group: str, tally: Tally, planned_day: Tally | None
) -> Finding:
    treated, control = _pair(plan, tally, measure.metric, group)
    fixed = p_value = None
    if planned_day is not None:
        then_treated, then_control = _pair(plan, planned_day, measure.metric, group)
        if plan.suffices(then_treated, then_control):
            fixed = compare(group, then_treated, then_control, plan.participants)
            p_value = fixed_p_value(then_treated, then_control)
    return Finding(
        metric=measure.metric,
        direction=measure.direction,
        group=group,
        n=treated.n,
        control_n=control.n,
        comparison=_comparison(plan, group, treated, control),
        fixed=fixed,
        fixed_p_value=p_value,
    )


def _pair(plan: Plan, tally: Tally, metric: str, group: str) -> tuple[Summary, Summary]:
    return tally.find(group).find(metric), tally.find(plan.control).find(metric)


def _comparison(plan: Plan, group: str, treated: Summary, control: Summary) -> Comparison | None:
    if not plan.suffices(treated, control):
        return None
    return compare(group, treated, control, plan.participants)


def _metrics(plan: Plan, tally: Tally) -> Iterable[MetricResult]:
    directions = {measure.metric: measure.direction for measure in plan.success}
    seen = sorted(summary.metric for group in tally.groups for summary in group.metrics)
    for metric in dict.fromkeys((*directions, *seen)):
        summaries = {group: tally.find(group).find(metric) for group in plan.groups}
        control = summaries[plan.control]
        compared = (_comparison(plan, group, summaries[group], control) for group in plan.treated)
        yield MetricResult(
            metric=metric,
            direction=directions.get(metric),
            groups=tuple(
                GroupMean(group, summary.n, summary.mean if plan.suffices(summary) else None)
                for group, summary in summaries.items()
            ),
            comparisons=tuple(comparison for comparison in compared if comparison is not None),
        )
