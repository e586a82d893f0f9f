"""Fault 35: very many idle event streams, then a reload and SIGUSR1 among them."""

from __future__ import annotations

import os
import resource
import signal
import time
from typing import Any

from bench.faults.findings import Findings
from bench.faults.gateways import gateway_before
from gateway.processes.directory import Role
from tests.faults.operating import deployment, status, write
from tests.faults.places import processor_seconds, resident
from tests.support.polling import eventually
from tests.support.processes import Load
from tests.support.streams import StreamUpstream, held_streams

STREAMS = 10_000
"""As far as descriptors reach: client and upstream are in this process, so each stream takes two."""
MOST_BYTES = 60_000
MOST_IDLE = 0.1
CUTOVER_SECONDS = 0.1


def streams(scale: float) -> Findings:
    """Idle event streams: memory and processor time of each, then a reload and SIGUSR1 among them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(round(STREAMS * scale), (hard - 500) // 2)
    upstream = StreamUpstream()
    endpoint = {
        "endpoints": [f"http://127.0.0.1:{upstream.port}"],
        "limits": {"connections": count + 100},
    }
    both = {"traditional": endpoint, "dspy": endpoint}
    ports = {"traditional": upstream.port, "dspy": upstream.port}
    extra: dict[str, Any] = {
        "upstreams": both,
        "deployment": deployment(100),
        "limits": {"connections": count + 100},
    }
    with gateway_before(ports, extra) as gateway:
        (worker,) = gateway.pids(Role.WORKER)
        before = resident(worker)
        with held_streams(gateway.port, count):
            each = (resident(worker) - before) / count
            began, used = time.monotonic(), processor_seconds(worker)
            time.sleep(10)
            idle = (processor_seconds(worker) - used) / (time.monotonic() - began)
            write(gateway, **{**extra, "deployment": deployment(99)})
            eventually("reloaded", lambda: status(gateway)["user_percentage"] == 99)
            with Load(gateway, users=4) as load:
                load.more(100)
                sent = time.monotonic()
                os.kill(gateway.pid, signal.SIGUSR1)
                eventually("control serves", lambda: load.answers["control"] > 50)
                load.more(50)
            open_still = len(upstream.open)
    upstream.close()
    findings = Findings()
    findings.tell("streams", count)
    findings.at_most("bytes each", each, MOST_BYTES)
    findings.at_most("idle, share of a core", idle, MOST_IDLE)
    findings.at_most("last treatment request (s)", max(0.0, load.last_treatment - sent), CUTOVER_SECONDS)
    findings.exactly("failed requests", len(load.failures), 0)
    findings.exactly("streams open after it", open_still, count)
    return findings
