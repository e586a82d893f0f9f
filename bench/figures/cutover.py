"""How long treatment still gets new requests after SIGUSR1, under load, with four workers.

The upstream notes when each request's head arrived; the signal's time is taken before it is sent.
After each trial an operator's release lifts the latch. Between the trials everything stays as it was.
"""

from __future__ import annotations

import json
import signal
import statistics
import time

from bench import admin, loads, measures
from bench.lab import Lab, Running, Upstreams
from bench.processes import BenchError
from bench.proxies import GATEWAY
from bench.results import Results
from bench.settings import Settings

WORKERS = 4
REQUESTS_PER_SECOND = 1000.0
WATCH_SECONDS = 0.5
"""How long after the signal treatment is watched; a later request counts in full."""
RELEASE_SECONDS = 5.0


def measure(lab: Lab, upstreams: Upstreams, settings: Settings, results: Results) -> None:
    """Run the trials; the figure is the worst of them."""
    with lab.run(GATEWAY, upstreams, workers=WORKERS) as running:
        limit = settings.cutovers * (WATCH_SECONDS + RELEASE_SECONDS)
        with loads.background(running.port, REQUESTS_PER_SECOND, limit, running.site.directory) as load:
            found = [_trial(running, upstreams) for _ in range(settings.cutovers)]
            seen = load.finish()
    results.add(measures.CUTOVER, GATEWAY.name, max(found))
    results.remark(
        f"SIGUSR1: {len(found)} trials at {REQUESTS_PER_SECOND:.0f} req/s with {WORKERS} workers; last "
        f"treatment request after {statistics.median(found):.2f} ms (median), {max(found):.2f} ms (worst); "
        f"{len(seen.failures)} of {seen.sent} requests failed"
    )


def _trial(running: Running, upstreams: Upstreams) -> float:
    """Signal once, watch, release; gives the time to the last treatment request in milliseconds."""
    _await_treatment(upstreams)
    at = time.monotonic_ns()
    running.process.send_signal(signal.SIGUSR1)
    time.sleep(WATCH_SECONDS)
    last = last_treatment_request(upstreams)
    admin.release(running.site.admin)
    return max(0.0, (last - at) / 1e6)


def last_treatment_request(upstreams: Upstreams) -> int:
    """Ask the upstream when treatment's last request arrived, in monotonic nanoseconds."""
    return int(json.loads(admin.ask(upstreams.treatment, "GET", "/_seen"))["treatment"]["last_ns"])


def _await_treatment(upstreams: Upstreams) -> None:
    """Wait until treatment is served."""
    start = time.monotonic_ns()
    deadline = time.monotonic() + RELEASE_SECONDS
    while time.monotonic() < deadline:
        if last_treatment_request(upstreams) > start:
            return
        time.sleep(0.02)
    raise BenchError("treatment gets no requests")
