"""Ticks of all workers folded into one: which are known, and what they add up to.

A quarter of a tick is *closed* once every request that started in it has an outcome of its head, and a tick
is *settled* once every one of them is over; both at the latest after a limit, and in order. What is still
open then, or was open in a worker that died, is withdrawn: it counts neither as good nor as bad, in either
arm.

Times are monotonic milliseconds and come from outside. It does not know what the sums are judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from gateway.model.observation import Observation, TickReport, TickReports
from gateway.model.scores import Score
from gateway.model.ticks import QUARTERS, Counts, Series, unpack

MOST_TAKEN = MOST_SETTLED = 12
"""Ticks that are taken in, and that settle, at a time at most. Each costs a millisecond or
two where traffic is heavy, and hundreds may change at once: when all streams of an upstream are cut."""
GRACE = 2000
"""Milliseconds that a tick waits for what a worker said before it died: nobody else says it."""

_OneLength: TypeAlias = tuple[int, tuple[TickReport, ...]]
"""Ticks of one length in a report: where the current one begins, and those that it has."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick, or a quarter of one, over all workers. `at` is when it began."""

    at: int
    counts: Mapping[Series, Counts]


@dataclass(frozen=True, slots=True)
class Progress:
    """The quarters that closed, and the ticks that settled, since the last look; oldest first.

    A quarter has what is known by its requests' heads, and nothing else.

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
    """What one worker incarnation reported of ticks of one length that are not done."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.dead_since: int | None = None
        self.newest: TickReports | None = None
        self.through = 0
        self.behind = False
        self.ticks: dict[int, _Reported] = {}

    def take(self, reports: TickReports, reported: _OneLength, done_to: int, most: int) -> set[int]:
        """Take a newer report in; the ticks that it changed.

        Once there are so many of them the rest waits for the next time: until then this worker is behind.
        """
        changed: set[int] = set()
        if reports is self.newest:
            return changed
        series = {report.number: report.series for report in reports.series}
        through, ticks = reported
        for tick in ticks:
            held = self.ticks.get(tick.at)
            if tick.at >= done_to and (held is None or held.text != tick.counts):
                if len(changed) == most:
                    self.behind = True
                    return changed
                self.ticks[tick.at] = _Reported.of(tick.counts, series, held)
                changed.add(tick.at)
        self.newest, self.through, self.behind = reports, through, False
        return changed

    def done_with(self, at: int, done: Callable[[Counts], bool]) -> bool:
        held = self.ticks.get(at)
        return held is None or all(map(done, held.counts.values()))


class _Course:
    """Ticks of one length over all workers: they are done in order, as `done` says of their counts."""

    def __init__(
        self, done_to: int, done: Callable[[Counts], bool], reported: Callable[[TickReports], _OneLength]
    ) -> None:
        self.done_to = done_to
        self.workers: dict[str, _Worker] = {}
        self._buried: set[str] = set()
        self._done = done
        self._reported = reported
        self._live: frozenset[int] = frozenset()

    def take(self, observations: Collection[Observation], live: Collection[int], most: int) -> set[int]:
        """Take newer reports in, up to so many ticks that changed; these."""
        changed: set[int] = set()
        ended = self._live.symmetric_difference(live)
        self._live = frozenset(live)
        self._buried.intersection_update([report.incarnation for report in observations])
        for report in observations:
            if report.incarnation in self._buried:
                continue  # it said its last words, and is only repeated
            worker = self.workers.setdefault(report.incarnation, _Worker(report.pid))
            reported = self._reported(report.ticks)
            changed |= worker.take(report.ticks, reported, self.done_to, most - len(changed))
        for worker in self.workers.values():
            if worker.pid in ended:
                changed |= worker.ticks.keys()  # what it had open is withdrawn
        return changed

    def advance(self, now: int, limit: int) -> list[int]:
        """The ticks that became done by now, up to the first that is not."""
        live = [worker for worker in self.workers.values() if worker.pid in self._live]
        known_to = min([worker.through for worker in live], default=self.done_to)
        if not self._live <= {worker.pid for worker in live}:
            known_to = self.done_to  # one has not spoken yet
        if self._awaits_last_words(now):
            known_to = min(known_to, now - GRACE)
        # What has not been taken in yet must not be given up for its age: it is on the next look.
        known_to = self.done_to if self.behind else max(known_to, now - limit, self.done_to)
        ready: list[int] = []
        for at in self.beginnings(self.done_to):
            if at >= known_to:
                break
            if at >= now - limit and not all(worker.done_with(at, self._done) for worker in live):
                self.done_to = at
                return ready
            ready.append(at)
        self.done_to = known_to
        return ready

    def _awaits_last_words(self, now: int) -> bool:
        """Whether a worker is dead that was still alive a moment ago."""
        awaits = False
        for worker in self.workers.values():
            if worker.pid in self._live:
                worker.dead_since = None
            elif worker.dead_since is None:
                worker.dead_since = now
            awaits |= worker.dead_since is not None and now - worker.dead_since < GRACE
        return awaits

    def beginnings(self, since: int) -> list[int]:
        """Of the ticks from `since` on."""
        return sorted({at for worker in self.workers.values() for at in worker.ticks if at >= since})

    def tick(self, at: int) -> Tick:
        """The tick as it stands."""
        merged: dict[Series, Counts] = {}
        for worker in self.workers.values():
            dead = worker.pid not in self._live
            reported = worker.ticks.get(at)
            for series, counts in () if reported is None else reported.counts.items():
                known = abandoned(counts) if dead else counts
                merged[series] = add(merged[series], known) if series in merged else known
        return Tick(at, merged)

    def forget(self) -> None:
        """Let go of ticks that are done, and of dead workers that have no others."""
        for worker in self.workers.values():
            for at in [at for at in worker.ticks if at < self.done_to]:
                del worker.ticks[at]
        over = [name for name, one in self.workers.items() if not one.ticks and one.pid not in self._live]
        for incarnation in over:
            del self.workers[incarnation]
        self._buried.update(over)

    @property
    def behind(self) -> bool:
        """True while a worker's newest report is not taken in whole."""
        return any(worker.behind for worker in self.workers.values())

    @property
    def reported_to(self) -> int:
        """When the live worker that reported longest ago did so; 0 while nobody has."""
        return min(
            (
                0 if worker.newest is None else worker.newest.at
                for worker in self.workers.values()
                if worker.pid in self._live
            ),
            default=0,
        )


