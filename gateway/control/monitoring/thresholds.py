"""The plain alternative to evidence: a limit on the last few minutes, with a least number of samples.

For teams that want the rule that they know. It is late where treatment gets little traffic, and wrong now
and then where it is looked at for long; how late and how wrong, `docs/decisions.md` says beside the
evidence. It has no sense of control but in the slowdown: both arms over the limit are a rollback too.

It keeps what belongs to the current stay of treatment in the window, and forgets it when that ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.control.traffic import STRATUM_SECONDS, contrast
from gateway.core.folding import Progress, Tick
from gateway.core.judging import slowdown
from gateway.core.limits import RollbackLimit
from gateway.core.sums import Sums
from gateway.model.gates import Contrast
from gateway.model.metrics import Metric
from gateway.model.scores import Score
from gateway.model.snapshot import Arm
from gateway.model.units import format_duration, format_number

_CONTROL, _TREATMENT = Arm.CONTROL.label, Arm.TREATMENT.label
_RATING = Metric.USER_SATISFACTION.value
_LEAST_SUCCESSES = 2  # for a variance


_NO_RATING = Score()


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric of treatment over the window, and of how many samples."""

    metric: Metric
    value: float
    samples: int


@dataclass(slots=True)
class _Slice:
    """What one settled tick adds: both arms by route, and treatment's ratings."""

    at: int
    arms: dict[tuple[str, str], Sums] = field(default_factory=dict)
    ratings: Score = _NO_RATING


class Window:
    """The last `seconds` of both arms."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._heads: deque[tuple[int, int, int]] = deque()
        self._slices: deque[_Slice] = deque()

    def __repr__(self) -> str:
        return f"<Window heads={len(self._heads)} slices={len(self._slices)}>"

    def restart(self) -> None:
        """Forget everything: another stay begins."""
        self._heads.clear()
        self._slices.clear()

    def add(self, progress: Progress) -> None:
        """Take ticks in: heads as soon as they are known, the rest once it is settled."""
        for tick in progress.closed:
            treatment = [counts for series, counts in tick.counts.items() if series.arm == _TREATMENT]
            answered = sum(counts.answered for counts in treatment)
            failures = sum(counts.errors + counts.truncated for counts in treatment)
            self._heads.append((tick.at, answered, failures))
        self._slices.extend(map(_slice, progress.settled))
        newest = max([self._heads[-1][0]] if self._heads else [0])
        since = newest - round(self.seconds * 1000)
        while self._heads and self._heads[0][0] < since:
            self._heads.popleft()
        while self._slices and self._slices[0].at < since:
            self._slices.popleft()

    def readings(self) -> Iterator[Reading]:
        """Every metric that there is anything to say of."""
        answered = sum(head[1] for head in self._heads)
        if answered:
            failures = sum(head[2] for head in self._heads)
            yield Reading(Metric.ERROR_RATE, failures / answered, answered)
        if (slower := self._slowdown()) is not None:
            yield slower
        ratings = sum((one.ratings for one in self._slices), _NO_RATING)
        if ratings.mean is not None:
            yield Reading(Metric.USER_SATISFACTION, ratings.mean, ratings.count)

    def _slowdown(self) -> Reading | None:
        strata: dict[tuple[int, str], dict[str, Sums]] = {}
        for one in self._slices:
            for (route, arm), sums in one.arms.items():
                stratum = strata.setdefault((one.at // (STRATUM_SECONDS * 1000), route), {})
                stratum.setdefault(arm, Sums()).add_sums(sums)
        both = [
            (arms[_TREATMENT], arms[_CONTROL])
            for arms in strata.values()
            if min(arms.get(arm, Sums()).successes for arm in (_TREATMENT, _CONTROL)) >= _LEAST_SUCCESSES
        ]
        found = slowdown(Contrast(tuple(contrast(*arms) for arms in both)))
        if found is None:
            return None
        samples = sum(treatment.successes for treatment, _ in both)
        return Reading(Metric.PERFORMANCE_DEGRADATION, math.expm1(found[0]), samples)


def _slice(tick: Tick) -> _Slice:
    one = _Slice(tick.at)
    for series, counts in tick.counts.items():
        one.arms.setdefault((series.route, series.arm), Sums()).count(counts)
        if series.arm == _TREATMENT and _RATING in counts.scores:
            one.ratings += counts.scores[_RATING]
    return one


def breach(window: Window, limits: Mapping[Metric, RollbackLimit], minimum_samples: int) -> str:
    """Which limit the window is beyond, in words; "" where it is beyond none, or has too few samples."""
    for reading in window.readings():
        limit = limits.get(reading.metric)
        if limit is not None and reading.samples >= minimum_samples and _beyond(reading.value, limit):
            return (
                f"{reading.metric} is {format_number(round(reading.value, 4))} over the last "
                f"{format_duration(window.seconds)} ({reading.samples} samples), "
                f"beyond {format_number(limit.value)}"
            )
    return ""


def _beyond(value: float, limit: RollbackLimit) -> bool:
    return value < limit.value if limit.metric.rises_when_better else value > limit.value
