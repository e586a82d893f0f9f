"""The latency that a proxy adds at fixed rates: its percentile less that of the upstream asked directly.

Load is an open loop that counts from the due time (see `bench.client`), so nothing is omitted while
a proxy stalls.
"""

from __future__ import annotations

from bench import loads, measures
from bench.lab import Running
from bench.loads import Latency
from bench.processes import BenchError
from bench.results import DIRECT, Results
from bench.settings import Settings

RATES = ((200, measures.P50_200, measures.P99_200), (1000, measures.P50_1000, measures.P99_1000))
WARM_UP_SECONDS = 0.5


def measure(running: Running, settings: Settings) -> dict[int, Latency]:
    """Measure every rate; gives the raw latency."""
    loads.steady(running.port, RATES[-1][0], WARM_UP_SECONDS)
    found = {}
    for rps, _, _ in RATES:
        steady = loads.steady(running.port, rps, settings.steady)
        if steady.failures:
            raise BenchError(f"{len(steady.failures)} of {steady.sent} requests at {rps}/s failed")
        found[rps] = steady.latency
    return found


def add_direct(direct: dict[int, Latency], results: Results) -> None:
    """Record the whole latency of the upstream asked directly."""
    add(DIRECT, direct, dict.fromkeys(direct, Latency(0.0, 0.0)), results)


def add(name: str, found: dict[int, Latency], direct: dict[int, Latency], results: Results) -> None:
    """Record what one proxy adds over direct in the same round."""
    for rps, p50, p99 in RATES:
        results.add(p50, name, found[rps].p50 - direct[rps].p50)
        results.add(p99, name, found[rps].p99 - direct[rps].p99)
