"""The oracles are tested too: one that lets everything pass would make every other test green."""

from __future__ import annotations

import pytest

from tests.support.egress import (
    Data,
    End,
    RequestHead,
    RequestParser,
    ResponseHead,
    ResponseParser,
    Violation,
)
from tests.support.reference import Sent, valid_requests

HOST = b"Host: a.example\r\n"
GOOD_REQUESTS = [
    b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /%zz?a=b#".rstrip(b"#") + b" HTTP/1.1\r\nHost: [::1]:80\r\nA:\r\nB: \x80\xff x\t y\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X_User: a\r\nExpect: 100-continue\r\n\r\n",
]
BAD_REQUESTS = [
    b"GET / HTTP/1.0\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    b"GET / HTTP/1.1\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET http://a/ HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    *(
        b"GET / HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n"
        for line in (
            b"A : b",
            b" A: b",
            b"A: b\r\n c",
            b"A",
            b": b",
            b"A: b\0",
            b"A: b\rc",
            b"A: b\x07",
            b"A\x80: b",
            b"Content-Length: +5",
            b"Content-Length: 5, 5",
            b"Content-Length: 5\r\nContent-Length: 5",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer_Encoding: chunked",
            b"X_Forwarded_For: 1",
            b"Connection: x-hop",
            b"Keep-Alive: 5",
            b"TE: trailers",
            b"Proxy-Authorization: x",
            b"Proxy-Connection: close",
            b"HTTP2-Settings: x",
            b"Upgrade: websocket",
            b"Connection: upgrade\r\nUpgrade: h2c",
            b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5",
            b"Expect: banana",
        )
    ),
    *(
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body
        for body in (
            b"5;a=b\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"4\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"0\r\nHost: b\r\n\r\n",
            b"0\r\nbad\r\n\r\n",
        )
    ),
]


def events_of(data: bytes, size: int) -> list[object]:
    """All events of a stream of requests fed in pieces, with the pieces of body joined."""
    parser = RequestParser()
    events: list[object] = []
    for start in range(0, len(data), size):
        for event in parser.feed(data[start : start + size]):
            if isinstance(event, Data) and events and isinstance(events[-1], Data):
                events[-1] = Data(events[-1].data + event.data)
            else:
                events.append(event)
    parser.close()
    return events


@pytest.mark.parametrize("request_bytes", GOOD_REQUESTS)
def test_strict_requests_pass(request_bytes: bytes) -> None:
    """The egress oracle takes what every server reads in one way, in pieces of any size, repeated."""
    whole = events_of(request_bytes * 3, 10_000)
    assert [type(event) for event in whole].count(End) == 3
    assert events_of(request_bytes * 3, 1) == whole


@pytest.mark.parametrize("request_bytes", BAD_REQUESTS)
@pytest.mark.parametrize("size", [1, 10_000])
def test_loose_requests_are_violations(request_bytes: bytes, size: int) -> None:
    """The egress oracle objects to everything that two servers could read in two ways."""
    with pytest.raises(Violation):
        events_of(request_bytes, size)


@pytest.mark.parametrize("request_bytes", GOOD_REQUESTS)
def test_a_cut_is_a_violation(request_bytes: bytes) -> None:
    """A message that ends before its end is not strict, wherever it ends."""
    for end in range(1, len(request_bytes)):
        with pytest.raises(Violation):
            events_of(request_bytes[:end], 10_000)


