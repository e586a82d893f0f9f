"""The form of a case, and how one is run: bytes to a listener, a raw upstream behind it, the oracles.

A case is a number of the published list of proxy cases, a name, bytes, and what must come of them.
Every case is run whole, byte by byte, with bytes behind it, and behind a good request; and with the
gateway sending everybody to control, to treatment, and latched. The answer must not depend on it.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tests.http.conftest import Place
from tests.support.dataplane import Rig
from tests.support.egress import RequestHead
from tests.support.raw import Client, Ending, Exchange, Response

GOOD = b"GET /good HTTP/1.1\r\nHost: good.example\r\n\r\n"
SOURCE = b"(the client's address)"
"""In `Forwarded.has`, in place of a value that is different for every client."""
BEHIND = b"GET /behind HTTP/1.1\r\nHost: behind.example\r\n\r\n"

WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: a",
    b"Sec-WebSocket-Version: 13",
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Kept: 1\r\n\r\n"


def message(*lines: bytes, body: bytes = b"") -> bytes:
    """A start line and field lines, put together with CRLF, the empty line, and a body."""
    return b"\r\n".join([*lines, b"", body])


def get(*fields: bytes, target: bytes = b"/case") -> bytes:
    """A GET with a Host and these field lines."""
    return message(b"GET " + target + b" HTTP/1.1", b"Host: case.example", *fields)


def post(*fields: bytes, body: bytes = b"") -> bytes:
    """A POST with a Host and these field lines; nothing is added for the framing."""
    return message(b"POST /case HTTP/1.1", b"Host: case.example", *fields, body=body)


def chunked(body: bytes) -> bytes:
    """A POST whose chunked body is exactly these bytes."""
    return post(b"Transfer-Encoding: chunked", body=body)


@dataclass(frozen=True, slots=True)
class Refused:
    """One answer with one of these statuses, then the end of the connection; nothing is forwarded.

    `may_begin`: the head was valid, so the upstream may have seen a beginning, but never the whole.
    """

    statuses: tuple[int, ...] = (400,)
    may_begin: bool = False


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The upstream gets one request like this, and the client its answer.

    `has` are fields that must be there with exactly these values, `lacks` names that must not
    (both in lower case). `closes`: the connection ends after the answer, whatever was sent behind.
    """

    method: bytes = b"GET"
    target: bytes = b"/case"
    body: bytes = b""
    has: tuple[tuple[bytes, bytes], ...] = ()
    lacks: tuple[bytes, ...] = ()
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A row of a table of cases."""

    number: int
    name: str
    sent: bytes
    expected: Refused | Forwarded = Refused()

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


class Way(enum.Enum):
    """How the bytes are put on the wire."""

    WHOLE = "whole"
    BYTE_BY_BYTE = "byte_by_byte"
    WITH_BYTES_BEHIND = "with_bytes_behind"
    AFTER_A_GOOD_ONE = "after_a_good_one"


_RUNS = [(Place.CONTROL, way) for way in Way] + [(Place.TREATMENT, Way.WHOLE), (Place.LATCHED, Way.WHOLE)]


def every_way(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Parametrise a test over cases, places and ways (`case`, `place`, `way`)."""
    rows = list(cases)
    twice = [name for name, count in Counter(map(str, rows)).items() if count > 1]
    assert not twice, f"names of more than one case: {twice}"
    return pytest.mark.parametrize(
        ("case", "place", "way"),
        [
            pytest.param(case, place, way, id=f"{case}-{place.value}-{way.value}")
            for case in rows
            for place, way in _RUNS
        ],
    )


def check(rig: Rig, case: Case, way: Way) -> None:
    """Run one case in one way and hold what came of it against what is expected."""
    since, other = len(rig.upstream.begun), len(rig.other.begun)
    with rig.connect_apart() as client:
        _send(rig, client, case.sent, way)
        match case.expected:
            case Refused() as refused:
                _check_refused(client, refused, way)
                rig.check_alive()
                _check_not_forwarded(rig.requests_of(client, since), refused, way)
            case Forwarded() as forwarded:
                _check_answered(client, forwarded, way)
                rig.check_alive()
                _check_forwarded(rig.requests_of(client, since), forwarded, way, client)
    assert len(rig.other.begun) == other, "the other arm saw something"


