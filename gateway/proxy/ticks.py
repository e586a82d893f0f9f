"""What a worker counts for those who judge: starts and outcomes per series and quarter of a tick.

On the hot path a request costs three calls on plain integers; everything else happens when a report is
made. Intention to treat: a request counts where it was assigned to when it was decided, whoever
answers. Only requests that take part in the comparison are counted, and no tunnels.

It sends nothing and judges nothing; what a tick's numbers mean is said in `model.ticks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic
from typing import Final

from gateway.core.folding import add
from gateway.core.split import Decision
from gateway.model.observation import Outcome, SeriesReport, TickReport, TickReports
from gateway.model.records import FAILED, NO_OUTCOME
from gateway.model.scores import Score
from gateway.model.snapshot import Snapshot
from gateway.model.ticks import (
    Counts,
    Series,
    bucket_of,
    coarse,
    pack,
    quarter_of,
    settle_limit,
    tick_of,
)
from gateway.wire.response import Response

SLACK = 40.0
"""Seconds that a settled tick is still reported: a control process may be away for that long."""
OPEN_FOR = 150
"""Milliseconds after a tick's end at which what is open of it is told: most heads have come by then."""
PATIENCE = 0.02
"""Seconds between two looks for the last head of a quarter."""
TURN = 0.002
"""Seconds after the turn of a quarter at which it is looked at: clocks and timers are not exact."""
_FAILED: Final = re.compile(rb"[ \t]*success[ \t]*=[ \t]*0(\.0*)?[ \t]*")
_OK: Final = Outcome.OK
_HEADLESS_FAILURES: Final = frozenset((Outcome.CONNECT_ERROR, Outcome.RESET, Outcome.TIMEOUT))
_LEFT: Final = Outcome.CLIENT_CLOSED
_CUTS: Final = frozenset((Outcome.TRUNCATED, Outcome.RESET, Outcome.TIMEOUT, Outcome.UPSTREAM_ERROR))
"""What makes a failure of an answer with a good head; the last: it said so within its stream."""


class Tally:
    """Running counts of one series in one quarter of a tick; see `model.ticks.Counts`."""

    __slots__ = (
        "answered",
        "client_errors",
        "ended",
        "errors",
        "failed_over",
        "first_bytes",
        "latencies",
        "left",
        "scores",
        "series",
        "started",
        "truncated",
        "withdrawn",
    )

    def __init__(self, series: SeriesTicks) -> None:
        self.series = series
        self.started = self.answered = self.errors = self.client_errors = 0
        self.truncated = self.withdrawn = self.ended = self.failed_over = 0
        self.latencies: dict[int, int] = {}
        self.left: dict[int, int] = {}
        self.first_bytes: dict[int, int] = {}
        self.scores: dict[str, Score] = {}

    def __repr__(self) -> str:
        return f"<Tally started={self.started} answered={self.answered} ended={self.ended}>"

    def answer(self, response: Response, failed_over: bool) -> None:
        """A final head came; `failed_over`: control's, in treatment's place."""
        self.answered += 1
        if failed_over:
            self.errors += 1
            self.failed_over += 1
        elif is_error(response):
            self.errors += 1
        elif response.status >= 400:
            self.client_errors += 1

    def score(self, metric: str, value: float) -> None:
        """The answer's head reported this of itself."""
        score = Score.of(value)
        before = self.scores.get(metric)
        self.scores[metric] = score if before is None else before + score

    def end(
        self,
        response: Response | None,
        outcome: Outcome,
        failed_over: bool,
        seconds: float,
        first_byte: float,
    ) -> float:
        """The request is over; what it is worth to an experiment, as `model.records` has it.

        `response` is the head that was counted. The times count from the request's start; `first_byte`
        means nothing without a head.
        """
        self.ended += 1
        if outcome is _LEFT:
            bucket = bucket_of(seconds)
            self.left[bucket] = self.left.get(bucket, 0) + 1
        if response is None:
            if failed_over or outcome in _HEADLESS_FAILURES:
                self.answered += 1
                self.errors += 1
                self.failed_over += failed_over
                return FAILED
            self.withdrawn += 1
            return NO_OUTCOME
        if failed_over or is_error(response):
            return FAILED
        if outcome is _OK:
            if response.status >= 400:
                return NO_OUTCOME
            bucket = bucket_of(seconds)
            self.latencies[bucket] = self.latencies.get(bucket, 0) + 1
            bucket = coarse(bucket_of(first_byte))
            self.first_bytes[bucket] = self.first_bytes.get(bucket, 0) + 1
            return seconds
        if outcome in _CUTS:
            self.truncated += 1
            return FAILED
        return NO_OUTCOME

    def withdraw(self) -> None:
        """The request leaves the comparison before it has a head: the latch engaged."""
        self.withdrawn += 1
        self.ended += 1

    @property
    def happened(self) -> int:
        """Moves with everything that happens."""
        return self.started + self.answered + self.ended

    @property
    def heads_known(self) -> bool:
        """True once every request has an outcome of its head, or is out."""
        return self.answered + self.withdrawn >= self.started

    @property
    def over(self) -> bool:
        """True once every request that started is over."""
        return self.ended >= self.started

    def counts(self) -> Counts:
        """Everything."""
        return Counts(
            self.started,
            self.answered,
            self.errors,
            self.client_errors,
            self.truncated,
            self.withdrawn,
            self.ended,
            self.latencies,
            self.left,
            self.first_bytes,
            self.scores,
            self.failed_over,
        )

    def heads(self) -> Counts:
        """What the heads of answers said, and which will not come."""
        return Counts(
            started=self.started,
            answered=self.answered,
            errors=self.errors,
            client_errors=self.client_errors,
            withdrawn=self.withdrawn,
            scores=self.scores,
            failed_over=self.failed_over,
        )


