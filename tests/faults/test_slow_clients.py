"""Faults 34 and 39: clients that send slowly, read slowly or not at all."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from gateway.model.snapshot import Timeouts
from gateway.processes.directory import Role
from gateway.proxy import downstream
from tests.faults.counting import counted
from tests.faults.places import resident
from tests.support.dataplane import Rig
from tests.support.polling import eventually, wait_until
from tests.support.processes import Gateway
from tests.support.raw import Client, Exchange, Upstream

pytestmark = pytest.mark.socket

GET = b"GET /%s HTTP/1.1\r\nHost: pipeline.example\r\n\r\n"
KIB = 1024
QUICK = Timeouts(connect=1.0, first_byte=5.0, idle=0.5, total=None)
TINY_WINDOW = 4096
"""A client's receive buffer: what it does not read stays in the gateway, or in the upstream."""


def sized(exchange: Exchange) -> None:
    """Answer /N with N bytes, as fast as they are taken."""
    exchange.body()
    size = int(exchange.head.target[1:])
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    piece = b"x" * 65536
    for start in range(0, size, len(piece)):
        exchange.send(piece[: size - start])


def stalled_with_unsent_bytes(rig: Rig, *headers: bytes) -> Client:
    """A client that stopped reading where its whole answer has left the upstream but not the gateway.

    How much the kernel takes for it differs from machine to machine, so the size is searched for.
    """
    lines = b"".join(line + b"\r\n" for line in headers)
    for size in range(200_000, 8_000_000, 30_000):
        client = rig.connect(receive_buffer=TINY_WINDOW)
        before = len(rig.upstream.completed)
        client.send(b"GET /%d HTTP/1.1\r\nHost: pipeline.example\r\n%b\r\n" % (size, lines))
        assert wait_until(lambda b=before: len(rig.upstream.completed) > b)  # type: ignore[misc]
        time.sleep(0.01)  # for what the kernels on the way still take
        rig.plane.settle()
        if rig.plane.unsent() > 65_536:
            return client
        client.reset()
        rig.plane.settle()
    raise AssertionError("the kernel takes everything")


def test_an_upstream_s_connection_is_as_good_as_new_after_a_slow_client():
    """It was paused for the client's sake when the answer ended: the next request on it is answered."""
    with Rig(script=sized) as rig, stalled_with_unsent_bytes(rig), rig.connect() as client:
        connections = len(rig.upstream.connections)
        client.send(GET % b"10")
        assert client.response().body == b"x" * 10
        assert len(rig.upstream.connections) == connections


def test_the_next_pipelined_answer_waits_until_this_one_was_taken():
    """A client that does not read gets no second answer into the gateway's memory; once it reads, both."""
    with Rig(script=sized) as rig, stalled_with_unsent_bytes(rig) as slow:
        held = rig.plane.unsent()
        served = len(rig.upstream.heads)
        slow.send(GET % b"5000000")
        for _ in range(10):
            rig.plane.settle()
        assert len(rig.upstream.heads) == served
        assert rig.plane.unsent() == held
        assert slow.response().complete
        assert len(slow.response().body) == 5_000_000


def test_a_client_that_never_takes_the_end_of_its_answer_is_let_go(monkeypatch: pytest.MonkeyPatch):
    """`Connection: close`, the answer relayed, the client not reading: the socket is not kept for ever."""
    monkeypatch.setattr(downstream, "MOST_PATIENCE_SECONDS", 0.3)
    with Rig(script=sized) as rig, stalled_with_unsent_bytes(rig, b"Connection: close") as slow:
        assert wait_until(lambda: rig.plane.unsent() == 0)
        response = slow.head()
        slow.finish(response)
        assert not response.complete


def test_a_client_that_stops_reading_is_no_failure_of_the_upstream():
    """Inside an answer nothing moves for the idle time: the connection ends, and no arm is blamed."""
    with Rig(script=sized, timeouts=QUICK) as rig, rig.connect(receive_buffer=TINY_WINDOW) as slow:
        slow.send(GET % b"50000000")
        assert counted(rig.plane, 1) == {("control", 200, "client_closed"): 1}


