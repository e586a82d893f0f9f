"""Cases 87-98: hop-by-hop fields, persistence, pipelining, retries, early answers (RFC 9112 section 9)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gateway.model.snapshot import HalfClose
from tests.http.cases import (
    GOOD,
    SOURCE,
    Case,
    Forwarded,
    Way,
    check,
    check_problem,
    every_way,
    get,
    message,
    post,
)
from tests.http.conftest import Place
from tests.support.dataplane import Rig
from tests.support.polling import wait_until
from tests.support.raw import PATIENCE, Ending, Exchange, Script, echo

pytestmark = pytest.mark.socket

LENGTH = b"Content-Length: 5"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

CASES = [
    Case(
        87,
        "nominated field",
        get(b"Connection: x-hop", b"X-Hop: 1", b"X-Kept: 1"),
        Forwarded(has=((b"x-kept", b"1"),), lacks=(b"connection", b"x-hop")),
    ),
    Case(
        87,
        "nominated in any case and twice",
        get(
            b"CONNECTION: X-HOP , ,keep-alive",
            b"connection: x-other",
            b"x-hop: 1",
            b"X-Hop: 2",
            b"X-OTHER: 3",
        ),
        Forwarded(lacks=(b"connection", b"x-hop", b"x-other")),
    ),
    Case(
        88,
        "nominated fields of the gateway and of the framing",
        post(
            b"Connection: close, X-Forwarded-For, Authorization, Cookie, Host, Content-Length, X-Request-Id,"
            b" X-Gateway-Arm, X-Gateway-Phase, X-Forwarded-Host, X-Forwarded-Proto",
            b"X-Request-Id: kept",
            b"Authorization: Basic YQ==",
            b"Cookie: a=b",
            LENGTH,
            body=b"hello",
        ),
        Forwarded(
            b"POST",
            body=b"hello",
            closes=True,
            has=(
                (b"host", b"case.example"),
                (b"content-length", b"5"),
                (b"x-forwarded-for", SOURCE),
                (b"x-request-id", b"kept"),
                (b"x-gateway-phase", b"canary"),
                (b"x-forwarded-host", b"case.example"),
                (b"x-forwarded-proto", b"http"),
            ),
            lacks=(b"authorization", b"cookie"),
        ),
    ),
    Case(
        88,
        "nominated coding",
        post(
            b"Connection: transfer-encoding", b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"
        ),
        Forwarded(b"POST", body=b"hello"),
    ),
    Case(
        89,
        "fields of one hop",
        get(
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"TE: deflate",
            b"Trailer: A",
            b"Proxy-Authorization: Basic YQ==",
            b"Connection: keep-alive",
        ),
        Forwarded(lacks=(b"keep-alive", b"proxy-connection", b"te", b"proxy-authorization", b"connection")),
    ),
    Case(
        89,
        "h2c",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        Forwarded(lacks=(b"connection", b"upgrade", b"http2-settings")),
    ),
    Case(
        89,
        "h2c not nominated",
        get(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        Forwarded(lacks=(b"upgrade", b"http2-settings")),
    ),
    Case(
        89,
        "upgrade to two protocols",
        get(b"Connection: upgrade", b"Upgrade: h2c, websocket"),
        Forwarded(lacks=(b"connection", b"upgrade")),
    ),
    Case(
        89,
        "websocket with a body",
        post(b"Connection: upgrade", b"Upgrade: websocket", LENGTH, body=b"hello"),
        Forwarded(b"POST", body=b"hello", lacks=(b"connection", b"upgrade")),
    ),
    Case(89, "websocket not nominated", get(b"Upgrade: websocket"), Forwarded(lacks=(b"upgrade",))),
    Case(
        89,
        "Proxy-Connection: close",
        get(b"Proxy-Connection: close"),
        Forwarded(lacks=(b"proxy-connection",)),
    ),
    Case(92, "HTTP 1.0", message(b"GET /case HTTP/1.0", b"Host: a"), Forwarded(closes=True)),
    Case(
        92,
        "HTTP 1.0 with keep-alive",
        message(b"GET /case HTTP/1.0", b"Host: a", b"Connection: keep-alive"),
        Forwarded(lacks=(b"connection",), closes=True),
    ),
    Case(
        92,
        "HTTP 1.0 with a body",
        message(b"POST /case HTTP/1.0", b"Host: a", LENGTH, body=b"hello"),
        Forwarded(b"POST", body=b"hello", closes=True),
    ),
]


@every_way(CASES)
def test_connection(rigs: dict[Place, Rig], case: Case, place: Place, way: Way) -> None:
    """Every case of hop-by-hop fields and persistence comes out as the RFCs want it."""
    check(rigs[place], case, way)


def test_pipelined_requests_are_answered_in_order(rig: Rig) -> None:
    """Case 90: three at once, the first slow: the answers come in order with the right bodies."""
    later = threading.Event()

    def script(exchange: Exchange) -> None:
        if exchange.head.target == b"/slow":
            later.wait(PATIENCE)
        echo(exchange)

    sent = get(target=b"/slow") + post(LENGTH, body=b"hello") + get(target=b"/last")
    with rig.upstream.running(script), rig.connect() as client:
        client.send(sent)
        rig.plane.settle()
        later.set()
        bodies = [client.response().body.split()[1] for _ in range(3)]
    assert bodies == [b"/slow", b"/case", b"/last"]


def test_a_thousand_pipelined_requests(rig: Rig) -> None:
    """Case 90: a long pipeline is answered in order and does not deepen the stack."""
    with rig.connect() as client:
        sender = threading.Thread(
            target=client.send, args=(b"".join(get(target=b"/%d" % number) for number in range(1000)),)
        )
        sender.start()
        for number in range(1000):
            assert client.response().body.split()[1] == b"/%d" % number
        sender.join()


def test_pipelined_valid_and_invalid(rig: Rig) -> None:
    """Case 91: the valid one is answered, then 400 and the end; what is behind is not looked at."""
    with rig.connect() as client:
        client.send(get() + get(b"Name : v") + get(target=b"/behind"))
        transcript = client.transcript()
    assert transcript.statuses == [200, 400]
    assert transcript.ending is Ending.FIN


@pytest.fixture
def own() -> object:
    """A data plane of the test's own, with empty pools."""
    with Rig() as rig:
        yield rig
        rig.check_alive()


