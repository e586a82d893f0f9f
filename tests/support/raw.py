"""Raw sockets on both sides of a gateway: a scripted upstream and a client that sends exact bytes.

Everything blocks with a deadline (`PATIENCE`), so a test that hangs fails instead. Every byte that
any upstream receives and every byte that any client reads goes through the strict parsers of
`tests.support.egress`; what they object to is kept in `violations` for the test to look at.

It knows nothing of gateways: any HTTP/1.1 proxy could stand in between.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.support.egress import (
    Data,
    End,
    Fields,
    RequestHead,
    RequestParser,
    ResponseHead,
    ResponseParser,
    Violation,
)
from tests.support.polling import wait_until

PATIENCE = 15.0
"""Seconds after which a socket operation counts as hung."""

_READ = 1 << 18
_KEPT = 1 << 20  # bytes kept per connection and per body, for a test to look at


class Ending(enum.Enum):
    """How the other side ended a connection."""

    FIN = "fin"
    RESET = "reset"


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reset(connection: socket.socket) -> None:
    """Close with a RST, as a crashed peer does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Exchange:
    """One request at an upstream, handed to the script as soon as its head is there."""

    def __init__(self, connection: UpstreamConnection, head: RequestHead) -> None:
        self.connection = connection
        self.head = head
        self.complete = False
        self.trailers: Fields = ()
        self._digest = hashlib.sha256()
        self.body_length = 0
        self._beginning = bytearray()

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes in. Raises ConnectionError if the connection ends before the body does."""
        while not self.complete:
            match self.connection.event():
                case Data(data):
                    self._digest.update(data)
                    self.body_length += len(data)
                    if len(self._beginning) < _KEPT:
                        self._beginning += data
                    yield data
                case End(trailers):
                    self.complete, self.trailers = True, trailers
                    self.connection.upstream.completed.append(self)
                case other:
                    raise AssertionError(f"{other} inside a body")

    def body(self) -> bytes:
        """The rest of the body."""
        return b"".join(self.pieces())

    @property
    def received_body(self) -> bytes:
        """What was read of the body so far; of a long one only the beginning."""
        return bytes(self._beginning)

    @property
    def digest(self) -> str:
        """SHA-256 of the body read so far."""
        return self._digest.hexdigest()

    def send(self, data: bytes) -> None:
        """Send bytes to the gateway. Raises OSError if it has ended the connection."""
        try:
            self.connection.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.connection.ending = Ending.RESET
            raise

    def answer(self, body: bytes = b"", status: bytes = b"200 OK", *headers: bytes) -> None:
        """Read the whole request, then answer with a Content-Length."""
        self.body()
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
        self.send(b"\r\n".join(lines))

    def close(self) -> None:
        """Close the connection with a FIN."""
        self.connection.close()

    def reset(self) -> None:
        """Close the connection with a RST."""
        self.connection.closed = True
        reset(self.connection.socket)

    def half_close(self) -> None:
        """Send a FIN and go on reading."""
        self.connection.socket.shutdown(socket.SHUT_WR)

    def tunnel(self) -> socket.socket:
        """Stop parsing: from here on the connection is a tunnel. Nothing may have come for it yet."""
        assert self.connection.parser.buffered == b"", "bytes for the tunnel came before it was open"
        return self.connection.socket

    def wait_gone(self, patience: float = PATIENCE) -> Ending | None:
        """Read and discard until the gateway ends the connection; None if it does not in time."""
        return self.connection.wait_gone(patience)

    def wait_ended(self, patience: float = PATIENCE) -> bool:
        """From another thread than the script's: True once the gateway has ended the connection."""
        return wait_until(lambda: self.connection.ending is not None, patience)