def test_the_end_of_an_answer_outlives_a_drain():
    """The worker is told to end while an answer's last bytes wait for a slow client: it gets them."""
    with Rig(script=sized) as rig, stalled_with_unsent_bytes(rig) as slow:
        rig.plane.call(rig.plane.worker.drain)
        rig.plane.settle()
        response = slow.head()
        slow.finish(response)
        assert response.complete


def test_an_answer_cut_by_the_end_of_the_worker_never_looks_whole():
    """For an HTTP/1.0 client the body ends with the connection: cut by us, it ends with a RST."""

    def half(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        exchange.wait_gone()

    with Rig(script=half) as rig, rig.connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        response = client.head()
        rig.plane.call(rig.plane.worker.abort)
        client.finish(response)
        assert not response.complete


@pytest.fixture
def big(gateways: Callable[..., Gateway]) -> Iterator[Gateway]:
    """A gateway of one worker before an upstream that answers with as many bytes as asked for."""
    upstream = Upstream(sized)
    gateway = gateways(
        workers=1,
        upstreams={"traditional": upstream.port, "dspy": upstream.port},
        extra={"limits": {"header_timeout": "3s"}},
    )
    gateway.start(ready=False)
    eventually("it answers", lambda: answers(gateway))
    yield gateway
    gateway.close()
    upstream.close()


def answers(gateway: Gateway) -> bool:
    try:
        return gateway.get("/1").status == 200
    except OSError:
        return False


@pytest.mark.process
def test_slow_readers_of_a_fast_upstream_cost_bounded_memory(big: Gateway):
    """200 clients ask for a gigabyte each and do not read: at most 192 KiB each, and others are served."""
    readers = 200
    (worker,) = big.pids(Role.WORKER)
    before = resident(worker)
    with contextlib.ExitStack() as stack:
        for _ in range(readers):
            client = stack.enter_context(Client(("127.0.0.1", big.port), receive_buffer=TINY_WINDOW))
            client.send(GET % b"1000000000")
        highest = 0
        for _ in range(20):
            highest = max(highest, resident(worker))
            assert big.get("/10").status == 200
            time.sleep(0.05)
    assert highest - before < readers * 192 * KIB


class Trickle:
    """Clients of one kind of slowness; `tick` lets each of them do its least."""

    def __init__(self, port: int, count: int, opening: bytes, drop: bytes) -> None:
        self._drop = drop
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        for one in self.sockets:
            one.sendall(opening)

    def tick(self) -> None:
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.sendall(self._drop)

    def close(self) -> None:
        for one in self.sockets:
            one.close()


KINDS = {
    "slow head": (b"GET /10 HTTP/1.1\r\nHost: a\r\n", b"X-A: b\r\n"),
    "slow body": (b"POST /10 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"y"),
    "slow chunks": (b"POST /10 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n"),
    "silence": (b"", b""),
}


@pytest.mark.process
def test_slow_clients_cost_the_others_nothing_and_little_memory(big: Gateway):
    """500 clients that trickle or say nothing: 64 KiB each at most, and no one else waits."""
    each = 125
    (worker,) = big.pids(Role.WORKER)
    alone = latencies(big, 200)
    before = resident(worker)
    trickles = [Trickle(big.port, each, *kind) for kind in KINDS.values()]
    try:
        for trickle in trickles:
            trickle.tick()
        latencies(big, 20)  # their requests have arrived: from here on they only trickle
        crowded = []
        for _ in range(10):
            for trickle in trickles:
                trickle.tick()
            crowded += latencies(big, 20)
        assert resident(worker) - before < len(KINDS) * each * 64 * KIB
        assert percentile(crowded) < 2 * percentile(alone) + 0.050
    finally:
        for trickle in trickles:
            trickle.close()


def latencies(gateway: Gateway, count: int) -> list[float]:
    taken = []
    with Client(("127.0.0.1", gateway.port)) as client:
        for _ in range(count):
            began = time.monotonic()
            client.send(GET % b"10")
            assert client.response().status == 200
            taken.append(time.monotonic() - began)
    return taken


def percentile(values: list[float]) -> float:
    return statistics.quantiles(values, n=10)[-1]
