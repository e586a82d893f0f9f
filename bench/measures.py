"""What is measured: the names, units and targets of the figures. The values are in `results`."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure per proxy. `decimals` is how it is printed."""

    key: str
    title: str
    unit: str
    decimals: int = 1
    best: str = "low"


class Section(enum.Enum):
    """Groups of measures that are shown together."""

    COST = "Small requests: CPU time and rate at saturation (GET; POST of 1 KB)"
    LATENCY = "Latency added over direct at a fixed rate"
    STREAMS = "Server-sent events: latency added over direct"
    BODIES = "Bodies of 1 MB: CPU time per MB and rate"
    MEMORY = "Memory"


CPU_GET = Measure("cpu_get", "CPU per GET", "µs")
CPU_POST = Measure("cpu_post", "CPU per POST", "µs")
RATE_GET = Measure("rate_get", "GET", "req/s", 0, "high")
RATE_POST = Measure("rate_post", "POST", "req/s", 0, "high")
P50_200 = Measure("p50_200", "p50 at 200/s", "ms", 3)
P99_200 = Measure("p99_200", "p99 at 200/s", "ms", 3)
P50_1000 = Measure("p50_1000", "p50 at 1,000/s", "ms", 3)
P99_1000 = Measure("p99_1000", "p99 at 1,000/s", "ms", 3)
FIRST_P50 = Measure("first_p50", "first event p50", "ms", 3)
FIRST_P99 = Measure("first_p99", "first event p99", "ms", 3)
EVENT_P50 = Measure("event_p50", "each event p50", "ms", 3)
EVENT_P99 = Measure("event_p99", "each event p99", "ms", 3)
CPU_DOWNLOAD = Measure("cpu_download", "CPU, down", "µs", 0)
CPU_UPLOAD = Measure("cpu_upload", "CPU, up", "µs", 0)
RATE_DOWNLOAD = Measure("rate_download", "down", "MB/s", 0, "high")
RATE_UPLOAD = Measure("rate_upload", "up", "MB/s", 0, "high")
RESIDENT = Measure("resident", "resident at start", "MB")
PROPORTIONAL = Measure("proportional", "proportional at start", "MB")
STREAM_MEMORY = Measure("stream_memory", "per idle stream", "KB")
CUTOVER = Measure("cutover", "last treatment request after SIGUSR1, worst", "ms")
RELOAD_FAILURES = Measure("reload_failures", "failed requests over reloads", "", 0)
KILL_FAILURES = Measure("kill_failures", "failed requests over kill -9 of a worker", "", 0)

SECTIONS: dict[Section, tuple[Measure, ...]] = {
    Section.COST: (CPU_GET, CPU_POST, RATE_GET, RATE_POST),
    Section.LATENCY: (P50_200, P99_200, P50_1000, P99_1000),
    Section.STREAMS: (FIRST_P50, FIRST_P99, EVENT_P50, EVENT_P99),
    Section.BODIES: (CPU_DOWNLOAD, CPU_UPLOAD, RATE_DOWNLOAD, RATE_UPLOAD),
    Section.MEMORY: (RESIDENT, PROPORTIONAL, STREAM_MEMORY),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a figure of the gateway, as a ratio to `against` or, without one, absolute."""

    title: str
    measure: Measure
    must: float
    aim: float
    against: str | None = None


class Verdict(enum.Enum):
    """How a figure stands against its target."""

    AIM = "aim met"
    MUST = "ok"
    MISS = "miss"
    UNKNOWN = "not measured"


TARGETS = (
    Target("CPU per request against Envoy", CPU_GET, 0.70, 0.50, "envoy"),
    Target("CPU per request against nginx", CPU_GET, 3.0, 1.5, "nginx"),
    Target("added p99 at 1,000 req/s against Envoy", P99_1000, 1.0, 0.7, "envoy"),
    Target("SSE: added latency per event, p99 (ms)", EVENT_P99, 2.0, 1.0),
    Target("memory per idle SSE stream (KB)", STREAM_MEMORY, 25.0, 8.0),
    Target("resident memory, all processes, one worker (MB)", RESIDENT, 140.0, 90.0),
    Target("last treatment request after SIGUSR1, 4 workers (ms)", CUTOVER, 100.0, 20.0),
    Target("failed requests over 50 reloads under load", RELOAD_FAILURES, 0, 0),
    Target("failed requests over kill -9 of a worker", KILL_FAILURES, 0, 0),
)


def judge(target: Target, value: float | None) -> Verdict:
    """Compare a value with its target; NaN is not measured."""
    if value is None or value != value:
        return Verdict.UNKNOWN
    if value <= target.aim:
        return Verdict.AIM
    return Verdict.MUST if value <= target.must else Verdict.MISS
