"""Cases 40-60: where a request's body ends (RFC 9112 sections 6, 7 and 9)."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.http.cases import (
    BEHIND,
    GOOD,
    Case,
    Forwarded,
    Refused,
    Way,
    check,
    check_problem,
    chunked,
    every_way,
    get,
    message,
    post,
)
from tests.http.conftest import Place
from tests.support.dataplane import Rig
from tests.support.polling import wait_until
from tests.support.raw import Ending

pytestmark = pytest.mark.socket

TE = b"Transfer-Encoding: chunked"
NO_CODING = Refused((400, 501))
BAD_BODY = Refused((400,), may_begin=True)
CUT_OFF = Refused((400, 413, 431), may_begin=True)
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def posted(body: bytes = b"hello") -> Forwarded:
    """The upstream gets the POST with this body."""
    return Forwarded(b"POST", body=body)


def coding(value: bytes) -> bytes:
    """A request whose body is empty if chunked, and hides a request if not."""
    return post(b"Transfer-Encoding: " + value, body=HELLO)


CASES = [
    Case(40, "length and chunked", post(b"Content-Length: 5", TE, body=HELLO)),
    Case(40, "chunked and length", post(TE, b"Content-Length: 15", body=HELLO)),
    Case(40, "chunked and length 0", post(TE, b"Content-Length: 0", body=HELLO)),
    Case(40, "length 0 and chunked", post(b"Content-Length: 0", TE, body=HELLO)),
    Case(41, "two different lengths", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!")),
    Case(41, "0 and 5", post(b"Content-Length: 0", b"Content-Length: 5", body=b"hello")),
    Case(41, "list of two lengths", post(b"Content-Length: 5, 6", body=b"hello!")),
    Case(42, "two equal lengths", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    Case(42, "two zeros", get(b"Content-Length: 0", b"Content-Length: 0")),
    Case(42, "list of equal lengths", post(b"Content-Length: 5, 5", body=b"hello")),
    *(
        Case(43, f"length {value[:40]!r}", post(b"Content-Length: " + value, body=b"hello"))
        for value in (
            b"+5",
            b"-5",
            b"-0",
            b"0x5",
            b"5_0",
            b"5 0",
            b"5.0",
            b"1e1",
            b"5,",
            b",5",
            b'"5"',
            b"5;",
            b"",
            "٥".encode(),
            b"\xb2",
            b"5" * 30,
            b"%d" % (2**64 + 5),
            b"%d" % 2**64,
            b"5\x0b",
            b"\x0c5",
            b"5\xa0",
            b"\x855",
        )
    ),
    Case(43, "length with blanks around", post(b"Content-Length: \t5 ", body=b"hello"), posted()),
    Case(44, "length with zeros before", post(b"Content-Length: 0005", body=b"hello"), posted()),
    Case(44, "length 010 is ten", post(b"Content-Length: 010", body=b"helloworld"), posted(b"helloworld")),
    *(
        Case(45, f"coding {value!r}", coding(value), NO_CODING)
        for value in (
            b"xchunked",
            b"chunkedx",
            b"identity",
            b"chunked, gzip",
            b"gzip, chunked",
            b"gzip",
            b"chunked, chunked",
            b"chunked, identity",
            b'"chunked"',
            b",chunked",
            b"chunked,",
            b"chunked;a=b",
            b"chunked;",
            b"",
            b"\x0bchunked",
            b"\x0cchunked",
            b"\0chunked",
            b"chunked\x0b",
            b"chunked\0",
            b"chunked\x85",
            b"\xa0chunked",
            b"chun ked",
            b"'chunked'",
        )
    ),
    Case(45, "two codings", post(TE, TE, body=HELLO), NO_CODING),
    Case(45, "identity then chunked", post(b"Transfer-Encoding: identity", TE, body=HELLO), NO_CODING),
    Case(45, "chunked then identity", post(TE, b"Transfer-Encoding: identity", body=HELLO), NO_CODING),
    Case(45, "empty then chunked", post(b"Transfer-Encoding:", TE, body=HELLO), NO_CODING),
    Case(45, "coding in capitals", coding(b"CHUNKED"), posted()),
    Case(45, "spaces around a coding", coding(b"  chunked  "), posted()),
    Case(45, "tab before a coding", coding(b"\tchunked"), NO_CODING),
    Case(46, "Kelvin sign in the coding", coding("chun\u212aed".encode()), NO_CODING),
    Case(46, "long s in the name", post("Tran\u017ffer-Encoding: chunked".encode(), body=HELLO)),
    Case(48, "chunked in HTTP 1.0", message(b"POST /case HTTP/1.0", b"Host: a", TE, body=HELLO)),
    Case(
        48,
        "chunked and keep-alive in HTTP 1.0",
        message(b"POST /case HTTP/1.0", b"Host: a", TE, b"Connection: keep-alive", body=HELLO),
    ),
    *(
        Case(49, f"chunk size {size!r}", chunked(size + b"\r\nhello\r\n0\r\n\r\n"), BAD_BODY)
        for size in (
            b"0x5",
            b"+5",
            b"-1",
            b"-5",
            b"5_0",
            b" 5",
            b"5 ",
            b"\t5",
            b"",
            b"g",
            b"5g",
            b"0" * 17 + b"5",
            b"F" * 17,
            b"8000000000000000",
            b"FFFFFFFFFFFFFFFF",
            b"10000000000000005",
            b"5\x0b",
            b"5\0",
            b"5,5",
            b"5.",
            "٥".encode(),
        )
    ),
    Case(49, "chunk size in capitals", chunked(b"A\r\nhelloworld\r\n0\r\n\r\n"), posted(b"helloworld")),
    Case(49, "chunk size with zeros before", chunked(b"005\r\nhello\r\n000\r\n\r\n"), posted()),
    *(
        Case(50, f"chunk data ends in {end!r}", chunked(b"5\r\nhello" + end + b"0\r\n\r\n"), BAD_BODY)
        for end in (b"", b"\rX", b"\nX", b"XX", b"\n", b"\r", b"\n\r", b"\r\r\n", b"!\r\n", b"\r\n\r\n")
    ),
    Case(50, "chunk data shorter than its size", chunked(b"6\r\nhello\r\n0\r\n\r\n"), BAD_BODY),
    Case(50, "chunk data longer than its size", chunked(b"4\r\nhello\r\n0\r\n\r\n"), BAD_BODY),
    Case(51, "LF after a chunk size", chunked(b"5\nhello\r\n0\r\n\r\n"), BAD_BODY),
    Case(51, "CR after a chunk size", chunked(b"5\rhello\r\n0\r\n\r\n"), BAD_BODY),
    Case(51, "LF after the last chunk", chunked(b"5\r\nhello\r\n0\n\n"), BAD_BODY),
    Case(51, "LF as the empty line", chunked(b"5\r\nhello\r\n0\r\n\n"), BAD_BODY),
    Case(51, "LF after a trailer", chunked(b"5\r\nhello\r\n0\r\nA: b\n\r\n"), BAD_BODY),
    Case(51, "CR CR LF after a chunk size", chunked(b"5\r\r\nhello\r\n0\r\n\r\n"), BAD_BODY),
    *(
        Case(52, f"extension {extension!r}", chunked(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n"), posted())
        for extension in (b";a=b", b";a", b';a="q;x"', b';a="q\\"x"', b";a=b;c;d=e")
    ),
    Case(52, "extension on the last chunk", chunked(b"5\r\nhello\r\n0;a=b\r\n\r\n"), posted()),
    *(
        Case(52, f"extension {extension!r}", chunked(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n"), BAD_BODY)
        for extension in (
            b";",
            b";;a",
            b";a=",
            b";=b",
            b';a="b',
            b';a="b"c',
            b";a\0",
            b";a\x01=b",
            b";a=b\rc",
            b";a=b\nc",
            b";\n",
            b';a="b\r\n0\r\n\r\n"',
        )
    ),
    Case(52, "extension of 64 KB", chunked(b"5;a=" + b"b" * 65_536 + b"\r\nhello\r\n0\r\n\r\n"), CUT_OFF),
    Case(
        52, "many extensions", chunked((b"1;a=" + b"b" * 1000 + b"\r\nx\r\n") * 100 + b"0\r\n\r\n"), CUT_OFF
    ),
    Case(
        54,
        "trailers",
        chunked(b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n"),
        Forwarded(b"POST", body=b"hello", lacks=(b"a", b"c")),
    ),
    Case(
        54,
        "announced trailers",
        post(TE, b"Trailer: A", b"TE: trailers", body=b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"),
        Forwarded(b"POST", body=b"hello", lacks=(b"a", b"te")),
    ),
    *(
        Case(54, f"{field!r} in trailers", chunked(b"5\r\nhello\r\n0\r\n" + field + b"\r\n\r\n"), BAD_BODY)
        for field in (b"Content-Length: 5", b"transfer-encoding: chunked", b"Host: evil.example")
    ),
    *(
        Case(
            54,
            f"malformed trailer {field!r}",
            chunked(b"5\r\nhello\r\n0\r\n" + field + b"\r\n\r\n"),
            BAD_BODY,
        )
        for field in (b"no colon", b": x", b"A : b", b" A: b", b"A: b\0", b"A: b\r\n c", b"GET / HTTP/1.1")
    ),
    Case(
        54,
        "Authorization in trailers",
        chunked(b"5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n"),
        Forwarded(b"POST", body=b"hello", lacks=(b"authorization",)),
    ),
    Case(55, "100,000 trailers", chunked(b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 100_000 + b"\r\n"), CUT_OFF),
    Case(55, "a trailer of 64 KB", chunked(b"5\r\nhello\r\n0\r\nA: " + b"b" * 65_536 + b"\r\n\r\n"), CUT_OFF),
    *(
        Case(
            58,
            f"{method.decode()} with a body",
            message(method + b" /case HTTP/1.1", b"Host: a", b"Content-Length: 5", body=b"hello"),
            Forwarded(method, body=b"hello"),
        )
        for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"PATCH")
    ),
    *(
        Case(
            58,
            f"{method.decode()} with a chunked body",
            message(method + b" /case HTTP/1.1", b"Host: a", TE, body=HELLO),
            Forwarded(method, body=b"hello"),
        )
        for method in (b"GET", b"HEAD", b"DELETE")
    ),
    Case(58, "POST without a body", post(), posted(b"")),
    Case(58, "POST of length 0", post(b"Content-Length: 0"), posted(b"")),
    Case(58, "chunked and empty", chunked(b"0\r\n\r\n"), posted(b"")),
    Case(59, "close", get(b"Connection: close"), Forwarded(closes=True)),
    Case(59, "close in capitals in a list", get(b"Connection: x, CLOSE"), Forwarded(closes=True)),
    Case(
        59,
        "close with a body",
        post(b"Connection: close", b"Content-Length: 5", body=b"hello"),
        Forwarded(b"POST", body=b"hello", closes=True),
    ),
    Case(
        59,
        "close with a chunked body",
        post(b"Connection: close", TE, body=HELLO),
        Forwarded(b"POST", body=b"hello", closes=True),
    ),
]


@every_way(CASES)
def test_framing(rigs: dict[Place, Rig], case: Case, place: Place, way: Way) -> None:
    """Every case of request framing comes out as the RFCs want it, however it arrives."""
    check(rigs[place], case, way)


NAMES = (
    b"Transfer-Encoding",
    b"transfer-encoding",
    b"TRANSFER-ENCODING",
    b" Transfer-Encoding",
    b"Transfer-Encoding ",
    b"Transfer-Encoding\t",
    b"Transfer-Encoding\x0b",
    b"\x0bTransfer-Encoding",
    b"Transfer\0-Encoding",
    b"Transfer_Encoding",
    b"Transfer Encoding",
    b"X-Transfer-Encoding",
    b"Transfer-Encoding:",
    b"Foo: bar\nTransfer-Encoding",
    b"Foo: bar\rTransfer-Encoding",
    b"Foo\r\n Transfer-Encoding",
    b"\xffTransfer-Encoding",
)
VALUES = (
    b"chunked",
    b" Chunked",
    b" chunked\x0b",
    b" \x00chunked",
    b" xchunked",
    b" chunked, identity",
    b" identity, chunked",
    b" identity",
    b' "chunked"',
    b" chunked\r\nTransfer-Encoding: identity",
    b"\r\n chunked",
    b" ch\xc5\xabnked",
    b" chunked;q=1",
    b" =chunked",
    b"",
)
HIDDEN = b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: hidden.example\r\n\r\n"


def test_no_disguise_of_transfer_encoding_gets_through(rig: Rig) -> None:
    """Case 47: however Transfer-Encoding is spelled beside a Content-Length, nothing is smuggled."""
    before = len(rig.upstream.heads)
    for name, value in itertools.product(NAMES, VALUES):
        for lines in ((name + b":" + value, b"Content-Length: %d" % len(HIDDEN)), (name + b":" + value,)):
            with rig.connect() as client:
                client.send(post(*lines, b"Connection: close", body=HIDDEN))
                transcript = client.transcript(b"POST")
            assert len(transcript.responses) == 1, (lines, transcript)
    assert b"/hidden" not in {head.target for head in rig.upstream.heads[before:]}


@pytest.mark.parametrize("count", [100_000])
def test_one_byte_chunks_cost_linear_time(rig: Rig, count: int) -> None:
    """Case 53: very many chunks of one byte are relayed whole, and others are served meanwhile."""
    one = b"1\r\nx\r\n" * 1000
    with rig.connect() as client, rig.connect() as other:
        client.send(post(TE))
        slowest = 0.0
        for sent in range(0, count, 1000):
            client.send(one)
            if sent % 20_000 == 0:
                started = time.monotonic()
                other.send(GOOD)
                other.response()
                slowest = max(slowest, time.monotonic() - started)
        client.send(b"0\r\n\r\n")
        assert client.response(b"POST").status == 200
    assert rig.upstream.completed[-1].body_length == count
    assert slowest < 1.0


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(chunked(b"5\r\nhello\r\n"), id="56-no_last_chunk"),
        pytest.param(chunked(b"5\r\nhello\r\n0\r\n"), id="56-no_empty_line"),
        pytest.param(chunked(b"5\r\nhel"), id="56-inside_a_chunk"),
        pytest.param(post(b"Content-Length: 10", body=b"hello"), id="57-length_larger_than_body"),
    ],
)
@pytest.mark.parametrize("how", [Ending.FIN, Ending.RESET])
def test_a_body_cut_short_is_never_completed(rig: Rig, sent: bytes, how: Ending) -> None:
    """Cases 56, 57: when the client goes inside a body, the upstream sees the cut, not a request."""
    heads, completed = len(rig.upstream.heads), len(rig.upstream.completed)
    with rig.connect() as client:
        client.send(sent)
        assert wait_until(lambda: len(rig.upstream.heads) > heads)
        carrier = rig.upstream.begun[-1].connection
        if how is Ending.RESET:
            client.reset()
    assert wait_until(lambda: carrier.ending is not None)
    rig.check_alive()
    assert [
        one.head.target for one in rig.upstream.completed[completed:] if one.head.target == b"/case"
    ] == []


def test_a_length_too_large_is_answered_before_the_body() -> None:
    """Case 60: bytes of a refused body are never parsed as a request, however they look."""
    with Rig(limits={"body_bytes": 10}) as rig:
        for behind in (BEHIND, BEHIND * 100):
            with rig.connect() as client:
                client.send(post(b"Content-Length: %d" % len(behind), body=behind))
                transcript = client.transcript(b"POST")
            assert transcript.statuses == [413]
            assert transcript.ending is Ending.FIN
            check_problem(transcript.responses[0])
        assert rig.upstream.completed == []
        rig.check_alive()


def test_a_chunked_body_too_large_is_refused_when_it_is_seen() -> None:
    """Case 60: without a length the limit counts what came; the upstream never gets a whole request."""
    with Rig(limits={"body_bytes": 10}) as rig:
        with rig.connect() as client:
            client.send(chunked(b"5\r\nhello\r\n6\r\nworld!\r\n0\r\n\r\n" + BEHIND))
            transcript = client.transcript(b"POST")
        assert transcript.statuses == [413]
        assert rig.upstream.completed == []
        with rig.connect() as client:
            client.send(chunked(b"a\r\nhelloworld\r\n0\r\n\r\n"))
            assert client.response(b"POST").status == 200
        rig.check_alive()
