"""Request bytes for the fuzz: valid messages from a grammar, then damaged on purpose.

The pieces are chosen where parsers differ: separators, framings, chunk lines, look-alikes of names,
blanks that some languages strip. A damaged message may well be valid; the reference parser decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

METHODS = (
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"get",
    b"BREW",
    b"TRACE",
    b"CONNECT",
)
TARGETS = (
    b"/",
    b"/a/../b//c?q=%2e#".rstrip(b"#"),
    b"http://other.example/x?y",
    b"http://other.example",
    b"*",
    b"/a#b",
    b"other.example:80",
    b"/\xc3\xa9",
    b"https://other.example/",
    b"http://user@other.example/",
)
VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"http/1.1",
    b"HTTP/1.1 ",
)
FIELDS = (
    b"A: b",
    b"A:",
    b"A:\t b \t",
    b"A: \x80\xff",
    b"Cookie: a=b",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: x-hop, A",
    b"Connection: Upgrade",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"X-Hop: 1",
    b"Keep-Alive: 5",
    b"Proxy-Connection: close",
    b"TE: trailers",
    b"Trailer: A",
    b"Expect: 100-continue",
    b"Expect: banana",
    b"Max-Forwards: 1",
    b"X-User-Id: user",
    b"X-Forwarded-For: 1.2.3.4",
    b"X-Gateway-Arm: treatment",
    b"X_Gateway_Arm: treatment",
    b"X-Request-Id: id",
)
BAD_FIELDS = (
    b"Host: second.example",
    b"Host : first.example",
    b"A : b",
    b" folded",
    b"no colon",
    b": empty",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: 03",
    b"Content-Length: +3",
    b"Content-Length: 3, 3",
    b"Content_Length: 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding: \x0bchunked",
)
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: hidden.example\r\n\r\n"
BODIES = (b"", b"abc", b"0\r\n\r\n", HIDDEN, b"0\r\n\r\n" + HIDDEN, b"\r\n", b"\0" * 10)
CHUNK_LINES = (
    b"%x",
    b"%X",
    b"0%x",
    b"%x;a=b",
    b'%x;a="q;\\"x"',
    b"%x;",
    b"%x ",
    b"+%x",
    b"0x%x",
    b"%x;a",
    b"%x\t;a=b",
)
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"")
TRAILERS = (
    b"",
    b"",
    b"A: b\r\n",
    b"X-User-Id: evil\r\n",
    b"Content-Length: 5\r\n",
    b"Host: evil\r\n",
    b"bad\r\n",
)
SPLICES = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x85",
    b"\xa0",
    b":",
    b",",
    b";",
    b"#",
    b"0",
    b"5",
    b"0\r\n\r\n",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Host: evil\r\n",
    b"HTTP/1.1",
    b"HTTP/1.1\r\n",
    HIDDEN,
    "\u212a".encode(),
    "\u017f".encode(),
)

ENTROPY = 64
"""Bytes of choices that make one conversation. Fewer draws of hypothesis make more conversations."""


class _Choices:
    """Turns random bytes into choices; when they run out, the first option is taken."""

    def __init__(self, entropy: bytes) -> None:
        self._entropy = iter(entropy)

    def number(self, bound: int) -> int:
        """A number below the bound (at most 65,536)."""
        high = next(self._entropy, 0) if bound > 256 else 0
        return (high << 8 | next(self._entropy, 0)) % bound

    def of(self, options: Sequence[bytes]) -> bytes:
        """Any of the options."""
        return options[self.number(len(options))]

    def mostly(self, options: Sequence[bytes]) -> bytes:
        """The first option three times out of four."""
        return self.of(options) if self.number(4) == 3 else options[0]


def _message(choices: _Choices) -> bytes:
    """One request, valid more often than not."""
    method = choices.of(METHODS[:6] if choices.number(8) else METHODS)
    lines = [b"%b %b %b" % (method, choices.mostly(TARGETS), choices.mostly(VERSIONS))]
    if choices.number(16) < 15:
        lines.append(b"Host: first.example")
    lines += [choices.of(FIELDS if choices.number(8) else BAD_FIELDS) for _ in range(choices.number(4))]
    body = choices.of(BODIES)
    match choices.number(4):
        case 0:
            lines.append(b"Content-Length: %d" % len(body))
        case 1:
            lines.append(b"Transfer-Encoding: chunked")
            body = _chunked(choices, body)
        case 2:
            body = b""
    return b"\r\n".join([*lines, b"", body])


def _chunked(choices: _Choices, body: bytes) -> bytes:
    chunk = b""
    if body:
        size_line = choices.mostly(CHUNK_LINES) % len(body)
        chunk = size_line + choices.mostly(ENDS) + body + choices.mostly(ENDS)
    return chunk + b"0\r\n" + choices.mostly(TRAILERS) + b"\r\n"


def _wound(choices: _Choices, data: bytes) -> bytes:
    """Splice something in, cut something out, change a byte, repeat a piece, or stop early."""
    at = choices.number(len(data) + 1)
    match choices.number(6):
        case 0 | 1:
            return data[:at] + choices.of(SPLICES) + data[at:]
        case 2:
            return data[:at] + data[at + 1 + choices.number(4) :]
        case 3:
            return data[:at] + bytes([choices.number(256)]) + data[at + 1 :]
        case 4:
            return data[:at] + data[max(0, at - choices.number(64)) :]
        case _:
            return data[:at]


def conversation(entropy: bytes) -> list[bytes]:
    """What a client sends: one to three requests, often a wound or more, in up to four pieces."""
    choices = _Choices(entropy)
    data = b"".join(_message(choices) for _ in range(1 + choices.number(3)))
    for _ in range(max(0, choices.number(6) - 2)):
        data = _wound(choices, data)
    places = sorted(choices.number(len(data) + 1) for _ in range(choices.number(4)))
    bounds = [0, *places, len(data)]
    return [data[start:end] for start, end in pairwise(bounds) if end > start]


conversations = st.binary(min_size=ENTROPY, max_size=ENTROPY).map(conversation)
"""What clients send, each in the pieces in which it arrives."""
