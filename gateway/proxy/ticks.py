"""What a worker counts for those who judge: starts and outcomes per series and tick of start.

On the hot path a request costs three calls on plain integers; everything else happens when a report is
made. Intention to treat: a request counts where it was assigned to when it was decided, whoever
answers. Only requests that take part in the comparison are counted, and no tunnels.

It sends nothing and judges nothing; what a tick's numbers mean is said in `model.ticks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

from gateway.core.split import Decision
from gateway.model.observation import Outcome, SeriesReport, TickReport, TickReports
from gateway.model.records import FAILED, NO_OUTCOME
from gateway.model.scores import Score
from gateway.model.snapshot import Snapshot
from gateway.model.ticks import Counts, Series, bucket_of, coarse, pack, settle_limit, tick_of
from gateway.wire.response import Response

SLACK = 40.0
"""Seconds that a settled tick is still reported: a control process may be away for that long."""
OPEN_FOR = 150
"""Milliseconds after a tick's end at which what is open of it is told: most heads have come by then."""
_FAILED: Final = re.compile(rb"[ \t]*success[ \t]*=[ \t]*0(\.0*)?[ \t]*")
_OK: Final = Outcome.OK
_HEADLESS_FAILURES: Final = frozenset((Outcome.CONNECT_ERROR, Outcome.RESET, Outcome.TIMEOUT))
_LEFT: Final = Outcome.CLIENT_CLOSED
_CUTS: Final = frozenset((Outcome.TRUNCATED, Outcome.RESET, Outcome.TIMEOUT, Outcome.UPSTREAM_ERROR))
"""What makes a failure of an answer with a good head; the last: it said so within its stream."""


class Tally:
    """Running counts of one series in one tick; see `model.ticks.Counts`."""

    __slots__ = (
        "_text",
        "_text_of",
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
        self._text = ""
        self._text_of = -1

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

    def text(self) -> str:
        """The counts as they travel; made anew only if something happened."""
        happened = self.started + self.answered + self.ended
        if happened != self._text_of:
            self._text_of = happened
            self._text = pack(self.series.number, self._counts())
        return self._text

    @property
    def heads_known(self) -> bool:
        """True once every request has an outcome of its head, or is out."""
        return self.answered + self.withdrawn >= self.started

    @property
    def over(self) -> bool:
        """True once every request that started is over."""
        return self.ended >= self.started

    def _counts(self) -> Counts:
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


def is_error(response: Response) -> bool:
    """True if the upstream failed by its status, or says so itself (`success=0`)."""
    if response.status >= 500 or response.status == 429:
        return True
    metric = response.metric
    return metric is not None and any(_FAILED.fullmatch(part) for part in metric.split(b","))


class SeriesTicks:
    """The ticks of one series, as a decision holds them."""

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


@dataclass(frozen=True, slots=True)
class _Held:
    """A tick as it is reported, and the numbers of the series in it."""

    report: TickReport
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, at: int, tallies: list[Tally]) -> _Held:
        text = " ".join(tally.text() for tally in tallies)
        return cls(TickReport(at, text), tuple(tally.series.number for tally in tallies))


class Ticks:
    """All ticks of one worker that are still to be reported."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._interval = 1.0
        self._held_for = 0.0
        self._version = 0
        self._series: dict[Series, SeriesTicks] = {}
        self._numbers = 0
        self._through = 0
        self._known_to = self._looked_at = 0
        self._told: dict[int, str] | None = None
        self._telling: dict[int, str] = {}
        self._open: dict[int, list[Tally]] = {}
        self._over: dict[int, _Held] = {}

    def __repr__(self) -> str:
        return f"<Ticks open={len(self._open)} over={len(self._over)} series={len(self._series)}>"

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
        """A tally for the tick that holds `at`, and when that tick ends."""
        tick = tick_of(at, self._interval)
        tally = Tally(series)
        # A longer interval may begin before what was reported as complete: that stays as it is.
        self._open.setdefault(max(tick, self._through), []).append(tally)
        return (tick + round(self._interval * 1000)) / 1000, tally

    def news(self) -> bool:
        """True once after each time that more ticks have become complete, with all their heads known.

        What they say is worth a report of its own: control may be waiting for the last of them. And so
        is, once in a tick, what is still open of those before it: hangs are judged by their age.
        """
        now = self._clock()
        current = tick_of(now, self._interval)
        if current > self._looked_at and now * 1000 >= current + OPEN_FOR:
            self._looked_at = current
            return True
        waiting = [
            at
            for at, tallies in self._open.items()
            if at < current and not all(tally.heads_known for tally in tallies)
        ]
        known_to = min(waiting, default=current)
        if known_to <= self._known_to:
            return False
        self._known_to = known_to
        return True

    def report(self) -> TickReports:
        """Every tick that changed since the report that was sent last; forgets what is too old to matter."""
        now = self._clock()
        self._through = max(self._through, tick_of(now, self._interval))
        oldest = int((now - self._held_for) * 1000)
        self._over = {at: over for at, over in self._over.items() if at >= oldest}
        self._open = {at: tallies for at, tallies in self._open.items() if at >= oldest}
        held = self._over | {at: _Held.of(at, tallies) for at, tallies in self._open.items()}
        for at, tallies in list(self._open.items()):
            if at < self._through and all(tally.over for tally in tallies):
                self._over[at] = held[at]
                del self._open[at]
        told = self._told or {}
        self._telling = {at: one.report.counts for at, one in held.items()}
        return TickReports(
            self._through,
            self._reported_series(held),
            tuple(one.report for at, one in held.items() if told.get(at) != one.report.counts),
            oldest,
            whole=self._told is None,
            at=int(now * 1000),
        )

    def sent(self) -> None:
        """The newest report has left: what it said need not be said again."""
        self._told = self._telling

    def begin_anew(self) -> None:
        """Somebody listens who heard nothing yet: the next report has everything."""
        self._told = None

    def _reported_series(self, held: Mapping[int, _Held]) -> tuple[SeriesReport, ...]:
        """The series that occur; forgets those of former snapshots that do not."""
        reported = {number for one in held.values() for number in one.numbers}
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
