"""What is counted per tick: requests by the time of their start, under what they were assigned to.

A tick is a stretch of the monotonic clock, which all processes of a machine share: no step of the wall
clock moves it. Every count is cumulative within its tick, and a tick travels as text that is made
once and compared whole, for most ticks of a report are those of the report before.

The outcomes of heads are counted a second time, by quarters of a tick: what went well in a second does not
speak for a treatment that broke in the middle of it.

It knows no arm's outcome from another's, and judges nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.model.scores import Score
from gateway.model.snapshot import Snapshot

LATENCY_BASE: Final = 1.005
"""Ratio of two neighbouring buckets of latency: a value is known to a quarter of a percent."""
LEAST_LATENCY: Final = 1e-6
"""Seconds: where bucket 0 begins. What is faster counts in it."""
MOST_TICKS = 3600
"""Ticks that may be unsettled at a time, whatever the config asks for: the bound of a report."""
COARSE: Final = 16
"""Neighbouring buckets that count as one where four percent are good enough."""
FIRST_SECONDS = 600
"""A user's first request on a route is marked in every period of so many seconds, which begins for each user
at a moment of the user's own."""
QUARTERS = 4
"""Parts of a tick that heads are counted by."""
LEAST_QUARTER = 200
"""Milliseconds: a quarter is not made shorter than that, nor longer than its tick. Each is reported."""
NO_DEADLINE = 300.0
"""Seconds after which a head is given up for judging where the upstream has no deadline for it."""

_PER_NAT: Final = 1.0 / math.log(LATENCY_BASE)
_OFFSET: Final = -math.log(LEAST_LATENCY) * _PER_NAT


def bucket_of(seconds: float) -> int:
    """The bucket of a latency, from 0 upwards."""
    return int(math.log(seconds) * _PER_NAT + _OFFSET) if seconds > LEAST_LATENCY else 0


def coarse(bucket: int) -> int:
    """The middle of the coarse bucket that holds a bucket: a number on the same scale."""
    return bucket // COARSE * COARSE + COARSE // 2


def log_latency(bucket: float) -> float:
    """Natural logarithm of the seconds in the middle of a bucket; a mean bucket gives a mean logarithm."""
    return (bucket + 0.5 - _OFFSET) / _PER_NAT


def log_latency_variance(variance: float) -> float:
    """The variance of log latency that a variance of bucket numbers amounts to."""
    return variance / _PER_NAT**2


def tick_of(at: float, interval: float) -> int:
    """Beginning in monotonic milliseconds of the tick that holds `at` (monotonic seconds)."""
    length = round(interval * 1000)
    return int(at * 1000) // length * length


