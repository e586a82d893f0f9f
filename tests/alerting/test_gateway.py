"""A real gateway in trouble: people hear of it, hooks run, and no process that dies takes that along."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.processes.directory import Role
from tests.support.polling import eventually
from tests.support.processes import Gateway, free_port
from tests.support.receivers import TOKEN, receiving

pytestmark = pytest.mark.process

EVERYBODY = {"initial_phase": "canary", "phases": {"canary": {"user_percentage": 100}}}


def hook(script: str) -> dict[str, Any]:
    return {"command": [sys.executable, "-c", script]}


async def ask(gateway: Gateway, *arguments: str) -> str:
    """A command's output."""
    admin = f"http://127.0.0.1:{gateway.admin_port}"
    ran = await asyncio.to_thread(gateway.run, *arguments, "--admin", admin, "-o", "json")
    return ran.stdout


async def test_a_treatment_that_fails_is_an_alert_that_people_hear_of(
    gateways: Callable[..., Gateway], upstreams: dict[str, int]
) -> None:
    """Critical, with value and samples, by webhook; its address is in no log line."""
    async with receiving() as receiver:
        channels = {"pager": {"type": "webhook", "url": receiver.url, "severities": ["critical"]}}
        gateway = gateways(
            extra={"deployment": EVERYBODY, "notifications": {"channels": channels}},
            upstreams={**upstreams, "dspy": free_port()},
        )
        await asyncio.to_thread(gateway.start)
        for number in range(60):
            answer = await asyncio.to_thread(gateway.get, "/", f"user-{number}")
            assert answer.status == 200  # control answers in its place
        await asyncio.to_thread(eventually, "the alert arrives", lambda: receiver.bodies)
        alert = receiver.bodies[0]
        assert alert["labels"] == {
            "alertname": "GatewayErrorRate",
            "type": "error_rate",
            "arm": "treatment",
            "instance": f"{socket.gethostname()}:{gateway.admin_port}",
        }
        assert (alert["severity"], alert["details"]["value"]) == ("critical", 1.0)
        assert alert["details"]["samples"] >= 30
        assert gateway.events("alert")[0]["severity"] == "critical"
        assert TOKEN not in gateway.log() + await ask(gateway, "status") + await ask(gateway, "history")


async def test_hooks_that_die_with_the_control_process_are_run_by_the_next(
    tmp_path: Path, gateways: Callable[..., Gateway]
) -> None:
    """SIGUSR1, and the control process killed while the first hook runs: nothing is left out."""
    begun, done = tmp_path / "begun", tmp_path / "done"
    slow = f"open('{begun}', 'a').write('x'); import time; time.sleep(1); open('{done}', 'a').write('x')"
    hooks = [hook(slow), hook(f"open('{done}', 'a').write('y')")]
    gateway = gateways(extra={"deployment": {**EVERYBODY, "rollback": {"hooks": hooks}}})
    await asyncio.to_thread(gateway.start)
    os.kill(gateway.pid, signal.SIGUSR1)
    await asyncio.to_thread(eventually, "the first hook runs", begun.exists)
    (control,) = gateway.pids(Role.CONTROL)
    os.kill(control, signal.SIGKILL)
    await asyncio.to_thread(
        eventually, "both hooks ran", lambda: done.exists() and done.read_text().endswith("xy"), 30.0
    )
    assert begun.read_text() == "xx"
    assert gateway.arm() == "control"


async def test_a_rollback_is_told_although_the_whole_gateway_ended_with_it(
    gateways: Callable[..., Gateway],
) -> None:
    """Killed with the message on its way, as when a container is out of memory; the next start tells it."""
    async with receiving(stalled=True) as receiver:
        channels = {"pager": {"type": "webhook", "url": receiver.url, "severities": ["critical"]}}
        gateway = gateways(extra={"deployment": EVERYBODY, "notifications": {"channels": channels}})
        await asyncio.to_thread(gateway.start)
        await ask(gateway, "rollback", "--reason", "bad answers")
        await asyncio.to_thread(eventually, "it is on its way", lambda: receiver.tries)
        for pid in (gateway.pid, *gateway.pids(Role.CONTROL), *gateway.pids(Role.WORKER)):
            os.kill(pid, signal.SIGKILL)
        receiver.tries = 0
        await asyncio.to_thread(gateway.start)
        await asyncio.to_thread(eventually, "it is on its way again", lambda: receiver.tries)
        receiver.stalled.set()
        words = "bad answers. The gateway was restarted before this was known to have been told"
        await asyncio.to_thread(
            eventually, "it is told", lambda: any(words in body["text"] for body in receiver.bodies)
        )