class UpstreamConnection:
    """One connection that the gateway opened to an upstream."""

    def __init__(self, upstream: Upstream, connection: socket.socket) -> None:
        self.upstream = upstream
        self.socket = connection
        self.parser = RequestParser()
        self.received = bytearray()
        self.requests = 0
        self.ending: Ending | None = None
        self.closed = False
        self._events: list[object] = []

    def event(self) -> object:
        """The next parsed event. Raises ConnectionError at the end of the connection."""
        while not self._events:
            self._events.extend(self.parser.feed(self._read()))
        return self._events.pop(0)

    def _read(self) -> bytes:
        if self.closed:
            raise ConnectionAbortedError("closed by the script")
        try:
            data = self.socket.recv(_READ)
        except ConnectionResetError:
            self.ending = Ending.RESET
            raise
        if not data:
            self.ending = Ending.FIN
            raise ConnectionAbortedError("closed by the gateway")
        if len(self.received) < _KEPT:
            self.received += data
        return data

    def wait_gone(self, patience: float) -> Ending | None:
        """Read and discard until the gateway ends the connection."""
        give_up = time.monotonic() + patience
        with contextlib.suppress(OSError):
            while (left := give_up - time.monotonic()) > 0:
                self.socket.settimeout(left)
                self._read()
        return self.ending

    def close(self) -> None:
        """Close with a FIN."""
        self.closed = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


Script: TypeAlias = Callable[[Exchange], object]


def echo(exchange: Exchange) -> None:
    """The plain upstream: 200, and a body that names the request and the hash of its body."""
    exchange.body()
    head = exchange.head
    exchange.answer(head.method + b" " + head.target + b" " + exchange.digest.encode())


