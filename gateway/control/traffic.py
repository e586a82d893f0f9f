"""Recent traffic: in detail over the window that alerts use, and as a time series.

It holds counts only: ten-second sums by route and arm for at most an hour, outlines of both arms for an
hour, and coarser ones for two days. It is updated as ticks arrive, so a question costs no more when many
requests are open. From before a restart only what the store has remains: counts, no quantiles. Times are
Unix seconds.

It does not know which ticks are settled, nor to which phase they belong; see `control.windows`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from gateway.core.judging import slowdown
from gateway.core.sums import Profile, Sums, mean_of, quantiles_of
from gateway.model.gates import Contrast, Stratum
from gateway.model.scores import Score
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series, coarse, log_latency, log_latency_variance

ROW_SECONDS = 10
"""Sums are remembered for so many seconds at a time."""
MOST_RECENT = 3600
"""Seconds for which sums are remembered at most."""
STRATUM_SECONDS = 600
"""Latency is compared within so many seconds: what drifts slower drifts for both arms."""
COARSE_SECONDS = 600
"""Outlines older than MOST_RECENT are of so many seconds each."""
LONGEST = 48 * 3600
"""Seconds that a course of time can go back."""
_CONTROL, _TREATMENT = Arm.CONTROL.label, Arm.TREATMENT.label


@dataclass(frozen=True, slots=True)
class Times:
    """Times in seconds; all None without any."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class ArmMetrics:
    """One arm over some time: counts of requests, rates in [0, 1], latencies of successes in seconds.

    `left` are clients that left. `scores` are the mean values of what was reported, by metric, each with
    how many there were.
    """

    requests: int
    errors: int
    client_errors: int
    truncated: int
    error_rate: float | None
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    first_byte: Times = Times()
    left: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """Traffic between two moments: by route and arm, and by arm over all routes.

    `degradation` is `performance_degradation`: 0.15 where treatment is 15 % slower than control beside it;
    None without control. `response_time` of an arm is its `p90`.
    """

    since: float
    until: float
    routes: Mapping[str, Mapping[str, ArmMetrics]]
    arms: Mapping[str, ArmMetrics]
    degradation: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """Both arms over `span` seconds from `at`.

    Quantiles are known to four percent, and are None for what went before a restart.
    """

    at: int
    span: int
    arms: Mapping[str, ArmMetrics]


Moment: TypeAlias = tuple[int, Mapping[Series, Counts]]
"""A tick by its Unix second."""
Bins: TypeAlias = dict[int, dict[str, Profile]]
"""Sums by arm, by the Unix second where they begin."""
Row: TypeAlias = dict[tuple[str, str], Profile]
"""Sums by (route, arm)."""


