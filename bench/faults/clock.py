"""Fault 19: the wall clock jumps by hours and days, there and back, while an automatic ramp goes on.

By a library of our own in front of the C library (`shifted_clock.c`; it needs a C compiler). The monotonic
clock stays as it is, as it does where an operator or NTP sets the time.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.faults import load
from bench.faults.findings import Findings
from bench.faults.gateways import gateway_before, two_pipelines
from tests.faults.operating import status
from tests.support.processes import Gateway

SOURCE = Path(__file__).with_name("shifted_clock.c")
HOUR, DAY = 3600, 86_400
JUMPS = (HOUR, -HOUR, DAY, -DAY, -HOUR, 0)
"""Seconds from the true time, one after another."""
STEP_SECONDS = 8.0
"""What the time gate of each phase asks for."""
LATE_SECONDS = 3.0
REQUESTS_PER_SECOND = 100.0
USERS = range(1000)
PHASES = ["staging", "canary", "limited_production", "full_production"]


def _ramp() -> dict[str, Any]:
    """Each phase but the last ends by itself, once it has served for its time."""
    gate = [{"type": "time_based", "minimum": f"{STEP_SECONDS:g}s"}]
    automatic = {"advance": "automatic", "success_criteria": {}, "user_percentage": 1}
    return {
        "initial_phase": PHASES[0],
        "phases": dict.fromkeys(PHASES[:-1], automatic) | {PHASES[-1]: {"user_percentage": 100}},
        "gates": {f"{phase} -> {after}": gate for phase, after in itertools.pairwise(PHASES)},
    }


def clock(scale: float) -> Findings:
    """Each step of the ramp comes once and in its time; nothing fails and nothing is rolled back."""
    del scale
    findings = Findings()
    with tempfile.TemporaryDirectory() as directory, two_pipelines() as (control, treatment):
        library, shift = Path(directory) / "shifted_clock.so", Path(directory) / "shift"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        shift.write_bytes(_seconds(0))
        environment = {**os.environ, "LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(shift)}
        ports = {"traditional": control.port, "dspy": treatment.port}
        with (
            gateway_before(ports, {"deployment": _ramp()}, env=environment) as gateway,
            load.at_rate(gateway.port, REQUESTS_PER_SECOND, 600, USERS) as running,
        ):
            reached = _jump(gateway, shift)
            steps = [event for event in _history(gateway) if event["type"] == "phase_transition"]
            latched = bool(status(gateway)["latch"]["engaged"])
            seen = load.seen(running.finish())
    findings.exactly("phases in their order", " ".join(reached), " ".join(PHASES))
    findings.exactly("steps in the history", len(steps), len(PHASES) - 1)
    findings.tell("their times, as the history tells them", " ".join(str(step["at"]) for step in steps))
    for before, after in itertools.pairwise(PHASES):
        lasted = reached[after] - reached[before]
        if before != PHASES[0]:  # its time began before the first look
            findings.at_least(f"{before} lasted (s)", lasted, STEP_SECONDS - 1)
        findings.at_most(f"{before} lasted (s)", lasted, STEP_SECONDS + LATE_SECONDS)
    findings.exactly("rolled back", str(latched), "False")
    findings.tell("requests", seen.sent)
    findings.exactly("failed requests", len(seen.failures), 0)
    return findings


def _jump(gateway: Gateway, shift: Path) -> dict[str, float]:
    """Jump each second until long after the last step; when each phase was first seen, in seconds."""
    began = time.monotonic()
    reached: dict[str, float] = {}
    while (now := time.monotonic() - began) < (len(PHASES) - 1) * (STEP_SECONDS + LATE_SECONDS) + 4:
        with shift.open("r+b") as file:  # in place: it is mapped
            file.write(_seconds(JUMPS[int(now) % len(JUMPS)]))
        reached.setdefault(status(gateway)["phase"], now)
        time.sleep(0.1)
    return reached


def _seconds(shift: int) -> bytes:
    return shift.to_bytes(8, sys.byteorder, signed=True)


def _history(gateway: Gateway) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.admin_port}/api/v1/history", timeout=5) as answer:
        return list(json.load(answer))
