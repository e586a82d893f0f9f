"""What a worker counts: plain integers on the hot path, an Observation when asked.

It judges nothing and sends nothing. Counters belong to (route, arm) by name and live as long as the
worker, over any number of snapshots.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Iterable

from gateway.model.observation import (
    LATENCY_BOUNDS,
    OVERHEAD_BOUNDS,
    EndpointReport,
    Histogram,
    Observation,
    Outcome,
    RouteCounts,
)
from gateway.model.snapshot import Arm, Snapshot
from gateway.proxy.records import Records
from gateway.proxy.reports import ReportReader
from gateway.proxy.ticks import Ticks


class Cell:
    """Counters of one route as one arm answered it; `arm` is the assigned one (intention to treat)."""

    __slots__ = ("arm", "counts", "duration", "duration_sum", "first_byte", "first_byte_sum", "route")

    def __init__(self, route: str, arm: Arm) -> None:
        self.route = route
        self.arm = arm
        self.counts: dict[int, int] = {}
        self.duration = [0] * (len(LATENCY_BOUNDS) + 1)
        self.duration_sum = 0.0
        self.first_byte = [0] * (len(LATENCY_BOUNDS) + 1)
        self.first_byte_sum = 0.0

    def add(self, status: int, outcome: Outcome, duration: float, first_byte: float) -> None:
        """Count one request. Seconds; `first_byte` below zero means that none ever came."""
        key = status << 3 | outcome
        self.counts[key] = self.counts.get(key, 0) + 1
        self.duration[bisect_left(LATENCY_BOUNDS, duration)] += 1
        self.duration_sum += duration
        if first_byte >= 0:
            self.first_byte[bisect_left(LATENCY_BOUNDS, first_byte)] += 1
            self.first_byte_sum += first_byte

    def report(self) -> RouteCounts:
        """The counters as a value."""
        return RouteCounts(
            self.route,
            self.arm.label,
            tuple((key >> 3, Outcome(key & 7).label, count) for key, count in self.counts.items()),
            Histogram(tuple(self.duration), self.duration_sum),
            Histogram(tuple(self.first_byte), self.first_byte_sum),
        )


class Recorder:
    """All counters of one worker."""

    def __init__(self) -> None:
        self.incarnation = f"{os.getpid()}-{time.time_ns():x}"
        self.started_at = time.time()
        self._cells: dict[tuple[str, Arm], Cell] = {}
        self._overhead = [0] * (len(OVERHEAD_BOUNDS) + 1)
        self._overhead_sum = 0.0
        self.inflight = [0, 0]
        self._failovers: dict[tuple[str, str], int] = {}
        self.lines_dropped = 0
        """Lines of logs that were lost to a full pipe; the worker keeps it up to date."""
        self.ticks = Ticks()
        self.records = Records(self.incarnation)
        self.reports = ReportReader()

    def follow(self, snapshot: Snapshot) -> None:
        """Count by this snapshot's tick and metrics from now on."""
        self.ticks.follow(snapshot)
        self.records.follow(snapshot.metrics)
        self.reports.follow(snapshot.metrics)

    def cell(self, route: str, arm: Arm) -> Cell:
        """The counters of a route and arm, made on first use."""
        key = (route, arm)
        if key not in self._cells:
            self._cells[key] = Cell(route, arm)
        return self._cells[key]

    def add_overhead(self, seconds: float) -> None:
        """Count the gateway's own share of one answer."""
        self._overhead[bisect_left(OVERHEAD_BOUNDS, seconds)] += 1
        self._overhead_sum += seconds

    def add_failover(self, route: str, reason: str) -> None:
        """Count one request that control answered for treatment."""
        key = (route, reason)
        self._failovers[key] = self._failovers.get(key, 0) + 1

    def observe(
        self,
        snapshot: int,
        endpoints: Iterable[EndpointReport],
        connections: int,
        *,
        of_quarters: bool = False,
    ) -> Observation:
        """Everything counted so far, as the report that goes up the link; for `of_quarters` see `Ticks`."""
        return Observation(
            incarnation=self.incarnation,
            pid=os.getpid(),
            snapshot=snapshot,
            started_at=self.started_at,
            routes=tuple(cell.report() for cell in self._cells.values()),
            overhead=Histogram(tuple(self._overhead), self._overhead_sum),
            inflight=(self.inflight[0], self.inflight[1]),
            failovers=tuple((route, reason, n) for (route, reason), n in self._failovers.items()),
            endpoints=tuple(endpoints),
            connections=connections,
            records_dropped=self.lines_dropped + self.records.dropped,
            ticks=self.ticks.report(of_quarters=of_quarters),
            reports_refused=self.reports.refused,
        )
