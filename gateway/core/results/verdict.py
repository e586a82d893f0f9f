"""What follows from an experiment's comparisons: ship, stop, continue, or invalid.

The rule compares each group with control. The primary metric decides: at any time with an error of .01,
by the always-valid interval; and once on the planned day with .04, by an ordinary test. So a group equal
to control is called different with probability .05 at most. Several groups share these errors. Any other
success metric, and always the error rate, vetoes a group that it shows to be worse, with .01 at any time.

It does not know how a comparison is computed, nor who acts on a verdict.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.results.comparison import Comparison
from gateway.core.results.sequence import ANYTIME_ERROR
from gateway.core.results.wording import chance, reading
from gateway.model.experiment import Direction

PLANNED_DAY_ERROR = 0.04
"""What the one test on the planned day may spend; with ANYTIME_ERROR it makes .05."""


class Verdict(enum.StrEnum):
    """What to do, as the API names it."""

    SHIP = "ship"
    STOP = "stop"
    CONTINUE = "continue"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The verdict, the group that won (SHIP alone has one), and the reason in one sentence.

    `days_to_go` is a forecast: until the next group can be decided on. CONTINUE alone may have one.
    """

    verdict: Verdict
    winner: str | None
    explanation: str
    days_to_go: float | None = None


class Standing(enum.Enum):
    """What a metric says of a group against control."""

    TOO_FEW = enum.auto()
    OPEN = enum.auto()
    BETTER = enum.auto()
    WORSE = enum.auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """A success metric of a group against control, with all that a verdict needs of it.

    `fixed` is the comparison as it was on the planned day, and `fixed_p_value` its test's p-value; None
    before that day and where there were too few participants then. `n` and `control_n` count
    participants with the metric. `days_to_go` is the forecast for this group; None for none.
    """

    metric: str
    direction: Direction
    group: str
    n: int
    control_n: int
    comparison: Comparison | None
    fixed: Comparison | None = None
    fixed_p_value: float | None = None
    days_to_go: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that a verdict is based on.

    `primary` are the findings of the metric that decides, a group each; empty without a metric that has
    data. `others` are those of the other success metrics and of the error rate: they may veto.
    `days_to_planned_end` is None where no end lies ahead.
    """

    control: str
    primary: tuple[Finding, ...]
    others: tuple[Finding, ...]
    minimum_sample_size: int
    is_planned_end_over: bool
    is_sample_ratio_ok: bool
    days_to_planned_end: float | None


@dataclass(frozen=True, slots=True)
class _Judged:
    """A group: what the primary metric says of it, by which comparison, and who vetoes it."""

    finding: Finding
    standing: Standing
    basis: str
    vetoes: tuple[str, ...]

    @property
    def is_rejected(self) -> bool:
        return self.standing is Standing.WORSE or bool(self.vetoes)


def conclude(case: Case) -> Conclusion:
    """The verdict on a case. The first of these that holds: invalid, ship, stop, continue."""
    if not case.is_sample_ratio_ok:
        return Conclusion(Verdict.INVALID, None, _BROKEN_SPLIT)
    if not case.primary:
        explanation = "nothing to judge by: no success metric has a value yet"
        return Conclusion(Verdict.CONTINUE, None, explanation, case.days_to_planned_end)
    judged = [_judge(finding, case) for finding in case.primary]
    winners = [group for group in judged if group.standing is Standing.BETTER and not group.vetoes]
    if winners:
        return _ship(max(winners, key=_gain), case)
    if all(group.is_rejected for group in judged):
        return Conclusion(Verdict.STOP, None, "; ".join(_rejection(group, case) for group in judged))
    open_ones = [group for group in judged if not group.is_rejected]
    rejected = "".join(f"; {_rejection(group, case)}" for group in judged if group.is_rejected)
    if case.is_planned_end_over and all(group.standing is Standing.OPEN for group in open_ones):
        return Conclusion(Verdict.STOP, None, _no_difference(open_ones, case) + rejected)
    days = min((days for group in open_ones if (days := group.finding.days_to_go) is not None), default=None)
    forecast = "" if days is None else f"; {_days(days)} to go"
    explanation = _nothing_yet(open_ones, case) + rejected + forecast
    return Conclusion(Verdict.CONTINUE, None, explanation, days)


def standing_of(finding: Finding, error: float) -> Standing:
    """What a finding says at any time, at this error."""
    comparison = finding.comparison
    if comparison is None:
        return Standing.TOO_FEW
    if comparison.p_value > error:
        return Standing.OPEN
    return _side(comparison, finding.direction)


def _side(comparison: Comparison, direction: Direction) -> Standing:
    rises = comparison.difference > 0.0
    return Standing.BETTER if rises is (direction is Direction.UP) else Standing.WORSE


def _judge(finding: Finding, case: Case) -> _Judged:
    shared = len(case.primary)
    vetoes = tuple(
        reading(other.comparison, other.metric, case.control)
        for other in case.others
        if other.group == finding.group
        and other.comparison is not None
        and standing_of(other, ANYTIME_ERROR / shared) is Standing.WORSE
    )
    standing = standing_of(finding, ANYTIME_ERROR / shared)
    comparison, basis = finding.comparison, ""
    if standing in (Standing.BETTER, Standing.WORSE) and comparison is not None:
        basis = (
            f"{reading(comparison, finding.metric, case.control)}; "
            f"{chance(comparison.p_value)}, however often one looks"
        )
    elif (
        finding.fixed is not None
        and finding.fixed_p_value is not None
        and finding.fixed_p_value <= PLANNED_DAY_ERROR / shared
    ):
        standing = _side(finding.fixed, finding.direction)
        basis = (
            f"{reading(finding.fixed, finding.metric, case.control)}; "
            f"{chance(finding.fixed_p_value)} on the planned day"
        )
    return _Judged(finding, standing, basis, vetoes)


def _gain(judged: _Judged) -> float:
    """How much better a group is, for choosing among winners."""
    comparison = judged.finding.comparison or judged.finding.fixed
    assert comparison is not None, "nobody wins without a comparison"
    sign = 1.0 if judged.finding.direction is Direction.UP else -1.0
    return sign * comparison.difference


_BROKEN_SPLIT = (
    "the groups' sizes contradict their weights: users of some group are lost or counted twice, "
    "so no comparison can be believed"
)


def _ship(winner: _Judged, case: Case) -> Conclusion:
    group = winner.finding.group
    return Conclusion(Verdict.SHIP, group, f"{group} is better than {case.control}: {winner.basis}")


def _rejection(judged: _Judged, case: Case) -> str:
    group = judged.finding.group
    if judged.standing is Standing.WORSE:
        return f"{group} is worse than {case.control}: {judged.basis}"
    better = f", though better in {judged.finding.metric}" if judged.standing is Standing.BETTER else ""
    return f"{group} is worse than {case.control}{better}: {'; '.join(judged.vetoes)}"


def _no_difference(judged: Sequence[_Judged], case: Case) -> str:
    readings = "; ".join(_open_reading(group, case) for group in judged)
    return f"the planned time is over and no difference was shown: {readings}"


_EARLY = "too early"
_OVER = "the planned time is over with too few participants"


def _nothing_yet(judged: Sequence[_Judged], case: Case) -> str:
    early = [group.finding for group in judged if group.standing is Standing.TOO_FEW]
    if not early:
        return f"no difference is shown yet: {'; '.join(_open_reading(group, case) for group in judged)}"
    counts = ", ".join(f"{finding.group} {finding.n}" for finding in early)
    return (
        f"{_OVER if case.is_planned_end_over else _EARLY}: nothing is shown before each group has "
        f"{case.minimum_sample_size} participants with {early[0].metric}; "
        f"{case.control} has {early[0].control_n}, {counts}"
    )


def _open_reading(judged: _Judged, case: Case) -> str:
    comparison = judged.finding.comparison
    assert comparison is not None, "an open group has a comparison"
    return f"{judged.finding.group}: {reading(comparison, judged.finding.metric, case.control)}"


def _days(days: float) -> str:
    hours = 24.0 * days
    if hours < 1.0:
        return "less than an hour"
    if hours < 23.5:
        return f"about {hours:.0f} hours" if hours >= 1.5 else "about an hour"
    return f"about {days:.0f} days" if days >= 1.5 else "about a day"
