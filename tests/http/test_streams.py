"""Case 86 and what streams need: promptness, cancellation, backpressure, whole bodies, failover."""

from __future__ import annotations

import hashlib
import math
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.proxy import breaker
from tests.http.cases import GOOD, SWITCH, WEBSOCKET, chunked, get, message, post
from tests.support.dataplane import Rig
from tests.support.polling import LATE, wait_until
from tests.support.raw import PATIENCE, Ending, Exchange, Script, echo, resident_bytes

pytestmark = pytest.mark.socket

BLOCK = bytes(range(256)) * 256
MEGABYTE = 1 << 20


@pytest.fixture
def own() -> Iterator[Rig]:
    """A data plane of the test's own, with empty pools."""
    with Rig() as rig:
        yield rig
        rig.check_alive()


HEADS = {
    "chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        True,
    ),
    "until close": (b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", False),
    "counted": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * 14), False),
}


@pytest.mark.parametrize(("head", "in_chunks"), HEADS.values(), ids=HEADS)
def test_every_event_is_flushed_at_once(rig: Rig, head: bytes, in_chunks: bool) -> None:
    """Case 86: the head, then each event reaches the client before the upstream sends the next."""
    taken = threading.Semaphore(0)
    sent_at: list[float] = []

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(head)
        for number in range(100):
            assert taken.acquire(timeout=PATIENCE)
            event = b"data: %06d\n\n" % number
            sent_at.append(time.monotonic())
            exchange.send(b"%x\r\n%b\r\n" % (len(event), event) if in_chunks else event)
        if in_chunks:
            exchange.send(b"0\r\n\r\n")
        else:
            exchange.close()

    delays = []
    with rig.upstream.running(script), rig.connect() as client:
        client.send(get())
        client.head()
        for number in range(100):
            taken.release()
            assert client.piece() == b"data: %06d\n\n" % number
            delays.append(time.monotonic() - sent_at[-1])
        assert client.piece() is None
    # Whatever held events back would hold back all of them: the quickest do not wait for a processor.
    assert statistics.quantiles(delays, n=10)[0] < 0.02


def hanging(cancelled: list[Ending | None], head: bytes = b"") -> Script:
    """A script that sends this much of an answer and waits for the gateway to give up."""

    def script(exchange: Exchange) -> None:
        exchange.send(head)
        started = time.monotonic()
        ending = exchange.wait_gone()
        cancelled.append(ending if time.monotonic() - started < PATIENCE else None)

    return script