def is_error(response: Response) -> bool:
    """True if the upstream failed by its status, or says so itself (`success=0`)."""
    if response.status >= 500 or response.status == 429:
        return True
    metric = response.metric
    return metric is not None and any(_FAILED.fullmatch(part) for part in metric.split(b","))


class SeriesTicks:
    """The quarters of ticks of one series, as a decision holds them."""

    __slots__ = ("_ends", "_tally", "_ticks", "key", "number")

    def __init__(self, ticks: Ticks, number: int, key: Series) -> None:
        self.key = key
        self.number = number
        self._ticks = ticks
        self._tally = Tally(self)
        self._ends = 0.0

    def start(self, at: float) -> Tally:
        """Count a request that started at `at` (monotonic seconds); its tally, for how it goes on."""
        if at >= self._ends:
            self._ends, self._tally = self._ticks.turn(self, at)
        tally = self._tally
        tally.started += 1
        return tally


class _Told:
    """A tick, or a quarter of one, as it is reported: text that is made anew only if something happened."""

    __slots__ = ("_happened", "_tallies", "numbers", "text")

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.text = ""
        self._tallies: list[Tally] = []
        self._happened = 0

    def add(self, tally: Tally) -> None:
        self._tallies.append(tally)
        self.numbers.add(tally.series.number)

    def update(self, counts_of: Callable[[Tally], Counts]) -> None:
        happened = sum([tally.happened for tally in self._tallies])
        if happened == self._happened:
            return
        self._happened = happened
        sums: dict[int, Counts] = {}
        for tally in self._tallies:
            number, counts = tally.series.number, counts_of(tally)
            sums[number] = add(sums[number], counts) if number in sums else counts
        self.text = " ".join([pack(number, counts) for number, counts in sums.items()])

    def all(self, done: Callable[[Tally], bool]) -> bool:
        return all(map(done, self._tallies))

    def finish(self) -> None:
        """Nothing will change any more: the text is all that is needed."""
        self._tallies.clear()
        self._happened = 0


class _Course:
    """Ticks of one length that are still to be reported; see `model.observation.TickReports`."""

    def __init__(self, counts_of: Callable[[Tally], Counts], done: Callable[[Tally], bool]) -> None:
        self.through = 0
        self.open: dict[int, _Told] = {}
        self._counts_of = counts_of
        self._done = done
        self._held: dict[int, _Told] = {}
        self._told: dict[int, str] = {}
        self._telling: dict[int, str] = {}

    def add(self, at: int, tally: Tally) -> None:
        # A longer interval may begin before what was reported as complete: that stays as it is.
        at = max(at, self.through)
        told = self._held.get(at)
        if told is None:
            told = self._held[at] = self.open[at] = _Told()
        told.add(tally)

    def known_to(self, current: int) -> int:
        """Where the oldest tick begins that is not done; `current` if all before that one are."""
        for at, told in self.open.items():
            if at < current and not told.all(self._done):
                return at
        return current

    def report(self, through: int, oldest: int) -> tuple[TickReport, ...]:
        """Those that changed since the report that was sent last; forgets those before `oldest`."""
        self.through = max(self.through, through)
        for at in [at for at in self._held if at < oldest]:
            del self._held[at]
            self.open.pop(at, None)
        for at, told in list(self.open.items()):
            told.update(self._counts_of)
            if at < self.through and told.all(self._done):
                told.finish()
                del self.open[at]
        self._telling = {at: told.text for at, told in self._held.items()}
        before = self._told
        return tuple([TickReport(at, text) for at, text in self._telling.items() if before.get(at) != text])

    def sent(self) -> None:
        self._told = self._telling

    def begin_anew(self) -> None:
        self._told = {}

    @property
    def numbers(self) -> set[int]:
        """Of the series that occur."""
        found: set[int] = set()
        return found.union(*[told.numbers for told in self._held.values()])

    def __len__(self) -> int:
        return len(self._held)


