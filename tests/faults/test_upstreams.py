"""Faults 28, 29, 31 and 37: upstreams that refuse, reset, vanish, crawl, die and come back."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from gateway.model.snapshot import Timeouts
from tests.faults.counting import counted
from tests.support.dataplane import DataPlane, Rig
from tests.support.polling import LATE
from tests.support.raw import PATIENCE, Client, Exchange, Response, Upstream, echo, reset
from tests.support.serving import serving

pytestmark = pytest.mark.socket

GET = b"GET /x HTTP/1.1\r\nHost: pipeline.example\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: pipeline.example\r\nContent-Length: 3\r\n\r\nabc"
TREATMENT = 100
QUICK = Timeouts(connect=0.3, first_byte=0.5, idle=0.5, total=None)

Handle = Callable[[socket.socket], None]


class Manual:
    """A listener whose connections are handled by the test's own function, and counted."""

    def __init__(self, handle: Handle, port: int = 0) -> None:
        self.accepted = 0
        self._handle = handle
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(connection)
            with contextlib.suppress(OSError):
                self._handle(connection)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)
        for connection in self._open:
            connection.close()


def read_request(connection: socket.socket) -> None:
    connection.settimeout(PATIENCE)
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)


def reset_after_head(connection: socket.socket) -> None:
    read_request(connection)
    reset(connection)


@contextlib.contextmanager
def beside(treatment: str, **options: object) -> Iterator[tuple[DataPlane, Upstream]]:
    """Everybody assigned to this treatment; a healthy control stands beside it."""
    control = Upstream(echo)
    plane = DataPlane(serving([control.url], [treatment], TREATMENT, **options))  # type: ignore[arg-type]
    try:
        yield plane, control
        assert plane.faults == []
    finally:
        plane.close()
        control.close()


def ask(plane: DataPlane, request: bytes = GET) -> tuple[Response, float]:
    """The answer to one request on a connection of its own, and how many seconds it took."""
    began = time.monotonic()
    with plane.connect() as client:
        client.send(request)
        return client.response(request.split()[0]), time.monotonic() - began


