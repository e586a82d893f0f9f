"""The egress oracle: strict HTTP/1.1, and nothing else, may leave the gateway on either side.

An independent incremental parser, written from RFC 9110 and RFC 9112 and from nothing in `gateway`.
A recipient should be liberal; this one is an examiner: everything that two implementations could read
in two ways is a `Violation`. It does no I/O: bytes in, events out.

It does not know what was meant to be sent; the tests compare its events with that.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Field lines as (name, value) in order, exactly as sent; the value without its outer blanks."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([^\x00-\x20\x7f]+) HTTP/1\.1")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD_LINE = re.compile(
    rb"("
    + _TOKEN
    + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*"
)
_LENGTH = re.compile(rb"[0-9]{1,19}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_ORIGIN_FORM = re.compile(rb"/[^#\x00-\x20\x7f]*")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?")

_MAX_LINE = 1 << 20
_OWN_CONNECTION_OPTIONS = {b"close", b"keep-alive", b"upgrade"}
_HOP_BY_HOP = {
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authorization",
    b"proxy-authentication-info",
    b"te",
    b"http2-settings",
}
# RFC 9110 6.5.1: fields that frame, route, authenticate or modify the request never stand in trailers.
_NEVER_IN_TRAILERS = {
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"cookie",
    b"expect",
    b"host",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_LOOK_ALIKES = re.compile(
    rb"content-length|transfer-encoding|connection|x-forwarded-.*|x-gateway-.*|x-request-id"
)


class Violation(Exception):
    """The bytes are not strict HTTP/1.1. The message says what is wrong and shows the bytes."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of a request."""

    method: bytes
    target: bytes
    fields: Fields

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, in order; `name` in lower case."""
        return _values(self.fields, name)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a response, interim or final."""

    status: int
    reason: bytes
    fields: Fields

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, in order; `name` in lower case."""
        return _values(self.fields, name)


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The message is complete. `by_close` is True where only the end of the connection says so."""

    trailers: Fields
    by_close: bool = False


Event: TypeAlias = RequestHead | ResponseHead | Data | End


class _StrictParser:
    """Incremental: `feed` takes bytes as they come and returns the events that they complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._events: list[Event] = []
        self._closed = False
        self._between_messages = True
        self._until_close = False
        self._run = self._messages()
        next(self._run)

    @property
    def idle(self) -> bool:
        """True between messages: an end of the connection here cuts nothing."""
        return self._between_messages and not self._buffer

    @property
    def buffered(self) -> bytes:
        """Bytes that belong to no event yet; after an upgrade, the first bytes of the tunnel."""
        return bytes(self._buffer)

    def take_buffered(self) -> bytes:
        """Hand over what is in `buffered`; after an upgrade, for whoever reads the tunnel."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def feed(self, data: bytes) -> list[Event]:
        """Parse more bytes. Raises Violation, after which the parser is of no more use."""
        self._buffer += data
        next(self._run)
        events, self._events = self._events, []
        return events

    def close(self) -> list[Event]:
        """The connection ended. Raises Violation if that cut a message short."""
        if self._until_close:
            return [End((), by_close=True)]
        if not self.idle:
            raise Violation(f"cut short; {len(self._buffer)} bytes pending: {bytes(self._buffer[:80])!r}")
        return []

    def _messages(self) -> Generator[None, None, None]:
        raise NotImplementedError

    def _line(self) -> Generator[None, None, bytes]:
        searched = 0
        while (end := self._buffer.find(b"\r\n", searched)) < 0:
            self._check_no_bare_breaks(bytes(self._buffer[searched:]))
            if len(self._buffer) > _MAX_LINE:
                raise Violation("endless line")
            searched = max(0, len(self._buffer) - 1)
            yield
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._check_no_bare_breaks(line)
        if b"\r" in line:
            raise Violation(f"bare CR in {line!r}")
        return line

    def _check_no_bare_breaks(self, line: bytes) -> None:
        if b"\n" in line or b"\r" in line[:-1] or b"\0" in line:
            raise Violation(f"bare CR, bare LF or NUL in {line!r}")

    def _fields(self) -> Generator[None, None, Fields]:
        fields = []
        while line := (yield from self._line()):
            match = _FIELD_LINE.fullmatch(line)
            if match is None:
                raise Violation(f"not a field line: {line!r}")
            fields.append((match[1], match[2]))
        return tuple(fields)

    def _body(self, length: int | None) -> Generator[None, None, Fields]:
        """Read `length` bytes, or a chunked body where it is None; returns the trailers."""
        if length is not None:
            yield from self._counted(length)
            return ()
        while True:
            line = yield from self._line()
            if _CHUNK_SIZE.fullmatch(line) is None:
                raise Violation(f"not a plain chunk size: {line!r}")
            size = int(line, 16)
            if size == 0:
                break
            yield from self._counted(size)
            if (yield from self._line()) != b"":
                raise Violation("chunk data is longer than its size says")
        trailers = yield from self._fields()
        for name, _ in trailers:
            if name.lower() in _NEVER_IN_TRAILERS:
                raise Violation(f"{name!r} in trailers")
        return trailers

    def _counted(self, length: int) -> Generator[None, None, None]:
        while length:
            while not self._buffer:
                yield
            data = bytes(self._buffer[:length])
            del self._buffer[: len(data)]
            length -= len(data)
            self._events.append(Data(data))


