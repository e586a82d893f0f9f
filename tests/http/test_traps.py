"""The traps of httptools, uvloop and xxhash that were seen before the relay was written, one test each.

They are named by the letters (a) to (o) under which the design lists them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.model.snapshot import Overrides
from tests.http.cases import GOOD, chunked, get, message, post
from tests.support.dataplane import Rig
from tests.support.polling import LATE, wait_until
from tests.support.raw import PATIENCE, Ending, Exchange, answering, echo, resident_bytes

pytestmark = pytest.mark.socket

LENGTH = b"Content-Length: 5"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def own() -> Iterator[Rig]:
    """A data plane of the test's own; the user `evil` is always on treatment."""
    with Rig(overrides=Overrides(None, ("evil",), ())) as rig:
        yield rig
        rig.check_alive()


def test_a_one_read_holds_many_messages(rig: Rig) -> None:
    """(a) A parser runs through all that it is fed: each request is still one, and a bad one is last."""
    sent = (
        get(target=b"/1") + post(LENGTH, body=b"hello") + chunked(b"5\r\nworld\r\n0\r\n\r\n") + get(b"A : b")
    )
    before = len(rig.upstream.completed)
    with rig.connect() as client:
        client.send(sent + get(target=b"/behind"))
        assert client.transcript().statuses == [200, 200, 200, 400]
    bodies = [exchange.received_body for exchange in rig.upstream.completed[before:]]
    assert bodies == [b"", b"hello", b"world"]


def test_b_a_trailer_is_not_a_field_of_the_next_request(own: Rig) -> None:
    """(b) `X-User-Id: evil` in trailers moves nobody to another arm, now or in the next request."""
    with own.connect() as client:
        client.send(chunked(b"5\r\nhello\r\n0\r\nX-User-Id: evil\r\n\r\n") + get(target=b"/next"))
        arms = [client.response().value(b"x-gateway-arm") for _ in range(2)]
        client.send(get(b"X-User-Id: evil"))
        assert client.response().value(b"x-gateway-arm") == b"treatment"
    assert arms == [b"control", b"control"]
    assert all(head.values(b"x-user-id") == [] for head in own.control.heads)


