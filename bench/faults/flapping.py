"""Fault 30: a treatment that is up for a second and down for a second, and what its users see of it."""

from __future__ import annotations

import itertools
import time
from typing import Any

from bench.faults.findings import Findings
from bench.faults.gateways import gateway_before
from tests.faults.operating import deployment, status
from tests.support.flapping import Flapping
from tests.support.raw import Upstream, echo

MINUTES = 10.0
USERS = 50
MOST_SWITCHES = 2
"""From treatment to control and back: more would be bouncing."""


def flapping(scale: float) -> Findings:
    """Sticky users in turn, one request every 20 ms; their switches of arm, and the breaker's of state."""
    treatment, control = Flapping(1.0, steady=True), Upstream(echo)
    ports = {"traditional": control.port, "dspy": treatment.address[1]}
    upstreams: dict[str, Any] = {
        name: {"endpoints": [f"http://127.0.0.1:{port}"]} for name, port in ports.items()
    }
    upstreams["dspy"]["outlier_detection"] = {"consecutive_failures": 5, "ejection_time": "30s"}
    # Everybody treated, and no automatic rollback: what is looked at is the routing alone.
    unjudged = deployment(100) | {"rollback": {"automatic_triggers": []}}
    arms: dict[str, list[str]] = {f"user-{number}": [] for number in range(USERS)}
    closed, failed, asked = [True], 0, 0
    try:
        with gateway_before(ports, {"upstreams": upstreams, "deployment": unjudged}) as gateway:
            for user, seen in arms.items():
                seen.append(gateway.get(user=user).arm)
            treatment.begin()
            end, look_at = time.monotonic() + MINUTES * scale * 60, 0.0
            for user in itertools.cycle(arms):
                now = time.monotonic()
                if now > end:
                    break
                asked += 1
                try:
                    answer = gateway.get(user=user)
                except OSError:
                    failed += 1
                else:
                    failed += answer.status != 200
                    arms[user].append(answer.arm)
                if now >= look_at:
                    look_at = now + 0.5
                    state = status(gateway)["upstreams"]["dspy"]["breaker"]["state"] == "closed"
                    if state != closed[-1]:
                        closed.append(state)
                time.sleep(0.02)
    finally:
        treatment.close()
        control.close()
    switches = [sum(a != b for a, b in itertools.pairwise(seen)) for seen in arms.values()]
    findings = Findings()
    findings.tell("minutes", MINUTES * scale)
    findings.tell("requests", asked)
    findings.tell("failed requests", failed)
    findings.at_most("switches of the breaker", len(closed) - 1, MOST_SWITCHES)
    findings.at_most(f"most switches of one of {USERS} users", max(switches), MOST_SWITCHES)
    findings.tell("answers of treatment", sum(seen.count("treatment") for seen in arms.values()))
    return findings