def quarter_of(at: float, interval: float) -> tuple[int, int]:
    """Beginning and end in monotonic milliseconds of the quarter of a tick that holds `at`."""
    length = round(interval * 1000)
    quarter = min(length, max(LEAST_QUARTER, -(-length // QUARTERS)))
    now = int(at * 1000)
    into = now % length // quarter * quarter
    begin = now - now % length + into
    return begin, begin + min(quarter, length - into)


def head_limit(snapshot: Snapshot) -> float:
    """Seconds from a request's start after which its outcome is no longer waited for.

    Heads have come, or timed out, by then; it is the same for both arms.
    """
    return max(
        (upstream.timeouts.connect or 0.0) + (upstream.timeouts.first_byte or NO_DEADLINE)
        for upstream in snapshot.upstreams
    )


def settle_limit(snapshot: Snapshot) -> float:
    """Seconds from a tick's start after which nothing that happens to its requests counts."""
    wanted = max(snapshot.settle, head_limit(snapshot))
    return min(wanted, MOST_TICKS * snapshot.tick)


class LastingLimit:
    """Seconds that the config may make fewer, but not for what began before: that was given more."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._former: list[tuple[float, float]] = []

    def __repr__(self) -> str:
        return f"<LastingLimit {self._seconds} former={self._former}>"

    def set(self, seconds: float, now: float) -> None:
        """It is so long for what begins from `now` on (monotonic seconds)."""
        if seconds != self._seconds:
            self._former.append((now + self._seconds, self._seconds))
            self._seconds = seconds

    def at(self, now: float) -> float:
        """Seconds: the longest that is in force, or was when something began whose time is not over."""
        if self._former:
            self._former = [(until, seconds) for until, seconds in self._former if until > now]
        return max([self._seconds, *[seconds for _, seconds in self._former]])


@dataclass(frozen=True, slots=True)
class Series:
    """What a request was assigned to, by name: the key of all counts.

    `arm` is the assigned one (intention to treat); experiment and group are "" without one. The
    snapshot's version says which phase and share it was drawn under.

    `first` is True for requests that are the first which their user starts in the arm of the route in a
    period of FIRST_SECONDS (see `gateway.marks`): who counts users rather than requests looks at these
    alone. All requests are those that are first and those that are not. Nothing is first for users
    without an id, nor under `rollback.unit: request`.
    """

    snapshot: int
    route: str
    arm: str
    experiment: str
    group: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the requests of one series that started in one tick.

    `answered` have an outcome of their head, `errors` of them a bad one, `client_errors` a 4xx.
    `truncated` broke off after a good head, or said within a good stream that it failed. `withdrawn` say
    nothing of the arm. `ended` are over, one way or another. `latencies` counts successes by `bucket_of`,
    `first_bytes` the same successes by the `coarse` bucket of the time to their first byte. `left` counts
    clients that left by how long they had waited: before a head they are withdrawn too, after one they
    are answered. `scores` are what upstreams reported, by metric; `Snapshot.metrics` names which.
    `failed_over` are those of the errors that never reached treatment: control answered in its place.
    """

    started: int = 0
    answered: int = 0
    errors: int = 0
    client_errors: int = 0
    truncated: int = 0
    withdrawn: int = 0
    ended: int = 0
    latencies: Mapping[int, int] = field(default_factory=dict)
    left: Mapping[int, int] = field(default_factory=dict)
    first_bytes: Mapping[int, int] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    failed_over: int = 0

    @property
    def heads_known(self) -> bool:
        """True once every request has an outcome or is out."""
        return self.answered + self.withdrawn >= self.started

    @property
    def over(self) -> bool:
        """True once nothing can change any more."""
        return self.ended >= self.started


def pack(series: int, counts: Counts) -> str:
    """Counts under the number of their series, as text without a space."""
    fixed = (
        series,
        counts.started,
        counts.answered,
        counts.errors,
        counts.client_errors,
        counts.truncated,
        counts.withdrawn,
        counts.ended,
        counts.failed_over,
    )
    scores = (
        f"{name},{score.count},{score.total!r},{score.squares!r}" for name, score in counts.scores.items()
    )
    return ";".join(
        (
            ",".join(map(str, fixed)),
            _pack_buckets(counts.latencies),
            _pack_buckets(counts.left),
            _pack_buckets(counts.first_bytes),
            ",".join(scores),
        )
    )


def unpack(text: str) -> tuple[int, Counts]:
    """Undo `pack`. Raises ValueError or TypeError on foreign text."""
    fixed, latencies, left, first_bytes, scores = text.split(";")
    series, started, answered, errors, client_errors, truncated, withdrawn, ended, failed_over = map(
        int, fixed.split(",")
    )
    counts = Counts(
        started,
        answered,
        errors,
        client_errors,
        truncated,
        withdrawn,
        ended,
        _unpack_buckets(latencies),
        _unpack_buckets(left),
        _unpack_buckets(first_bytes),
        _unpack_scores(scores),
        failed_over,
    )
    return series, counts


def _pack_buckets(buckets: Mapping[int, int]) -> str:
    return ",".join([f"{bucket},{count}" for bucket, count in buckets.items()])


def _unpack_buckets(text: str) -> Mapping[int, int]:
    if not text:
        return {}
    numbers = json.loads(f"[{text}]")  # the fastest way to some hundred numbers
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def _unpack_scores(text: str) -> Mapping[str, Score]:
    if not text:
        return {}
    parts = text.split(",")
    return {
        name: Score(int(count), float(total), float(squares))
        for name, count, total, squares in zip(parts[::4], parts[1::4], parts[2::4], parts[3::4], strict=True)
    }
