"""Fault 35: very many event streams, open through a reload and an emergency."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from gateway.processes.directory import Role
from tests.faults.operating import deployment, settled, status, write
from tests.faults.places import processor_seconds, resident
from tests.support.polling import eventually
from tests.support.processes import Gateway
from tests.support.streams import StreamUpstream, ended, held_streams

pytestmark = [pytest.mark.process, pytest.mark.slow]

STREAMS = 2000
BYTES_EACH = 25_000
CUTOVER = 0.1


@pytest.fixture
def upstream() -> Iterator[StreamUpstream]:
    made = StreamUpstream()
    yield made
    made.close()


def test_streams_stay_open_and_cheap_through_a_reload_and_an_emergency(
    gateways: Callable[..., Gateway], upstream: StreamUpstream
):
    """2,000 idle streams: memory and processor time are small, none ends, the cutover is as quick as ever."""
    gateway = gateways(
        workers=1,
        upstreams={"traditional": upstream.port, "dspy": upstream.port},
        extra={
            "deployment": deployment(100),
            "upstreams": {
                name: {
                    "endpoints": [f"http://127.0.0.1:{upstream.port}"],
                    "limits": {"connections": STREAMS + 100},
                }
                for name in ("traditional", "dspy")
            },
        },
    )
    gateway.start()
    (worker,) = gateway.pids(Role.WORKER)
    before = resident(worker)
    with held_streams(gateway.port, STREAMS) as clients:
        assert (resident(worker) - before) / STREAMS < BYTES_EACH
        began, used = time.monotonic(), processor_seconds(worker)
        time.sleep(1.0)  # idle: that is what is measured
        assert processor_seconds(worker) - used < 0.1 * (time.monotonic() - began) + 0.02
        write(gateway, deployment=deployment(99))
        eventually("reloaded", lambda: status(gateway)["user_percentage"] == 99)
        eventually("in the worker", lambda: settled(gateway))
        sent = time.monotonic()
        os.kill(gateway.pid, signal.SIGUSR1)
        eventually("latched", lambda: gateway.arm() == "control", patience=CUTOVER + 0.2)
        assert time.monotonic() - sent < CUTOVER + 0.2
        # Open streams finish (`rollback.open_streams: finish`), and still carry events.
        assert len(upstream.open) == STREAMS
        upstream.send_all()
        readable = time.monotonic()
        while time.monotonic() - readable < 1.0:
            assert ended(clients) == []
            time.sleep(0.1)
    eventually("the upstream hears that all have left", lambda: not upstream.open)