class Fold:
    """The ticks of all workers, from the oldest that is not settled on; and their quarters."""

    def __init__(self, settled_to: int = 0) -> None:
        """What is older than `settled_to` was folded before, and is not looked at again."""
        self._heads = _Course(
            settled_to,
            lambda counts: counts.heads_known,
            lambda reports: (reports.heads_through, reports.heads),
        )
        self._ticks = _Course(
            settled_to, lambda counts: counts.over, lambda reports: (reports.through, reports.ticks)
        )
        self._merged: dict[int, Tick] = {}
        self._changed: set[int] = set()
        self._more = False

    def __repr__(self) -> str:
        workers = len(self._ticks.workers)
        return f"<Fold workers={workers} closed_to={self.closed_to} settled_to={self.settled_to}>"

    @property
    def closed_to(self) -> int:
        """Where the oldest quarter begins that is not closed."""
        return self._heads.done_to

    @property
    def settled_to(self) -> int:
        """Where the oldest tick begins that is not settled."""
        return self._ticks.done_to

    def take(self, observations: Collection[Observation], live: Collection[int]) -> None:
        """Take newer reports in. `live` are the process ids that still run: the others say no more.

        At most MOST_TAKEN ticks are taken in that changed, and the quarters of as many; see `behind`.
        """
        self._heads.take(observations, live, QUARTERS * MOST_TAKEN)
        self._changed |= self._ticks.take(observations, live, MOST_TAKEN)

    def advance(self, now: int, head_limit: int, settle_limit: int) -> Progress:
        """Close and settle what can be; the limits count from a tick's beginning.

        At most MOST_SETTLED ticks settle at a time: the rest does at the next look.
        """
        grown = self._grow()
        closed = tuple(map(self._heads.tick, self._heads.advance(now, head_limit)))
        ready = self._ticks.advance(now, settle_limit)
        self._more = len(ready) > MOST_SETTLED
        if self._more:
            self._ticks.done_to = ready[MOST_SETTLED]
        settled = tuple(map(self._tick, ready[:MOST_SETTLED]))
        self._forget()
        return Progress(closed, settled, grown)

    def standing(self, since: int = 0) -> Iterable[Tick]:
        """Every tick that is not settled, from `since` on, as it stands now."""
        return map(self._tick, self._ticks.beginnings(max(since, self.settled_to)))

    def open_heads(self) -> Iterable[Tick]:
        """Every quarter that is not closed, as it stands now, oldest first."""
        return map(self._heads.tick, self._heads.beginnings(self.closed_to))

    @property
    def behind(self) -> bool:
        """True while there is more to take in or to settle: take the same reports again soon, and advance."""
        return self._more or self._heads.behind or self._ticks.behind

    @property
    def reported_to(self) -> int:
        """What standing ticks say of open requests is no older than this; 0 while nobody reported."""
        return self._ticks.reported_to

    def _grow(self) -> tuple[Tick, ...]:
        """Merge those anew that changed; what they got by it."""
        grown = []
        for at in sorted(self._changed):
            before, after = self._merged.get(at, Tick(at, {})).counts, self._ticks.tick(at)
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
        return self._ticks.tick(at) if at in self._changed else self._merged[at]

    def _forget(self) -> None:
        self._heads.forget()
        self._ticks.forget()
        for at in [at for at in self._merged if at < self.settled_to]:
            del self._merged[at]


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
