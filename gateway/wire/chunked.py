"""The chunked transfer coding, strictly (RFC 9112 section 7.1).

llhttp decodes chunks too, but it cannot tell where a message ended inside a read, nor limit what it
skips. A proxy needs both, so we have our own decoder. Extensions and trailers are read, limited and
dropped.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.wire.faults import Fault, WireError

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})((?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*)"
)
_TRAILER_LINE = re.compile(_TOKEN + rb":[\t -~\x80-\xff]*")
_FRAMING_TRAILERS = frozenset((b"content-length", b"transfer-encoding", b"host"))
_LONGEST_LINE = 4096
_EXTENSION_BUDGET = 16_384
"""Bytes of extensions and trailers in one body: nobody needs them, so nobody gets to send many."""

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkedDecoder:
    """Takes the bytes of one chunked body in any pieces and gives back its content."""

    __slots__ = ("_budget", "_fault", "_partial", "_remaining", "_state")

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._state = _SIZE
        self._remaining = 0
        self._partial = b""
        self._budget = _EXTENSION_BUDGET

    @property
    def done(self) -> bool:
        """True once the last chunk and the trailers were read."""
        return self._state == _DONE

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Decode `data`: (content, rest). `rest` is what follows the body, and empty until `done`.

        Raises WireError with the decoder's fault on anything that RFC 9112 does not allow.
        """
        if self._partial:
            data = self._partial + data
            self._partial = b""
        content: list[bytes] = []
        at, end = 0, len(data)
        while self._state != _DONE:
            if self._state == _DATA:
                piece = data[at : at + self._remaining]
                if piece:
                    content.append(piece)
                    at += len(piece)
                    self._remaining -= len(piece)
                if self._remaining:
                    break
                self._state = _DATA_END
            elif self._state == _DATA_END:
                if end - at < 2:
                    self._keep(data, at, b"\r\n")
                    break
                if data[at : at + 2] != b"\r\n":
                    raise self._error("chunk data is longer or shorter than its size")
                at += 2
                self._state = _SIZE
            else:
                line_end = data.find(b"\r\n", at)
                if line_end < 0:
                    self._keep_line(data, at)
                    break
                self._line(data[at:line_end])
                at = line_end + 2
        return b"".join(content), data[at:] if self._state == _DONE else b""

    def _line(self, line: bytes) -> None:
        if len(line) > _LONGEST_LINE:
            raise self._error("a chunk line is too long")
        if self._state == _SIZE:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise self._error("malformed chunk size")
            self._spend(len(match[2]))
            self._remaining = int(match[1], 16)
            self._state = _DATA if self._remaining else _TRAILERS
        elif not line:
            self._state = _DONE
        else:
            self._spend(len(line))
            if _TRAILER_LINE.fullmatch(line) is None:
                raise self._error("malformed trailer")
            if line.partition(b":")[0].lower() in _FRAMING_TRAILERS:
                raise self._error("a trailer that would change the framing")

    def _keep_line(self, data: bytes, at: int) -> None:
        partial = data[at:]
        if len(partial) > _LONGEST_LINE:
            raise self._error("a chunk line is too long")
        # A bare LF or CR can never become part of a valid line: refuse it now, not at the time-out.
        if b"\n" in partial or b"\r" in partial[:-1]:
            raise self._error("bare CR or LF in a chunk line")
        self._partial = partial

    def _keep(self, data: bytes, at: int, expected: bytes) -> None:
        partial = data[at:]
        if not expected.startswith(partial):
            raise self._error("chunk data is longer or shorter than its size")
        self._partial = partial

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise self._error("too many chunk extensions or trailers")

    def _error(self, detail: str) -> WireError:
        return WireError(self._fault, detail)


def encode_chunk(content: bytes) -> bytes:
    """One chunk. `content` must not be empty: an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(content), content)


LAST_CHUNK: Final = b"0\r\n\r\n"
