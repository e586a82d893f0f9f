"""A graceful rollback of a real gateway: its steps, an emergency in the middle, and its open streams."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.operating import settled, status
from tests.support.polling import eventually
from tests.support.processes import Gateway
from tests.support.streams import StreamUpstream

pytestmark = pytest.mark.process

DRAINED = {"steps": 2, "over": "20s"}


@pytest.fixture
def streaming() -> Iterator[StreamUpstream]:
    """An upstream of endless streams."""
    made = StreamUpstream()
    yield made
    made.close()


def everybody(**rollback: object) -> dict[str, object]:
    """A deployment that treats everybody from the start."""
    return {"initial_phase": "full_production", "rollback": rollback}


def roll_back(gateway: Gateway) -> None:
    """Type `rollback --graceful`."""
    admin = f"http://127.0.0.1:{gateway.admin_port}"
    done = gateway.run("rollback", "--graceful", "--admin", admin, "--reason", "slow answers")
    assert done.returncode == 0, done.stdout + done.stderr


def read_on(client: socket.socket) -> None:
    """Read to the end of the connection."""
    while client.recv(65_536):
        pass


def share_treated(gateway: Gateway) -> float:
    """The share of some users whom treatment serves."""
    arms = [gateway.get(user=f"user-{number}").arm for number in range(60)]
    return arms.count("treatment") / len(arms)


def test_an_emergency_in_a_drain_wins(gateways: Callable[..., Gateway]) -> None:
    """Half of the users are back on control when the signal comes: then all are, and no step follows."""
    gateway = gateways(extra={"deployment": everybody(drain=DRAINED)})
    gateway.start()
    assert share_treated(gateway) == 1
    roll_back(gateway)
    eventually("the first step is in the workers", lambda: settled(gateway))
    assert 0.2 < share_treated(gateway) < 0.8
    assert status(gateway)["drain"]["step"] == 1
    os.kill(gateway.pid, signal.SIGUSR1)
    eventually("control serves", lambda: gateway.arm() == "control", interval=0.001)
    assert share_treated(gateway) == 0
    document = status(gateway)
    assert (document["drain"], document["latch"]["kind"]) == (None, "emergency")
    assert (document["phase"], document["user_percentage"]) == ("limited_production", 0)
    assert len(gateway.events("emergency")) == 1
    assert gateway.events("rollback") == []


@pytest.mark.parametrize("how", ["graceful", "emergency"])
def test_streams_open_on_treatment_end_at_their_limit(
    gateways: Callable[..., Gateway], streaming: StreamUpstream, how: str
) -> None:
    """`open_streams: 1s`, no steps: the latch is engaged at once, and a second later no stream is left."""
    gateway = gateways(
        upstreams={"traditional": streaming.port, "dspy": streaming.port},
        extra={"deployment": everybody(open_streams="1s", drain={"over": "0s"})},
        workers=1,
    )
    gateway.start()
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: a.example\r\nX-User-Id: u1\r\n\r\n")
        received = client.recv(65_536)
        assert b"X-Gateway-Arm: treatment" in received
        began = time.monotonic()
        if how == "graceful":
            roll_back(gateway)
        else:
            os.kill(gateway.pid, signal.SIGUSR1)
        with pytest.raises(ConnectionResetError):  # never an end that looks like one
            read_on(client)
        assert time.monotonic() - began >= 1.0
    (ended,) = eventually("it is in the log", lambda: gateway.events("streams open on treatment ended"))
    assert ended["streams"] == 1
    assert status(gateway)["latch"]["kind"] == ("rollback" if how == "graceful" else "emergency")
    eventually("the upstream hears of it", lambda: not streaming.open)