@pytest.mark.parametrize("how", list(Ending))
@pytest.mark.parametrize(
    ("sent", "head"),
    [
        pytest.param(get(), b"", id="before the first byte"),
        pytest.param(get(), HEADS["chunked"][0] + b"5\r\nhello\r\n", id="while streaming"),
        pytest.param(get(), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", id="inside a counted body"),
        pytest.param(post(b"Content-Length: 9", body=b"hello"), b"", id="while uploading"),
        pytest.param(chunked(b"5\r\nhello\r\n"), b"", id="while uploading chunks"),
        pytest.param(get() + get() * 10, b"", id="with a pipeline behind it"),
    ],
)
def test_a_client_that_leaves_cancels_the_upstream(own: Rig, sent: bytes, head: bytes, how: Ending) -> None:
    """Promise 4, case 86: the upstream's connection ends as soon as the client's."""
    cancelled: list[Ending | None] = []
    with own.upstream.running(hanging(cancelled, head)), own.connect() as client:
        client.send(sent)
        if head:
            client.head()
        assert wait_until(lambda: bool(own.upstream.begun))
        if how is Ending.RESET:
            client.reset()
        else:
            client.close()
        assert wait_until(lambda: bool(cancelled), LATE), "still running"
    assert cancelled[0] is not None
    assert len(own.upstream.begun) == 1


@pytest.mark.parametrize("how", list(Ending))
def test_a_client_that_leaves_while_it_reads_nothing(own: Rig, how: Ending) -> None:
    """Trap (m): a slow reader that goes is noticed though its upstream is paused."""
    gone: list[bool] = []

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        exchange.connection.socket.settimeout(0.2)
        while True:
            try:
                exchange.send(BLOCK)
            except TimeoutError:
                stalled.set()
            except OSError:
                break
        gone.append(True)

    stalled = threading.Event()
    with own.upstream.running(script), own.connect(receive_buffer=4096) as client:
        client.send(get())
        assert stalled.wait(PATIENCE)
        if how is Ending.RESET:
            client.reset()
        else:
            client.close()
        assert wait_until(lambda: bool(gone), LATE), "the upstream is still sending to nobody"


class Flood:
    """A script that sends `size` bytes as fast as they are taken, and notes when it stalls."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent = 0
        self.stalled = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.size)
        connection = exchange.connection.socket
        connection.settimeout(0.3)
        while self.sent < self.size:
            try:
                self.sent += connection.send(BLOCK)
            except TimeoutError:
                self.stalled.set()


def test_a_slow_reader_grows_no_buffer(own: Rig) -> None:
    """Backpressure: an upstream that is faster than its client has to wait, and memory stays flat."""
    flood = Flood(64 * MEGABYTE)
    own.check_alive()
    before = resident_bytes()
    with own.upstream.running(flood), own.connect(receive_buffer=16_384) as client:
        client.send(get())
        response = client.head()
        assert flood.stalled.wait(PATIENCE)
        assert flood.sent < 32 * MEGABYTE
        assert resident_bytes() - before < 8 * MEGABYTE
        read = 0
        while (piece := client.piece()) is not None:
            read += len(piece)
    assert response.status == 200
    assert read == flood.size


def test_a_slow_upstream_holds_a_fast_upload(own: Rig) -> None:
    """Backpressure: a client that is faster than its upstream has to wait, and nothing is lost."""
    go = threading.Event()

    def script(exchange: Exchange) -> None:
        go.wait(PATIENCE)
        for _ in exchange.pieces():
            pass
        exchange.answer(exchange.digest.encode())

    total = 64 * MEGABYTE
    sent = 0
    digest = hashlib.sha256()
    before = resident_bytes()
    with own.upstream.running(script), own.connect() as client:
        client.send(post(b"Content-Length: %d" % total))
        client.socket.settimeout(0.3)
        while sent < total:
            block = BLOCK[: total - sent]
            try:
                taken = client.socket.send(block)
            except TimeoutError:
                assert not go.is_set(), "the upload hangs"
                assert sent < total // 2
                assert resident_bytes() - before < 8 * MEGABYTE
                go.set()
                client.socket.settimeout(PATIENCE)
                continue
            digest.update(block[:taken])
            sent += taken
        assert go.is_set(), "nothing held the client back"
        assert client.response(b"POST").body == digest.hexdigest().encode()


@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_large_bodies_arrive_whole_both_ways(own: Rig, framing: str) -> None:
    """A megabyte each way, on several connections at once: the hashes agree."""
    body = hashlib.sha512(b"seed").digest() * (MEGABYTE // 64)

    def script(exchange: Exchange) -> None:
        received = exchange.body()
        if framing == "counted":
            exchange.answer(received)
            return
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(received), 9_999):
            piece = received[start : start + 9_999]
            exchange.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        exchange.send(b"0\r\n\r\n")

    failures: list[object] = []

    def client(number: int) -> None:
        mine = body[number:] + body[:number]
        if framing == "counted":
            sent = post(b"Content-Length: %d" % len(mine), body=mine)
        else:
            pieces = (mine[start : start + 7_777] for start in range(0, len(mine), 7_777))
            sent = chunked(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")
        with own.connect() as connection:
            for _ in range(4):
                sender = threading.Thread(target=connection.send, args=(sent,))
                sender.start()
                response = connection.response(b"POST")
                sender.join()
                if response.body != mine:
                    failures.append((number, len(response.body)))

    with own.upstream.running(script):
        threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert len(own.upstream.completed) == 16


@pytest.mark.parametrize(
    "head",
    [
        HEADS["chunked"][0] + b"5\r\nhello\r\n",
        HEADS["until close"][0] + b"hello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    ],
)
def test_an_upstream_that_resets_inside_a_body(own: Rig, head: bytes) -> None:
    """Fault 28: the client sees an aborted body, never a complete one, and the outcome says so."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(head)
        own.plane.settle()
        exchange.reset()

    with own.upstream.running(script), own.connect() as client:
        client.send(get())
        transcript = client.transcript()
    assert [response.complete for response in transcript.responses] in ([], [False])
    assert transcript.ending is not None


def refused_port() -> str:
    """The URL of a port of ours where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def serve_treatment_at(rig: Rig, *endpoints: str, **changes: object) -> None:
    """Publish a snapshot whose treatment has these endpoints."""
    control, treatment = rig.snapshot.upstreams
    upstreams = (control, replace(treatment, endpoints=endpoints))
    version = rig.plane.link.current.version + 1
    rig.plane.publish(replace(rig.snapshot, upstreams=upstreams, version=version, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 5, MEGABYTE])
def test_control_answers_when_treatment_cannot_be_reached(size: int) -> None:
    """Promise 1: a refused connect fails over, with the whole body, and the client is told."""
    body = b"x" * size
    with Rig(percentage=100) as rig:
        serve_treatment_at(rig, refused_port())
        with rig.connect() as client:
            sender = threading.Thread(
                target=client.send, args=(post(b"Content-Length: %d" % size, body=body) + GOOD,)
            )
            sender.start()
            response = client.response(b"POST")
            assert client.response().status == 200
            sender.join()
        assert response.status == 200
        assert response.value(b"x-gateway-arm") == b"control"
        assert response.value(b"x-gateway-failover") == b"connect_error"
        assert rig.control.completed[0].digest == hashlib.sha256(body).hexdigest()
        assert rig.control.heads[0].values(b"x-gateway-arm") == [b"control"]


def test_without_failover_the_client_learns_of_it() -> None:
    """`failover: []`: a treatment that cannot be reached is a bad gateway."""
    with Rig(percentage=100) as rig:
        serve_treatment_at(rig, refused_port(), failover=())
        with rig.connect() as client:
            client.send(get())
            response = client.response()
        assert response.status == 502
        assert response.value(b"x-gateway-failover") is None
        assert rig.control.heads == []


def test_a_failover_that_nobody_answered_is_not_told() -> None:
    """The header says that control answered for treatment: an error of the gateway's own is no answer."""
    with Rig(percentage=100) as rig:
        serve_treatment_at(rig, refused_port())
        with rig.control.running(lambda exchange: exchange.reset()), rig.connect() as client:
            client.send(post())
            response = client.response(b"POST")
        assert response.status == 502
        assert response.value(b"x-gateway-failover") is None


def test_another_endpoint_is_tried_before_control() -> None:
    """A refused connect costs nothing while the upstream has another endpoint."""
    with Rig(percentage=100) as rig:
        serve_treatment_at(rig, refused_port(), rig.treatment.url)
        for _ in range(20):
            with rig.connect() as client:
                client.send(get())
                response = client.response()
            assert response.value(b"x-gateway-arm") == b"treatment"
            assert response.value(b"x-gateway-failover") is None


def test_treatment_that_may_have_accepted_is_not_replaced() -> None:
    """A treatment that dies after the connect gets no stand-in: nothing is sent twice."""
    with Rig(percentage=100) as rig:
        with rig.treatment.running(lambda exchange: exchange.reset()), rig.connect() as client:
            client.send(post())
            response = client.response(b"POST")
        assert response.status == 502
        assert response.value(b"x-gateway-arm") == b"treatment"
        assert rig.control.heads == []
        rig.check_alive()


def test_an_unhealthy_treatment_means_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no healthy endpoint control answers, and treatment is used again once it is back and reachable."""
    monkeypatch.setattr(breaker, "REACH_SECONDS", 0.2)
    monkeypatch.setattr(breaker, "KNOCK_SECONDS", 0.05)
    with Rig(percentage=100) as rig:

        def served() -> tuple[bytes | None, bytes | None]:
            with rig.connect() as client:
                client.send(get())
                response = client.response()
            return response.value(b"x-gateway-arm"), response.value(b"x-gateway-failover")

        def declare(healthy: bool) -> None:
            rig.plane.call(rig.plane.link.publish_health, {("treatment", rig.treatment.url): healthy})

        assert served() == (b"treatment", None)
        declare(False)
        assert served() == (b"control", b"no_healthy_endpoint")
        declare(True)
        assert wait_until(lambda: served() == (b"treatment", None), PATIENCE, 0.02)


def raw_echo(exchange: Exchange) -> None:
    """Switch, greet, echo until the client's FIN, say goodbye, close."""
    assert exchange.head.values(b"upgrade") == [b"websocket"]
    exchange.body()
    tunnel = exchange.tunnel()
    exchange.send(SWITCH + b"hello")
    while data := tunnel.recv(65_536):
        exchange.connection.received += data
        exchange.send(data)
    exchange.send(b"goodbye")
    exchange.close()


def test_a_websocket_is_a_tunnel_both_ways(own: Rig) -> None:
    """Case 99: 101 passes, bytes go both ways as they are, and each half-close passes through."""
    with own.upstream.running(raw_echo), own.connect() as client:
        client.send(get(*WEBSOCKET))
        response = client.head()
        assert response.status == 101
        assert response.value(b"upgrade") == b"websocket"
        assert response.value(b"x-kept") == b"1"
        assert response.value(b"connection").lower() == b"upgrade"  # type: ignore[union-attr]
        assert client.read_exactly(5) == b"hello"
        for frame in (b"\x81\x05frame", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100_000):
            client.send(frame)
            assert client.read_exactly(len(frame)) == frame
        client.half_close()
        assert client.read_exactly(7) == b"goodbye"
        assert client.read_raw() == b""
        assert client.ending is Ending.FIN


def test_bytes_sent_before_the_switch_come_after_it(own: Rig) -> None:
    """Case 99: early bytes of the client wait for the 101, then they are the tunnel's first."""
    with own.upstream.running(raw_echo), own.connect() as client:
        client.send(get(*WEBSOCKET) + b"early")
        assert client.head().status == 101
        assert client.read_exactly(10) == b"helloearly"


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"426 Upgrade Required", b"503 Busy"])
def test_a_refused_websocket_is_an_ordinary_answer(own: Rig, status: bytes) -> None:
    """Case 99: without a 101 there is no tunnel, and early bytes are at most a pipelined request."""

    def script(exchange: Exchange) -> None:
        exchange.answer(b"no", status if exchange.head.target == b"/case" else b"200 OK")

    with own.upstream.running(script), own.connect() as client:
        client.send(get(*WEBSOCKET) + GOOD)
        assert client.response().status == int(status[:3])
        assert client.response().body == b"no"
        client.send(get(*WEBSOCKET) + b"\x81\x05frame\r\n\r\n")
        assert client.response().status == int(status[:3])
        assert client.transcript().statuses == [400]
    assert all(b"frame" not in connection.received for connection in own.upstream.connections)