OK = b"HTTP/1.1 200 OK\r\n"
GOOD_RESPONSES = [
    (b"GET", OK + b"Content-Length: 2\r\n\r\nok"),
    (b"GET", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (b"HEAD", OK + b"Content-Length: 2\r\n\r\n"),
    (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
    (b"GET", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"),
]
BAD_RESPONSES = [
    b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 1000 X\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n",
    OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    OK + b"Connection: x\r\nContent-Length: 0\r\n\r\n",
    OK + b"Keep-Alive: 5\r\nContent-Length: 0\r\n\r\n",
    OK + b"Upgrade: h2c\r\nContent-Length: 0\r\n\r\n",
    OK + b"A: b\0\r\nContent-Length: 0\r\n\r\n",
    OK + b"A: b\nContent-Length: 0\r\n\r\n",
    OK + b"Content-Length: 2\r\n\r\nok!",
]


@pytest.mark.parametrize(("method", "response"), GOOD_RESPONSES)
def test_strict_responses_pass(method: bytes, response: bytes) -> None:
    """The client's side takes strict responses, one behind the other."""
    parser = ResponseParser()
    events = []
    for _ in range(2):
        parser.expect(method)
    for byte in response * 2:
        events += parser.feed(bytes([byte]))
    assert sum(isinstance(event, End) for event in events) == 2
    assert parser.idle


@pytest.mark.parametrize("response", BAD_RESPONSES)
def test_loose_responses_are_violations(response: bytes) -> None:
    """The client's side objects to everything else."""
    parser = ResponseParser()
    with pytest.raises(Violation):  # noqa: PT012  # the first or the second raises
        parser.feed(response)
        parser.close()


def test_a_body_until_close_ends_with_the_connection() -> None:
    """Without a length the end of the connection is the end of the body, and only there."""
    parser = ResponseParser()
    events = parser.feed(OK + b"\r\nhello") + parser.close()
    assert isinstance(events[0], ResponseHead)
    assert events[1:] == [Data(b"hello"), End((), by_close=True)]


REQUEST = b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello"
SENT = Sent(b"POST", b"/a", b"hello")


@pytest.mark.parametrize("request_bytes", [*GOOD_REQUESTS, b"\r\n\r\n" + GOOD_REQUESTS[0]])
def test_the_reference_finds_what_is_strict(request_bytes: bytes) -> None:
    """Whatever the egress oracle lets pass is a valid request of a client, too."""
    assert len(valid_requests(request_bytes * 2)) == 2
    assert valid_requests(REQUEST + request_bytes)[0] == SENT


@pytest.mark.parametrize(
    ("request_bytes", "sent"),
    [
        (b"GET http://b/x?y HTTP/1.1\r\n" + HOST + b"\r\n", Sent(b"GET", b"/x?y", b"")),
        (b"GET http://b HTTP/1.0\r\n\r\n", Sent(b"GET", b"/", b"")),
        (
            b"PUT / HTTP/1.1\r\n"
            + HOST
            + b'Transfer-Encoding: Chunked\r\n\r\n5;a="b;c"\r\nhello\r\n0;x\r\nT: u\r\n\r\n',
            Sent(b"PUT", b"/", b"hello"),
        ),
        (b"BREW / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n" + REQUEST, Sent(b"BREW", b"/", b"")),
    ],
)
def test_the_reference_finds_what_is_valid(request_bytes: bytes, sent: Sent) -> None:
    """What a client may send and an upstream may not get is found by the reference, and no more."""
    assert valid_requests(request_bytes) == [sent]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
        b"GET / HTTP/1.1\n" + HOST + b"\r\n",
        b"\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n",
        b"GET /#a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: +0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5;\r\nhello\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
def test_the_reference_stops_where_validity_ends(request_bytes: bytes) -> None:
    """Nothing invalid or incomplete counts, and nothing behind it does."""
    assert valid_requests(REQUEST + request_bytes + REQUEST) == [SENT]


def test_the_reference_counts_no_half_request() -> None:
    """A body that is shorter than its length is no request yet."""
    assert valid_requests(REQUEST + REQUEST[:-1]) == [SENT]


def test_the_head_is_as_it_was_sent() -> None:
    """The oracle hands out names, values and order unchanged, for the tests to compare."""
    events = events_of(b"GET /a HTTP/1.1\r\n" + HOST + b"b: \t1 2\t\r\nB:3\r\n\r\n", 1)
    head = events[0]
    assert isinstance(head, RequestHead)
    assert head == RequestHead(b"GET", b"/a", ((b"Host", b"a.example"), (b"b", b"1 2"), (b"B", b"3")))
    assert head.values(b"b") == [b"1 2", b"3"]
