"""Ticks of all workers folded into one: which are known, and what they add up to.

A tick is *closed* once every request that started in it has an outcome of its head, and *settled* once
every one of them is over; both at the latest after a limit, and in order. What is still open then, or
was open in a worker that died, is withdrawn: it counts neither as good nor as bad, in either arm.

Times are monotonic milliseconds and come from outside. It does not know what the sums are judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.model.observation import Observation, TickReports
from gateway.model.scores import Score
from gateway.model.ticks import Counts, Series, unpack

MOST_TAKEN = MOST_SETTLED = 12
"""Ticks that are taken in, and that settle, at a time at most. Each costs a millisecond or
two where traffic is heavy, and hundreds may change at once: when all streams of an upstream are cut."""
GRACE = 2000
"""Milliseconds that a tick waits for what a worker said before it died: nobody else says it."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick over all workers. `at` is when it began."""

    at: int
    counts: Mapping[Series, Counts]


@dataclass(frozen=True, slots=True)
class Progress:
    """The ticks that closed, and those that settled, since the last look; oldest first.

    `grown` is what ticks of any kind got since then: all that was ever in it adds up to the ticks as they
    settled, and those that stand as they stand.
    """

    closed: tuple[Tick, ...] = ()
    settled: tuple[Tick, ...] = ()
    grown: tuple[Tick, ...] = ()


@dataclass(frozen=True, slots=True)
class _Reported:
    """One worker's tick as it came, the counts of its series, and these by series."""

    text: str
    parts: tuple[tuple[int, Counts], ...]
    counts: Mapping[Series, Counts]

    @classmethod
    def of(cls, text: str, series: Mapping[int, Series], before: _Reported | None) -> _Reported:
        """Parse what differs from what came before: of an old tick that is most often one series."""
        known = {} if before is None else dict(zip(before.text.split(" "), before.parts, strict=True))
        parts = tuple(known.get(part) or unpack(part) for part in text.split(" "))
        return cls(text, parts, {series[number]: counts for number, counts in parts if number in series})


