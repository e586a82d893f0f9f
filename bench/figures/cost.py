"""What a request and a megabyte cost in CPU time, and how many there are at saturation.

CPU time is user plus system of all the proxy's processes over a burst, divided by the answers that
wrk got in it. The same burst gives the rate: the proxy's core is full, or the load's is, which a
remark then says.
"""

from __future__ import annotations

import time

from bench import loads, measures
from bench.lab import BLOB_BYTES, Running
from bench.loads import Shape
from bench.measures import Measure
from bench.processes import core_busy_seconds, proxy_core
from bench.results import Results
from bench.settings import Settings

WARM_UP_SECONDS = 1
FULL_CORE = 0.9
"""Below this share of its core a proxy was waiting for the load or the upstreams."""
FOREIGN = 0.05
"""Above this share, others on the proxy's core falsify its rate and latency, less so its CPU time."""


def measure_requests(running: Running, name: str, settings: Settings, results: Results) -> None:
    """Small requests over keep-alive connections."""
    loads.wrk(running.port, loads.GET, WARM_UP_SECONDS)
    _burst(running, name, loads.GET, settings.burst, results, (measures.CPU_GET, measures.RATE_GET))
    _burst(running, name, loads.POST, settings.burst, results, (measures.CPU_POST, measures.RATE_POST))


def measure_bodies(running: Running, name: str, settings: Settings, results: Results) -> None:
    """Bodies of 1 MB, one way and the other."""
    seconds = settings.body_burst
    down = (measures.CPU_DOWNLOAD, measures.RATE_DOWNLOAD)
    _burst(running, name, loads.DOWNLOAD, seconds, results, down, BLOB_BYTES / 1e6)
    up = (measures.CPU_UPLOAD, measures.RATE_UPLOAD)
    _burst(running, name, loads.UPLOAD, seconds, results, up, loads.UPLOAD.body_bytes / 1e6)


def _burst(
    running: Running,
    name: str,
    shape: Shape,
    seconds: int,
    results: Results,
    measures_of: tuple[Measure, Measure],
    units: float = 1.0,
) -> None:
    """Run one burst; `units` is how much of what is counted one answer stands for."""
    before, busy_before, start = running.cpu_seconds(), core_busy_seconds(proxy_core()), time.monotonic()
    burst = loads.wrk(running.port, shape, seconds)
    spent, passed = running.cpu_seconds() - before, time.monotonic() - start
    others = core_busy_seconds(proxy_core()) - busy_before - spent
    if burst.failures:
        results.remark(f"{name}: {burst.failures} of {burst.requests} answers to {shape.name} failed")
    if burst.requests == 0:
        return
    done = burst.requests * units
    results.add(measures_of[1], name, done / burst.seconds)
    if running.program is None:
        return
    results.add(measures_of[0], name, spent / done * 1e6)
    if others > FOREIGN * passed:
        results.disturb(name, others / passed)
    elif spent < FULL_CORE * burst.seconds:
        share = spent / burst.seconds
        results.remark(f"{name}: {shape.name} used {share:.0%} of its core, the load was the limit")
