"""Requests with a known fate, counted by a worker's own ticks under a clock that the test holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.core.split import Decision, Table
from gateway.model.observation import OVERHEAD_BOUNDS, Histogram, Observation, Outcome
from gateway.model.snapshot import Arm, Snapshot
from gateway.proxy.tally import Tally
from gateway.proxy.ticks import Ticks
from gateway.wire.response import Response
from tests.support.snapshots import make_snapshot

SNAPSHOT = make_snapshot(50)
NOTHING = Histogram((0,) * (len(OVERHEAD_BOUNDS) + 1), 0.0)


def response(status: int = 200, metric: bytes | None = None) -> Response:
    """A head without fields."""
    head = Response(status, b"", False)
    head.metric = metric
    return head


@dataclass
class Clock:
    """Monotonic seconds that stand still until they are set; `wall` runs beside them."""

    at: float = 1000.0
    offset: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at

    def wall(self) -> float:
        """Unix seconds."""
        return self.at + self.offset


@dataclass
class CountingWorker:
    """A worker without sockets. `pid` names it."""

    clock: Clock
    pid: int
    snapshot: Snapshot = SNAPSHOT
    ticks: Ticks = field(init=False)

    def __post_init__(self) -> None:
        self.ticks = Ticks(self.clock)
        self.follow(self.snapshot)

    def follow(self, snapshot: Snapshot) -> None:
        """Serve by a snapshot from now on."""
        self.snapshot = snapshot
        self.ticks.follow(snapshot)
        self._decisions = {
            decision.assigned: decision
            for decision in reversed(Table(snapshot).decisions)
            if decision.analysed
        }

    def decision(self, arm: Arm) -> Decision:
        """A decision that takes part in the comparison."""
        return self._decisions[arm]

    def start(self, arm: Arm, *, first: bool = False) -> Tally:
        """A request starts now; `first`: its user's first in a while."""
        series = self.ticks.series(self.decision(arm), self.snapshot.version, first)
        assert series is not None
        return series.start(self.clock.at)

    def serve(
        self,
        arm: Arm,
        number: int = 1,
        *,
        status: int = 200,
        seconds: float = 0.1,
        scores: Mapping[str, float] = MappingProxyType({}),
        first: bool = False,
    ) -> None:
        """Requests that start now and are answered at once, as if it had taken `seconds`.

        The first byte came after half of them. `scores` are what the upstream reported of each.
        """
        for _ in range(number):
            tally = self.start(arm, first=first)
            head = response(status)
            tally.answer(head, False)
            for metric, value in scores.items():
                tally.score(metric, value)
            tally.end(
                head, Outcome.UPSTREAM_ERROR if status >= 500 else Outcome.OK, False, seconds, seconds / 2
            )

    def report(self, *, of_quarters: bool = False) -> Observation:
        """What goes up the link now."""
        return Observation(
            incarnation=f"w{self.pid}",
            pid=self.pid,
            snapshot=self.snapshot.version,
            started_at=0.0,
            routes=(),
            overhead=NOTHING,
            inflight=(0, 0),
            failovers=(),
            endpoints=(),
            connections=0,
            records_dropped=0,
            ticks=self.ticks.report(of_quarters=of_quarters),
        )