@contextlib.contextmanager
def blackhole() -> Iterator[str]:
    """An endpoint whose backlog is full: the kernel drops every further SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    with socket.socket() as bound:  # bound, so that nobody else gets the port, but not listening
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
@pytest.mark.parametrize(("endpoint", "limit"), [(refusing, 0.1), (blackhole, QUICK.connect or 0)])
def test_control_answers_where_treatment_cannot_be_reached(
    request_: bytes, endpoint: Callable[[], contextlib.AbstractContextManager[str]], limit: float
):
    """Refused, or every SYN lost: control's answer within the connect time-out, and treatment's blame."""
    with endpoint() as url, beside(url, timeouts=QUICK) as (plane, control):
        response, seconds = ask(plane, request_)
        assert (response.status, response.value(b"x-gateway-failover")) == (200, b"connect_error")
        assert seconds < limit + LATE
        assert len(control.heads) == 1
        assert counted(plane, 1) == {("treatment", 200, "connect_error"): 1}


@pytest.mark.parametrize(
    ("endpoint", "status"), [(refusing, 502), (blackhole, 504)], ids=["refused", "blackholed"]
)
def test_without_failover_the_fault_is_told_in_time(
    endpoint: Callable[[], contextlib.AbstractContextManager[str]], status: int
):
    """`failover: {when: []}`: 502 or 504 within the connect time-out."""
    with endpoint() as url, beside(url, timeouts=QUICK, failover=()) as (plane, control):
        response, seconds = ask(plane)
        assert response.status == status
        assert seconds < (QUICK.connect or 0) + LATE
        assert not control.heads


@pytest.mark.parametrize("end", [reset, socket.socket.close], ids=["RST", "FIN"])
def test_an_upstream_that_accepts_and_ends_at_once_never_hangs_a_request(end: Handle):
    """Whether the end is seen before or after the request was written: an answer, at once, sent once."""
    treatment = Manual(end)
    with beside(treatment.url) as (plane, control):
        for count, request in enumerate([GET, POST] * 10, 1):
            response, seconds = ask(plane, request)
            assert response.status in (200, 502)
            assert seconds < LATE
            assert treatment.accepted == count
        # Whoever was answered by control has not been sent to treatment: its connection was dead before.
        outcomes = counted(plane, 20)
        assert outcomes["treatment", 200, "connect_error"] == len(control.heads)
        assert outcomes["treatment", 502, "reset"] == 20 - len(control.heads)
    treatment.close()


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
def test_a_reset_after_the_request_is_told_and_nothing_is_sent_twice(request_: bytes):
    """RST after the head on a fresh connection: 502; treatment may have acted, so control is not asked."""
    treatment = Manual(reset_after_head)
    with beside(treatment.url) as (plane, control):
        response, _ = ask(plane, request_)
        assert response.status == 502
        assert treatment.accepted == 1
        assert not control.heads
        assert counted(plane, 1) == {("treatment", 502, "reset"): 1}
    treatment.close()


HEADS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nhalf",
}


# A FIN is how a body that lasts until the close ends: there it is no cut.
@pytest.mark.parametrize(
    ("framing", "how"),
    [
        (framing, how)
        for framing in HEADS
        for how in ("RST", "FIN")
        if (framing, how) != ("until close", "FIN")
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_body_cut_short_never_looks_whole(framing: str, how: str, version: bytes):
    """An end inside the body, for clients of HTTP/1.1 and 1.0: the client can always tell."""
    sent = threading.Event()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEADS[framing])
        sent.wait(PATIENCE)
        reset(connection) if how == "RST" else connection.close()

    treatment = Manual(handle)
    with beside(treatment.url) as (plane, _), plane.connect() as client:
        client.send(GET.replace(b"1.1", version))
        response = client.head()
        sent.set()
        client.finish(response)
        assert not response.complete
        assert counted(plane, 1) == {("treatment", 200, "truncated"): 1}
    treatment.close()


def overdue(began: float, deadline: float | None) -> float:
    """Seconds since a deadline of something that began then; not one moment before it."""
    assert deadline is not None
    seconds = time.monotonic() - began - deadline
    assert seconds > -0.01, "the loop's clock ticks in milliseconds"
    return seconds


def drip(head: bytes, body: bytes) -> Callable[[Exchange], None]:
    """A script that sends `head` at once and a byte of `body` every 50 ms."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        if exchange.head.target == b"/quick":
            exchange.answer(b"quick")
            return
        exchange.send(head)
        for byte in body:
            time.sleep(0.05)
            exchange.send(bytes([byte]))

    return script


def test_a_head_that_crawls_is_a_time_out():
    """A byte every 50 ms for ever: 504 at the first-byte deadline, and others are served meanwhile."""
    endless = drip(b"", b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100)
    patience = 2.0  # five requests are answered within it on a busy machine too
    with Rig(script=endless, timeouts=replace(QUICK, first_byte=patience)) as rig:
        with rig.connect() as slow:
            began = time.monotonic()
            slow.send(GET)
            for _ in range(5):
                assert ask(rig.plane, GET.replace(b"/x", b"/quick"))[0].status == 200
            assert select.select([slow.socket], [], [], 0) == ([], [], []), "they waited for the slow one"
            assert slow.response().status == 504
            assert overdue(began, patience) < LATE
        assert counted(rig.plane, 6)["control", 504, "timeout"] == 1


