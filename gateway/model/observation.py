"""What workers report upwards: cumulative numbers since the worker began.

Cumulative on purpose: a lost message loses nothing and a repeated one adds nothing. Of the ticks, which
are many, a report has those that changed, and all for a control process that knows nothing of before.
Names, not indices, so that a report outlives the snapshot that it was counted under.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gateway.model.ticks import Series

LATENCY_BOUNDS: tuple[float, ...] = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
)
"""Upper bounds in seconds of the request histograms; one more bucket holds the rest."""

OVERHEAD_BOUNDS: tuple[float, ...] = (
    0.00005,
    0.0001,
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.05,
    0.1,
    1.0,
)
"""Upper bounds in seconds of the gateway's own share of a request."""


class Outcome(enum.IntEnum):
    """How a request ended. CLIENT_CLOSED and REJECTED are no failures of an arm."""

    OK = 0
    UPSTREAM_ERROR = 1
    CONNECT_ERROR = 2
    RESET = 3
    TIMEOUT = 4
    TRUNCATED = 5
    CLIENT_CLOSED = 6
    REJECTED = 7

    @property
    def label(self) -> str:
        """The outcome's name in metrics and logs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bucket (not cumulative over buckets; one more than bounds) and the sum in seconds."""

    buckets: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class RouteCounts:
    """Traffic of one route served by one arm (`route` is "" for requests that matched no route)."""

    route: str
    arm: str
    requests: tuple[tuple[int, str, int], ...]
    """(status code, outcome label, count)."""
    duration: Histogram
    time_to_first_byte: Histogram


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """A worker's view of one endpoint: is it used, and why not."""

    upstream: str
    endpoint: str
    healthy: bool
    inflight: int


class BreakerState(enum.IntEnum):
    """Where an upstream's circuit breaker stands, in the order of severity."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2

    @property
    def label(self) -> str:
        """The state's name in status and logs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """A worker's circuit breaker of one upstream that serves treatment.

    `admits` is False while requests go to control in its place, but for probes: after a fault, until it
    is closed. `cause` is why it opened last, "" if it never did; `trips` how often it did of late.
    """

    upstream: str
    state: BreakerState
    admits: bool
    cause: str
    trips: int


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """A series and the number that it goes by in one worker's ticks."""

    number: int
    series: Series


@dataclass(frozen=True, slots=True)
class TickReport:
    """One tick: when it began (monotonic milliseconds) and its counts (`model.ticks.pack`, by spaces)."""

    at: int
    counts: str


@dataclass(frozen=True, slots=True)
class TickReports:
    """All ticks that may still change or may have been missed, from `oldest` on; and their quarters.

    No request starts any more in a tick before `through`, where the current one begins. `heads` are the
    same requests by quarters of a tick (`model.ticks.quarter_of`) from `oldest_heads` on, with what their
    heads said and nothing else; the current quarter begins at `heads_through`. Where `whole` is False, only
    those are there that changed since the report before; `series` always has all. `at` is when ticks were
    looked at last: a report may be of quarters alone. All times are monotonic milliseconds.
    """

    through: int
    series: tuple[SeriesReport, ...]
    ticks: tuple[TickReport, ...]
    oldest: int = 0
    whole: bool = True
    at: int = 0
    heads: tuple[TickReport, ...] = ()
    heads_through: int = 0
    oldest_heads: int = 0

    def after(self, before: TickReports) -> TickReports:
        """The whole report that this one makes together with the whole one before."""
        if self.whole:
            return self
        return TickReports(
            self.through,
            self.series,
            _joined(before.ticks, self.ticks, self.oldest),
            self.oldest,
            at=self.at,
            heads=_joined(before.heads, self.heads, self.oldest_heads),
            heads_through=self.heads_through,
            oldest_heads=self.oldest_heads,
        )


def _joined(
    before: tuple[TickReport, ...], after: tuple[TickReport, ...], oldest: int
) -> tuple[TickReport, ...]:
    """Those of both, the later word for each."""
    ticks = {tick.at: tick for tick in before if tick.at >= oldest}
    ticks |= {tick.at: tick for tick in after}
    return tuple(ticks.values())


NO_TICKS = TickReports(0, (), ())


@dataclass(frozen=True, slots=True)
class Observation:
    """One worker's whole report. `incarnation` is unique per worker process ever started."""

    incarnation: str
    pid: int
    snapshot: int
    """Version of the snapshot that new requests are served under: the acknowledgement."""
    started_at: float
    routes: tuple[RouteCounts, ...]
    overhead: Histogram
    inflight: tuple[int, int]
    """Requests open now, by `Arm`."""
    failovers: tuple[tuple[str, str, int], ...]
    """(route, reason, count)."""
    endpoints: tuple[EndpointReport, ...]
    connections: int
    records_dropped: int
    ticks: TickReports = NO_TICKS
    reports_refused: int = 0
    """Values in `X-Gateway-Metric` that made no sense."""
    breakers: tuple[BreakerReport, ...] = ()
