"""Cases 30-39: the syntax of header fields and their bounds (RFC 9112 section 5, RFC 9110 section 5)."""

from __future__ import annotations

import pytest

from tests.http.cases import Case, Forwarded, Refused, Way, check, every_way, get, message, post
from tests.http.conftest import Place
from tests.support.dataplane import Rig

pytestmark = pytest.mark.socket

TOO_LARGE = Refused((400, 431))
CONTROLS = [*range(0x09), *range(0x0B, 0x20), 0x7F]
OBS_TEXT = bytes(range(0x80, 0x100))

CASES = [
    Case(30, "space before the colon", get(b"Name : v")),
    Case(30, "tab before the colon", get(b"Name\t: v")),
    Case(30, "space before the colon of Host", message(b"GET /case HTTP/1.1", b"Host : a")),
    Case(30, "space before the colon of the framing", post(b"Content-Length : 5", body=b"hello")),
    Case(31, "obs-fold", get(b"A: b\r\n c")),
    Case(31, "obs-fold with a tab", get(b"A: b\r\n\tc")),
    Case(31, "obs-fold of an empty value", get(b"A:\r\n c")),
    Case(31, "obs-fold of Host", message(b"GET /case HTTP/1.1", b"Host:\r\n a")),
    Case(31, "obs-fold of the framing", post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n")),
    Case(32, "empty name", get(b": x")),
    Case(32, "no colon", get(b"Name")),
    Case(32, "no colon in the last line", get(b"A: b", b"Name x")),
    *(Case(32, f"{bytes([byte])!r} in a name", get(b"Na%cme: v" % byte)) for byte in b'[]"(),/;@{}<>=?\\ '),
    *(Case(32, f"CTL {byte:02x} in a name", get(b"Na%cme: v" % byte)) for byte in (*CONTROLS[1:], 9, 0)),
    *(Case(32, f"{byte:02x} in a name", get(b"Na%cme: v" % byte)) for byte in (0x80, 0xA0, 0xFF)),
    *(Case(33, f"CTL {byte:02x} in a value", get(b"Name: a%cb" % byte)) for byte in CONTROLS),
    *(
        Case(33, f"CTL {byte:02x} before a value", get(b"Name: %cb" % byte))
        for byte in (0x00, 0x0B, 0x0C, 0x1C)
    ),
    Case(
        34, "obs-text", get(b"Name: a" + OBS_TEXT + b"b"), Forwarded(has=((b"name", b"a" + OBS_TEXT + b"b"),))
    ),
    Case(
        34,
        "obs-text that Python takes for blanks",
        get(b"Name: \x85\xa0a\x85\xa0"),
        Forwarded(has=((b"name", b"\x85\xa0a\x85\xa0"),)),
    ),
    Case(35, "blanks around a value", get(b"Name: \t a \t b\t "), Forwarded(has=((b"name", b"a \t b"),))),
    Case(35, "no blank before a value", get(b"Name:a"), Forwarded(has=((b"name", b"a"),))),
    Case(35, "empty value", get(b"Name:"), Forwarded(has=((b"name", b""),))),
    Case(35, "value of blanks", get(b"Name: \t "), Forwarded(has=((b"name", b""),))),
    Case(35, "colons in a value", get(b"Name: :a:"), Forwarded(has=((b"name", b":a:"),))),
    Case(
        36,
        "repeated fields",
        get(b"A: 1", b"B: x", b"a: 2", b"A: 3", b"Cookie: a=1", b"Cookie: b=2"),
        Forwarded(
            has=(
                (b"a", b"1"),
                (b"a", b"2"),
                (b"a", b"3"),
                (b"b", b"x"),
                (b"cookie", b"a=1"),
                (b"cookie", b"b=2"),
            )
        ),
    ),
    Case(37, "10,000 fields", get(*(b"A%d: b" % number for number in range(10_000))), TOO_LARGE),
    Case(37, "101 fields", get(*(b"A%d: b" % number for number in range(100))), Refused((431,))),
    Case(37, "one field of 64 KB", get(b"Name: " + b"a" * 65_536), Refused((431,))),
    Case(37, "a head of 1 MB", get(*[b"Name: " + b"a" * 8000] * 130), TOO_LARGE),
    Case(37, "a name of 64 KB", get(b"a" * 65_536 + b": b"), TOO_LARGE),
    Case(
        37,
        "100 fields",
        get(*(b"A%d: b" % number for number in range(99))),
        Forwarded(has=((b"a0", b"b"), (b"a98", b"b"))),
    ),
    Case(
        37, "one field of 32 KB", get(b"Name: " + b"a" * 32_768), Forwarded(has=((b"name", b"a" * 32_768),))
    ),
]


@every_way(CASES)
def test_header_syntax(rigs: dict[Place, Rig], case: Case, place: Place, way: Way) -> None:
    """Every case of header syntax comes out as the RFCs want it, however it arrives."""
    check(rigs[place], case, way)


def test_a_head_may_be_cut_anywhere(rig: Rig) -> None:
    """Case 39: whatever the offset at which a request is split in two segments, the result is one."""
    sent = message(
        b"POST /case?q=1 HTTP/1.1",
        b"Host: case.example",
        b"X-User-Id: user-1",
        b"Transfer-Encoding: chunked",
        b"Connection: x-hop",
        b"X-Hop: 1",
        body=b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n",
    )
    expected = Forwarded(
        b"POST", b"/case?q=1", b"hello!", has=((b"x-user-id", b"user-1"),), lacks=(b"x-hop",)
    )
    outcomes = set()
    with rig.connect() as client:
        for offset in range(len(sent)):
            client.send(sent[:offset])
            rig.plane.settle()
            client.send(sent[offset:])
            response = client.response(b"POST")
            exchange = rig.upstream.completed[-1]
            assert exchange.received_body == expected.body
            own = (b"x-request-id", b"transfer-encoding", b"content-length")
            fields = tuple(field for field in exchange.head.fields if field[0].lower() not in own)
            outcomes.add((response.status, response.body, fields))
    assert len(outcomes) == 1
    assert (b"X-User-Id", b"user-1") in next(iter(outcomes))[2]