def answering(response: bytes, *, close: bool = False) -> Script:
    """A script that reads the whole request, sends exactly these bytes, and may close then."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(response)
        if close:
            exchange.close()

    return script


class Upstream:
    """A real TCP server, a thread per connection, that runs a script for every request."""

    def __init__(
        self,
        script: Script = echo,
        *,
        receive_buffer: int | None = None,
        name: str = "upstream",
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.name = name
        self.script = script
        self.connections: list[UpstreamConnection] = []
        self.heads: list[RequestHead] = []
        self.begun: list[Exchange] = []
        self.completed: list[Exchange] = []
        self.violations: list[str] = []
        self._listener = socket.socket()
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(address)
        self._listener.listen(1024)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        """The endpoint as a config names it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> list[UpstreamConnection]:
        """Connections that neither side has ended."""
        return [one for one in self.connections if one.ending is None and not one.closed]

    @contextlib.contextmanager
    def running(self, script: Script) -> Iterator[Upstream]:
        """Run another script for the time of a `with`."""
        previous, self.script = self.script, script
        try:
            yield self
        finally:
            self.script = previous

    def close(self) -> None:
        """Stop listening, close every connection and wait for the threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"a script of {self.name} hangs"

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True, name=self.name)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = UpstreamConnection(self, accepted)
            self.connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: UpstreamConnection) -> None:
        try:
            while True:
                head = connection.event()
                assert isinstance(head, RequestHead)
                connection.requests += 1
                exchange = Exchange(connection, head)
                self.begun.append(exchange)
                self.heads.append(head)
                self.script(exchange)
                exchange.body()
        except OSError:
            pass
        except Violation as violation:
            self.violations.append(f"{self.name} received: {violation}")
        except AssertionError as error:
            self.violations.append(f"{self.name}: {error!r}")
        finally:
            connection.close()


@dataclass(slots=True)
class Response:
    """A final response as a client read it. `complete` is False where the connection ended inside it."""

    head: ResponseHead
    interim: list[ResponseHead] = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = ()
    complete: bool = False
    by_close: bool = False

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status

    def value(self, name: bytes) -> bytes | None:
        """The only value of a field, None if it is not there."""
        values = self.head.values(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None


@dataclass(slots=True)
class Transcript:
    """All that a client read until the connection ended. `ending` None: it did not end in time."""

    responses: list[Response]
    ending: Ending | None
    interim: list[ResponseHead] = field(default_factory=list)

    @property
    def statuses(self) -> list[int]:
        """The status codes in order."""
        return [response.status for response in self.responses]


class Client:
    """A raw client of one connection. Its responses are parsed strictly: a Violation fails the test."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        receive_buffer: int | None = None,
        source: tuple[str, int] | None = None,
    ) -> None:
        self.socket = socket.socket()
        if source is not None:
            self.socket.bind(source)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.source: str = self.socket.getsockname()[0]
        """The address from which it came."""
        self.parser = ResponseParser()
        self.ending: Ending | None = None
        self._events: list[object] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> bool:
        """Send all; False if the gateway had ended the connection (its answer can still be read)."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def send_in_pieces(self, data: bytes, size: int = 1, between: Callable[[], object] | None = None) -> bool:
        """Send `size` bytes at a time, calling `between` after each piece."""
        for start in range(0, len(data), size):
            if not self.send(data[start : start + size]):
                return False
            if between is not None:
                between()
        return True

    def response(self, method: bytes = b"GET") -> Response:
        """Read one final response to a request with this method. Raises if it is cut short."""
        return self.responses(method)[0]

    def responses(self, *methods: bytes) -> list[Response]:
        """Read one final response to each of several pipelined requests: they may come in one piece."""
        for method in methods:
            self.parser.expect(method)
        return [self._whole_response() for _ in methods]

    def _whole_response(self) -> Response:
        response = self._head()
        self.finish(response)
        assert response.complete, f"{response} was cut short by {self.ending}"
        return response

    def head(self, method: bytes = b"GET") -> Response:
        """Read up to the head of the next final response."""
        self.parser.expect(method)
        return self._head()

    def _head(self) -> Response:
        interim: list[ResponseHead] = []
        while True:
            event = self._event()
            assert isinstance(event, ResponseHead), f"no response: {event or self.ending}"
            if event.status >= 200 or event.status == 101:
                return Response(event, interim)
            interim.append(event)

    def piece(self) -> bytes | None:
        """The next piece of body as it comes; None at its complete end. Raises if it was cut short."""
        match self._event():
            case Data(data):
                return data
            case End():
                return None
            case _:
                raise ConnectionError(f"cut short by {self.ending}")

    def finish(self, response: Response) -> None:
        """Read the body of a response whose head was read, to its end or to where it was cut."""
        pieces = []
        while True:
            match self._event():
                case Data(data):
                    pieces.append(data)
                    continue
                case End(trailers, by_close):
                    response.complete, response.trailers, response.by_close = True, trailers, by_close
                case None:
                    pass
                case other:
                    raise AssertionError(f"{other} inside a body")
            break
        response.body = b"".join(pieces)

    def transcript(self, *methods: bytes, patience: float = PATIENCE) -> Transcript:
        """Read every response until the gateway ends the connection, at most `patience` seconds."""
        for method in methods:
            self.parser.expect(method)
        self.socket.settimeout(patience)
        transcript = Transcript([], None)
        interim: list[ResponseHead] = []
        with contextlib.suppress(TimeoutError):
            while event := self._event():
                match event:
                    case ResponseHead(status=status) as head if status < 200 and status != 101:
                        interim.append(head)
                    case ResponseHead() as head:
                        transcript.responses.append(Response(head, interim))
                        interim = []
                    case Data(data):
                        transcript.responses[-1].body += data
                    case End(trailers, by_close):
                        last = transcript.responses[-1]
                        last.complete, last.trailers, last.by_close = True, trailers, by_close
        transcript.ending, transcript.interim = self.ending, interim
        self.socket.settimeout(PATIENCE)
        return transcript

    def read_raw(self, size: int = _READ) -> bytes:
        """Bytes as they come, unparsed; empty at the end of the connection."""
        try:
            data = self.socket.recv(size)
        except ConnectionResetError:
            self.ending = Ending.RESET
            return b""
        if not data:
            self.ending = Ending.FIN
        return data

    def read_exactly(self, size: int) -> bytes:
        """This many bytes of a tunnel, beginning with what came together with its 101."""
        data = self.parser.take_buffered()
        while len(data) < size:
            more = self.read_raw()
            assert more, f"ended after {data!r}"
            data += more
        return data

    def _event(self) -> object | None:
        """The next event; None when the connection has ended (see `ending`)."""
        while not self._events and self.ending is None:
            data = self.read_raw()
            if data:
                self._events.extend(self.parser.feed(data))
            elif self._ended_by(Ending.FIN):
                with contextlib.suppress(Violation):
                    self._events.extend(self.parser.close())
        return self._events.pop(0) if self._events else None

    def _ended_by(self, how: Ending) -> bool:
        return self.ending is how

    def half_close(self) -> None:
        """Send a FIN and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a RST."""
        reset(self.socket)

    def close(self) -> None:
        """Close with a FIN."""
        self.socket.close()