class Traffic:
    """See the module."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._newest = self._oldest = 0
        self._summed: frozenset[int] = frozenset()
        self._sum: Row = {}
        self._fine = _Course(ROW_SECONDS, MOST_RECENT)
        self._coarse = _Course(COARSE_SECONDS, LONGEST)

    def __repr__(self) -> str:
        return f"<Traffic rows={len(self._rows)}>"

    def remember(self, moment: Moment, look_back: float) -> None:
        """Keep what a tick got, and as many sums as `recent` may ask for."""
        at, counts = moment
        row_at = at - at % ROW_SECONDS
        if row_at > self._newest:
            self._newest = row_at
            self._oldest = row_at - int(min(look_back, MOST_RECENT)) - ROW_SECONDS
            self._rows = {at: row for at, row in self._rows.items() if at >= self._oldest}
        if row_at >= self._oldest:
            _add_moment(self._rows.setdefault(row_at, {}), counts)
        if row_at in self._summed:
            _add_moment(self._sum, counts)
        outline = _outline(counts)
        self._fine.remember(at, outline)
        self._coarse.remember(at, outline)

    def restore(self, at: int, route: str, arm: str, numbers: Mapping[str, float], now: float) -> None:
        """Take in sums that the store has."""
        profile = Profile()
        profile.add_sums(_loaded(numbers))
        if at > now - MOST_RECENT:
            _add_row(self._rows.setdefault(at, {}), {(route, arm): profile})
            self._fine.remember(at, {arm: profile})
        self._coarse.remember(at, {arm: profile})

    def recent(self, since: float) -> Mapping[tuple[str, str], Profile]:
        """Sums from `since` on, to ten seconds: those that go on being added to, for this moment's use."""
        wanted = frozenset(at for at in self._rows if at + ROW_SECONDS > since)
        if not self._summed <= wanted:
            # Once in ten seconds; there is no taking away, for scores are no whole numbers.
            self._summed, self._sum = frozenset(), {}
        for at in wanted - self._summed:
            _add_row(self._sum, self._rows[at])
        self._summed = wanted
        return self._sum

    def contrast(self, since: float) -> Contrast:
        """Both arms' latencies from `since` on, by route and ten minutes."""
        strata = Strata()
        for at, row in self._rows.items():
            if at + ROW_SECONDS > since:
                for (route, arm), profile in row.items():
                    strata.of(at, route, arm).add_sums(profile)
        return strata.contrast()

    def points(self, since: float, step: int) -> tuple[Point, ...]:
        """The course from `since` on in steps of so many seconds, at least ten.

        Where only ten minutes together are known any more, a point is of ten minutes, and says so.
        """
        rough = self._coarse.bins(since)
        fine: Bins = {}
        if step < COARSE_SECONDS:
            rough, fine = _refined(rough, self._fine.bins(since - COARSE_SECONDS), since)
        points = _points(rough, max(step, COARSE_SECONDS)) + _points(fine, step)
        return tuple(sorted(points, key=lambda point: point.at))


class _Course:
    """Outlines of both arms over time, `step` seconds each, for so many seconds."""

    def __init__(self, step: int, length: int) -> None:
        self._step = step
        self._length = length
        self._bins: Bins = {}

    def remember(self, at: int, outline: Mapping[str, Profile]) -> None:
        arms = self._bin(at)
        for arm, profile in outline.items():
            arms.setdefault(arm, Profile()).add(profile)

    def bins(self, since: float) -> Bins:
        """The bins from `since` on."""
        return {at: arms for at, arms in self._bins.items() if at + self._step > since}

    def _bin(self, at: int) -> dict[str, Profile]:
        begin = at - at % self._step
        if begin not in self._bins:
            self._bins = {at: arms for at, arms in self._bins.items() if at + self._length >= begin}
        return self._bins.setdefault(begin, {})