def test_a_body_that_stalls_is_cut_and_one_that_crawls_is_not():
    """Silence inside a body ends at the idle deadline; a byte now and then goes through, whole."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
    with Rig(script=drip(head, b"y" * 20), timeouts=QUICK) as rig, rig.connect() as client:
        client.send(GET)
        assert client.response().body == b"y" * 20
        rig.upstream.script = drip(head + b"half", b"")
        began = time.monotonic()
        client.send(GET)
        response = client.head()
        client.finish(response)
        assert not response.complete
        assert overdue(began, QUICK.idle) < LATE


def test_with_both_arms_down_the_answer_is_quick_and_recovery_is_too():
    """Nobody listens on either side: 502 at once, a dial for each arm a request; then both are back."""
    with refusing() as control_url, refusing() as treatment_url:
        plane = DataPlane(serving([control_url], [treatment_url], TREATMENT))
        try:
            for _ in range(20):
                response, seconds = ask(plane)
                assert response.status in (502, 503)
                assert seconds < LATE
            outcomes = counted(plane, 20)
            assert outcomes == {("treatment", 502, "connect_error"): 20}
        except BaseException:
            plane.close()
            raise
    back = [
        Upstream(echo, address=("127.0.0.1", int(url.rpartition(":")[2])))
        for url in (control_url, treatment_url)
    ]
    try:
        began = time.monotonic()
        while ask(plane)[0].status != 200:
            assert time.monotonic() - began < LATE
        response, _ = ask(plane)
        assert response.value(b"x-gateway-failover") is None
        assert not back[0].heads or back[1].heads
    finally:
        plane.close()
        for upstream in back:
            upstream.close()


class Restarting:
    """An upstream that is restarted: its connections end with FIN when idle, and a new one takes the port."""

    def __init__(self) -> None:
        self.upstream = Upstream(echo)
        self.ids: list[bytes] = []

    @property
    def port(self) -> int:
        return self.upstream.port

    def restart(self) -> None:
        port = self.upstream.port
        self._remember()
        self.upstream.close()
        self.upstream = Upstream(echo, address=("127.0.0.1", port))

    def _remember(self) -> None:
        assert self.upstream.violations == []
        self.ids += [head.target for head in self.upstream.heads]

    def close(self) -> list[bytes]:
        """Every target that was ever asked for, in order."""
        self._remember()
        self.upstream.close()
        return self.ids


def test_a_restart_between_requests_costs_none_and_doubles_none():
    """20 restarts; the FIN of each kept connection came before the next request: no failure, GET or POST."""
    restarting = Restarting()
    plane = DataPlane(serving([restarting.upstream.url], ["http://127.0.0.1:9"], 0))
    asked = []
    try:
        with plane.connect() as client:
            for number in range(80):
                method = (b"GET", b"POST")[number % 2]
                asked.append(b"/%d" % number)
                length = b"Content-Length: 0\r\n" if method == b"POST" else b""
                client.send(b"%b /%d HTTP/1.1\r\nHost: a.example\r\n%b\r\n" % (method, number, length))
                assert client.response(method).status == 200
                if number % 4 == 3:
                    restarting.restart()
                    plane.settle()
    finally:
        plane.close()
        seen = restarting.close()
    assert seen == asked


def test_an_end_and_a_request_in_one_turn_of_the_loop():
    """The loop was busy while a kept connection ended and then a POST came: FIN or RST, it is not lost."""
    for end in (reset, socket.socket.close):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        plane = DataPlane(
            serving([f"http://127.0.0.1:{listener.getsockname()[1]}"], ["http://127.0.0.1:9"], 0)
        )
        try:
            with plane.connect() as client:
                client.send(GET)
                kept, _ = listener.accept()
                answer_by_hand(kept)
                assert client.response().status == 200
                with plane.standing_still():
                    end(kept)
                    client.send(POST)
                fresh, _ = listener.accept()
                answer_by_hand(fresh)
                assert client.response(b"POST").status == 200
                fresh.close()
        finally:
            plane.close()
            listener.close()


def answer_by_hand(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_kept_connections_that_end_unannounced_cost_no_idempotent_request():
    """The upstream ends each connection after five answers, under clients that never pause: no GET fails.

    Each next request on such a connection races with the FIN; none may be processed twice.
    """

    def five_and_out(exchange: Exchange) -> None:
        exchange.answer(b"ok")
        if exchange.connection.requests == 5:
            exchange.close()

    users, each = 8, 150
    failures: list[int] = []

    def use(address: tuple[str, int], user: int) -> None:
        with Client(address) as client:
            for number in range(each):
                client.send(b"GET /%d/%d HTTP/1.1\r\nHost: a.example\r\n\r\n" % (user, number))
                status = client.response().status
                if status != 200:
                    failures.append(status)

    with Rig(script=five_and_out) as rig:
        threads = [threading.Thread(target=use, args=(rig.plane.address, user)) for user in range(users)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(rig.upstream.heads) == len({head.target for head in rig.upstream.heads}) == users * each
