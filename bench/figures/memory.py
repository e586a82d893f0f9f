"""Memory: of a proxy that has just started, and of each idle stream that it holds.

Both are sums over all its processes. The streams' share is the growth of resident memory divided by
their number, after a small load has brought in what every proxy allocates once. Socket buffers are
the kernel's and not in it.
"""

from __future__ import annotations

import time

from bench import loads, measures
from bench.lab import Running
from bench.results import Results
from bench.settings import Settings

SETTLE_SECONDS = 1.0
WARM_UP_REQUESTS_PER_SECOND = 200.0
WARM_UP_SECONDS = 1.0


def measure(running: Running, name: str, settings: Settings, results: Results) -> None:
    """Measure a freshly started proxy, then with streams held open."""
    program = running.process
    time.sleep(SETTLE_SECONDS)
    start = program.memory()
    results.add(measures.RESIDENT, name, start.resident / 1e6)
    results.add(measures.PROPORTIONAL, name, start.proportional / 1e6)
    loads.steady(running.port, WARM_UP_REQUESTS_PER_SECOND, WARM_UP_SECONDS)
    before = program.memory().resident
    with loads.held_streams(running.port, settings.streams, running.site.directory):
        time.sleep(SETTLE_SECONDS)
        grown = program.memory().resident - before
    results.add(measures.STREAM_MEMORY, name, grown / settings.streams / 1e3)
