"""Cases 68-85: what an upstream may answer and what a client gets (RFC 9112 section 6, RFC 9110)."""

from __future__ import annotations

import enum
import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from time import time

import pytest

from tests.http.cases import GOOD, check_problem, get, message
from tests.http.conftest import Place
from tests.support.dataplane import Rig
from tests.support.polling import wait_until
from tests.support.raw import PATIENCE, Client, Ending, Exchange, Response, Script, answering, echo
from tests.windows.test_counting import ERROR, NOTHING, idle, reported

pytestmark = pytest.mark.socket

OK = b"HTTP/1.1 200 OK"
LENGTH = b"Content-Length: 5"
TE = b"Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Passed:
    """The client gets this status and body, complete.

    `has` are fields with exactly these values, `lacks` names that must not be there (lower case).
    `upstream_kept` says whether the upstream's connection may be used again; None: either.
    """

    status: int = 200
    body: bytes = b"hello"
    has: tuple[tuple[bytes, bytes], ...] = ()
    lacks: tuple[bytes, ...] = ()
    upstream_kept: bool | None = True


class Fate(enum.Enum):
    """What else may come of an answer."""

    BAD_GATEWAY = "a 502 of the gateway's own, and the upstream's connection closed"
    CUT_SHORT = "the client's connection ends in a way that shows that something is missing"
    BROKEN = "a 502 while nothing of the answer has been passed on, then cut short"


BAD, CUT, BROKEN = Fate.BAD_GATEWAY, Fate.CUT_SHORT, Fate.BROKEN


@dataclass(frozen=True, slots=True)
class Answer:
    """A row: what the upstream sends, whether it closes then, and what must come of it."""

    number: int
    name: str
    sent: bytes
    expected: Passed | Fate
    method: bytes = b"GET"
    version: bytes = b"1.1"
    closes: bool = False

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


def field(line: bytes) -> bytes:
    """A 200 with this field line and the body hello."""
    return message(OK, line, LENGTH, body=b"hello")


def status(line: bytes) -> bytes:
    """An answer with this status line and the body hello."""
    return message(line, LENGTH, body=b"hello")


