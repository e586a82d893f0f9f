"""Sums of the counts of any number of ticks, and the latencies of their successes one by one.

It does not know which ticks were added, nor what the sums are used for.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate

from gateway.model.scores import Score
from gateway.model.ticks import Counts, log_latency

_COARSE = 4
"""Neighbouring buckets that are stored as one: known to one percent then."""
_NO_SCORE = Score()
_COUNTED = ("started", "answered", "errors", "client_errors", "truncated", "left")
_MOMENTS = ("successes", "total", "squares")
_FIRST_BYTE = "first_byte:"


class Sums:
    """Counts added up; whole numbers, but for scores, so that no order of adding matters.

    `left` are clients that left. `successes`, `total` and `squares` are number, sum and sum of squares of
    the buckets of latency. `scores` are by metric.
    """

    __slots__ = (*_COUNTED, *_MOMENTS, "scores")

    def __init__(self) -> None:
        self.started = self.answered = self.errors = self.client_errors = self.truncated = self.left = 0
        self.successes = self.total = self.squares = 0
        self.scores: dict[str, Score] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.numbers()}>"

    def count(self, counts: Counts) -> None:
        """Add what one tick has."""
        self.started += counts.started
        self.answered += counts.answered
        self.errors += counts.errors
        self.client_errors += counts.client_errors
        self.truncated += counts.truncated
        self.left += sum(counts.left.values())
        for bucket, count in counts.latencies.items():
            self.successes += count
            self.total += bucket * count
            self.squares += bucket * bucket * count
        self.rate(counts.scores)

    def add_sums(self, other: Sums) -> None:
        """Add what other sums have."""
        self.started += other.started
        self.answered += other.answered
        self.errors += other.errors
        self.client_errors += other.client_errors
        self.truncated += other.truncated
        self.left += other.left
        self.successes += other.successes
        self.total += other.total
        self.squares += other.squares
        self.rate(other.scores)

    def rate(self, scores: Mapping[str, Score]) -> None:
        """Add scores alone: some come long after their request."""
        for metric, score in scores.items():
            self.scores[metric] = self.scores.get(metric, _NO_SCORE) + score

    def numbers(self) -> dict[str, float]:
        """The sums by name; of a score by `METRIC:count` and so on."""
        numbers: dict[str, float] = {name: getattr(self, name) for name in (*_COUNTED, *_MOMENTS)}
        for metric, score in self.scores.items():
            numbers |= {f"{metric}:{name}": value for name, value in asdict(score).items()}
        return numbers

    def load(self, stored: Mapping[str, float]) -> None:
        """Add what `numbers` gave. Raises KeyError where a name is missing."""
        for name in (*_COUNTED, *_MOMENTS):
            setattr(self, name, getattr(self, name) + int(stored[name]))
        for metric in [name.removesuffix(":squares") for name in stored if name.endswith(":squares")]:
            count, total = stored[f"{metric}:count"], stored[f"{metric}:total"]
            self.rate({metric: Score(int(count), total, stored[f"{metric}:squares"])})

    @property
    def failures(self) -> int:
        """Requests with a bad head, or cut short after a good one."""
        return self.errors + self.truncated

    @property
    def error_rate(self) -> float | None:
        """Share of the answers that failed, at their head or after it; None without any."""
        return self.failures / self.answered if self.answered else None


class Profile(Sums):
    """Sums, and the times of the successes one by one.

    `latencies` are known to a quarter of a percent, `first_bytes` to four percent.
    """

    __slots__ = ("first_bytes", "latencies")

    def __init__(self) -> None:
        super().__init__()
        self.latencies: dict[int, int] = {}
        self.first_bytes: dict[int, int] = {}

    def count(self, counts: Counts) -> None:
        """See Sums."""
        super().count(counts)
        _add_to(self.latencies, counts.latencies)
        _add_to(self.first_bytes, counts.first_bytes)

    def add(self, other: Profile) -> None:
        """Add what another profile has."""
        self.add_sums(other)
        _add_to(self.latencies, other.latencies)
        _add_to(self.first_bytes, other.first_bytes)

    def stored(self) -> dict[str, float]:
        """Everything by name, some neighbouring buckets taken together."""
        rough: dict[str, float] = {}
        for bucket, count in self.latencies.items():
            name = str(bucket - bucket % _COARSE + _COARSE // 2)
            rough[name] = rough.get(name, 0) + count
        first_bytes = {f"{_FIRST_BYTE}{bucket}": count for bucket, count in self.first_bytes.items()}
        return self.numbers() | rough | first_bytes

    def load(self, stored: Mapping[str, float]) -> None:
        """Add what `stored` gave. Raises KeyError or ValueError on foreign names."""
        super().load(stored)
        times = {
            name: int(count)
            for name, count in stored.items()
            if name not in _COUNTED + _MOMENTS and not name.endswith((":count", ":total", ":squares"))
        }
        first = {name for name in times if name.startswith(_FIRST_BYTE)}
        _add_to(self.latencies, {int(name): count for name, count in times.items() if name not in first})
        _add_to(self.first_bytes, {int(name.removeprefix(_FIRST_BYTE)): times[name] for name in first})

    @property
    def timed(self) -> int:
        """Successes whose times are known: of those from before a restart only sums may be."""
        return sum(self.latencies.values())

    @property
    def mean(self) -> float | None:
        """Mean latency of the successes in seconds; None without any."""
        return mean_of(self.latencies)

    def quantile(self, share: float) -> float | None:
        """The latency in seconds that `share` of the successes kept; None without any."""
        return quantile_of(self.latencies, share)

    def beyond(self, seconds: float) -> int:
        """How many successes took longer than so many seconds."""
        limit = math.log(seconds)
        return sum(count for bucket, count in self.latencies.items() if log_latency(bucket) > limit)


def mean_of(buckets: Mapping[int, int]) -> float | None:
    """The mean of times by bucket, in seconds; None without any."""
    total = sum(count * math.exp(log_latency(bucket)) for bucket, count in buckets.items())
    return total / sum(buckets.values()) if buckets else None


def quantile_of(buckets: Mapping[int, int], share: float) -> float | None:
    """The seconds that `share` of times by bucket kept; None without any."""
    return quantiles_of(buckets, (share,))[0]


def quantiles_of(buckets: Mapping[int, int], shares: Sequence[float]) -> list[float | None]:
    """The seconds that each of the `shares` of times by bucket kept; None without any."""
    if not buckets:
        return [None] * len(shares)
    rising = sorted(buckets)
    up_to = list(accumulate(map(buckets.__getitem__, rising)))
    places = (bisect_left(up_to, share * up_to[-1]) for share in shares)
    return [math.exp(log_latency(rising[place])) for place in places]


def _add_to(buckets: dict[int, int], more: Mapping[int, int]) -> None:
    for bucket, count in more.items():
        buckets[bucket] = buckets.get(bucket, 0) + count
