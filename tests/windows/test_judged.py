"""From a worker's counts to a gate's verdict, through a whole control process."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.model.snapshot import Arm
from gateway.model.ticks import tick_of
from tests.support.control import CONFIG, Client, Gateway, make_gateway
from tests.support.counting import Clock, CountingWorker
from tests.support.polling import soon

pytestmark = pytest.mark.socket

PATIENCE = 20.0
INTERVAL = 0.5
"""Seconds of a tick: `monitoring.interval`, below."""
GATED = (
    CONFIG
    + f"""\
  gates:
    canary -> limited_production:
      - {{type: metrics_threshold, thresholds: {{error_rate: "< 0.2"}}, minimum_samples: 50, window: 3s}}
  monitoring: {{interval: {INTERVAL}s}}
"""
)


class LiveWorker(CountingWorker):
    """A worker that counts in real time, and reports to a control process."""

    def serve_now(self, gateway: Gateway, number: int, status: int = 200) -> None:
        """Requests of treatment, by the newest snapshot."""
        self.clock.at = time.monotonic()
        self.follow(gateway.link.current)
        self.serve(Arm.TREATMENT, number, status=status)

    async def report_until(self, gateway: Gateway, condition: Callable[[], Awaitable[bool]]) -> None:
        """Report now and then until the condition holds."""

        async def look() -> bool:
            self.clock.at = time.monotonic()
            gateway.report(self.report())
            return await condition()

        await soon(look, PATIENCE, interval=0.05)


async def treatment(client: Client) -> dict[str, Any]:
    """Treatment's numbers of the newest stay in a phase."""
    return dict((await client.status())["phases"][-1]["arms"]["treatment"])


async def test_a_gate_is_judged_by_what_workers_counted_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """Counts of before the control process ended are in the verdict that comes after."""
    gateway = make_gateway(tmp_path, GATED)
    worker = LiveWorker(Clock(time.monotonic()), 77)
    client: Client
    gate: dict[str, Any] = {}

    async def has_counted(requests: int) -> bool:
        return bool((await treatment(client))["requests"] == requests)

    async def has_passed() -> bool:
        (found,) = (await client.status())["gates"]
        gate.update(found)
        return bool(gate["verdict"] == "pass")

    async with gateway.control() as client:
        await soon(lambda: gateway.link.current.version > 0)
        worker.serve_now(gateway, 300)
        await worker.report_until(gateway, lambda: has_counted(300))
        # The tick of those is stored as it stands when the process ends: what comes next is in another one.
        await soon(lambda: tick_of(time.monotonic(), INTERVAL) > tick_of(worker.clock.at, INTERVAL))
        worker.serve_now(gateway, 3, status=500)
    async with gateway.control() as client:
        await worker.report_until(gateway, lambda: has_counted(303))
        await worker.report_until(gateway, has_passed)
    assert gate["value"] == 3 / 303
    assert gate["findings"][0]["reason"].startswith("3 bad of 303")
