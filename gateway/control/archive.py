"""What the windows keep in the store: sums of settled ticks in rows of ten seconds, and totals of periods.

Every write is one transaction together with the totals of its rows, so the stored state is consistent
however the process dies. A row says up to which tick it is complete, and on which monotonic clock.

It does not know which tick belongs to which period, nor what the sums are used for; see `control.windows`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.control.store.api import Store
from gateway.control.store.api import Tick as Row
from gateway.control.traffic import ROW_SECONDS
from gateway.core.sums import Profile, Sums
from gateway.model.scores import Score

DAY = 86_400
"""A period's totals are stored anew each day, so that a long one outlives the store's retention."""
_SUMS, _TOTALS, _PERIOD = "sums", "totals", "period"

Stream: TypeAlias = tuple[str, str, str, str]
"""Route, arm, experiment, group: a series over all snapshots of a period."""


@dataclass(frozen=True, slots=True)
class Period:
    """Traffic that may be added up: one phase, one epoch of it, one share.

    `begun` is Unix seconds. Requests belong to it from snapshot `version` and tick `first_tick` on.
    """

    number: int
    phase: str
    epoch: int
    begun: float
    version: int
    first_tick: int


@dataclass(frozen=True, slots=True)
class StoredSums:
    """What one stream of a period had in a stretch from Unix second `at` on.

    Ticks that began before monotonic millisecond `settled_to` are in the store, by the clock of `anchor`.
    """

    number: int
    stream: Stream
    at: int
    numbers: Mapping[str, float]

    @property
    def anchor(self) -> float:
        """Milliseconds from the monotonic clock's zero to 1970; another one is another clock."""
        return self.numbers["anchor"]

    @property
    def settled_to(self) -> int:
        """See the class."""
        return int(self.numbers["settled_to"])


class Archive:
    """The rows that are under way, and all totals."""

    def __init__(self, store: Store) -> None:
        self.totals: dict[int, dict[Stream, Profile]] = {}
        """Settled traffic by the period's number; whoever adds to it uses `add` and `rate`."""
        self.row_at = 0
        """Unix second where the newest row begins; see `turn`."""
        self._store = store
        self._rows: dict[tuple[int, Stream], Sums] = {}
        self._changed: set[tuple[int, Stream]] = set()

    def __repr__(self) -> str:
        return f"<Archive row_at={self.row_at} periods={len(self.totals)}>"

    # --- what was stored --------------------------------------------------------------------

    async def load(self, now: float, retention: float) -> tuple[list[Period], float, list[StoredSums]]:
        """The periods, oldest first, when the newest rating came, and the sums; totals are taken in.

        Raises StoreError, and on foreign rows ValueError, TypeError, KeyError or IndexError.
        """
        end = int(now) + DAY
        days = range(end - int(retention) - 2 * DAY, end, DAY)  # no read that the store would give up
        rows = [row for day in days for row in await self._store.ticks(day, day + DAY)]
        periods: dict[int, Period] = {}
        rated_at, sums = 0.0, []
        for row in rows:
            kind, number, *rest = json.loads(row.key)
            if kind == _PERIOD:
                phase, epoch = rest
                periods[number] = Period(number, phase, epoch, row.sums["begun"], 0, 0)
                rated_at = max(rated_at, row.sums.get("rated_at", 0.0))
            elif kind == _TOTALS:
                profile = self.totals.setdefault(number, {})[_stream(rest)] = Profile()
                profile.load(row.sums)
            elif kind == _SUMS:
                sums.append(StoredSums(number, _stream(rest), row.at, row.sums))
                self._go_on(sums[-1], row.span)
        return [periods[number] for number in sorted(periods)], rated_at, sums

    def _go_on(self, stored: StoredSums, span: int) -> None:
        """The newest row may go on: what comes is added to it."""
        if stored.at > self.row_at:
            self.row_at = stored.at
            self._rows.clear()
        if stored.at == self.row_at and span == ROW_SECONDS:
            self._rows.setdefault((stored.number, stored.stream), Sums()).load(stored.numbers)

    # --- what is to be stored ---------------------------------------------------------------

    def begin(self, period: Period, now: float) -> None:
        """A period begins."""
        self._store.add_ticks([_period_row(period, _day(int(now)), 0.0)])

    def turn(self, row_at: int) -> None:
        """Another row begins, at this Unix second; the last one was flushed."""
        self._rows.clear()
        self.row_at = row_at

    def add(self, number: int, stream: Stream, profile: Profile) -> None:
        """Add what a settled tick has of a stream of a period, to the row that is under way."""
        self._changed.add((number, stream))
        self._rows.setdefault((number, stream), Sums()).add_sums(profile)
        self.totals.setdefault(number, {}).setdefault(stream, Profile()).add(profile)

    def rate(self, number: int, stream: Stream, scores: Mapping[str, Score]) -> None:
        """Add scores that came apart from their requests."""
        self._changed.add((number, stream))
        self.totals.setdefault(number, {}).setdefault(stream, Profile()).rate(scores)

    def flush(
        self, periods: Iterable[Period], now: float, rated_at: float, *, anchor: int, settled_to: int
    ) -> None:
        """Store what is not yet stored; a row may go on after that.

        `anchor` and `settled_to` say where to go on after a restart; see StoredSums.
        """
        day, rows = _day(self.row_at or int(now)), []
        reached = {"anchor": anchor, "settled_to": settled_to}
        for number, stream in self._changed:
            if (sums := self._rows.get((number, stream))) is not None:
                key = _key(_SUMS, number, stream)
                rows.append(Row(self.row_at, ROW_SECONDS, key, sums.numbers() | reached))
            total = self.totals[number][stream]
            rows.append(Row(day, DAY, _key(_TOTALS, number, stream), total.stored()))
        numbers = {number for number, _ in self._changed}
        rows += [_period_row(period, day, rated_at) for period in periods if period.number in numbers]
        self._changed.clear()
        if rows:
            self._store.add_ticks(rows)


def _day(at: int) -> int:
    return at - at % DAY


def _period_row(period: Period, day: int, rated_at: float) -> Row:
    key = _key(_PERIOD, period.number, (period.phase, period.epoch))
    return Row(day, DAY, key, {"begun": period.begun, "rated_at": rated_at})


def _key(kind: str, number: int, rest: Iterable[str | int]) -> str:
    return json.dumps([kind, number, *rest], separators=(",", ":"))


def _stream(rest: list[str]) -> Stream:
    route, arm, experiment, group = rest
    return route, arm, experiment, group