def dying_when_reused(*, reset: bool, seen: list[bytes]) -> Script:
    """A script that answers the first request of a connection and dies at the second."""

    def script(exchange: Exchange) -> None:
        seen.append(exchange.head.method)
        if exchange.connection.requests == 1:
            exchange.answer(b"ok")
        elif reset:
            exchange.reset()
        else:
            exchange.close()

    return script


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT"])
def test_a_request_that_is_safe_to_repeat_is_sent_once_more(own: Rig, method: bytes, reset: bool) -> None:
    """Case 93: a reused connection that dies under an idempotent request costs the client nothing."""
    seen: list[bytes] = []
    with own.upstream.running(dying_when_reused(reset=reset, seen=seen)), own.connect() as client:
        client.send(get())
        assert client.response().status == 200
        client.send(message(method + b" /case HTTP/1.1", b"Host: a"))
        assert client.response(method).status == 200
    assert seen == [b"GET", method, method]


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(post(), id="POST"),
        pytest.param(post(LENGTH, body=b"hello"), id="POST with a body"),
        pytest.param(message(b"PATCH /case HTTP/1.1", b"Host: a"), id="PATCH"),
        pytest.param(message(b"PUT /case HTTP/1.1", b"Host: a", LENGTH, body=b"hel"), id="PUT half sent"),
    ],
)
def test_a_request_that_is_not_safe_is_never_sent_twice(own: Rig, sent: bytes, reset: bool) -> None:
    """Case 94: the upstream sees it once and the client a 502: nobody knows whether it was done."""
    seen: list[bytes] = []
    with own.upstream.running(dying_when_reused(reset=reset, seen=seen)), own.connect() as client:
        client.send(get())
        assert client.response().status == 200
        client.send(sent)
        response = client.response(b"POST")
    assert response.status == 502
    check_problem(response)
    assert seen == [b"GET", sent.split()[0]]


