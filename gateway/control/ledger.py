"""The traffic of all workers, dead ones included, as sums that never decrease.

Workers report cumulative numbers. The ledger holds the newest report of each worker and adds those of
workers that died long ago to one retired sum. It can be passed to the next control process as bytes, so no
request is lost or counted twice when a worker or a control process dies.

It does not know Prometheus or the status page; both read it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, repeat

from gateway.model.codec import decode, encode
from gateway.model.observation import (
    LATENCY_BOUNDS,
    OVERHEAD_BOUNDS,
    Histogram,
    Observation,
    RouteCounts,
    TickReport,
)

DEAD_HELD = 8
"""Reports of dead workers that are held unfolded: the last words of one may arrive after its death."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over reports. Each report's numbers are cumulative, so these are too."""

    routes: tuple[RouteCounts, ...]
    overhead: Histogram
    failovers: tuple[tuple[str, str, int], ...]
    """(route, reason, count)."""
    records_dropped: int
    reports_refused: int = 0

    def served(self, arm: str) -> int:
        """Requests that an arm has ended; what no route took was refused, and is none of them."""
        return sum(
            count
            for counts in self.routes
            if counts.arm == arm and counts.route
            for _, _, count in counts.requests
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    """The ledger as it travels to the next control process."""

    retired: Totals
    folded: tuple[str, ...]
    reports: tuple[Observation, ...]


def _texts_of(reports: Iterable[Observation]) -> Iterator[str]:
    """The texts of all their ticks, in order."""
    for report in reports:
        for tick in chain(report.ticks.ticks, report.ticks.heads):
            yield tick.counts


def _with_texts(reports: Iterable[Observation], texts: Iterable[str]) -> tuple[Observation, ...]:
    """The reports with these in place of `_texts_of` them. Raises ValueError if there are too few."""
    rest = iter(texts)
    return tuple(
        replace(
            report,
            ticks=replace(
                report.ticks, ticks=_retold(report.ticks.ticks, rest), heads=_retold(report.ticks.heads, rest)
            ),
        )
        for report in reports
    )


def _retold(ticks: Collection[TickReport], texts: Iterator[str]) -> tuple[TickReport, ...]:
    told = tuple(TickReport(tick.at, text) for tick, text in zip(ticks, texts, strict=False))
    if len(told) < len(ticks):
        raise ValueError("texts of ticks are missing")
    return told


def empty_histogram(bounds: tuple[float, ...]) -> Histogram:
    """A histogram over `bounds` that counted nothing yet."""
    return Histogram((0,) * (len(bounds) + 1), 0.0)


NOTHING = Totals((), empty_histogram(OVERHEAD_BOUNDS), (), 0)


def add_histograms(first: Histogram, second: Histogram) -> Histogram:
    """The histogram that would have counted both. Raises ValueError if their buckets differ."""
    buckets = tuple(a + b for a, b in zip(first.buckets, second.buckets, strict=True))
    return Histogram(buckets, first.total + second.total)


def add_up(parts: Iterable[Observation | Totals]) -> Totals:
    """The sum of reports and of earlier sums."""
    routes: dict[tuple[str, str], _RouteSum] = {}
    overhead = NOTHING.overhead
    failovers: dict[tuple[str, str], int] = {}
    records_dropped = reports_refused = 0
    for part in parts:
        for counts in part.routes:
            routes.setdefault((counts.route, counts.arm), _RouteSum()).add(counts)
        overhead = add_histograms(overhead, part.overhead)
        for route, reason, count in part.failovers:
            failovers[route, reason] = failovers.get((route, reason), 0) + count
        records_dropped += part.records_dropped
        reports_refused += part.reports_refused
    return Totals(
        tuple(total.counts(*key) for key, total in sorted(routes.items())),
        overhead,
        tuple((route, reason, count) for (route, reason), count in sorted(failovers.items())),
        records_dropped,
        reports_refused,
    )


class _RouteSum:
    """The running sum of one (route, arm)."""

    def __init__(self) -> None:
        self._requests: dict[tuple[int, str], int] = {}
        self._duration = self._time_to_first_byte = empty_histogram(LATENCY_BOUNDS)

    def add(self, counts: RouteCounts) -> None:
        for code, outcome, count in counts.requests:
            self._requests[code, outcome] = self._requests.get((code, outcome), 0) + count
        self._duration = add_histograms(self._duration, counts.duration)
        self._time_to_first_byte = add_histograms(self._time_to_first_byte, counts.time_to_first_byte)

    def counts(self, route: str, arm: str) -> RouteCounts:
        requests = tuple((code, outcome, count) for (code, outcome), count in sorted(self._requests.items()))
        return RouteCounts(route, arm, requests, self._duration, self._time_to_first_byte)


class Ledger:
    """The newest report of every live worker and the retired sum of the dead."""

    def __init__(self) -> None:
        self._retired = NOTHING
        self._folded: set[str] = set()
        self._reports: dict[str, Observation] = {}
        self._live: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"<Ledger reports={len(self._reports)} retired={len(self._folded)}>"

    @classmethod
    def restore(cls, kept: bytes) -> Ledger:
        """The ledger that `encoded` described. Raises ValueError or TypeError on foreign bytes."""
        head, *texts = kept.decode().split("\n")
        state = decode(_Kept, head.encode())
        ledger = cls()
        ledger._retired = add_up([state.retired])  # refuses buckets of another version
        ledger._folded = set(state.folded)
        reports = _with_texts(state.reports, texts)
        ledger._reports = {report.incarnation: report for report in reports}
        return ledger

    def encoded(self) -> bytes:
        """Everything, for `restore` in the next control process.

        The ticks' texts, megabytes where traffic is heavy, stand behind the rest, a line each: as JSON
        they would hold the loop eight times as long.
        """
        reports = tuple(self._reports.values())
        bare = _with_texts(reports, repeat(""))
        head = encode(_Kept(self._retired, tuple(sorted(self._folded)), bare)).decode()
        return "\n".join(chain((head,), _texts_of(reports))).encode()

    def take(self, reports: Iterable[Observation]) -> None:
        """Take newer reports in. One of a worker that was folded in already adds nothing."""
        for report in reports:
            if report.incarnation not in self._folded:
                self._reports[report.incarnation] = report

    def note_dropped(self, records: int) -> None:
        """Records were lost on this side of the link."""
        self._retired = replace(self._retired, records_dropped=self._retired.records_dropped + records)

    def retire(self, live_pids: Collection[int]) -> None:
        """Note which processes still run; fold in the reports of those that are long gone."""
        self._live = frozenset(live_pids)
        dead = [report for report in self._reports.values() if report.pid not in self._live]
        surplus = dead[: max(0, len(dead) - DEAD_HELD)]
        if surplus:
            self._retired = add_up([self._retired, *surplus])
        for report in surplus:
            self._folded.add(report.incarnation)
            del self._reports[report.incarnation]

    @property
    def reports(self) -> Collection[Observation]:
        """The newest report of each worker, live or lately dead."""
        return self._reports.values()

    @property
    def live(self) -> Mapping[int, Observation]:
        """The newest report of each live worker, by process id."""
        return {report.pid: report for report in self._reports.values() if report.pid in self._live}

    def totals(self) -> Totals:
        """All traffic ever, dead workers included."""
        return add_up([self._retired, *self._reports.values()])