@pytest.mark.parametrize("how", list(Ending))
def test_a_tunnel_ends_with_the_client(own: Rig, how: Ending) -> None:
    """Case 99: when the client is gone, so is the upstream's end."""
    endings: list[Ending | None] = []

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(SWITCH)
        endings.append(exchange.wait_gone())

    with own.upstream.running(script), own.connect() as client:
        client.send(get(*WEBSOCKET))
        assert client.head().status == 101
        if how is Ending.RESET:
            client.reset()
        else:
            client.close()
        assert wait_until(lambda: bool(endings), 2.0)
    assert endings[0] is not None


@pytest.mark.parametrize("how", list(Ending))
def test_a_tunnel_ends_with_the_upstream(own: Rig, how: Ending) -> None:
    """Case 99: when the upstream is gone, the client is told."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(SWITCH)
        own.plane.settle()
        if how is Ending.RESET:
            exchange.reset()
        else:
            exchange.close()

    with own.upstream.running(script), own.connect() as client:
        client.send(get(*WEBSOCKET))
        assert client.head().status == 101
        assert client.read_raw() == b""
        assert client.ending is not None


def test_the_end_of_a_tunnel_is_not_waited_for_without_a_deadline(own: Rig) -> None:
    """Case 99: a client that does not take what the upstream left behind is let go in the end."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(SWITCH)
        seen.wait(PATIENCE)
        exchange.reset()

    seen = threading.Event()
    with own.upstream.running(script), own.connect() as client:
        client.send(get(*WEBSOCKET))
        assert client.head().status == 101
        (served,) = own.plane.worker._context.clients
        seen.set()
        assert client.read_raw() == b""
        assert served.deadline < math.inf


