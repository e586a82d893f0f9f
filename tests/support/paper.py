"""A data plane on paper: the worker's own protocols on transports that are only memory.

What goes in and out are bytes, as with sockets, but thousands of connections cost a second: for the
fuzz. The upstream answers every complete request at once. The oracles watch every byte.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from gateway.latch import LatchPage
from gateway.link.memory import MemoryLink
from gateway.marks import UserMarks
from gateway.proxy.worker import Worker
from tests.support.egress import Data, End, RequestHead, RequestParser
from tests.support.reference import Sent
from tests.support.serving import serving

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class PaperTransport(asyncio.Transport):
    """A transport that hands every write to a function. A write after its end raises, as in uvloop."""

    def __init__(self, protocol: asyncio.BaseProtocol, on_write: Callable[[bytes], None]) -> None:
        super().__init__()
        self.protocol = cast(asyncio.BufferedProtocol, protocol)
        self.closing = False
        self.eof = False
        self.reading = True
        self._on_write = on_write
        self.protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing, "a write on a closed transport"
        assert not self.eof, "a write after write_eof"
        self._on_write(bytes(data))

    def receive(self, data: bytes) -> None:
        """Bytes from the peer, in reads as large as the protocol's buffer."""
        while data and not self.closing:
            buffer = cast(memoryview, self.protocol.get_buffer(len(data)))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.protocol.buffer_updated(size)
            data = data[size:]

    def receive_eof(self) -> None:
        """The peer sends no more."""
        if not self.closing and not self.protocol.eof_received():
            self.close()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default


class PaperUpstream:
    """One connection to the upstream: parses strictly, notes what it got, answers at once."""

    def __init__(self, completed: list[Sent]) -> None:
        self._completed = completed
        self._parser = RequestParser()
        self._head: RequestHead | None = None
        self._body = b""
        self.transport: PaperTransport | None = None
        """The gateway's end."""

    def receive(self, data: bytes) -> None:
        """Bytes from the gateway. Raises Violation."""
        for event in self._parser.feed(data):
            match event:
                case RequestHead() as head:
                    self._head, self._body = head, b""
                case Data(piece):
                    self._body += piece
                case End():
                    assert self._head is not None
                    self._completed.append(Sent(self._head.method, self._head.target, self._body))
                    asyncio.get_running_loop().call_soon(self._answer, self._head.method)

    def _answer(self, method: bytes) -> None:
        assert self.transport is not None
        self.transport.receive(ANSWER[: ANSWER.index(b"ok")] if method == b"HEAD" else ANSWER)


class PaperLoop(asyncio.SelectorEventLoop):
    """A loop whose connections are on paper, and which keeps what went wrong.

    `accept` is what the server makes for a new client; `completed` what the upstreams got.
    """

    def __init__(self) -> None:
        super().__init__()
        self.completed: list[Sent] = []
        self.faults: list[str] = []
        self.accept: Callable[[], Any] = lambda: None
        self.set_exception_handler(self._note)

    @property
    def busy(self) -> bool:
        """True while callbacks are ready to run. The base loop has no public word for it."""
        return bool(self._ready)  # type: ignore[attr-defined]

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def create_connection(  # type: ignore[override]  # one of its many forms is enough
        self, factory: Callable[[], Any], *_: Any, **__: Any
    ) -> Any:
        """See asyncio.AbstractEventLoop."""
        upstream = PaperUpstream(self.completed)
        upstream.transport = PaperTransport(factory(), upstream.receive)
        return upstream.transport, upstream.transport.protocol

    async def create_server(self, protocol_factory: Callable[[], Any], *_: Any, **__: Any) -> Any:
        """See asyncio.AbstractEventLoop."""
        self.accept = protocol_factory
        return asyncio.Server(self, [], protocol_factory, None, 0, None)


class PaperPlane:
    """A worker without sockets, on a PaperLoop."""

    def __init__(self, loop: PaperLoop) -> None:
        self._loop = loop
        self._listener = socket.socket()
        loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self.worker = Worker(
            MemoryLink(serving(["http://127.0.0.1:1"], ["http://127.0.0.1:1"])),
            LatchPage.create(),
            UserMarks.create(),
            slot=0,
            listeners=[self._listener],
        )
        await self.worker.start()

    async def _end(self) -> None:
        self.worker.abort()
        await self.worker.wait_closed()

    def close(self) -> None:
        """End the worker."""
        self._loop.run_until_complete(self._end())
        self._listener.close()

    async def converse(self, pieces: list[bytes]) -> bytes:
        """One client connection that sends these pieces and then its FIN; what it was answered."""
        received: list[bytes] = []
        transport = PaperTransport(self._loop.accept(), received.append)
        for piece in pieces:
            transport.receive(piece)
            await self.settle()
        answered = b"".join(received)
        transport.receive_eof()
        transport.close()
        await self.settle()
        return answered

    async def settle(self) -> None:
        """Let the loop run until nothing more is ready."""
        while self._loop.busy:
            await asyncio.sleep(0)