def test_a_fresh_connection_that_dies_is_not_tried_again(own: Rig) -> None:
    """Case 93: only a connection that had gone stale excuses a second try."""
    seen = []

    def script(exchange: Exchange) -> None:
        seen.append(exchange.head.method)
        exchange.reset()

    with own.upstream.running(script), own.connect() as client:
        client.send(get())
        assert client.response().status == 502
    assert seen == [b"GET"]


def test_a_repeated_request_fails_for_good_the_second_time(own: Rig) -> None:
    """Case 93: a retry is one retry."""
    seen = []

    def script(exchange: Exchange) -> None:
        seen.append(exchange.head.target)
        if exchange.head.target == b"/good":
            exchange.answer(b"ok")
        else:
            exchange.reset()

    with own.upstream.running(script), own.connect() as client:
        client.send(GOOD)
        assert client.response().status == 200
        client.send(get())
        assert client.response().status == 502
    assert seen == [b"/good", b"/case", b"/case"]


def test_a_connection_closed_while_idle_is_not_used(own: Rig) -> None:
    """Case 95: when the FIN was there before the POST, the POST goes out on a new connection."""
    with own.connect() as client:
        for _ in range(20):
            client.send(post(LENGTH, body=b"hello"))
            assert client.response(b"POST").status == 200
            own.upstream.connections[-1].close()
            own.plane.settle()
    assert len(own.upstream.connections) == 20


@pytest.mark.parametrize("size", [100, 1_000_000])
def test_bytes_behind_the_last_request_do_not_cost_its_answer(own: Rig, size: int) -> None:
    """Case 59: a close with unread bytes resets a connection, and a reset may eat the answer."""
    go = threading.Event()

    def script(exchange: Exchange) -> None:
        go.wait(PATIENCE)
        exchange.answer(b"x" * 100_000)

    with own.upstream.running(script):
        for _ in range(10):
            go.clear()
            with own.connect(receive_buffer=4096) as client:
                sender = threading.Thread(target=client.send, args=(get(b"Connection: close") + b"x" * size,))
                sender.start()
                own.plane.settle()
                go.set()
                transcript = client.transcript()
                client.close()
                sender.join()
            assert [response.complete for response in transcript.responses] == [True]


@pytest.mark.parametrize("status", [b"413 Content Too Large", b"401 Unauthorized"])
@pytest.mark.parametrize("lingers", [True, False])
def test_an_early_answer_reaches_a_client_that_is_still_sending(
    own: Rig, status: bytes, lingers: bool
) -> None:
    """Case 96: 20 of 20 clients get the answer, whether the upstream reads on or closes abruptly."""

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno")
        if lingers:
            exchange.wait_gone()
        else:
            exchange.close()

    block = b"x" * 65_536
    answers = []
    with own.upstream.running(script):
        for _ in range(20):
            with own.connect() as client:
                client.send(post(b"Content-Length: %d" % (128 * len(block))))
                for _ in range(128):
                    if not client.send(block):
                        break
                answers += client.transcript(b"POST").statuses
    assert answers == [int(status[:3])] * 20


def test_a_client_that_is_still_sending_gets_the_gateways_own_413() -> None:
    """Case 96: the gateway's own early answer is read by everybody, too."""
    block = b"x" * 65_536
    answers = []
    with Rig(limits={"body_bytes": 1000}) as rig:
        for _ in range(20):
            with rig.connect() as client:
                client.send(post(b"Content-Length: %d" % (128 * len(block))))
                for _ in range(128):
                    if not client.send(block):
                        break
                answers += client.transcript(b"POST").statuses
        rig.check_alive()
    assert answers == [413] * 20


def test_an_early_answer_does_not_hold_up_the_next_request(own: Rig) -> None:
    """Case 97: the client is read again, though the upstream never took the end of the last body."""
    go = threading.Event()

    def script(exchange: Exchange) -> None:
        go.wait(PATIENCE)
        exchange.answer(b"ok")

    with own.upstream.running(script), own.connect() as client:
        client.send(post(LENGTH, body=b"hello"))
        assert wait_until(lambda: bool(own.upstream.begun))
        served: Any = next(iter(own.plane.worker._context.clients))
        own.plane.call(served.pause_reading)  # as a body does whose end fills the buffers
        go.set()
        assert client.response(b"POST").status == 200
        client.send(GOOD)
        assert client.response().status == 200