def _send(rig: Rig, client: Client, sent: bytes, way: Way) -> None:
    match way:
        case Way.WHOLE:
            client.send(sent)
        case Way.BYTE_BY_BYTE:
            client.send_in_pieces(sent, max(1, len(sent) // 300), rig.plane.settle)
        case Way.WITH_BYTES_BEHIND:
            client.send(sent + BEHIND)
        case Way.AFTER_A_GOOD_ONE:
            client.send(GOOD + sent)


def _check_refused(client: Client, refused: Refused, way: Way) -> None:
    transcript = client.transcript()
    if way is Way.AFTER_A_GOOD_ONE:
        assert transcript.statuses[:1] == [200], transcript
        del transcript.responses[0]
    assert len(transcript.responses) == 1, transcript
    response = transcript.responses[0]
    assert response.status in refused.statuses, response
    assert transcript.ending is Ending.FIN, transcript
    assert response.value(b"connection") == b"close", response
    check_problem(response)


def check_problem(response: Response) -> None:
    """The gateway's own errors are RFC 9457 documents with the request's id."""
    assert response.complete, response
    assert response.value(b"content-type") == b"application/problem+json", response
    problem = json.loads(response.body)
    assert {"type", "title", "status", "detail", "request_id"} <= problem.keys(), problem
    assert problem["status"] == response.status, problem
    assert problem["request_id"].encode() == response.value(b"x-request-id"), response


def _check_not_forwarded(exchanges: list[Exchange], refused: Refused, way: Way) -> None:
    allowed = [b"/good"] if way is Way.AFTER_A_GOOD_ONE else []
    whole = [exchange.head.target for exchange in exchanges if exchange.complete]
    assert whole == allowed, whole
    begun = [exchange.head.target for exchange in exchanges]
    if refused.may_begin:
        assert begun in (allowed, [*allowed, b"/case"]), begun
    else:
        assert begun == allowed, begun


def _check_answered(client: Client, forwarded: Forwarded, way: Way) -> None:
    methods = [forwarded.method]
    targets = [forwarded.target]
    if way is Way.AFTER_A_GOOD_ONE:
        methods.insert(0, b"GET")
        targets.insert(0, b"/good")
    if way is Way.WITH_BYTES_BEHIND and not forwarded.closes:
        methods.append(b"GET")
        targets.append(b"/behind")
    if forwarded.closes:
        transcript = client.transcript(*methods)
        assert transcript.ending is Ending.FIN, transcript
        responses = transcript.responses
    else:
        responses = client.responses(*methods)
    assert [response.status for response in responses] == [200] * len(methods), responses
    for method, target, response in zip(methods, targets, responses, strict=True):
        assert response.complete, response
        if method != b"HEAD":
            assert response.body.startswith(method + b" " + target + b" "), response


def _check_forwarded(exchanges: list[Exchange], forwarded: Forwarded, way: Way, client: Client) -> None:
    wanted = [forwarded.target]
    if way is Way.AFTER_A_GOOD_ONE:
        wanted.insert(0, b"/good")
    if way is Way.WITH_BYTES_BEHIND and not forwarded.closes:
        wanted.append(b"/behind")
    assert [exchange.head.target for exchange in exchanges] == wanted, exchanges
    exchange = exchanges[wanted.index(forwarded.target)]
    assert exchange.head.method == forwarded.method, exchange.head
    _check_fields(exchange.head, forwarded, client.source.encode())
    assert exchange.complete
    assert exchange.received_body == forwarded.body, exchange.received_body


def _check_fields(head: RequestHead, forwarded: Forwarded, source: bytes) -> None:
    has = [(name, source if value is SOURCE else value) for name, value in forwarded.has]
    for name in {name for name, _ in has}:
        assert head.values(name) == [value for other, value in has if other == name], head
    for name in forwarded.lacks:
        assert head.values(name) == [], head
