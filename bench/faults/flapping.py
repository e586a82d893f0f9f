"""Fault 30: a treatment that is up for a second and down for a second, and what its users see of it."""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

from bench.faults.gateways import Figures, gateway_before
from tests.faults.operating import deployment, status
from tests.support.flapping import Flapping
from tests.support.raw import Upstream, echo

USERS = 50
MOST_SWITCHES = 2
"""Of the upstream as a whole; a single user may meet a probe, which is two more."""


def flapping(options: argparse.Namespace) -> tuple[Figures, bool]:
    """Sticky users in turn, one request every 20 ms; their switches of arm, and the breaker's of state."""
    treatment, control = Flapping(1.0), Upstream(echo)
    ports = {"traditional": control.port, "dspy": treatment.address[1]}
    upstreams = {name: {"endpoints": [f"http://127.0.0.1:{port}"]} for name, port in ports.items()}
    upstreams["dspy"]["outlier_detection"] = {"consecutive_failures": 5, "ejection_time": "30s"}  # type: ignore[assignment]
    extra: dict[str, Any] = {"upstreams": upstreams, "deployment": _unjudged()}
    arms: dict[str, list[str]] = {f"user-{number}": [] for number in range(USERS)}
    closed, failed, asked = [True], 0, 0
    try:
        with gateway_before(ports, extra) as gateway:
            end, look_at = time.monotonic() + options.minutes * 60, 0.0
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
    figures: Figures = {
        "minutes": options.minutes,
        "requests": asked,
        "failed_requests": failed,
        "breaker_switches": len(closed) - 1,
        "users": USERS,
        "users_with_more_than_two_switches": sum(count > MOST_SWITCHES for count in switches),
        "most_switches_of_a_user": max(switches),
        "answers_of_treatment": sum(seen.count("treatment") for seen in arms.values()),
    }
    return figures, len(closed) - 1 <= MOST_SWITCHES


def _unjudged() -> dict[str, Any]:
    """Everybody treated, and no automatic rollback: what is looked at is the routing alone."""
    return deployment(100) | {"rollback": {"automatic_triggers": []}}