class RequestParser(_StrictParser):
    """What an upstream receives. After a request that asks for an upgrade it waits for `proceed`."""

    def _messages(self) -> Generator[None, None, None]:
        while True:
            self._between_messages = True
            while not self._buffer:
                yield
            self._between_messages = False
            line = yield from self._line()
            match = _REQUEST_LINE.fullmatch(line)
            if match is None:
                raise Violation(f"not a request line: {line!r}")
            head = RequestHead(match[1], match[2], (yield from self._fields()))
            check_request_head(head)
            self._events.append(head)
            trailers = yield from self._body(_request_length(head))
            self._events.append(End(trailers))


class ResponseParser(_StrictParser):
    """What a client receives. Tell it each request's method with `expect` before its response."""

    def __init__(self) -> None:
        self._methods: deque[bytes] = deque()
        super().__init__()

    def expect(self, method: bytes) -> None:
        """One more response will come, and it answers this method."""
        self._methods.append(method)

    def _messages(self) -> Generator[None, None, None]:
        while True:
            self._between_messages = True
            while not self._buffer:
                yield
            self._between_messages = False
            head = yield from self._response_head()
            while 100 <= head.status < 200 and head.status != 101:
                head = yield from self._response_head()
            method = self._methods.popleft() if self._methods else b"GET"
            if head.status == 101:
                self._between_messages = True
                while True:
                    yield
            yield from self._response_body(head, method)

    def _response_head(self) -> Generator[None, None, ResponseHead]:
        line = yield from self._line()
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Violation(f"not a status line: {line!r}")
        head = ResponseHead(int(match[1]), match[2], (yield from self._fields()))
        check_response_head(head)
        self._events.append(head)
        return head

    def _response_body(self, head: ResponseHead, method: bytes) -> Generator[None, None, None]:
        if method == b"HEAD" or head.status in (204, 304):
            self._events.append(End(()))
            return
        if head.values(b"transfer-encoding") or head.values(b"content-length"):
            lengths = head.values(b"content-length")
            trailers = yield from self._body(int(lengths[0]) if lengths else None)
            self._events.append(End(trailers))
            return
        self._until_close = True
        while True:
            if self._buffer:
                self._events.append(Data(bytes(self._buffer)))
                self._buffer.clear()
            yield


def check_request_head(head: RequestHead) -> None:
    """Raise Violation unless the head is one that every HTTP/1.1 server reads in the same way."""
    if head.method == b"CONNECT":
        raise Violation("CONNECT forwarded")
    if not (_ORIGIN_FORM.fullmatch(head.target) or (head.target == b"*" and head.method == b"OPTIONS")):
        raise Violation(f"target {head.target!r} of {head.method!r} is in no form for an origin server")
    hosts = head.values(b"host")
    if len(hosts) != 1 or _HOST.fullmatch(hosts[0]) is None:
        raise Violation(f"Host is {hosts!r}; one valid value expected")
    expectations = head.values(b"expect")
    if expectations and [value.lower() for value in expectations] != [b"100-continue"]:
        raise Violation(f"Expect is {expectations!r}")
    _check_framing(head.fields)
    _check_hop_by_hop(head.fields)
    upgrades = [value.lower() for value in head.values(b"upgrade")]
    if upgrades not in ([], [b"websocket"]):
        raise Violation(f"Upgrade is {upgrades!r}")
    if upgrades and (b"upgrade" not in _connection_options(head.fields) or head.method != b"GET"):
        raise Violation("Upgrade without its Connection option, or not of a GET")
    if upgrades and _request_length(head) != 0:
        raise Violation("Upgrade of a request with a body")
    for name, _ in head.fields:
        if b"_" in name and _LOOK_ALIKES.fullmatch(name.lower().replace(b"_", b"-")):
            raise Violation(f"{name!r} looks like a field that frames or forwards")


def check_response_head(head: ResponseHead) -> None:
    """Raise Violation unless the head is one that every HTTP/1.1 client reads in the same way."""
    _check_framing(head.fields)
    _check_hop_by_hop(head.fields)
    if head.values(b"upgrade") and head.status not in (101, 426):
        raise Violation(f"Upgrade in a {head.status}")
    if head.status < 200 or head.status == 204:
        for name in (b"content-length", b"transfer-encoding"):
            if head.values(name):
                raise Violation(f"{name!r} in a {head.status}")


def _check_framing(fields: Fields) -> None:
    codings, lengths = _values(fields, b"transfer-encoding"), _values(fields, b"content-length")
    if codings and lengths:
        raise Violation("both Transfer-Encoding and Content-Length")
    if codings and codings != [b"chunked"]:
        raise Violation(f"Transfer-Encoding is {codings!r}")
    if len(lengths) > 1 or (lengths and _LENGTH.fullmatch(lengths[0]) is None):
        raise Violation(f"Content-Length is {lengths!r}")


def _check_hop_by_hop(fields: Fields) -> None:
    for name, value in fields:
        if name.lower() in _HOP_BY_HOP:
            raise Violation(f"hop-by-hop field {name!r}: {value!r}")
    options = _connection_options(fields)
    if not options <= _OWN_CONNECTION_OPTIONS:
        raise Violation(f"Connection names {options!r}")


def _connection_options(fields: Fields) -> set[bytes]:
    joined = b",".join(_values(fields, b"connection"))
    return {option.strip(b" \t").lower() for option in joined.split(b",")} - {b""}


def _request_length(head: RequestHead) -> int | None:
    """Bytes of body that follow the head; None for chunked."""
    if head.values(b"transfer-encoding"):
        return None
    lengths = head.values(b"content-length")
    return int(lengths[0]) if lengths else 0


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for field, value in fields if field.lower() == name]
