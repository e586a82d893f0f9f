"""Thousands of event streams: an upstream that serves them from one thread, and clients that hold them."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from typing import cast

from tests.support.raw import PATIENCE, reset

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = b"9\r\ndata: 1\n\n\r\n"
_PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: StreamUpstream) -> None:
        self._upstream = upstream
        self._transport = cast(asyncio.Transport, None)
        self._inbox = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._upstream.connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        while b"\r\n\r\n" in self._inbox:
            head, _, self._inbox = self._inbox.partition(b"\r\n\r\n")
            if head.startswith(b"GET /events"):
                self._upstream.open.add(self._transport)
                self._transport.write(_HEAD + _EVENT)
            else:
                self._transport.write(_PLAIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open.discard(self._transport)
        self._upstream.connections.discard(self._transport)


class StreamUpstream:
    """Serves /events as a stream that begins with one event and stays open, anything else as `ok`."""

    def __init__(self) -> None:
        self.open: set[asyncio.Transport] = set()
        self.connections: set[asyncio.Transport] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = int(self._listener.getsockname()[1])
        self._over = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await self._loop.create_server(lambda: _Connection(self), sock=self._listener, backlog=4096)
        self._ready.set()
        await self._over.wait()
        server.close()
        for transport in self.connections:
            transport.abort()
        while self.connections:
            await asyncio.sleep(0.01)

    def send_all(self) -> None:
        """An event on every open stream."""
        self._loop.call_soon_threadsafe(self._send_all)

    def _send_all(self) -> None:
        for transport in self.open:
            transport.write(_EVENT)

    def close(self) -> None:
        """End everything."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def held_streams(port: int, count: int, at_once: int = 200) -> Iterator[list[socket.socket]]:
    """Clients of `count` streams, each of which has got its first event."""
    request = b"GET /events HTTP/1.1\r\nHost: pipeline.example\r\nX-User-Id: u%d\r\n\r\n"
    clients: list[socket.socket] = []
    try:
        for start in range(0, count, at_once):
            batch = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(at_once)]
            clients += batch
            for number, client in enumerate(batch, start):
                client.sendall(request % number)
            for client in batch:
                received = b""
                while _EVENT not in received:
                    piece = client.recv(4096)
                    assert piece, received
                    received += piece
        yield clients
    finally:
        for client in clients:
            reset(client)


def ended(clients: list[socket.socket]) -> list[socket.socket]:
    """Those whose connection has something to read and nothing in it: that is, its end."""
    poll = select.poll()
    by_number = {client.fileno(): client for client in clients}
    for number in by_number:
        poll.register(number, select.POLLIN)
    gone = []
    for number, _ in poll.poll(0):
        client = by_number[number]
        try:
            if not client.recv(65536, socket.MSG_DONTWAIT):
                gone.append(client)
        except BlockingIOError:
            continue
        except OSError:
            gone.append(client)
    return gone