@pytest.mark.parametrize("framing", [b"counted", b"chunked"])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.2"])
def test_c_an_upgrade_with_a_body_is_a_request_with_a_body(rig: Rig, framing: bytes, protocol: bytes) -> None:
    """(c) What a JDK client sends on cleartext: the body is the request's, not bytes of a tunnel."""
    fields = (b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk", b"Upgrade: " + protocol)
    if framing == b"counted":
        sent = post(*fields, LENGTH, body=b"hello")
    else:
        sent = post(*fields, b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n")
    with rig.connect() as client:
        client.send(sent + GOOD)
        assert [client.response().status for _ in range(2)] == [200, 200]
    assert rig.upstream.completed[-2].received_body == b"hello"
    assert rig.upstream.heads[-2].values(b"upgrade") == []


def test_d_the_answer_to_a_head_has_no_body_to_wait_for(rig: Rig) -> None:
    """(d) A Content-Length in the answer to a HEAD is no promise: the next request goes on at once."""
    with (
        rig.upstream.running(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")),
        rig.connect() as client,
    ):
        started = time.monotonic()
        client.send(message(b"HEAD /case HTTP/1.1", b"Host: a") * 3)
        responses = client.responses(b"HEAD", b"HEAD", b"HEAD")
        assert [response.value(b"content-length") for response in responses] == [b"99"] * 3
    assert time.monotonic() - started < LATE


def test_e_bytes_behind_a_close_do_not_spoil_the_request(rig: Rig) -> None:
    """(e) `Connection: close` and garbage behind it in one segment: answered, then the end."""
    with rig.connect() as client:
        client.send(get(b"Connection: close") + b"\0garbage\r\n\r\n")
        transcript = client.transcript()
    assert transcript.statuses == [200]
    assert transcript.ending is Ending.FIN


def test_f_a_head_in_small_pieces_costs_linear_time(rig: Rig) -> None:
    """(f) 60 KB of head in pieces of 16 bytes: some milliseconds, not seconds."""
    sent = get(*(b"A%d: " % number + b"b" * 1500 for number in range(40)))
    assert len(sent) > 60_000
    with rig.connect() as client:
        started = time.monotonic()
        client.send_in_pieces(sent, 16)
        assert client.response().status == 200
    assert time.monotonic() - started < 1.0


def test_g_a_long_chunk_extension_is_refused(rig: Rig) -> None:
    """(g) A megabyte of chunk extension is cut off, long before it is there."""
    with rig.connect() as client:
        client.send(post(b"Transfer-Encoding: chunked", body=b"5;a="))
        for _ in range(64):
            if not client.send(b"b" * 16_384):
                break
        assert client.transcript(b"POST").statuses == [400]


def test_h_a_101_without_an_upgrade_is_a_bad_gateway(rig: Rig) -> None:
    """(h) However a 101 looks that nobody asked for, it is a 502 and not an exception."""
    for fields in (b"", b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n", b"Content-Length: 2\r\n"):
        switch = b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n"
        for wanted in ((), (b"Connection: upgrade", b"Upgrade: h2c")):
            with rig.upstream.running(answering(switch)), rig.connect() as client:
                client.send(get(*wanted))
                assert client.response().status == 502


def test_i_the_end_of_a_connection_is_an_event(rig: Rig) -> None:
    """(i) No parser says so, but a body without a length ends there, and one with a length is cut."""
    whole = answering(b"HTTP/1.1 200 OK\r\n\r\nhello", close=True)
    cut = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", close=True)
    with rig.upstream.running(whole), rig.connect() as client:
        client.send(get())
        assert client.response().body == b"hello"
    with rig.upstream.running(cut), rig.connect() as client:
        client.send(get())
        assert [response.complete for response in client.transcript().responses] in ([], [False])


@pytest.mark.parametrize(
    "line", [b"get / HTTP/1.1", b"BREW / HTTP/1.1", b"GET / HTTP/1.2", b"GET / HTTP/3.0"]
)
def test_j_what_the_parser_does_not_know_is_said(rig: Rig, line: bytes) -> None:
    """(j) Methods and versions that llhttp refuses are told apart from malformed requests."""
    with rig.connect() as client:
        client.send(message(line, b"Host: a"))
        statuses = client.transcript().statuses
    assert statuses in ([501], [505])
    assert (statuses == [501]) == line.endswith(b"/ HTTP/1.1")


def test_k_reads_are_small_and_share_a_buffer(own: Rig) -> None:
    """(k) Fifty uploads that nobody takes hold little memory each, not 256,000 bytes per read."""
    go = threading.Event()
    size = 16_000_000

    def script(exchange: Exchange) -> None:
        go.wait(PATIENCE)
        echo(exchange)

    with own.upstream.running(script):
        clients = [own.connect() for _ in range(50)]
        for client in clients:
            client.send(post(b"Content-Length: %d" % size))
        assert wait_until(lambda: len(own.upstream.begun) == 50)
        before = resident_bytes()
        for client in clients:
            client.socket.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                for _ in range(size // 65_536):
                    client.socket.sendall(bytes(65_536))
        grown = resident_bytes() - before
        for client in clients:
            client.reset()
        go.set()
    assert grown < 50 * 200_000


def test_l_an_abort_is_a_reset(rig: Rig) -> None:
    """(l) A client of HTTP/1.0 can tell a truncated answer only by the reset: it gets one."""
    with rig.connect() as client:
        with rig.upstream.running(
            answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", close=True)
        ):
            client.send(message(b"GET /case HTTP/1.0", b"Host: a"))
            client.transcript()
        assert client.ending is Ending.RESET


def test_m_a_client_that_leaves_a_long_pipeline_is_noticed(own: Rig) -> None:
    """(m) Reading goes on while a request is served, so a FIN behind other requests is seen."""
    gone = []

    def script(exchange: Exchange) -> None:
        gone.append(exchange.wait_gone())

    with own.upstream.running(script), own.connect() as client:
        client.send(get() + get() * 100)
        assert wait_until(lambda: bool(own.upstream.begun))
        client.close()
        assert wait_until(lambda: bool(gone), 1.0)
    assert gone[0] is not None


def test_n_bytes_for_a_side_that_is_gone_raise_nothing(own: Rig) -> None:
    """(n) Both sides may go at any moment while the other still sends: nothing reaches the loop."""

    def flood(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            exchange.send(b"x" * 10_000)

    for leave in ("close", "reset"):
        with own.upstream.running(flood), own.connect() as client:
            client.send(post(b"Content-Length: 1000000"))
            client.head(b"POST")
            getattr(client, leave)()
        with own.upstream.running(lambda exchange: exchange.reset()), own.connect() as client:
            client.send(post(b"Content-Length: 1000000"))
            for _ in range(100):
                if not client.send(b"x" * 10_000):
                    break
            assert client.response(b"POST").status == 502
    assert own.objections() == []


@pytest.mark.parametrize("user", [b"\xff\xfe", "Ünï".encode(), b"a" * 10_000, b"\x80"])
def test_o_any_bytes_are_a_user(rig: Rig, user: bytes) -> None:
    """(o) The hash takes bytes: a user id that is no UTF-8 is one as good as another."""
    with rig.connect() as client:
        client.send(get(b"X-User-Id: " + user))
        assert client.response().status == 200
    assert rig.upstream.heads[-1].values(b"x-user-id") == [user]


POISONS = [
    get(b"Proxy-Connection: close"),
    get(b"Proxy-Connection: keep-alive"),
    get(b"Connection: upgrade", b"Upgrade: websocket"),
    get(b"Upgrade: h2c"),
    get(b"Connection: keep-alive, Upgrade", b"Upgrade: foo"),
    post(b"Content-Length: 100000", body=b""),
    message(b"POST /case#a HTTP/1.1", b"Host: a", b"Content-Length: 100000"),
    message(b"POST /case HTTP/1.1", b"Host: a", b"Host: b", b"Content-Length: 100000"),
    message(b"POST /case HTTP/1.1", b"Transfer-Encoding: chunked"),
    message(b"GET /case HTTP/1.0", b"Connection: keep-alive"),
    message(b"CONNECT a:80 HTTP/1.1", b"Host: a"),
    message(b"POST /case HTTP/1.1", b"Host: a", b"Expect: banana", b"Content-Length: 5"),
    b"GET /half HTTP/1.1\r\nHost: a",
]


@pytest.mark.parametrize("poison", POISONS)
def test_one_clients_head_changes_nothing_for_another(rig: Rig, poison: bytes) -> None:
    """A parser that is used again remembers nothing: good heads stay good, and bad ones bad."""
    for _ in range(2):
        with rig.connect() as first:
            first.send(poison)
            rig.plane.settle()
            with rig.connect() as second:
                second.send(GOOD)
                assert second.response().status == 200
                second.send(b"GET /bad HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n")
                assert second.transcript().statuses == [400]
