"""Fault 31: both arms are down, and come back. No storm of attempts, neither meanwhile nor afterwards.

In a network of its own, where the kernel's count of attempts to connect that failed is the gateway's alone.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from bench.faults import load
from bench.faults.findings import Findings
from bench.faults.gateways import Pipeline, gateway_before, two_pipelines
from tests.faults.operating import deployment, status

REQUESTS_PER_SECOND = 200.0
CALM_SECONDS = 3.0
OUTAGE_SECONDS = 10.0
AFTERWARDS_SECONDS = 25.0
"""Long enough for treatment to have proved itself."""
USERS = 1000
ANSWER_MILLISECONDS = 50.0
ATTEMPTS_PER_REQUEST = 1.2
RECOVERY_SECONDS = 5.0
SPIKE = 2.0
BIN_SECONDS = 0.5


def failed_attempts() -> int:
    """Attempts to connect that were refused or timed out, in this network namespace since it exists."""
    names, values = (
        line.split()
        for line in Path("/proc/self/net/snmp").read_text().splitlines()
        if line.startswith("Tcp:")
    )
    return int(values[names.index("AttemptFails")])


def outage(scale: float) -> Findings:
    """Half of the users treated; both upstreams end, and are started again on their ports."""
    findings = Findings()
    seconds = OUTAGE_SECONDS * scale
    with two_pipelines() as (control, treatment):
        ports = {"traditional": control.port, "dspy": treatment.port}
        detection = {"consecutive_failures": 5, "ejection_time": "1s"}
        upstreams = {
            name: {"endpoints": [f"http://127.0.0.1:{port}"], "outlier_detection": detection}
            for name, port in ports.items()
        }
        extra = {"upstreams": upstreams, "deployment": deployment(50)}
        with (
            gateway_before(ports, extra) as gateway,
            load.at_rate(gateway.port, REQUESTS_PER_SECOND, 600, range(USERS)) as running,
        ):
            time.sleep(CALM_SECONDS)
            before, ended = failed_attempts(), time.monotonic()
            control.close()
            treatment.close()
            time.sleep(seconds)
            attempts, back = failed_attempts() - before, time.monotonic()
            for pipeline in (control, treatment):
                pipeline.start()
            started = time.monotonic()
            arrivals = _watch([control, treatment], AFTERWARDS_SECONDS)
            latched = bool(status(gateway)["latch"]["engaged"])
            seen = load.seen(running.finish())
    down = [failure for failure in seen.failures if ended <= failure.sent <= back]
    answers = sorted((failure.failed - failure.sent) * 1000 for failure in down)
    asked = REQUESTS_PER_SECOND * (back - ended)
    late = [failure.failed - started for failure in seen.failures if failure.failed > started]
    findings.tell("requests in the outage", round(asked))
    findings.exactly("of these without an answer", sum("status" not in each.reason for each in down), 0)
    findings.at_most("answer in the outage (ms, p99)", answers[int(len(answers) * 0.99)], ANSWER_MILLISECONDS)
    findings.at_most("attempts per request", attempts / asked, ATTEMPTS_PER_REQUEST)
    findings.at_most("last failed request after the return (s)", max(late, default=0.0), RECOVERY_SECONDS)
    findings.at_most("busiest half second, of the usual", _spike(arrivals), SPIKE)
    findings.at_most("treatment is back after (s)", _first(arrivals[1]), RECOVERY_SECONDS)
    findings.exactly("rolled back", str(latched), "False")
    return findings


def _watch(pipelines: list[Pipeline], seconds: float) -> list[list[tuple[float, int]]]:
    """How many requests each has got, a few times a second: seconds from now, and the count."""
    counts: list[list[tuple[float, int]]] = [[] for _ in pipelines]
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        for pipeline, found in zip(pipelines, counts, strict=True):
            found.append((now, pipeline.requests()))
        time.sleep(0.05)
    return counts


def _spike(arrivals: list[list[tuple[float, int]]]) -> float:
    """The most requests that came to both in any half second, as a multiple of what clients send."""
    both = [(at, sum(counts)) for (at, *_), counts in zip(arrivals[0], _counts(arrivals), strict=True)]
    most = 0.0
    for at, count in both:
        later = [(other - at, more - count) for other, more in both if other - at >= BIN_SECONDS]
        if later:
            lasted, came = later[0]
            most = max(most, came / (lasted * REQUESTS_PER_SECOND))
    return most


def _counts(arrivals: list[list[tuple[float, int]]]) -> list[tuple[int, ...]]:
    return [tuple(count for _, count in looks) for looks in zip(*arrivals, strict=True)]


def _first(counts: list[tuple[float, int]]) -> float:
    """When an upstream got its users back, not just probes; infinite if it did not within the time."""
    for (at, count), (later, more) in zip(counts, counts[20:], strict=False):
        if more - count > 0.3 * REQUESTS_PER_SECOND * (later - at):
            return at
    return math.inf