class Strata:
    """Both arms' sums by ten minutes and route."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, str], dict[str, Sums]] = {}

    def __repr__(self) -> str:
        return f"<Strata {len(self._sums)}>"

    def of(self, at: int, route: str, arm: str) -> Sums:
        """The sums of the ten minutes that hold a Unix second; whoever asks adds to them."""
        return self._sums.setdefault((at // STRATUM_SECONDS, route), {}).setdefault(arm, Sums())

    def clear(self) -> None:
        """Begin afresh."""
        self._sums.clear()

    def contrast(self) -> Contrast:
        """Every stratum with two successes of each arm."""
        both = (
            (arms[_TREATMENT], arms[_CONTROL])
            for arms in self._sums.values()
            if _TREATMENT in arms and _CONTROL in arms
        )
        return Contrast(tuple(contrast(*arms) for arms in both if min(arm.successes for arm in arms) > 1))


def _refined(rough: Bins, fine: Bins, since: float) -> tuple[Bins, Bins]:
    """Fine bins in place of rough ones, wherever they are all that the rough one knows of."""
    left: Bins = {}
    refined: Bins = {}
    for begin, arms in rough.items():
        parts = {at: part for at, part in fine.items() if begin <= at < begin + COARSE_SECONDS}
        if _started(*parts.values()) < _started(arms):
            left[begin] = arms
        else:
            refined |= {at: part for at, part in parts.items() if at + ROW_SECONDS > since}
    return left, refined


def _points(bins: Bins, step: int) -> list[Point]:
    merged: Bins = {}
    for at, arms in bins.items():
        point = merged.setdefault(at - at % step, {})
        for arm, profile in arms.items():
            point.setdefault(arm, Profile()).add(profile)
    return [
        Point(at, step, {arm: arm_metrics(profile) for arm, profile in arms.items()})
        for at, arms in merged.items()
    ]


def _started(*bins: Mapping[str, Profile]) -> int:
    return sum(profile.started for arms in bins for profile in arms.values())


def _loaded(numbers: Mapping[str, float]) -> Sums:
    sums = Sums()
    sums.load(numbers)
    return sums


def _add_row(sums: Row, row: Row) -> None:
    for key, profile in row.items():
        sums.setdefault(key, Profile()).add(profile)


def _add_moment(row: Row, counts: Mapping[Series, Counts]) -> None:
    for series, count in counts.items():
        row.setdefault((series.route, series.arm), Profile()).count(count)


def _outline(counts: Mapping[Series, Counts]) -> dict[str, Profile]:
    arms: dict[str, Profile] = {}
    for series, count in counts.items():
        rough: dict[int, int] = {}
        for bucket, number in count.latencies.items():
            middle = coarse(bucket)
            rough[middle] = rough.get(middle, 0) + number
        arms.setdefault(series.arm, Profile()).count(replace(count, latencies=rough))
    return arms


def view_of(since: float, until: float, row: Mapping[tuple[str, str], Profile], contrast: Contrast) -> View:
    """Sums by (route, arm) as people read them."""
    shift = slowdown(contrast)
    by_route: dict[str, Row] = {}
    for (route, arm), profile in row.items():
        by_route.setdefault(route, {})[route, arm] = profile
    return View(
        since,
        until,
        {route: _arm_metrics(by_route[route]) for route in sorted(by_route)},
        _arm_metrics(row),
        None if shift is None else math.expm1(shift[0]),
    )


def _arm_metrics(row: Mapping[tuple[str, str], Profile]) -> dict[str, ArmMetrics]:
    return {arm: arm_metrics(profile) for arm, profile in arm_sums(row).items()}


def arm_sums(row: Mapping[tuple[str, str], Profile]) -> dict[str, Profile]:
    """Both arms over all routes, by the arm's name."""
    arms = {arm.label: Profile() for arm in Arm}
    for (_, arm), profile in row.items():
        arms[arm].add(profile)
    return arms


def arm_metrics(sums: Profile) -> ArmMetrics:
    """A profile as people read it."""
    times, first = _times(sums.latencies), _times(sums.first_bytes)
    return ArmMetrics(
        requests=sums.answered,
        errors=sums.errors,
        client_errors=sums.client_errors,
        truncated=sums.truncated,
        error_rate=sums.error_rate,
        mean=times.mean,
        p50=times.p50,
        p90=times.p90,
        p99=times.p99,
        first_byte=first,
        left=sums.left,
        scores=dict(sums.scores),
    )


def _times(buckets: Mapping[int, int]) -> Times:
    return Times(mean_of(buckets), *quantiles_of(buckets, (0.5, 0.9, 0.99)))


def contrast(treatment: Sums, control: Sums) -> Stratum:
    """Both arms of one stratum, of at least two successes each."""
    return Stratum(treatment.successes, *_log_moments(treatment), control.successes, *_log_moments(control))


def _log_moments(sums: Sums) -> tuple[float, float]:
    """Mean and sample variance of log latency, of at least two successes."""
    n = sums.successes
    mean = sums.total / n
    variance = max(0.0, (sums.squares - sums.total * mean) / (n - 1))
    return log_latency(mean), log_latency_variance(variance)