OTHER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
ZIPPED = gzip.compress(b"hello" * 100)
ANSWERS = [
    Answer(
        68,
        "HEAD with a body",
        message(OK, LENGTH, body=b"hello"),
        Passed(body=b"", has=((b"content-length", b"5"),), upstream_kept=False),
        method=b"HEAD",
    ),
    Answer(
        68,
        "HEAD with a chunked body",
        message(OK, TE, body=HELLO),
        Passed(body=b"", upstream_kept=False),
        method=b"HEAD",
    ),
    Answer(
        68,
        "HEAD without a body",
        message(OK, LENGTH),
        Passed(body=b"", has=((b"content-length", b"5"),)),
        method=b"HEAD",
    ),
    Answer(
        69,
        "204 with a body",
        message(b"HTTP/1.1 204 No Content", LENGTH, body=b"hello"),
        Passed(204, b"", lacks=(b"content-length",), upstream_kept=False),
    ),
    Answer(
        69,
        "204 with a chunked body",
        message(b"HTTP/1.1 204 No Content", TE, body=HELLO),
        Passed(204, b"", lacks=(b"transfer-encoding",), upstream_kept=False),
    ),
    Answer(
        69,
        "304 with a body",
        message(b"HTTP/1.1 304 Not Modified", LENGTH, b'ETag: "a"', body=b"hello"),
        Passed(304, b"", has=((b"etag", b'"a"'),), upstream_kept=False),
    ),
    Answer(
        69,
        "304 with a length",
        message(b"HTTP/1.1 304 Not Modified", LENGTH),
        Passed(304, b"", has=((b"content-length", b"5"),)),
    ),
    Answer(69, "204", message(b"HTTP/1.1 204 No Content"), Passed(204, b"")),
    Answer(
        69, "length 0", message(OK, b"Content-Length: 0"), Passed(body=b"", has=((b"content-length", b"0"),))
    ),
    Answer(70, "bytes behind a length", field(b"A: b") + OTHER, Passed(upstream_kept=False)),
    Answer(70, "bytes behind chunks", message(OK, TE, body=HELLO) + OTHER, Passed(upstream_kept=False)),
    Answer(
        70,
        "bytes behind no body",
        message(b"HTTP/1.1 204 No Content") + OTHER,
        Passed(204, b"", upstream_kept=False),
    ),
    Answer(71, "two different lengths", message(OK, LENGTH, b"Content-Length: 4", body=b"hello"), BAD),
    Answer(71, "list of lengths", message(OK, b"Content-Length: 5, 5", body=b"hello"), BAD),
    *(
        Answer(71, f"length {value!r}", message(OK, b"Content-Length: " + value, body=b"hello"), BAD)
        for value in (b"+5", b"-5", b"0x5", b"5_0", b"", b"5 5", b"9" * 30)
    ),
    Answer(72, "length and chunked", message(OK, LENGTH, TE, body=HELLO), BAD),
    Answer(72, "chunked and length", message(OK, TE, LENGTH, body=HELLO), BAD),
    *(
        Answer(72, f"coding {value!r}", message(OK, b"Transfer-Encoding: " + value, body=HELLO), BAD)
        for value in (b"gzip, chunked", b"xchunked", b"chunked, chunked", b"identity", b"")
    ),
    Answer(72, "chunked in HTTP 1.0", message(b"HTTP/1.0 200 OK", TE, body=HELLO), BAD, closes=True),
    Answer(73, "obs-fold", field(b"A: b\r\n c"), BAD),
    *(
        Answer(74, f"{byte:02x} in a value", field(b"A: b%cSet-Cookie: evil=1" % byte), BAD)
        for byte in (0x00, 0x07, 0x0A, 0x0D, 0x7F)
    ),
    Answer(74, "LF as line end", OK + b"\nContent-Length: 5\n\nhello", BAD, closes=True),
    Answer(74, "obs-text in a value", field(b"A: \x80\xe9\xff"), Passed(has=((b"a", b"\x80\xe9\xff"),))),
    Answer(75, "space before the colon", field(b"Name : v"), BAD),
    Answer(75, "no colon", field(b"Name"), BAD),
    Answer(75, "empty name", field(b": v"), BAD),
    Answer(76, "garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01", BAD, closes=True),
    Answer(76, "a line of text", b"hello\r\n\r\n", BAD, closes=True),
    Answer(76, "HTTP 0.9", b"<html>hello</html>", BAD, closes=True),
    *(
        Answer(76, f"status line {line[:40]!r}", status(line), BAD, closes=True)
        for line in (
            b"HTTP/1.1 99 X",
            b"HTTP/1.1 1000 X",
            b"HTTP/1.1 -12 X",
            b"HTTP/1.1 " + b"2" * 100 + b" X",
            b"HTTP/1.1 2x0 X",
            b"HTTP/1.1 000 X",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1\t200 OK",
            b"HTTP/2.0 200 OK",
            b"HTTP/1.2 200 OK",
            b"http/1.1 200 OK",
            b"HTTP/1.1200 OK",
            b"ICY 200 OK",
            b"HTTP/1.1 200 O\0K",
            b" HTTP/1.1 200 OK",
        )
    ),
    Answer(76, "no reason", status(b"HTTP/1.1 200 "), Passed()),
    Answer(76, "no reason and no space", status(b"HTTP/1.1 200"), Passed()),
    Answer(76, "unknown status", status(b"HTTP/1.1 599 Odd"), Passed(599)),
    Answer(76, "nothing at all", b"", BAD, closes=True),
    Answer(76, "half a head", b"HTTP/1.1 200 OK\r\nContent-Le", BAD, closes=True),
    Answer(77, "a head of 128 KB", field(b"A: " + b"b" * 131_072), BAD),
    Answer(77, "100,000 fields", message(OK, *[b"A: b"] * 100_000, LENGTH, body=b"hello"), BAD),
    Answer(78, "short of its length", message(OK, LENGTH, body=b"hel"), CUT, closes=True),
    Answer(78, "head without its body", message(OK, LENGTH), CUT, closes=True),
    Answer(78, "no last chunk", message(OK, TE, body=b"5\r\nhello\r\n"), CUT, closes=True),
    Answer(78, "inside a chunk", message(OK, TE, body=b"5\r\nhel"), CUT, closes=True),
    Answer(78, "no end of trailers", message(OK, TE, body=b"5\r\nhello\r\n0\r\n"), CUT, closes=True),
    Answer(
        78,
        "no last chunk to HTTP 1.0",
        message(OK, TE, body=b"5\r\nhello\r\n"),
        CUT,
        version=b"1.0",
        closes=True,
    ),
    Answer(78, "broken chunk size", message(OK, TE, body=b"5\r\nhello\r\nx\r\n"), BROKEN),
    Answer(78, "broken first chunk size", message(OK, TE, body=b"0x5\r\nhello\r\n0\r\n\r\n"), BROKEN),
    Answer(
        78,
        "broken chunk size to HTTP 1.0",
        message(OK, TE, body=b"5\r\nhello\r\n+1\r\n"),
        BROKEN,
        version=b"1.0",
    ),
    Answer(78, "chunk longer than its size", message(OK, TE, body=b"4\r\nhello\r\n0\r\n\r\n"), BROKEN),
    Answer(
        78,
        "broken chunk behind an interim answer",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + message(OK, TE, body=b"x\r\n"),
        BROKEN,
    ),
    Answer(
        79,
        "until close",
        message(b"HTTP/1.0 200 OK", body=b"hello"),
        Passed(upstream_kept=False),
        closes=True,
    ),
    Answer(
        79, "until close from HTTP 1.1", message(OK, body=b"hello"), Passed(upstream_kept=False), closes=True
    ),
    Answer(79, "empty until close", message(OK), Passed(body=b"", upstream_kept=False), closes=True),
    Answer(
        79,
        "until close to HTTP 1.0",
        message(OK, body=b"hello"),
        Passed(upstream_kept=False),
        version=b"1.0",
        closes=True,
    ),
    Answer(
        79,
        "HTTP 1.0 with a length",
        message(b"HTTP/1.0 200 OK", LENGTH, body=b"hello"),
        Passed(upstream_kept=False),
        closes=True,
    ),
    Answer(
        80,
        "chunked to HTTP 1.0",
        message(OK, TE, body=HELLO),
        Passed(lacks=(b"transfer-encoding",)),
        version=b"1.0",
    ),
    Answer(
        81,
        "Date of its own",
        field(b"Date: Thu, 01 Jan 1970 00:00:00 GMT"),
        Passed(has=((b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"),)),
    ),
    Answer(
        82,
        "trailers",
        message(OK, TE, b"Trailer: A", body=b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"),
        Passed(lacks=(b"a",)),
    ),
    Answer(
        82,
        "Set-Cookie in trailers",
        message(OK, TE, body=b"5\r\nhello\r\n0\r\nSet-Cookie: a=b\r\n\r\n"),
        Passed(lacks=(b"set-cookie",)),
    ),
    Answer(
        83,
        "nominated field",
        message(OK, b"Connection: x-r", b"X-R: 1", LENGTH, body=b"hello"),
        Passed(lacks=(b"connection", b"x-r")),
    ),
    Answer(83, "Keep-Alive", field(b"Keep-Alive: timeout=5"), Passed(lacks=(b"keep-alive",))),
    Answer(
        83, "Proxy-Connection", field(b"Proxy-Connection: keep-alive"), Passed(lacks=(b"proxy-connection",))
    ),
    Answer(
        83,
        "Upgrade without 101",
        message(OK, b"Connection: upgrade", b"Upgrade: h2c", LENGTH, body=b"hello"),
        Passed(lacks=(b"upgrade", b"connection")),
    ),
    Answer(
        83,
        "nominated framing",
        message(OK, b"Connection: content-length, date", LENGTH, body=b"hello"),
        Passed(has=((b"content-length", b"5"),)),
    ),
    Answer(
        83,
        "close",
        message(OK, b"Connection: close", LENGTH, body=b"hello"),
        Passed(lacks=(b"connection",), upstream_kept=False),
        closes=True,
    ),
    Answer(
        84,
        "coded body",
        message(
            OK, b"Content-Encoding: gzip", b"Content-Length: %d" % len(ZIPPED), b'ETag: "z"', body=ZIPPED
        ),
        Passed(
            body=ZIPPED,
            has=((b"content-encoding", b"gzip"), (b"etag", b'"z"'), (b"content-length", b"%d" % len(ZIPPED))),
        ),
    ),
    Answer(
        85,
        "redirect",
        message(b"HTTP/1.1 302 Found", b"Location: http://elsewhere.example/", LENGTH, body=b"hello"),
        Passed(302, has=((b"location", b"http://elsewhere.example/"),)),
    ),
    Answer(
        85,
        "Set-Cookie three times",
        message(
            OK, b"Set-Cookie: a=1", b"Set-Cookie: b=2; Path=/", b"set-cookie: a=1", LENGTH, body=b"hello"
        ),
        Passed(has=((b"set-cookie", b"a=1"), (b"set-cookie", b"b=2; Path=/"), (b"set-cookie", b"a=1"))),
    ),
    Answer(
        85,
        "metrics for the gateway",
        field(b"X-Gateway-Metric: accuracy=0.9"),
        Passed(lacks=(b"x-gateway-metric",)),
    ),
    Answer(85, "a forged arm", field(b"X-Gateway-Arm: forged"), Passed()),
]


class Pace(enum.Enum):
    """How the upstream sends its bytes."""

    WHOLE = "whole"
    BYTE_BY_BYTE = "byte_by_byte"


def answers() -> Iterator[object]:
    """Every row whole at each place, and byte by byte at one."""
    for answer in ANSWERS:
        for place in Place:
            yield pytest.param(answer, place, Pace.WHOLE, id=f"{answer}-{place.value}-whole")
        yield pytest.param(answer, Place.CONTROL, Pace.BYTE_BY_BYTE, id=f"{answer}-control-byte_by_byte")


@pytest.mark.parametrize(("answer", "place", "pace"), list(answers()))
def test_response(rigs: dict[Place, Rig], answer: Answer, place: Place, pace: Pace) -> None:
    """Every case of a response comes out as the RFCs want it, and the next one is not shifted."""
    if answer.expected is BROKEN:
        answer = replace(answer, expected=BAD if pace is Pace.WHOLE else CUT)
    rig = rigs[place]
    sent = threading.Event()
    with rig.upstream.running(_script(rig, answer, pace, sent)), rig.connect() as client:
        client.send(message(answer.method + b" /case HTTP/" + answer.version, b"Host: case.example"))
        if answer.expected is CUT:
            _check_cut_short(client, answer)
        else:
            response = client.response(answer.method)
            assert sent.wait(PATIENCE)
            rig.plane.settle()
            rig.upstream.script = echo
            _check_response(response, answer)
            if answer.version == b"1.1":
                client.send(GOOD)
                assert client.response().body.startswith(b"GET /good "), "the next answer is another's"
    _check_connection(rig, answer)
    rig.check_alive()


def _script(rig: Rig, answer: Answer, pace: Pace, sent: threading.Event) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.body()
        size = len(answer.sent) if pace is Pace.WHOLE else len(answer.sent) // 300
        try:
            for start in range(0, len(answer.sent), max(1, size)):
                exchange.send(answer.sent[start : start + max(1, size)])
                rig.plane.settle()
        finally:
            sent.set()
        if answer.closes:
            exchange.close()

    return script


def _check_response(response: Response, answer: Answer) -> None:
    if answer.expected is BAD:
        assert response.status == 502, response
        check_problem(response)
        return
    assert isinstance(answer.expected, Passed)
    assert (response.status, response.body) == (answer.expected.status, answer.expected.body), response
    assert response.by_close == (
        answer.version == b"1.0"
        and response.value(b"content-length") is None
        and answer.method != b"HEAD"
        and response.status == 200
    )
    assert len(response.head.values(b"date")) == 1, response
    assert response.trailers == ()
    for name in {name for name, _ in answer.expected.has}:
        wanted = [value for other, value in answer.expected.has if other == name]
        assert response.head.values(name) == wanted, response
    if answer.version == b"1.1":
        for name in answer.expected.lacks:
            assert response.head.values(name) == [], response


def _check_cut_short(client: Client, answer: Answer) -> None:
    transcript = client.transcript(answer.method)
    assert [response.complete for response in transcript.responses] in ([], [False]), transcript
    if not transcript.responses or answer.version == b"1.0":
        assert transcript.ending is Ending.RESET, transcript
    else:
        assert transcript.ending is not None, transcript


def _check_connection(rig: Rig, answer: Answer) -> None:
    exchange = next(one for one in reversed(rig.upstream.begun) if one.head.target == b"/case")
    kept = answer.expected.upstream_kept if isinstance(answer.expected, Passed) else False
    if kept is False and not answer.closes:
        assert exchange.wait_ended(), "the upstream's connection was kept"
    elif kept is True:
        assert not exchange.connection.closed
        assert exchange.connection.ending is None, "the upstream's connection was thrown away"


def test_a_reset_inside_a_body_until_close_is_seen(rig: Rig) -> None:
    """Case 79, trap (l): a reset is no end; neither kind of client may take what came for the whole."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(message(OK, body=b"hello"))
        rig.plane.settle()
        exchange.reset()

    for version in (b"1.1", b"1.0"):
        with rig.upstream.running(script), rig.connect() as client:
            client.send(message(b"GET /case HTTP/" + version, b"Host: a"))
            transcript = client.transcript()
        assert [response.complete for response in transcript.responses] in ([], [False]), transcript
        if version == b"1.0":
            assert transcript.ending is Ending.RESET


@pytest.mark.parametrize("percentage", [0, 100])
def test_an_answer_that_is_broken_from_the_start_is_an_error_of_its_arm(percentage: int) -> None:
    """Its head was good, but nobody got it: what counts is the 502."""
    broken = answering(message(OK, TE, b"X-Gateway-Metric: success=1", body=b"x\r\n"))
    with Rig(percentage=percentage, script=broken) as rig:
        with rig.connect() as client:
            client.send(get(b"X-User-Id: alice", b"Connection: close"))
            assert client.response().status == 502
        other = "control" if rig.arm == "treatment" else "treatment"
        assert wait_until(lambda: idle(rig))
        assert reported(rig) == {rig.arm: ERROR, other: NOTHING}


def test_a_cookie_of_one_user_is_never_sent_for_another(rig: Rig) -> None:
    """Case 85: what an upstream sets for one client is nobody else's."""
    with rig.upstream.running(answering(field(b"Set-Cookie: user=a"))), rig.connect() as first:
        first.send(get())
        assert first.response().value(b"set-cookie") == b"user=a"
    with rig.connect() as second:
        second.send(get())
        assert second.response().value(b"set-cookie") is None
    assert rig.upstream.heads[-1].values(b"cookie") == []


def test_a_date_is_added_and_is_now(rig: Rig) -> None:
    """Case 81: an answer without a Date gets the gateway's."""
    with rig.connect() as client:
        client.send(get())
        date = client.response().value(b"date")
    assert date is not None
    assert abs(parsedate_to_datetime(date.decode()).timestamp() - time()) < 3
