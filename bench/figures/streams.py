"""Server-sent events: how late the first one and each further one is through a proxy.

The upstream writes the monotonic time into every event, the client compares it with its own: one
clock, so the difference is the way. What a proxy adds is its percentile less that of direct.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench import loads, measures
from bench.lab import Running
from bench.loads import Latency
from bench.results import DIRECT, Results
from bench.settings import Settings

STREAMS = 50
EVENTS_PER_SECOND = 20.0


@dataclass(frozen=True, slots=True)
class Events:
    """Raw latency of first events and of each event."""

    first: Latency
    each: Latency


def measure(running: Running, settings: Settings) -> Events:
    """Open streams one after another for the first event, then many at once for each."""
    loads.first_event(running.port, settings.first_events // 4)
    first = loads.first_event(running.port, settings.first_events)
    return Events(first, loads.event_latency(running.port, STREAMS, settings.events, EVENTS_PER_SECOND))


def add_direct(direct: Events, results: Results) -> None:
    """Record the whole latency of the upstream asked directly."""
    nothing = Latency(0.0, 0.0)
    add(DIRECT, direct, Events(nothing, nothing), results)


def add(name: str, found: Events, direct: Events, results: Results) -> None:
    """Record what one proxy adds over direct in the same round."""
    results.add(measures.FIRST_P50, name, found.first.p50 - direct.first.p50)
    results.add(measures.FIRST_P99, name, found.first.p99 - direct.first.p99)
    results.add(measures.EVENT_P50, name, found.each.p50 - direct.each.p50)
    results.add(measures.EVENT_P99, name, found.each.p99 - direct.each.p99)