class Ticks:
    """All ticks of one worker that are still to be reported, and their quarters."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.ticks_due = False
        """Whether whole ticks are part of the news; else a report of quarters does."""
        self._interval = 1.0
        self._held_for = 0.0
        self._version = 0
        self._series: dict[Series, SeriesTicks] = {}
        self._numbers = 0
        self._known_to = self._looked_at = 0
        self._whole = True
        self._tells_ticks = True
        self._at = 0
        self._ticks = _Course(Tally.counts, _is_over)
        self._heads = _Course(Tally.heads, _are_heads_known)

    def __repr__(self) -> str:
        return f"<Ticks open={len(self._ticks.open)} of {len(self._ticks)} series={len(self._series)}>"

    def follow(self, snapshot: Snapshot) -> None:
        """Count by this snapshot's tick, and hold ticks until control has surely settled them."""
        self._interval = snapshot.tick
        self._held_for = settle_limit(snapshot) + SLACK
        self._version = snapshot.version

    def series(self, decision: Decision, version: int, first: bool = False) -> SeriesTicks | None:
        """Where requests of a decision under snapshot `version` count; None if they do not.

        `first`: those that are their user's first; see `model.ticks.Series`.
        """
        if not decision.analysed:
            return None
        key = Series(
            version,
            decision.route.name,
            decision.assigned.label,
            decision.experiment or "",
            decision.group or "",
            first,
        )
        found = self._series.get(key)
        if found is None:
            self._numbers += 1
            found = self._series[key] = SeriesTicks(self, self._numbers, key)
        return found

    def turn(self, series: SeriesTicks, at: float) -> tuple[float, Tally]:
        """A tally for the quarter that holds `at`, and when that ends."""
        begin, end = quarter_of(at, self._interval)
        tally = Tally(series)
        self._ticks.add(tick_of(at, self._interval), tally)
        self._heads.add(begin, tally)
        return end / 1000, tally

    def news(self) -> bool:
        """True once after each time that more quarters have become complete, with all their heads known.

        What they say is worth a report of its own: control may be waiting for the last of them. And so
        is, once in a tick, what is still open of those before it: hangs are judged by their age.
        """
        now = self._clock()
        current = tick_of(now, self._interval)
        known_to = self._heads.known_to(quarter_of(now, self._interval)[0])
        is_told = now * 1000 < current + OPEN_FOR or current <= self._looked_at
        if is_told and known_to <= self._known_to:
            return False
        self.ticks_due |= not is_told or self._known_to < current <= known_to
        if not is_told:
            self._looked_at = current
        self._known_to = max(known_to, self._known_to)
        return True

    def next_news(self) -> float:
        """Seconds after which there may be news."""
        now = self._clock()
        begin, end = quarter_of(now, self._interval)
        if self._known_to < begin:
            return PATIENCE
        opened = tick_of(now, self._interval) + OPEN_FOR
        due = opened if now * 1000 < opened < end else end
        return max(0.0, due / 1000 - now) + TURN

    def report(self, *, of_quarters: bool = False) -> TickReports:
        """Everything that changed since the report that was sent last; forgets what is too old to matter.

        `of_quarters`: whole ticks, of which there is so much more to tell, are left for a later report,
        unless everything has to be told.
        """
        now = self._clock()
        oldest = int((now - self._held_for) * 1000)
        heads = self._heads.report(quarter_of(now, self._interval)[0], oldest)
        ticks: tuple[TickReport, ...] = ()
        self._tells_ticks = self._whole or not of_quarters
        if self._tells_ticks:
            self._at = int(now * 1000)
            ticks = self._ticks.report(tick_of(now, self._interval), oldest)
        return TickReports(
            self._ticks.through,
            self._reported_series(),
            ticks,
            oldest,
            whole=self._whole,
            at=self._at,
            heads=heads,
            heads_through=self._heads.through,
        )

    def sent(self) -> None:
        """The newest report has left: what it said need not be said again."""
        self._heads.sent()
        if self._tells_ticks:
            self._ticks.sent()
            self._whole = self.ticks_due = False

    def begin_anew(self) -> None:
        """Somebody listens who heard nothing yet: the next report has everything."""
        self._whole = True
        self._ticks.begin_anew()
        self._heads.begin_anew()

    def _reported_series(self) -> tuple[SeriesReport, ...]:
        """The series that occur; forgets those of former snapshots that do not."""
        reported = self._ticks.numbers | self._heads.numbers
        self._series = {
            key: series
            for key, series in self._series.items()
            if series.number in reported or key.snapshot >= self._version
        }
        return tuple(
            SeriesReport(series.number, key)
            for key, series in self._series.items()
            if series.number in reported
        )


def _is_over(tally: Tally) -> bool:
    return tally.over


def _are_heads_known(tally: Tally) -> bool:
    return tally.heads_known
