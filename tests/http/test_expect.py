"""Cases 61-67: Expect: 100-continue and interim responses (RFC 9110 sections 10.1.1 and 15.2)."""

from __future__ import annotations

import pytest

from tests.http.cases import (
    Case,
    Forwarded,
    Refused,
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
from tests.support.raw import Exchange, answering

pytestmark = pytest.mark.socket

EXPECT = b"Expect: 100-continue"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

CASES = [
    Case(
        61,
        "expectation and body at once",
        post(EXPECT, b"Content-Length: 5", body=b"hello"),
        Forwarded(b"POST", body=b"hello"),
    ),
    Case(
        61,
        "expectation in capitals",
        post(b"EXPECT: 100-Continue", b"Content-Length: 5", body=b"hello"),
        Forwarded(b"POST", body=b"hello"),
    ),
    Case(61, "expectation without a body", get(EXPECT), Forwarded()),
    Case(64, "unknown expectation", get(b"Expect: banana"), Refused((417,))),
    Case(64, "list of expectations", get(b"Expect: 100-continue, banana"), Refused((417,))),
    Case(
        64,
        "expectation of HTTP 1.0",
        message(b"POST /case HTTP/1.0", b"Host: a", EXPECT, b"Content-Length: 5", body=b"hello"),
        Forwarded(b"POST", body=b"hello", lacks=(b"expect",), closes=True),
    ),
    Case(
        64,
        "unknown expectation of HTTP 1.0",
        message(b"GET /case HTTP/1.0", b"Host: a", b"Expect: banana"),
        Forwarded(lacks=(b"expect",), closes=True),
    ),
]


@every_way(CASES)
def test_expect(rigs: dict[Place, Rig], case: Case, place: Place, way: Way) -> None:
    """Every case of Expect comes out as the RFCs want it, however it arrives."""
    check(rigs[place], case, way)


def test_a_100_of_the_upstream_reaches_the_client_once(rig: Rig) -> None:
    """Case 61: the client waits for the upstream's 100, gets exactly one, then sends its body."""

    def script(exchange: Exchange) -> None:
        exchange.send(CONTINUE)
        exchange.answer(exchange.body())

    with rig.upstream.running(script), rig.connect() as client:
        client.send(post(EXPECT, b"Content-Length: 5"))
        client.parser.expect(b"POST")
        event = client._event()
        assert getattr(event, "status", None) == 100
        client.send(b"hello")
        response = client.response(b"POST")
    assert (response.status, response.interim, response.body) == (200, [], b"hello")


@pytest.mark.parametrize("status", [b"417 Expectation Failed", b"401 Unauthorized", b"413 Content Too Large"])
def test_a_final_answer_instead_of_100(rig: Rig, status: bytes) -> None:
    """Case 62: the client gets the upstream's status, and that connection is not used again."""
    lines = b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno"

    def script(exchange: Exchange) -> None:
        exchange.send(lines)
        exchange.wait_gone()

    with rig.upstream.running(script), rig.connect() as client:
        client.send(post(EXPECT, b"Content-Length: 5"))
        response = client.response(b"POST")
        exchange = rig.upstream.begun[-1]
        assert b"%d" % response.status == status[:3]
        assert (response.interim, response.body) == ([], b"no")
        assert wait_until(lambda: exchange.connection.ending is not None), "the connection was kept"
    assert exchange.received_body == b""


def test_a_body_after_the_final_answer_is_no_request(rig: Rig) -> None:
    """Case 62: a client that sends its body in spite of the 417 does not start a request with it."""
    hidden = get(target=b"/hidden")
    before = len(rig.upstream.heads)

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
        exchange.wait_gone()

    with rig.upstream.running(script), rig.connect() as client:
        client.send(post(EXPECT, b"Content-Length: %d" % len(hidden)))
        assert client.response(b"POST").status == 417
        client.send(hidden)
        assert client.transcript(patience=1.0).statuses == []
    assert b"/hidden" not in {head.target for head in rig.upstream.heads[before:]}


def test_an_upstream_that_never_says_100(rig: Rig) -> None:
    """Case 63: a client that grew tired of waiting sends its body, and all is well."""
    with rig.connect() as client:
        seen = len(rig.upstream.heads)
        client.send(post(EXPECT, b"Content-Length: 5"))
        assert wait_until(lambda: len(rig.upstream.heads) > seen)
        client.send(b"hello")
        assert client.response(b"POST").status == 200
    assert rig.upstream.completed[-1].received_body == b"hello"


INTERIM = {
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "102 twice": b"HTTP/1.1 102 Processing\r\n\r\n" * 2,
    "unsolicited 100": CONTINUE,
    "100, 103, 102": CONTINUE + b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
}


@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("pieces", [False, True])
def test_interim_responses(rig: Rig, interim: bytes, version: bytes, pieces: bool) -> None:
    """Case 65: interim responses pass in order, but never to a client of HTTP/1.0."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        for byte in interim + OK if pieces else b"":
            exchange.send(bytes([byte]))
            rig.plane.settle()
        if not pieces:
            exchange.send(interim + OK)

    sent = message(b"GET /case HTTP/" + version, b"Host: a")
    with rig.upstream.running(script), rig.connect() as client:
        client.send(sent)
        response = client.response()
    assert (response.status, response.body) == (200, b"ok")
    statuses = [int(line[9:12]) for line in interim.split(b"\r\n") if line.startswith(b"HTTP/")]
    assert [head.status for head in response.interim] == (statuses if version == b"1.1" else [])


def test_too_many_interim_responses(rig: Rig) -> None:
    """Case 66: an upstream that never comes to the point is a bad gateway, in bounded time."""
    with (
        rig.upstream.running(answering(b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000 + OK)),
        rig.connect() as client,
    ):
        client.send(get())
        response = client.response()
    assert response.status == 502
    check_problem(response)


@pytest.mark.parametrize("upgrade", [b"", b"Connection: upgrade\r\nUpgrade: websocket\r\n"])
def test_a_101_that_nobody_asked_for(rig: Rig, upgrade: bytes) -> None:
    """Case 67, trap (h): an unrequested 101 is a bad gateway and opens no tunnel."""
    switch = b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade + b"\r\n" + OK
    with rig.upstream.running(answering(switch)), rig.connect() as client:
        client.send(get())
        response = client.response()
        assert response.status == 502
        check_problem(response)
        with rig.upstream.running(answering(OK)):
            client.send(get())
            assert client.response().status == 200