class _Worker:
    """What one worker incarnation reported of ticks that are not settled."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.newest: TickReports | None = None
        self.behind = False
        self.ticks: dict[int, _Reported] = {}

    def take(self, reports: TickReports, settled_to: int, most: int) -> set[int]:
        """Take a newer report in; the ticks that it changed.

        Once there are so many of them the rest waits for the next time: until then this worker is behind.
        """
        changed: set[int] = set()
        if reports is self.newest:
            return changed
        series = {report.number: report.series for report in reports.series}
        for tick in reports.ticks:
            held = self.ticks.get(tick.at)
            if tick.at >= settled_to and (held is None or held.text != tick.counts):
                if len(changed) == most:
                    self.behind = True
                    return changed
                self.ticks[tick.at] = _Reported.of(tick.counts, series, held)
                changed.add(tick.at)
        self.newest, self.behind = reports, False
        return changed

    @property
    def reported_at(self) -> int:
        return 0 if self.newest is None else self.newest.at

    @property
    def through(self) -> int:
        return 0 if self.newest is None else self.newest.through


class Fold:
    """The ticks of all workers, from the oldest that is not settled on."""

    def __init__(self, settled_to: int = 0) -> None:
        """What is older than `settled_to` was folded before, and is not looked at again."""
        self.closed_to = self.settled_to = settled_to
        self._workers: dict[str, _Worker] = {}
        self._live: frozenset[int] = frozenset()
        self._merged: dict[int, Tick] = {}
        self._changed: set[int] = set()
        self._more = False

    def __repr__(self) -> str:
        return f"<Fold workers={len(self._workers)} closed_to={self.closed_to} settled_to={self.settled_to}>"

    def take(self, observations: Iterable[Observation], live: Collection[int]) -> None:
        """Take newer reports in. `live` are the process ids that still run: the others say no more.

        At most MOST_TAKEN ticks are taken in that changed; see `behind`.
        """
        most = MOST_TAKEN
        ended = self._live.symmetric_difference(live)
        self._live = frozenset(live)
        for report in observations:
            worker = self._workers.setdefault(report.incarnation, _Worker(report.pid))
            changed = worker.take(report.ticks, self.settled_to, most)
            self._changed |= changed
            most -= len(changed)
        for worker in self._workers.values():
            if worker.pid in ended:
                self._changed |= worker.ticks.keys()  # what it had open is withdrawn

    def advance(self, now: int, head_limit: int, settle_limit: int) -> Progress:
        """Close and settle what can be; the limits count from a tick's beginning.

        At most MOST_SETTLED ticks settle at a time: the rest does at the next look.
        """
        grown = self._grow()
        closed, self.closed_to = self._next(
            self.closed_to, now, head_limit, lambda counts: counts.heads_known
        )
        settled, self.settled_to = self._next(self.settled_to, now, settle_limit, lambda counts: counts.over)
        self._more = len(settled) > MOST_SETTLED
        if self._more:
            self.settled_to = settled[MOST_SETTLED].at
        self._forget()
        return Progress(closed, settled[:MOST_SETTLED], grown)

    def standing(self, since: int = 0) -> Iterable[Tick]:
        """Every tick that is not settled, from `since` on, as it stands now."""
        return map(self._tick, self._beginnings(max(since, self.settled_to)))

    @property
    def behind(self) -> bool:
        """True while there is more to take in or to settle: take the same reports again soon, and advance."""
        return self._more or any(worker.behind for worker in self._workers.values())

    @property
    def reported_to(self) -> int:
        """What standing ticks say of open requests is no older than this; 0 while nobody reported."""
        return min(
            (worker.reported_at for worker in self._workers.values() if worker.pid in self._live), default=0
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
            ready.append(self._tick(at))
        return tuple(ready), known_to

    def _beginnings(self, begin: int) -> list[int]:
        return sorted({at for worker in self._workers.values() for at in worker.ticks if at >= begin})

    def _grow(self) -> tuple[Tick, ...]:
        """Merge those anew that changed; what they got by it."""
        grown = []
        for at in sorted(self._changed):
            before, after = self._merged.get(at, Tick(at, {})).counts, self._merge(at)
            self._merged[at] = after
            got = {
                series: growth(before.get(series, _NOTHING), counts)
                for series, counts in after.counts.items()
                if counts is not before.get(series)
            }
            grown.append(Tick(at, got))
        self._changed.clear()
        return tuple(grown)

    def _tick(self, at: int) -> Tick:
        return self._merge(at) if at in self._changed else self._merged[at]

    def _merge(self, at: int) -> Tick:
        merged: dict[Series, Counts] = {}
        for worker in self._workers.values():
            dead = worker.pid not in self._live
            reported = worker.ticks.get(at)
            for series, counts in () if reported is None else reported.counts.items():
                known = abandoned(counts) if dead else counts
                merged[series] = add(merged[series], known) if series in merged else known
        return Tick(at, merged)

    def _forget(self) -> None:
        for worker in self._workers.values():
            for at in [at for at in worker.ticks if at < self.settled_to]:
                del worker.ticks[at]
        for at in [at for at in self._merged if at < self.settled_to]:
            del self._merged[at]
        self._workers = {
            incarnation: worker
            for incarnation, worker in self._workers.items()
            if worker.ticks or worker.pid in self._live
        }


def _of(worker: _Worker, at: int) -> Iterable[Counts]:
    held = worker.ticks.get(at)
    return () if held is None else held.counts.values()


def abandoned(counts: Counts) -> Counts:
    """The counts of a worker that died: what it had open is withdrawn, and over."""
    if counts.over and counts.heads_known:
        return counts
    return replace(
        counts, withdrawn=max(counts.withdrawn, counts.started - counts.answered), ended=counts.started
    )


_NO_SCORE = Score()
_NOTHING = Counts()


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
    for bucket, count in other.items():
        both[bucket] = both.get(bucket, 0) + count
    return both


def growth(before: Counts, after: Counts) -> Counts:
    """What has to be added to the one to come to the other; only what differs is in it."""
    return Counts(
        after.started - before.started,
        after.answered - before.answered,
        after.errors - before.errors,
        after.client_errors - before.client_errors,
        after.truncated - before.truncated,
        after.withdrawn - before.withdrawn,
        after.ended - before.ended,
        _grown_buckets(before.latencies, after.latencies),
        _grown_buckets(before.left, after.left),
        _grown_buckets(before.first_bytes, after.first_bytes),
        {
            name: score - before.scores.get(name, _NO_SCORE)
            for name, score in after.scores.items()
            if score != before.scores.get(name)
        },
        after.failed_over - before.failed_over,
    )


def _grown_buckets(before: Mapping[int, int], after: Mapping[int, int]) -> Mapping[int, int]:
    # Counts never go back, so nothing is in `before` alone.
    if before is after or before == after:
        return {}
    return {
        bucket: count - before.get(bucket, 0)
        for bucket, count in after.items()
        if count != before.get(bucket)
    }
