"""How bodies are framed, as received and as sent (RFC 9112 section 6.3)."""

from __future__ import annotations

from gateway.proxy.events import EventWatch
from gateway.wire.chunked import LAST_CHUNK, ChunkedDecoder, encode_chunk
from gateway.wire.faults import Fault, WireError
from gateway.wire.request import CHUNKED, Request
from gateway.wire.response import UNTIL_CLOSE, Response


class RequestBody:
    """Turns the client's framing into the upstream's, piece by piece."""

    __slots__ = ("_decoder", "_left", "_most", "_size", "complete")

    def __init__(self, length: int, most: int | None) -> None:
        """`length` as `wire.request` gives it, `most` the limit in bytes. Raises WireError if it is above."""
        if most is not None and length > most:
            raise _too_large()
        self._left = length
        self._decoder = ChunkedDecoder(Fault.BAD_REQUEST) if length == CHUNKED else None
        self._size = 0
        self._most = most
        self.complete = False

    def __repr__(self) -> str:
        return f"<RequestBody left={self._left} complete={self.complete}>"

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The bytes for the upstream, and those behind the body. Raises WireError on a broken chunk."""
        decoder = self._decoder
        if decoder is None:
            left = self._left
            content, rest = data[:left], data[left:]
            self._left = left = left - len(content)
            self.complete = left == 0
            return content, rest
        content, rest = decoder.feed(data)
        self.complete = decoder.done
        self._size += len(content)
        if self._most is not None and self._size > self._most:
            raise _too_large()
        out = encode_chunk(content) if content else b""
        return (out + LAST_CHUNK if self.complete else out), rest


class ResponseBody:
    """Turns the upstream's framing into the client's, piece by piece.

    `fields` is the framing line for the client's head, b"" for none. `closes` says that the client's
    body ends with its connection. `overrun` says that bytes came behind a complete body. `watch`, where
    it is set, gets to see the content.
    """

    # What most bodies are not is a default of the class: setting it each time costs more.
    closes = False
    complete = False
    overrun = False
    watch: EventWatch | None = None
    _decoder: ChunkedDecoder | None = None
    _rechunk = False

    def __init__(self, response: Response, request: Request) -> None:
        length = response.length
        self._left = left = response.body_length(request.method)
        self.fields = b""
        if left < 0:
            self._decoder = ChunkedDecoder(Fault.BAD_GATEWAY) if left == CHUNKED else None
            self._rechunk = not request.http10
            self.closes = request.http10
            if self._rechunk:
                self.fields = b"Transfer-Encoding: chunked"
        elif length is not None and length >= 0 and response.status != 204:
            self.fields = b"Content-Length: %d" % length

    def __repr__(self) -> str:
        return f"<ResponseBody left={self._left} complete={self.complete}>"

    @property
    def failed(self) -> bool:
        """True once the answer said of itself, within its stream, that it failed."""
        return self.watch is not None and self.watch.failed

    @property
    def ends_with_connection(self) -> bool:
        """True if only the upstream's close says that the body is whole."""
        return self._left == UNTIL_CLOSE

    def feed(self, data: bytes) -> bytes:
        """The bytes for the client. Raises WireError on a broken chunked body."""
        left = self._left
        if left >= 0:
            size = len(data)
            if size >= left:
                self.complete = True
                self.overrun = size > left
                self._left = 0
                if self.overrun:
                    data = data[:left]
            else:
                self._left = left - size
            if self.watch is not None:
                self.watch.feed(data)
            return data
        if self._decoder is not None:
            data, rest = self._decoder.feed(data)
            self.complete = self._decoder.done
            self.overrun = bool(rest)
        if self.watch is not None:
            self.watch.feed(data)
        if not self._rechunk:
            return data
        out = encode_chunk(data) if data else b""
        return out + LAST_CHUNK if self.complete else out

    def end(self) -> bytes:
        """The upstream closed where that is the end: what is still owed to the client."""
        self.complete = True
        return LAST_CHUNK if self._rechunk else b""


def _too_large() -> WireError:
    return WireError(Fault.CONTENT_TOO_LARGE, "the request's body is too large")
