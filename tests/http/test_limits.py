"""Case 100 and the limits: every deadline, 408, 413, 431, 503, 504 (RFC 9110 section 15).

Deadlines are shortened to fractions of a second; the worker looks at them ten times a second.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.latch import LatchKind
from gateway.model.snapshot import ConnectionLimits
from tests.http.cases import GOOD, SWITCH, WEBSOCKET, check_problem, get, post
from tests.support.dataplane import Rig
from tests.support.polling import LATE, wait_until
from tests.support.raw import PATIENCE, Ending, Exchange, Transcript, resident_bytes
from tests.support.serving import PATIENT

pytestmark = pytest.mark.socket

SHORT = 0.3


@contextlib.contextmanager
def lasting(at_least: float) -> Iterator[None]:
    """What happens inside takes this long, and not much longer."""
    started = time.monotonic()
    yield
    assert at_least * 0.9 <= time.monotonic() - started <= at_least + LATE


def the_only(transcript: Transcript, status: int) -> None:
    """One answer of the gateway's own, then the end of the connection."""
    assert transcript.statuses == [status], transcript
    assert transcript.ending is Ending.FIN, transcript
    check_problem(transcript.responses[0])


@pytest.mark.parametrize("sent", [b"G", b"GET /case HTTP/1.1\r\n", b"GET /case HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_that_does_not_come_is_timed_out(sent: bytes) -> None:
    """Case 100: 408 when the head is not there in time, however much of it is."""
    with Rig(limits={"header_timeout": SHORT}) as rig:
        with rig.connect() as client, lasting(SHORT):
            client.send(sent)
            the_only(client.transcript(), 408)
        rig.check_alive()


def test_a_head_that_drips_is_timed_out() -> None:
    """Case 100: a byte now and then does not move the deadline of the head."""
    with Rig(limits={"header_timeout": SHORT}) as rig:
        with rig.connect() as client, lasting(SHORT):
            stop = threading.Event()

            def drip() -> None:
                for byte in get() * 10:
                    if stop.wait(0.05) or not client.send(bytes([byte])):
                        return

            dripper = threading.Thread(target=drip)
            dripper.start()
            transcript = client.transcript()
            stop.set()
            dripper.join()
            assert transcript.statuses == [408]
        rig.check_alive()


def test_a_silent_connection_is_closed_without_a_word() -> None:
    """A client that says nothing is let go: at the header's deadline first, then at keep-alive's."""
    with Rig(limits={"header_timeout": SHORT, "keepalive_timeout": SHORT}) as rig:
        with rig.connect() as client, lasting(SHORT):
            transcript = client.transcript()
            assert (transcript.statuses, transcript.ending) == ([], Ending.FIN)
        with rig.connect() as client:
            client.send(GOOD)
            assert client.response().status == 200
            with lasting(SHORT):
                transcript = client.transcript()
            assert (transcript.statuses, transcript.ending) == ([], Ending.FIN)


def test_a_body_that_stalls_is_timed_out() -> None:
    """Case 100: 408 when the client stops in the middle of its body, and the upstream is let go."""
    with Rig(timeouts=replace(PATIENT, idle=SHORT)) as rig:
        with rig.connect() as client, lasting(SHORT):
            client.send(post(b"Content-Length: 10", body=b"hello"))
            assert client.transcript(b"POST").statuses == [408]
        assert rig.upstream.begun[-1].wait_ended()
        assert rig.upstream.completed == []
        rig.check_alive()


def test_an_upstream_that_does_not_answer_is_timed_out() -> None:
    """504 when the first byte does not come, and the upstream's connection is closed."""
    with Rig(timeouts=replace(PATIENT, first_byte=SHORT)) as rig:
        with rig.upstream.running(lambda exchange: exchange.wait_gone()), rig.connect() as client:
            with lasting(SHORT):
                client.send(get())
                response = client.response()
            assert response.status == 504
            check_problem(response)
            assert rig.upstream.begun[-1].wait_ended()
            rig.upstream.script = lambda exchange: exchange.answer(b"ok")
            client.send(get())
            assert client.response().status == 200
        rig.check_alive()


def test_a_head_that_drips_from_the_upstream_is_timed_out() -> None:
    """Fault 29: an answer's head of one byte now and then is no answer."""
    stop = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.body()
        for byte in b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100:
            if stop.wait(0.05):
                break
            exchange.send(bytes([byte]))

    with Rig(timeouts=replace(PATIENT, first_byte=SHORT)) as rig:
        with rig.upstream.running(script), rig.connect() as client, lasting(SHORT):
            client.send(get())
            assert client.response().status == 504
        stop.set()
        rig.check_alive()


def test_a_stream_that_falls_silent_is_cut() -> None:
    """The idle deadline holds between two pieces of an answer; what was cut does not look whole."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        exchange.wait_gone()

    with Rig(timeouts=replace(PATIENT, idle=SHORT)) as rig:
        with rig.upstream.running(script), rig.connect() as client, lasting(SHORT):
            client.send(get())
            transcript = client.transcript()
            assert [response.complete for response in transcript.responses] in ([], [False])
            assert transcript.ending is not None
        rig.check_alive()


def test_a_stream_that_goes_on_is_not_cut() -> None:
    """Case 86: first-byte and idle deadlines are no limit of the whole; heartbeats keep it open."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(8):
            pause.wait(SHORT / 3)
            exchange.send(b"3\r\n:\n\n\r\n")
        exchange.send(b"0\r\n\r\n")

    pause = threading.Event()
    with (
        Rig(timeouts=replace(PATIENT, first_byte=SHORT, idle=SHORT)) as rig,
        rig.upstream.running(script),
        rig.connect() as client,
        lasting(8 * SHORT / 3),
    ):
        client.send(get())
        assert client.response().body == b":\n\n" * 8


def test_what_others_take_is_not_the_gateways_time() -> None:
    """Server-Timing: a client slow with its body and an upstream slow with its answer are not the gateway."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        pause.wait(SHORT)
        exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        exchange.answer(b"ok")

    pause = threading.Event()
    with Rig() as rig, rig.upstream.running(script), rig.connect() as client:
        client.send(post(b"Content-Length: 5", body=b"he"))
        assert not pause.wait(SHORT)
        client.send(b"llo")
        timing = client.response(b"POST").value(b"server-timing") or b""
        own = float(timing.partition(b"gateway;dur=")[2].partition(b",")[0])
        assert own < SHORT * 1e3 / 2, timing


def test_a_total_deadline_ends_also_a_lively_stream() -> None:
    """`total` counts from the request, whatever happens meanwhile."""
    stop = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not stop.wait(0.02):
            exchange.send(b"1\r\nx\r\n")

    with Rig(timeouts=replace(PATIENT, total=SHORT)) as rig:
        with rig.upstream.running(script), rig.connect() as client, lasting(SHORT):
            client.send(get())
            transcript = client.transcript()
            assert [response.complete for response in transcript.responses] == [False]
        stop.set()
        rig.check_alive()


def test_a_reader_that_takes_nothing_is_cut() -> None:
    """Case 100: a client that does not read holds its connection for the idle deadline, not for ever."""
    gone = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        try:
            while True:
                exchange.send(b"x" * 65_536)
        finally:
            gone.set()

    with Rig(timeouts=replace(PATIENT, idle=SHORT)) as rig:
        with rig.upstream.running(script), rig.connect(receive_buffer=4096) as client:
            client.send(get())
            assert gone.wait(SHORT + LATE + 1), "still connected"
        rig.check_alive()


def test_a_tunnel_outlives_the_deadlines_of_http() -> None:
    """Case 99: a WebSocket may be silent for longer than any HTTP deadline."""
    go = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(SWITCH)
        go.wait(PATIENCE)
        exchange.send(b"still here")

    short = replace(PATIENT, first_byte=SHORT, idle=SHORT)
    with (
        Rig(timeouts=short, limits={"header_timeout": SHORT, "keepalive_timeout": SHORT}) as rig,
        rig.upstream.running(script),
        rig.connect() as client,
    ):
        client.send(get(*WEBSOCKET))
        assert client.head().status == 101
        assert not go.wait(3 * SHORT)
        go.set()
        assert client.read_exactly(10) == b"still here"


@contextlib.contextmanager
def unreachable() -> Iterator[str]:
    """An address that takes no connection and refuses none: its backlog is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_connect_that_hangs_is_timed_out() -> None:
    """Fault 28: a black hole costs the connect deadline: 504, or control in treatment's place."""
    for percentage, status in ((0, 504), (100, 200)):
        with (
            unreachable() as url,
            Rig(percentage=percentage, timeouts=replace(PATIENT, connect=SHORT)) as rig,
        ):
            arm = 1 if percentage else 0
            upstreams = list(rig.snapshot.upstreams)
            upstreams[arm] = replace(upstreams[arm], endpoints=(url,))
            rig.plane.publish(replace(rig.snapshot, version=2, upstreams=tuple(upstreams)))
            with rig.connect() as client, lasting(SHORT):
                client.send(get())
                assert client.response().status == status


def test_too_many_connections_are_turned_away() -> None:
    """`limits.connections`: one more is told 503, or closed, at once; those that are open go on."""
    with Rig(limits={"connections": 2}) as rig:
        with rig.connect() as first, rig.connect() as second:
            for client in (first, second):
                client.send(GOOD)
                assert client.response().status == 200
            with rig.connect() as third, lasting(0):
                third.send(GOOD)
                transcript = third.transcript()
                assert transcript.statuses in ([], [503])
                assert transcript.ending is not None
            first.send(GOOD)
            assert first.response().status == 200
        assert wait_until(lambda: _is_served(rig))


def _is_served(rig: Rig) -> bool:
    with rig.connect() as client:
        client.send(GOOD)
        return client.transcript(patience=0.2).statuses == [200]


class Gate:
    """A script whose answers wait until the gate is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.body()
        self.opened.wait(PATIENCE)
        exchange.answer(exchange.head.target)


def test_an_upstream_at_its_limit_refuses_at_once() -> None:
    """The bulkhead: with no room to wait in, one more request is a 503 with Retry-After."""
    gate = Gate()
    with Rig(connection_limits=ConnectionLimits(1, 0)) as rig:
        with rig.upstream.running(gate), rig.connect() as first, rig.connect() as second:
            first.send(get())
            assert wait_until(lambda: bool(rig.upstream.begun))
            with lasting(0):
                second.send(get())
                response = second.response()
            assert response.status == 503
            assert int(response.value(b"retry-after") or b"") > 0
            check_problem(response)
            gate.opened.set()
            assert first.response().status == 200
            second.send(get())
            assert second.response().status == 200
        rig.check_alive()


def test_waiting_requests_are_served_in_turn() -> None:
    """The bulkhead: who waits gets the connection when it is free, first come, first served."""
    gate = Gate()
    with Rig(connection_limits=ConnectionLimits(1, 3)) as rig:
        with rig.upstream.running(gate), contextlib.ExitStack() as stack:
            clients = [stack.enter_context(rig.connect()) for _ in range(5)]
            for number, client in enumerate(clients):
                client.send(get(target=b"/%d" % number))
                rig.plane.settle()
            assert clients[4].response().status == 503
            gate.opened.set()
            assert [client.response().body for client in clients[:4]] == [b"/0", b"/1", b"/2", b"/3"]
        assert [head.target for head in rig.upstream.heads] == [b"/0", b"/1", b"/2", b"/3"]
        assert len(rig.upstream.connections) == 1


def test_a_body_that_waits_in_the_queue_holds_its_client() -> None:
    """Backpressure: while there is no connection to send it on, little of a body is taken."""
    gate = Gate()
    size = 64_000_000
    sent = 0
    with Rig(connection_limits=ConnectionLimits(1, 3)) as rig:
        with rig.upstream.running(gate), rig.connect() as first, rig.connect() as second:
            first.send(get())
            assert wait_until(lambda: bool(rig.upstream.begun))
            second.send(post(b"Content-Length: %d" % size))
            before = resident_bytes()
            second.socket.settimeout(SHORT)
            while sent < size:
                try:
                    sent += second.socket.send(bytes(min(65_536, size - sent)))
                except TimeoutError:
                    assert sent < size // 2
                    assert resident_bytes() - before < 8_000_000
                    assert not gate.opened.is_set(), "the upload hangs"
                    gate.opened.set()
                    second.socket.settimeout(PATIENCE)
            assert gate.opened.is_set(), "nothing held the client back"
            assert first.response().status == 200
            assert second.response(b"POST").status == 200
        assert rig.upstream.completed[-1].body_length == size
        rig.check_alive()


def test_nobody_waits_for_ever() -> None:
    """The bulkhead: a request that waits longer than the connect deadline is a 503."""
    gate = Gate()
    short = replace(PATIENT, connect=SHORT)
    with Rig(connection_limits=ConnectionLimits(1, 3), timeouts=short) as rig:
        with rig.upstream.running(gate), rig.connect() as first, rig.connect() as second:
            first.send(get())
            assert wait_until(lambda: bool(rig.upstream.begun))
            with lasting(SHORT):
                second.send(get())
                assert second.response().status == 503
            gate.opened.set()
            assert first.response().status == 200
        rig.check_alive()


def test_a_client_that_leaves_the_queue_is_not_served() -> None:
    """The bulkhead: the place of a client that left goes to the next one."""
    gate = Gate()
    with Rig(connection_limits=ConnectionLimits(1, 3)) as rig:
        with rig.upstream.running(gate), rig.connect() as first, rig.connect() as third:
            first.send(get(target=b"/1"))
            assert wait_until(lambda: bool(rig.upstream.begun))
            with rig.connect() as second:
                second.send(get(target=b"/2"))
                rig.plane.settle()
            third.send(get(target=b"/3"))
            rig.plane.settle()
            gate.opened.set()
            assert third.response().body == b"/3"
        assert [head.target for head in rig.upstream.heads] == [b"/1", b"/3"]


def test_the_latch_is_looked_at_when_a_request_leaves_the_queue() -> None:
    """Promise 2: who waited for treatment while the latch engaged is served by control."""
    gate = Gate()
    with Rig(percentage=100, connection_limits=ConnectionLimits(1, 3)) as rig:
        with rig.treatment.running(gate), rig.connect() as first, rig.connect() as second:
            first.send(get())
            assert wait_until(lambda: bool(rig.treatment.begun))
            second.send(get())
            rig.plane.settle()
            rig.plane.latch.engage(LatchKind.EMERGENCY, "test", "test")
            gate.opened.set()
            assert first.response().value(b"x-gateway-arm") == b"treatment"
            assert second.response().value(b"x-gateway-arm") == b"control"
        assert len(rig.treatment.begun) == 1


def test_the_latch_empties_a_long_queue() -> None:
    """Promise 2: hundreds that waited for treatment while the latch engaged are all served by control."""
    gate = Gate()
    with (
        Rig(percentage=100, connection_limits=ConnectionLimits(1, 900)) as rig,
        contextlib.ExitStack() as stack,
    ):
        rig.treatment.script = gate
        first = stack.enter_context(rig.connect())
        first.send(get())
        assert wait_until(lambda: bool(rig.treatment.begun))
        waiting = [stack.enter_context(rig.connect()) for _ in range(600)]
        for client in waiting:
            client.send(get())
        rig.plane.settle()
        rig.plane.latch.engage(LatchKind.EMERGENCY, "test", "test")
        gate.opened.set()
        assert first.response().value(b"x-gateway-arm") == b"treatment"
        answers = [client.response() for client in waiting]
        assert {(answer.status, answer.value(b"x-gateway-arm")) for answer in answers} == {(200, b"control")}


def test_who_waits_for_a_hanging_treatment_gets_control_once_latched() -> None:
    """Promise 2: a wait that ends by its deadline ends at control as well, if the latch engaged."""
    gate = Gate()
    short = replace(PATIENT, connect=SHORT)
    with (
        Rig(percentage=100, connection_limits=ConnectionLimits(1, 3), timeouts=short) as rig,
        rig.treatment.running(gate),
        rig.connect() as first,
        rig.connect() as second,
    ):
        first.send(get())
        assert wait_until(lambda: bool(rig.treatment.begun))
        second.send(get())
        rig.plane.settle()
        rig.plane.latch.engage(LatchKind.EMERGENCY, "test", "test")
        with lasting(SHORT):
            response = second.response()
        assert (response.status, response.value(b"x-gateway-arm")) == (200, b"control")
        gate.opened.set()
        assert first.response().status == 200


def test_who_gave_up_waiting_takes_no_place_in_the_queue() -> None:
    """The bulkhead: a place is free again once its request has timed out, or its client has left."""
    gate = Gate()
    short = replace(PATIENT, connect=SHORT)
    with (
        Rig(connection_limits=ConnectionLimits(1, 2), timeouts=short) as rig,
        rig.upstream.running(gate),
        rig.connect() as first,
        rig.connect() as second,
        rig.connect() as last,
    ):
        first.send(get())
        assert wait_until(lambda: bool(rig.upstream.begun))
        with rig.connect() as leaves:
            leaves.send(get())
            second.send(get())
            assert second.response().status == 503
        rig.plane.settle()
        last.send(get())
        rig.plane.settle()
        gate.opened.set()
        assert first.response().status == 200
        assert last.response().status == 200


def test_slow_clients_cost_the_others_nothing() -> None:
    """Case 100: two hundred clients that drip do not slow down one that does not."""
    with Rig() as rig:
        with contextlib.ExitStack() as stack, rig.connect() as client:

            def slowest() -> float:
                times = []
                for _ in range(100):
                    started = time.monotonic()
                    client.send(GOOD)
                    client.response()
                    times.append(time.monotonic() - started)
                return sorted(times)[95]

            alone = slowest()
            slow = [stack.enter_context(rig.connect()) for _ in range(200)]
            for byte in b"GET /slow HTTP":
                for one in slow:
                    one.send(bytes([byte]))
            assert slowest() < 2 * alone + 0.01
        rig.check_alive()
