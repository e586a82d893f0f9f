"""Fault 27: treatment accepts and never answers. Control's users must not feel it.

Treatment's process is stopped: its kernel goes on accepting. Windows with and without the fault take
turns, so that what the machine itself does is told apart from what the fault does.
"""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.faults import load
from bench.faults.findings import Findings
from bench.faults.gateways import Pipeline, gateway_before, two_pipelines, users_of
from tests.faults.operating import deployment, status
from tests.support.polling import eventually
from tests.support.processes import Gateway

WINDOW_SECONDS = 8.0
ROUNDS = 3
"""Windows with the fault; there is one more without."""
REQUESTS_PER_SECOND = 250.0
"""Of each arm."""
STREAMS = 30
USERS = 200
FIRST_BYTE_SECONDS = 2.0
CONNECTIONS = PENDING = 32
ADDED_MILLISECONDS = 5.0
TRIP_SECONDS = FIRST_BYTE_SECONDS + 1.0
"""Until the first deadline nothing is known."""
ESTABLISHED = "01"


@dataclass(slots=True)
class Window:
    """What was seen in one window: percentiles of control in milliseconds."""

    latency: dict[str, float]
    failed: int
    most_inflight: int = 0
    treated: int = 0
    refused: int = 0


@dataclass(slots=True)
class Scene:
    """A gateway between two pipelines, with users of each arm."""

    gateway: Gateway
    treatment: Pipeline
    users: dict[str, list[int]] = field(default_factory=dict)

    def window(self, *, hanging: bool) -> Window:
        """Load on both arms, with treatment well or standing still."""
        port, seconds = self.gateway.port, WINDOW_SECONDS
        most = 0
        with (
            load.streaming(port, seconds, self.users["control"][:STREAMS]) as streams,
            load.at_rate(port, REQUESTS_PER_SECOND, seconds, self.users["treatment"]) as treated,
            load.at_rate(port, REQUESTS_PER_SECOND, seconds, self.users["control"]) as control,
        ):
            if hanging:
                self.treatment.stand_still()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                most = max(most, connections_to(self.treatment.port))
                time.sleep(0.05)
            seen, of_treatment = load.seen(control.wait()), load.seen(treated.wait())
            cut = streams.wait()["cut"]
        failed, refused = len(seen.failures) + cut, len(of_treatment.failures)
        return Window(seen.latency, failed, most, of_treatment.sent, refused)

    def recover(self) -> None:
        """Treatment goes on; wait until everybody assigned to it is sent there."""
        self.treatment.go_on()
        eventually("treatment serves", lambda: _closed(self.gateway), patience=60.0, interval=0.1)


def _closed(gateway: Gateway) -> bool:
    return bool(status(gateway)["upstreams"]["dspy"]["breaker"]["state"] == "closed")


def connections_to(port: int) -> int:
    """Established connections from here to a port of this machine."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[2].endswith(f":{port:04X}") and fields[3] == ESTABLISHED for fields in lines)


def hanging(scale: float) -> Findings:
    """Control's p99 with and without a treatment that hangs, its connections, and the breaker's time."""
    findings = Findings()
    with two_pipelines() as (control, treatment):
        ports = {"traditional": control.port, "dspy": treatment.port}
        upstreams: dict[str, Any] = {
            name: {"endpoints": [f"http://127.0.0.1:{port}"]} for name, port in ports.items()
        }
        upstreams["dspy"] |= {
            "outlier_detection": {"consecutive_failures": 5, "ejection_time": "2s"},
            "timeouts": {"first_byte": f"{FIRST_BYTE_SECONDS:g}s"},
            "limits": {"connections": CONNECTIONS, "pending": PENDING},
        }
        unjudged = deployment(50) | {"rollback": {"automatic_triggers": []}}
        with gateway_before(ports, {"upstreams": upstreams, "deployment": unjudged}) as gateway:
            scene = Scene(gateway, treatment)
            scene.users = {arm: users_of(gateway, arm, USERS) for arm in ("control", "treatment")}
            scene.window(hanging=False)  # connections are opened, caches are warm
            calm, hung, trips = [scene.window(hanging=False)], [], []
            for _ in range(max(1, round(ROUNDS * scale))):
                began = time.time()
                hung.append(scene.window(hanging=True))
                trips.append(_first_trip(gateway, began) - began)
                scene.recover()
                calm.append(scene.window(hanging=False))
    p99 = {
        name: [each.latency["p99"] for each in windows] for name, windows in (("calm", calm), ("hung", hung))
    }
    for name, values in p99.items():
        findings.tell(f"control p99, {name} (ms)", " ".join(f"{value:.2f}" for value in values))
    neighbours = [statistics.mean(pair) for pair in itertools.pairwise(p99["calm"])]
    added = [value - beside for value, beside in zip(p99["hung"], neighbours, strict=True)]
    findings.at_most("control p99 added (ms, median)", statistics.median(added), ADDED_MILLISECONDS)
    findings.exactly("control failed", sum(each.failed for each in calm + hung), 0)
    findings.at_most("connections to treatment", max(each.most_inflight for each in calm + hung), CONNECTIONS)
    findings.at_most("breaker open after (s)", max(trips), TRIP_SECONDS)
    findings.tell("treatment's requests in the fault", sum(each.treated for each in hung))
    findings.tell("of these failed", sum(each.refused for each in hung))
    return findings


def _first_trip(gateway: Gateway, since: float) -> float:
    """Wall time at which the breaker opened first since then."""
    times = [
        datetime.fromisoformat(line["at"]).timestamp() for line in gateway.events("circuit breaker open")
    ]
    return min(at for at in times if at > since)
