"""What a worker tells those who judge: counts per series, by ticks and by quarters of a tick.

Requests count in a `Tally`; everything else happens when a quarter turns or a report is made. Only requests
that take part in the comparison are counted, and no tunnels.

It sends nothing and judges nothing; what a tick's numbers mean is said in `model.ticks`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from time import monotonic

from gateway.core.folding import add
from gateway.core.split import Decision
from gateway.model.observation import SeriesReport, TickReport, TickReports
from gateway.model.snapshot import Snapshot
from gateway.model.ticks import (
    Counts,
    LastingLimit,
    Series,
    head_limit,
    pack,
    quarter_of,
    settle_limit,
    tick_of,
)
from gateway.proxy.tally import Tally

SLACK = 40.0
"""Seconds that a settled tick is still reported: a control process may be away for that long."""
OPEN_FOR = 250
"""Milliseconds after a tick's end at which whole ticks are told: most heads have come by then. With ticks of
a second a quarter turns at the same time, and one report does for both."""
PATIENCE = 0.02
"""Seconds between two looks for the last head of a quarter."""
TURN = 0.002
"""Seconds after the turn of a quarter at which it is looked at: clocks and timers are not exact."""


class SeriesTicks:
    """The quarters of ticks of one series, as a decision holds them."""

    __slots__ = ("_ends", "_tally", "_ticks", "key", "number")

    def __init__(self, ticks: Ticks, number: int, key: Series) -> None:
        self.key = key
        self.number = number
        self._ticks = ticks
        self._tally = Tally(number, key)
        self._ends = 0.0

    def start(self, at: float) -> Tally:
        """Count a request that started at `at` (monotonic seconds); its tally, for how it goes on."""
        if at >= self._ends:
            self._ends, self._tally = self._ticks.turn(self, at)
        tally = self._tally
        tally.started += 1
        return tally


class _Told:
    """A tick, or a quarter of one, as it is reported; text is made anew of what something happened to."""

    __slots__ = ("_happened", "_tallies", "_texts", "numbers", "text")

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.text = ""
        self._tallies: dict[int, list[Tally]] = {}
        self._happened: dict[int, int] = {}
        self._texts: dict[int, str] = {}

    def add(self, tally: Tally) -> None:
        self._tallies.setdefault(tally.number, []).append(tally)
        self.numbers.add(tally.number)

    def update(self, counts_of: Callable[[Tally], Counts]) -> None:
        changed = False
        for number, tallies in self._tallies.items():
            happened = sum([tally.happened for tally in tallies])
            if happened == self._happened.get(number, 0):
                continue
            changed = True
            self._happened[number] = happened
            self._texts[number] = pack(number, reduce(add, map(counts_of, tallies)))
        if changed:
            self.text = " ".join(self._texts.values())

    def all(self, done: Callable[[Tally], bool]) -> bool:
        return all(done(tally) for tallies in self._tallies.values() for tally in tallies)

    def finish(self) -> None:
        """Nothing will change any more: the text is all that is needed."""
        self._tallies.clear()
        self._happened.clear()
        self._texts.clear()


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
        """Whether whole ticks are news too, as they are once in a tick; else a report of quarters does."""
        self._interval = 1.0
        self._held_for, self._heads_held_for = LastingLimit(), LastingLimit()
        self._version = 0
        self._series: dict[Series, SeriesTicks] = {}
        self._numbers = 0
        self._known_to = self._looked_at = 0
        self._whole = True
        self._tells_ticks = self._untold = False
        self._at = 0
        self._ticks = _Course(Tally.counts, _is_over)
        self._heads = _Course(Tally.heads, _are_heads_known)

    def __repr__(self) -> str:
        return f"<Ticks open={len(self._ticks.open)} of {len(self._ticks)} series={len(self._series)}>"

    def follow(self, snapshot: Snapshot) -> None:
        """Count by this snapshot's tick, and hold ticks until control has surely settled them."""
        self._interval = snapshot.tick
        # The last requests of a tick start when it ends: theirs is the limit that counts.
        now = self._clock()
        self._held_for.set(settle_limit(snapshot) + snapshot.tick + SLACK, now)
        self._heads_held_for.set(head_limit(snapshot) + snapshot.tick + SLACK, now)
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
        tally = Tally(series.number, series.key)
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
        open_due = current > self._looked_at and now * 1000 >= current + self._open_for
        if not open_due and known_to <= self._known_to:
            return False
        if open_due:
            self.ticks_due = True
            self._looked_at = current
        self._known_to = max(known_to, self._known_to)
        return True

    def next_news(self) -> float:
        """Seconds after which there may be news."""
        now = self._clock()
        begin, end = quarter_of(now, self._interval)
        if self._known_to < begin:
            return PATIENCE
        opened = tick_of(now, self._interval) + self._open_for
        due = opened if now * 1000 < opened < end else end
        return max(0.0, due / 1000 - now) + TURN

    def report(self, *, of_quarters: bool = False) -> TickReports:
        """Everything that changed since the report that was sent last; forgets what is too old to matter.

        `of_quarters`: whole ticks, of which there is so much more to tell, are left for a later report,
        unless everything has to be told.
        """
        now = self._clock()
        oldest = int((now - self._held_for.at(now)) * 1000)
        oldest_heads = int((now - self._heads_held_for.at(now)) * 1000)
        heads = self._heads.report(quarter_of(now, self._interval)[0], oldest_heads)
        ticks: tuple[TickReport, ...] = ()
        # What says that ticks are complete must have them: those of a report that did not leave, too.
        self._tells_ticks = self._whole or self._untold or not of_quarters
        if self._tells_ticks:
            self._untold = True
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
            oldest_heads=oldest_heads,
        )

    def sent(self) -> None:
        """The newest report has left: what it said need not be said again."""
        self._heads.sent()
        if self._tells_ticks:
            self._ticks.sent()
            self._whole = self._untold = self.ticks_due = False

    @property
    def _open_for(self) -> int:
        """OPEN_FOR; where ticks are shorter than that, they are told when the next one begins."""
        return OPEN_FOR if self._interval * 1000 > OPEN_FOR else 0

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