def test_a_tunnel_holds_back_a_fast_sender(own: Rig) -> None:
    """Backpressure in a tunnel, both ways: no buffer grows, and every byte arrives."""
    size = 64 * MEGABYTE
    go = threading.Event()
    received = []

    def script(exchange: Exchange) -> None:
        exchange.body()
        tunnel = exchange.tunnel()
        exchange.send(SWITCH)
        go.wait(PATIENCE)
        count = 0
        while count < size and (data := tunnel.recv(1 << 18)):
            count += len(data)
        received.append(count)
        exchange.send(b"done")

    sent = 0
    before = resident_bytes()
    with own.upstream.running(script), own.connect() as client:
        client.send(get(*WEBSOCKET))
        assert client.head().status == 101
        client.socket.settimeout(0.3)
        while sent < size:
            try:
                sent += client.socket.send(BLOCK[: size - sent])
            except TimeoutError:
                assert not go.is_set()
                assert sent < size // 2
                assert resident_bytes() - before < 8 * MEGABYTE
                go.set()
                client.socket.settimeout(PATIENCE)
        assert go.is_set()
        assert client.read_exactly(4) == b"done"
    assert received == [size]


def test_streams_of_both_kinds_go_on_over_a_reload(own: Rig) -> None:
    """A new snapshot ends no stream that is open, though its upstream is gone from the config."""
    go = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(HEADS["chunked"][0] + b"5\r\nhello\r\n")
        go.wait(PATIENCE)
        exchange.send(b"5\r\nworld\r\n0\r\n\r\n")

    with own.upstream.running(script), own.connect() as client:
        client.send(message(b"GET /stream HTTP/1.1", b"Host: a"))
        client.head()
        assert client.piece() == b"hello"
        treatment = own.snapshot.upstreams[1]
        replaced = replace(own.snapshot.upstreams[0], endpoints=(own.treatment.url,))
        own.plane.publish(replace(own.snapshot, version=2, upstreams=(replaced, treatment)))
        own.upstream.script = echo
        client.parser.expect(b"GET")
        with own.connect() as other:
            other.send(get())
            assert other.response().status == 200
        assert own.treatment.heads[-1].target == b"/case"
        go.set()
        assert client.piece() == b"world"
        assert client.piece() is None
    own.plane.publish(replace(own.snapshot, version=3))
