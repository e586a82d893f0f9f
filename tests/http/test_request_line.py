"""Cases 1-22: the request line, the target and the version (RFC 9112 sections 2 and 3)."""

from __future__ import annotations

import pytest

from tests.http.cases import Case, Forwarded, Refused, Way, check, every_way, get, message
from tests.http.conftest import Place
from tests.support.dataplane import Rig
from tests.support.raw import Ending

pytestmark = pytest.mark.socket

HOST = b"Host: case.example"
NO_METHOD = Refused((400, 501))
NO_VERSION = Refused((400, 505))
TOO_LONG = Refused((400, 414))


def start(line: bytes) -> bytes:
    """A request with this request line."""
    return message(line, HOST)


CASES = [
    Case(1, "bare LF everywhere", b"GET /case HTTP/1.1\nHost: case.example\n\n"),
    Case(1, "bare LF after the request line", b"GET /case HTTP/1.1\nHost: case.example\r\n\r\n"),
    Case(1, "bare LF after a field", b"GET /case HTTP/1.1\r\nHost: case.example\n\r\n"),
    Case(1, "bare LF as the empty line", b"GET /case HTTP/1.1\r\nHost: case.example\r\n\n"),
    Case(2, "bare CR in the target", start(b"GET /ca\rse HTTP/1.1")),
    Case(2, "bare CR after the version", b"GET /case HTTP/1.1\rHost: case.example\r\n\r\n"),
    Case(2, "bare CR in a value", get(b"A: b\rc: d")),
    Case(2, "bare CR in a name", get(b"A\rB: c")),
    Case(2, "CR CR LF", get(b"A: b\r")),
    Case(3, "two spaces", start(b"GET  /case  HTTP/1.1")),
    Case(3, "two spaces before the version", start(b"GET /case  HTTP/1.1")),
    Case(3, "tab as separator", start(b"GET\t/case\tHTTP/1.1")),
    Case(3, "space before the method", start(b" GET /case HTTP/1.1")),
    Case(3, "space after the version", start(b"GET /case HTTP/1.1 ")),
    Case(3, "vertical tab as separator", start(b"GET\x0b/case HTTP/1.1")),
    Case(4, "leading CRLF", b"\r\n" + get(), Forwarded()),
    Case(4, "leading LF", b"\n" + get()),
    Case(4, "leading CR", b"\r" + get()),
    Case(4, "leading CRLF and LF", b"\r\n\n" + get()),
    Case(4, "leading space", b" " + get()),
    Case(5, "whitespace line before the first field", message(b"GET /case HTTP/1.1", b" ", HOST)),
    Case(5, "whitespace before the first field", message(b"GET /case HTTP/1.1", b" A: b", HOST)),
    Case(5, "tab before the first field", message(b"GET /case HTTP/1.1", b"\tA: b", HOST)),
    Case(6, "method of delimiters", start(b'G=":<>(e),[T];?" /case HTTP/1.1'), NO_METHOD),
    Case(6, "NUL in the method", start(b"G\0T /case HTTP/1.1"), NO_METHOD),
    Case(6, "8 bits in the method", start(b"G\xcbT /case HTTP/1.1"), NO_METHOD),
    Case(6, "no method", start(b" /case HTTP/1.1"), NO_METHOD),
    Case(7, "method of 8 KB", start(b"A" * 8192 + b" /case HTTP/1.1"), NO_METHOD),
    Case(7, "method of 100 KB", start(b"A" * 102_400 + b" /case HTTP/1.1"), Refused((400, 414, 431, 501))),
    Case(8, "lower-case method", start(b"get /case HTTP/1.1"), NO_METHOD),
    Case(8, "unknown method", start(b"BREW /case HTTP/1.1"), NO_METHOD),
    Case(9, "HTTP 1.2", start(b"GET /case HTTP/1.2"), NO_VERSION),
    Case(10, "HTTP 2.0", start(b"GET /case HTTP/2.0"), NO_VERSION),
    Case(10, "HTTP 9.9", start(b"GET /case HTTP/9.9"), NO_VERSION),
    Case(10, "HTTP 01.1", start(b"GET /case HTTP/01.1"), NO_VERSION),
    Case(10, "HTTP 1.10", start(b"GET /case HTTP/1.10"), NO_VERSION),
    Case(10, "HTTP 1.1x", start(b"GET /case HTTP/1.1x"), NO_VERSION),
    Case(10, "HTTP 1", start(b"GET /case HTTP/1"), NO_VERSION),
    Case(10, "lower-case http", start(b"GET /case http/1.1"), NO_VERSION),
    Case(10, "CR CR in the version", start(b"GET /case HTTP/\r\r1.1"), NO_VERSION),
    Case(11, "HTTP 0.9", b"GET /case\r\n\r\n"),
    Case(11, "HTTP 0.9 with a field", message(b"GET /case", HOST)),
    Case(12, "HTTP 2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused((400, 501, 505))),
    Case(13, "space in the target", start(b"GET /ca se HTTP/1.1")),
    Case(13, "NUL in the target", start(b"GET /ca\0se HTTP/1.1")),
    Case(13, "DEL in the target", start(b"GET /ca\x7fse HTTP/1.1")),
    *(
        Case(13, f"CTL {byte:02x} in the target", start(b"GET /ca%cse HTTP/1.1" % byte))
        for byte in (0x01, 0x08, 0x09, 0x0B, 0x0C, 0x1B, 0x1F)
    ),
    Case(14, "8 bits in the target", start(b"GET /ca\xc3\xa9 HTTP/1.1")),
    Case(15, "fragment", start(b"GET /case#b HTTP/1.1")),
    Case(15, "fragment after the query", start(b"GET /case?a#b HTTP/1.1")),
    Case(15, "fragment in absolute form", start(b"GET http://case.example/case#b HTTP/1.1")),
    Case(
        16,
        "path that could be normalised",
        start(b"GET /a/../b//c/%2e%2e/%2F%00%zz/./d?q=a+b%20c&&=#".rstrip(b"#") + b" HTTP/1.1"),
        Forwarded(target=b"/a/../b//c/%2e%2e/%2F%00%zz/./d?q=a+b%20c&&="),
    ),
    Case(16, "path of two slashes", start(b"GET //evil/x HTTP/1.1"), Forwarded(target=b"//evil/x")),
    Case(
        17,
        "absolute form with another Host",
        message(b"GET http://target.example:8080/case?q=1 HTTP/1.1", b"Host: evil.example"),
        Forwarded(target=b"/case?q=1", has=((b"host", b"target.example:8080"),)),
    ),
    Case(17, "absolute form without a Host", message(b"GET http://target.example/case HTTP/1.1")),
    Case(17, "absolute form and two Hosts", message(b"GET http://a/case HTTP/1.1", b"Host: a", b"Host: a")),
    Case(18, "userinfo", start(b"GET http://user@case.example/case HTTP/1.1")),
    Case(18, "userinfo with a password", start(b"GET http://u:p@case.example/case HTTP/1.1")),
    Case(18, "userinfo in HTTP/1.0 without a Host", message(b"GET http://user@case.example/ HTTP/1.0")),
    Case(18, "https", start(b"GET https://case.example/case HTTP/1.1")),
    Case(18, "another scheme", start(b"GET ftp://case.example/case HTTP/1.1")),
    Case(18, "empty authority", start(b"GET http:///case HTTP/1.1")),
    Case(18, "port without a host", start(b"GET http://:80/case HTTP/1.1")),
    Case(18, "port out of range", start(b"GET http://case.example:65536/case HTTP/1.1")),
    Case(
        18,
        "IPv6 literal",
        start(b"GET http://[::1]:8080/case HTTP/1.1"),
        Forwarded(has=((b"host", b"[::1]:8080"),)),
    ),
    Case(
        18, "absolute form without a path", start(b"GET http://case.example HTTP/1.1"), Forwarded(target=b"/")
    ),
    Case(
        18,
        "absolute form with a query and no path",
        start(b"GET http://case.example?q HTTP/1.1"),
        Forwarded(target=b"/?q"),
    ),
    Case(18, "scheme in capitals", start(b"GET HTTP://case.example/case HTTP/1.1"), Forwarded()),
    Case(19, "authority form", start(b"GET case.example:80 HTTP/1.1")),
    Case(19, "asterisk with GET", start(b"GET * HTTP/1.1")),
    Case(19, "asterisk with a path", start(b"OPTIONS */case HTTP/1.1")),
    Case(19, "relative path", start(b"GET case HTTP/1.1")),
    Case(20, "OPTIONS asterisk", start(b"OPTIONS * HTTP/1.1"), Forwarded(b"OPTIONS", b"*")),
    Case(
        20,
        "OPTIONS of an authority",
        start(b"OPTIONS http://case.example HTTP/1.1"),
        Forwarded(b"OPTIONS", b"*"),
    ),
    Case(21, "CONNECT", start(b"CONNECT case.example:80 HTTP/1.1"), Refused((400, 405, 501))),
    Case(21, "CONNECT of a path", start(b"CONNECT /case HTTP/1.1"), Refused((400, 405, 501))),
    Case(
        22,
        "TRACE",
        message(b"TRACE /case HTTP/1.1", HOST, b"Cookie: a=b", b"Authorization: Basic YQ=="),
        Refused((405,)),
    ),
    Case(
        22,
        "TRACE at its last hop",
        message(b"TRACE /case HTTP/1.1", HOST, b"Max-Forwards: 0"),
        Refused((405,)),
    ),
    Case(
        22,
        "OPTIONS that has hops left",
        message(b"OPTIONS /case HTTP/1.1", HOST, b"Max-Forwards: 5"),
        Forwarded(b"OPTIONS", has=((b"max-forwards", b"4"),)),
    ),
    Case(38, "request line of 32 KB", start(b"GET /" + b"a" * 32_768 + b" HTTP/1.1"), TOO_LONG),
]


@every_way(CASES)
def test_request_line(rigs: dict[Place, Rig], case: Case, place: Place, way: Way) -> None:
    """Every case of the request line comes out as the RFCs want it, however it arrives."""
    check(rigs[place], case, way)


def test_an_options_at_its_last_hop_is_answered_here(rig: Rig) -> None:
    """Case 22: a request that may not be forwarded any further is not (RFC 9110 section 7.6.2)."""
    before = len(rig.upstream.heads)
    with rig.connect() as client:
        client.send(message(b"OPTIONS /case HTTP/1.1", HOST, b"Max-Forwards: 0"))
        response = client.response(b"OPTIONS")
    assert response.status in (200, 204, 405)
    assert len(rig.upstream.heads) == before


@pytest.mark.parametrize(
    "sent", [b"GET /case\r\n", b"GET /case HTTP/1.1\r\nHost: case.example\r\n", b"GE", b"\r\n"]
)
def test_a_client_that_ends_inside_a_head_gets_nothing_forwarded(rig: Rig, sent: bytes) -> None:
    """Case 11: an unfinished head at the end of the connection is no request."""
    before = len(rig.upstream.heads)
    with rig.connect() as client:
        client.send(sent)
        client.half_close()
        transcript = client.transcript()
    assert transcript.statuses in ([], [400])
    assert transcript.ending is Ending.FIN
    assert len(rig.upstream.heads) == before


def test_many_leading_empty_lines_do_not_hold_the_worker(rig: Rig) -> None:
    """Case 4: empty lines before a request are ignored up to a bound, or refused, and cost nothing."""
    with rig.connect() as client:
        client.send(b"\r\n" * 100_000)
        transcript = client.transcript(patience=0.3)
    assert transcript.statuses in ([], [400], [431])
