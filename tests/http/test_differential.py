"""The differential oracle: a client gets through the gateway what it gets from the upstream directly.

The client is `http.client` of the standard library, which knows nothing of either. A response that was
cut short directly must not look complete through the gateway.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.dataplane import Rig
from tests.support.raw import PATIENCE, Exchange

OWN = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "trailer",
    "upgrade",
    "date",
    "server-timing",
    "x-request-id",
    "x-gateway-arm",
}
"""Fields of one hop, and those that the gateway adds."""

STATUSES = (
    b"200 OK",
    b"200 ",
    b"201 Created",
    b"302 Found",
    b"404 Not Found",
    b"500 Oops \xe9",
    b"299",
    b"204 No Content",
    b"304 Not Modified",
    b"206 Partial Content",
)
FIELDS = (
    b"A: b",
    b"A: b",
    b"a:\t c ",
    b"Empty:",
    b"Set-Cookie: a=1",
    b"Set-Cookie: b=2",
    b'ETag: "x"',
    b"Content-Encoding: gzip",
    b"X: \x80\xff",
    b"Location: /x",
    b"Connection: keep-alive",
    b"Vary: *",
    b"Keep-Alive: timeout=5",
    b'WWW-Authenticate: Basic realm="a, b"',
    b"Content-Type: text/plain",
)
BODIES = (
    b"",
    b"hello",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    bytes(range(256)) * 300,
)
EXTENSIONS = (b"", b"", b";a", b";a=b", b';a="x;y"')


@dataclass(frozen=True, slots=True)
class Reply:
    """What the upstream does: send these pieces, then perhaps end the connection.

    `cut` says that the message is not whole.
    """

    method: str
    pieces: tuple[bytes, ...]
    closes: bool
    resets: bool
    cut: bool


def _choose(entropy: list[int], options: Sequence[bytes]) -> bytes:
    return options[_number(entropy, len(options))]


def _number(entropy: list[int], bound: int) -> int:
    return (entropy.pop() << 8 | entropy.pop()) % bound if len(entropy) > 1 else 0


def _chunks(entropy: list[int], body: bytes) -> bytes:
    out = b""
    while body:
        size = 1 + _number(entropy, 300 if len(body) < 1000 else len(body))
        piece, body = body[:size], body[size:]
        out += b"%x%b\r\n%b\r\n" % (len(piece), _choose(entropy, EXTENSIONS), piece)
    return out + _choose(entropy, (b"0\r\n\r\n", b"000;a\r\n\r\n", b"0\r\nA: trailer\r\n\r\n"))


def _reply(data: bytes) -> Reply:
    entropy = list(data)
    method = ("GET", "GET", "POST", "HEAD")[_number(entropy, 4)]
    status = _choose(entropy, STATUSES)
    lines = [b"HTTP/1.1 " + status, *(_choose(entropy, FIELDS) for _ in range(_number(entropy, 5)))]
    body = _choose(entropy, BODIES)
    never = status[:3] in (b"204", b"304")
    bodiless = never or method == "HEAD"
    closes = False
    # `http.client` waits for chunks after a 304 that says chunked: no use as a reference there.
    match 0 if never else _number(entropy, 5):
        case 0:
            lines.append(b"Content-Length: %d" % len(body))
        case 1:
            lines.append(b"Transfer-Encoding: chunked")
            body = _chunks(entropy, body)
        case 2:
            lines[0] = b"HTTP/1.0 " + status
            closes = True
        case 3:
            lines.append(b"Connection: close")
            closes = True
        case _:
            lines[0] = b"HTTP/1.0 " + status
            lines.append(b"Content-Length: %d" % len(body))
            closes = True
    message = b"\r\n".join([*lines, b"", b"" if bodiless else body])
    resets = cut = False
    if _number(entropy, 4) == 0:
        message = message[: _number(entropy, len(message) + 1)]
        closes, resets, cut = True, _number(entropy, 2) == 0, True
    places = sorted(_number(entropy, len(message) + 1) for _ in range(_number(entropy, 4)))
    bounds = [0, *places, len(message)]
    pieces = tuple(message[start:end] for start, end in pairwise(bounds) if end > start)
    return Reply(method, pieces, closes, resets, cut)


replies = st.binary(min_size=64, max_size=64).map(_reply)


@dataclass(frozen=True, slots=True)
class Received:
    """What `http.client` made of it; `status` 0 where it saw that something was wrong."""

    status: int
    reason: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def ask(port: int, method: str) -> Received:
    """One request to a port of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, "/case", headers={"Host": "case.example"})
        response = connection.getresponse()
        fields = tuple(
            (name.lower(), value) for name, value in response.getheaders() if name.lower() not in OWN
        )
        return Received(response.status, response.reason, fields, response.read())
    except (http.client.HTTPException, OSError):
        return Received(0)
    finally:
        connection.close()


def _without_length(received: Received) -> Received:
    fields = tuple(field for field in received.fields if field[0] != "content-length")
    return Received(received.status, received.reason, fields, received.body)


@pytest.mark.slow
def test_through_the_gateway_is_as_good_as_direct(rig: Rig) -> None:
    """Valid responses come through as they are; broken ones are a 502, or as broken as before."""
    current: list[Reply] = []
    played = threading.Semaphore(0)

    def script(exchange: Exchange) -> None:
        reply = current[0]
        try:
            for piece in reply.pieces:
                exchange.send(piece)
                rig.plane.settle()
            if reply.resets:
                exchange.reset()
            elif reply.closes:
                exchange.close()
        finally:
            played.release()

    def ask_until_played(port: int, method: str) -> Received:
        received = ask(port, method)
        # A close that comes just behind a whole answer would meet the next request on its way.
        assert played.acquire(timeout=PATIENCE)
        rig.plane.settle()
        return received

    @settings(max_examples=600, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(replies)
    def compare(reply: Reply) -> None:
        current[:] = [reply]
        with rig.upstream.running(script):
            direct = ask_until_played(rig.upstream.port, reply.method)
            gateway = ask_until_played(rig.plane.address[1], reply.method)
        if direct.status == 204:  # RFC 9110 section 8.6: it may not have a length, so the gateway drops it
            direct = _without_length(direct)
        if reply.cut:
            # `http.client` takes half a head for a whole one; the gateway need not.
            assert gateway == direct or gateway.status in (0, 502), (reply, gateway)
        else:
            assert direct.status, reply
            assert gateway == direct, reply

    compare()
