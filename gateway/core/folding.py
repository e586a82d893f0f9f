"""Ticks of all workers folded into one: which are known, and what they add up to.

A tick is *closed* once every request that started in it has an outcome of its head, and *settled* once
every one of them is over; both at the latest after a limit, and in order. What is still open then, or
was open in a worker that died, is withdrawn: it counts neither as good nor as bad, in either arm.

Times are monotonic milliseconds and come from outside. It does not know what the sums are judged by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from gateway.model.observation import Observation, TickReports
from gateway.model.scores import Score
from gateway.model.ticks import Counts, Series, log_latency, unpack

GRACE = 2000
"""Milliseconds that a tick waits for what a worker said before it died: nobody else says it."""
_COARSE = 4
"""Neighbouring buckets that are stored as one: known to one percent then."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick over all workers. `at` is when it began."""

    at: int
    counts: Mapping[Series, Counts]


@dataclass(frozen=True, slots=True)
class Progress:
    """The ticks that closed, and those that settled, since the last look; oldest first."""

    closed: tuple[Tick, ...] = ()
    settled: tuple[Tick, ...] = ()


class _Worker:
    """What one worker incarnation reported of ticks that are not settled."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.newest: TickReports | None = None
        self.ticks: dict[int, tuple[str, Mapping[Series, Counts]]] = {}

    def take(self, reports: TickReports, settled_to: int) -> None:
        if reports is self.newest:
            return
        series = {report.number: report.series for report in reports.series}
        for tick in reports.ticks:
            held = self.ticks.get(tick.at)
            if tick.at >= settled_to and (held is None or held[0] != tick.counts):
                self.ticks[tick.at] = tick.counts, _parsed(tick.counts, series)
        self.newest = reports

    @property
    def through(self) -> int:
        return 0 if self.newest is None else self.newest.through


def _parsed(text: str, series: Mapping[int, Series]) -> Mapping[Series, Counts]:
    counts = map(unpack, text.split(" "))
    return {series[number]: count for number, count in counts if number in series}


class Fold:
    """The ticks of all workers, from the oldest that is not settled on."""

    def __init__(self, settled_to: int = 0) -> None:
        """What is older than `settled_to` was folded before, and is not looked at again."""
        self.closed_to = self.settled_to = settled_to
        self._workers: dict[str, _Worker] = {}
        self._live: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"<Fold workers={len(self._workers)} closed_to={self.closed_to} settled_to={self.settled_to}>"

    def take(self, observations: Iterable[Observation], live: Collection[int]) -> None:
        """Take newer reports in. `live` are the process ids that still run: the others say no more."""
        self._live = frozenset(live)
        for report in observations:
            worker = self._workers.setdefault(report.incarnation, _Worker(report.pid))
            worker.take(report.ticks, self.settled_to)

    def advance(self, now: int, head_limit: int, settle_limit: int) -> Progress:
        """Close and settle what can be; the limits count from a tick's beginning."""
        closed, self.closed_to = self._next(
            self.closed_to, now, head_limit, lambda counts: counts.heads_known
        )
        settled, self.settled_to = self._next(self.settled_to, now, settle_limit, lambda counts: counts.over)
        self._forget()
        return Progress(closed, settled)

    def standing(self, since: int = 0) -> Iterable[Tick]:
        """Every tick that is not settled, from `since` on, as it stands now."""
        return map(self._merged, self._beginnings(max(since, self.settled_to)))

    @property
    def reported_to(self) -> int:
        """What standing ticks say of open requests is no older than this; 0 while nobody reported."""
        return min(
            (worker.through for worker in self._workers.values() if worker.pid in self._live), default=0
        )

    def _next(
        self, begin: int, now: int, limit: int, done: Callable[[Counts], bool]
    ) -> tuple[tuple[Tick, ...], int]:
        """The ticks from `begin` on that are done, up to the first that is not, and where that is."""
        live = [worker for worker in self._workers.values() if worker.pid in self._live]
        known_to = min([worker.through for worker in live], default=now)
        if not self._live <= {worker.pid for worker in live}:
            known_to = begin  # one has not spoken yet
        if len(live) < len(self._workers):
            known_to = min(known_to, now - GRACE)
        known_to = max(known_to, now - limit, begin)
        ready: list[Tick] = []
        for at in self._beginnings(begin):
            if at >= known_to:
                break
            if at >= now - limit and not all(done(counts) for worker in live for counts in _of(worker, at)):
                return tuple(ready), at
            ready.append(self._merged(at))
        return tuple(ready), known_to

    def _beginnings(self, begin: int) -> list[int]:
        return sorted({at for worker in self._workers.values() for at in worker.ticks if at >= begin})

    def _merged(self, at: int) -> Tick:
        merged: dict[Series, Counts] = {}
        for worker in self._workers.values():
            dead = worker.pid not in self._live
            for series, counts in worker.ticks.get(at, ("", {}))[1].items():
                known = abandoned(counts) if dead else counts
                merged[series] = add(merged[series], known) if series in merged else known
        return Tick(at, merged)

    def _forget(self) -> None:
        for worker in self._workers.values():
            for at in [at for at in worker.ticks if at < self.settled_to]:
                del worker.ticks[at]
        self._workers = {
            incarnation: worker
            for incarnation, worker in self._workers.items()
            if worker.ticks or worker.pid in self._live
        }


def _of(worker: _Worker, at: int) -> Iterable[Counts]:
    held = worker.ticks.get(at)
    return () if held is None else held[1].values()


def abandoned(counts: Counts) -> Counts:
    """The counts of a worker that died: what it had open is withdrawn, and over."""
    if counts.over and counts.heads_known:
        return counts
    return replace(
        counts, withdrawn=max(counts.withdrawn, counts.started - counts.answered), ended=counts.started
    )


_NO_SCORE = Score()


def add(one: Counts, other: Counts) -> Counts:
    """The counts of both."""
    return Counts(
        one.started + other.started,
        one.answered + other.answered,
        one.errors + other.errors,
        one.client_errors + other.client_errors,
        one.truncated + other.truncated,
        one.withdrawn + other.withdrawn,
        one.ended + other.ended,
        _add_buckets(one.latencies, other.latencies),
        _add_buckets(one.left, other.left),
        _add_buckets(one.first_bytes, other.first_bytes),
        {
            name: one.scores.get(name, _NO_SCORE) + other.scores.get(name, _NO_SCORE)
            for name in {**one.scores, **other.scores}
        },
        one.failed_over + other.failed_over,
    )


def _add_buckets(one: Mapping[int, int], other: Mapping[int, int]) -> Mapping[int, int]:
    both = dict(one)
    _add_to(both, other)
    return both


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
        super().load(other.numbers())
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
    rank, below = share * sum(buckets.values()), 0
    for bucket, count in sorted(buckets.items()):
        below += count
        if below >= rank:
            return math.exp(log_latency(bucket))
    return None


def _add_to(buckets: dict[int, int], more: Mapping[int, int]) -> None:
    for bucket, count in more.items():
        buckets[bucket] = buckets.get(bucket, 0) + count