def test_an_early_200_frees_no_connection(own: Rig) -> None:
    """Case 97: an upstream that answers before it has the body keeps that connection to itself."""
    early = threading.Event()

    def script(exchange: Exchange) -> None:
        if exchange.head.method == b"POST":
            exchange.send(OK)
            early.set()
        else:
            exchange.answer(b"ok")

    with own.upstream.running(script), own.connect() as client, own.connect() as other:
        client.send(post(LENGTH, body=b"he"))
        assert client.response(b"POST").status == 200
        first = own.upstream.begun[-1].connection
        other.send(GOOD)
        assert other.response().status == 200
        assert own.upstream.begun[-1].connection is not first
        client.send(b"llo" + GOOD)
        assert client.transcript().statuses in ([], [200])
    assert first.requests == 1


def test_a_client_that_half_closes_has_left(own: Rig) -> None:
    """Case 98: by default a FIN after the request cancels the work."""
    cancelled = []

    def script(exchange: Exchange) -> None:
        cancelled.append(exchange.wait_gone())

    with own.upstream.running(script), own.connect() as client:
        client.send(get())
        assert wait_until(lambda: bool(own.upstream.begun))
        client.half_close()
        assert client.transcript().statuses == []
        assert wait_until(lambda: bool(cancelled))
    assert cancelled[0] is not None


def test_a_client_that_half_closes_is_answered_if_so_configured() -> None:
    """Case 98: with `half_close: answer` the client gets what it asked for, then the end."""
    go = threading.Event()

    def script(exchange: Exchange) -> None:
        go.wait(PATIENCE)
        exchange.answer(b"ok")

    with Rig(limits={"half_close": HalfClose.ANSWER}) as rig:
        with rig.upstream.running(script), rig.connect() as client:
            client.send(get())
            client.half_close()
            assert wait_until(lambda: bool(rig.upstream.begun))
            rig.plane.settle()
            go.set()
            transcript = client.transcript()
        assert transcript.statuses == [200]
        assert transcript.responses[0].body == b"ok"
        assert transcript.ending is Ending.FIN
        rig.check_alive()


@pytest.mark.parametrize("half_close", list(HalfClose))
def test_the_last_of_a_pipeline_before_a_fin_is_answered(half_close: HalfClose) -> None:
    """Case 98: with `answer`, requests that wait behind another are answered as well."""
    go = threading.Event()

    def script(exchange: Exchange) -> None:
        go.wait(PATIENCE)
        echo(exchange)

    with Rig(limits={"half_close": half_close}) as rig:
        with rig.upstream.running(script), rig.connect() as client:
            client.send(get(target=b"/1") + get(target=b"/2"))
            assert wait_until(lambda: bool(rig.upstream.begun))
            client.half_close()
            rig.plane.settle()
            go.set()
            transcript = client.transcript()
        assert transcript.statuses == ([200, 200] if half_close is HalfClose.ANSWER else [])
        rig.check_alive()


def test_a_drain_lets_a_kept_connection_bring_one_request_more() -> None:
    """It was on its way when the worker was told to end: it is answered, and told that it was the last."""
    with Rig(script=echo) as rig, rig.connect() as client:
        client.send(get())
        assert client.response().value(b"connection") is None
        rig.plane.call(rig.plane.worker.drain)
        client.send(get())
        last = client.response()
        assert (last.status, last.value(b"connection")) == (200, b"close")
        assert client.read_raw() == b""


def test_an_answer_that_began_before_a_drain_is_not_the_last() -> None:
    """Its head did not say so: the next request is answered too."""
    release = threading.Event()

    def in_two_pieces(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(OK[:-1])
        release.wait(PATIENCE)
        exchange.send(OK[-1:])

    with Rig(script=in_two_pieces) as rig, rig.connect() as client:
        client.send(get())
        first = client.head()
        rig.plane.call(rig.plane.worker.drain)
        release.set()
        client.finish(first)
        client.send(get())
        assert client.response().value(b"connection") == b"close"


def test_a_drain_ends_an_idle_connection_soon() -> None:
    """A client that asks for nothing more holds nothing up."""
    with Rig(script=echo) as rig, rig.connect() as client:
        client.send(get())
        client.response()
        rig.plane.call(rig.plane.worker.drain)
        assert client.read_raw() == b""
