"""The plain alternative to evidence: a limit on the last few minutes, with a minimum number of samples.

For teams that want the rule that they know. It is late if treatment gets little traffic, and sometimes
wrong if it is watched for long; `docs/decisions.md` compares it with evidence. Only the slowdown is
measured against control: both arms over the limit are a rollback too.

It keeps what belongs to the current stay of treatment in the window, also over a restart, and forgets it
when the stay ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.control.archive import StoredSums
from gateway.control.traffic import STRATUM_SECONDS, contrast
from gateway.core.alert_wording import amount
from gateway.core.folding import Progress, Tick
from gateway.core.judging import slowdown
from gateway.core.limits import RollbackLimit
from gateway.core.sums import Sums
from gateway.model.gates import Contrast
from gateway.model.metrics import Metric
from gateway.model.scores import Score
from gateway.model.snapshot import Arm
from gateway.model.units import format_duration

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


@dataclass(frozen=True, slots=True)
class _Heads:
    """What is known of treatment's requests when their tick closes, and the ratings that came with it."""

    at: int
    answered: int
    errors: int
    ratings: Score

    @classmethod
    def of(cls, at: int, sums: Sums) -> _Heads:
        return cls(at, sums.answered, sums.errors, sums.scores.get(_RATING, _NO_RATING))


class Window:
    """The last `seconds` of both arms."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._heads: deque[_Heads] = deque()
        self._bodies: dict[int, dict[tuple[str, str], Sums]] = {}

    def __repr__(self) -> str:
        return f"<Window heads={len(self._heads)} bodies={len(self._bodies)}>"

    def restart(self) -> None:
        """Forget everything: another stay begins."""
        self._heads.clear()
        self._bodies.clear()

    def restore(self, stored: Iterable[StoredSums], since: int, anchor: int) -> None:
        """Go on after a restart with what is stored of settled ticks; late ratings are not in it.

        `since` is in monotonic milliseconds; `anchor` makes Unix time of them.
        """
        for row in stored:
            at, (route, arm, *_) = row.at * 1000 - anchor, row.stream
            if at < since:
                continue
            sums = Sums()
            sums.load(row.numbers)
            self._bodies.setdefault(at, {}).setdefault((route, arm), Sums()).add_sums(sums)
            if arm == _TREATMENT:
                self._heads.append(_Heads.of(at, sums))

    def add(self, progress: Progress) -> None:
        """Take ticks in: heads once all of a tick are known, the rest as it comes.

        Nothing waits until a tick is settled: where streams are long that is after the window.
        """
        self._heads.extend(map(_heads, progress.closed))
        for tick in progress.grown:
            arms = self._bodies.setdefault(tick.at, {})
            for series, counts in tick.counts.items():
                arms.setdefault((series.route, series.arm), Sums()).count(counts)
        since = self._closed_to - round(self.seconds * 1000)
        while self._heads and self._heads[0].at < since:
            self._heads.popleft()
        for at in [at for at in self._bodies if at < since]:
            del self._bodies[at]

    @property
    def _closed_to(self) -> int:
        return self._heads[-1].at if self._heads else 0

    def readings(self) -> Iterator[Reading]:
        """Every metric that there is anything to say of."""
        answered = sum(heads.answered for heads in self._heads)
        if answered:
            failures = sum(heads.errors for heads in self._heads) + self._truncated()
            yield Reading(Metric.ERROR_RATE, failures / answered, answered)
        if (slower := self._slowdown()) is not None:
            yield slower
        ratings = sum((heads.ratings for heads in self._heads), _NO_RATING)
        if ratings.mean is not None:
            yield Reading(Metric.USER_SATISFACTION, ratings.mean, ratings.count)

    def _truncated(self) -> int:
        """Streams of treatment that were cut so far, of the requests whose heads are counted."""
        return sum(
            sums.truncated
            for at, arms in self._bodies.items()
            for (_, arm), sums in arms.items()
            if arm == _TREATMENT and at <= self._closed_to
        )

    def _slowdown(self) -> Reading | None:
        strata: dict[tuple[int, str], dict[str, Sums]] = {}
        for at, sums_of in self._bodies.items():
            for (route, arm), sums in sums_of.items():
                stratum = strata.setdefault((at // (STRATUM_SECONDS * 1000), route), {})
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


def _heads(tick: Tick) -> _Heads:
    treatment = Sums()
    for series, counts in tick.counts.items():
        if series.arm == _TREATMENT:
            treatment.count(counts)
    return _Heads.of(tick.at, treatment)


def breach(window: Window, limits: Mapping[Metric, RollbackLimit], minimum_samples: int) -> str:
    """Which limit the window is beyond, in words; "" where it is beyond none, or has too few samples."""
    for reading in window.readings():
        limit = limits.get(reading.metric)
        if limit is not None and reading.samples >= minimum_samples and _beyond(reading.value, limit):
            return (
                f"{reading.metric} of treatment is {amount(reading.metric, reading.value)} over the last "
                f"{format_duration(window.seconds)} ({reading.samples} samples), "
                f"beyond {amount(limit.metric, limit.value)}"
            )
    return ""


def _beyond(value: float, limit: RollbackLimit) -> bool:
    return value < limit.value if limit.metric.rises_when_better else value > limit.value
