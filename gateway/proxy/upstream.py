"""A connection to an upstream: bytes in, a response head and then raw body bytes out.

It frames heads only. The length of a body depends on the request, so the exchange says when it ended.
"""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias, cast

from gateway.proxy import pool
from gateway.proxy.roles import Carried
from gateway.proxy.sockets import bound_receive_buffer, receive_rest
from gateway.proxy.tunnel import Tunnel
from gateway.wire.faults import Fault, WireError
from gateway.wire.response import ResponseReader

LARGEST_HEAD: Final = 65_536
MOST_INTERIM_RESPONSES: Final = 16


class UpstreamConnection(pool.Connection, asyncio.BufferedProtocol):
    """One connection, idle in its pool or carrying one exchange."""

    __slots__ = (
        "_buffer",
        "_congested",
        "_departures",
        "_inbox",
        "_interim",
        "_opened",
        "_outdated",
        "_paused",
        "_reader",
        "_reading_head",
        "_transport",
        "closed",
        "endpoint",
        "exchange",
        "idle_since",
        "pool",
        "tunnel",
    )

    def __init__(
        self, buffer: memoryview, reader: ResponseReader, pool: UpstreamPool, endpoint: UpstreamEndpoint
    ) -> None:
        self._buffer = buffer
        self._reader = reader
        self.pool = pool
        self.endpoint = endpoint
        self.exchange: Carried | None = None
        self.tunnel: Tunnel | None = None
        self.idle_since = 0.0
        self.closed = False
        self._reading_head = True
        self._interim = 0
        self._paused = False
        self._congested = False
        self._departures = endpoint.resolver.departures
        self._outdated = False
        self._inbox = b""
        self._opened = False
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)

    def __repr__(self) -> str:
        return f"<UpstreamConnection to {self.endpoint.address} {'closed' if self.closed else 'open'}>"

    # The exchange's side.

    def send(self, exchange: Carried, data: bytes) -> None:
        """Begin an exchange with the bytes of its head, and of its body as far as they are there."""
        self.exchange = exchange
        self.endpoint.inflight += 1
        self._reading_head = True
        self._interim = 0
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Send more of the request's body."""
        if not self.closed:
            self._transport.write(data)

    def finish(self, reusable: bool, now: float) -> None:
        """The exchange is over: back to the pool, or closed. `now` is monotonic seconds."""
        self.exchange = None
        self.endpoint.inflight -= 1
        if self.closed or self.tunnel is not None:  # a tunnel closes both its ends itself, and gently
            return
        if reusable and not self._congested:  # an early answer may leave a body half taken
            self.idle_since = now
            self.resume_reading()  # the last client may have been slower than this upstream
            self.pool.release(self)
        else:
            self.close()

    def close(self) -> None:
        """End the connection now; unread bytes are nobody's."""
        if not self.closed:
            self.closed = True
            self._transport.abort()
            self.pool.lost(self)

    def abandon(self) -> bool:
        """See pool.Connection: the pool gave up waiting for it."""
        if self.closed:
            return False
        self.closed = True
        if self._opened:
            self._transport.abort()
        return True

    def pause_reading(self) -> None:
        """Let the upstream wait: the client reads slower than it writes."""
        if not self.closed and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let it go on."""
        if self._paused and not self.closed:
            self._paused = False
            self._transport.resume_reading()

    @property
    def alive(self) -> bool:
        """False once the connection is known to have ended, also where that is still to be dealt with."""
        return not self._transport.is_closing()

    @property
    def outdated(self) -> bool:
        """True once the endpoint's name no longer means the address that this connection leads to."""
        resolver = self.endpoint.resolver
        if self._departures != resolver.departures:
            self._departures = resolver.departures
            peer = self._transport.get_extra_info("peername")
            self._outdated = not peer or not resolver.means(peer[0])
        return self._outdated

    @property
    def transport(self) -> asyncio.Transport:
        """For a tunnel, which takes the connection over."""
        return self._transport

    # The loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._opened = True
        bound_receive_buffer(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol: all connections of a worker read into one buffer."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        exchange = self.exchange
        if exchange is not None:
            if self._reading_head:
                self._read_head(exchange, bytes(self._buffer[:nbytes]))
            else:
                exchange.response_data(bytes(self._buffer[:nbytes]))
        elif self.tunnel is not None:
            self.tunnel.from_upstream(bytes(self._buffer[:nbytes]))
        else:
            # Nobody asked: bytes behind a complete answer must never reach the next client.
            self.close()

    def _read_head(self, exchange: Carried, data: bytes) -> None:
        if self._inbox:
            data = self._inbox + data
            self._inbox = b""
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(data) > LARGEST_HEAD:
                    exchange.bad_response("the head of the upstream's answer is too large")
                else:
                    self._inbox = data
                return
            try:
                response = self._reader.read(data[:end])
                if end > LARGEST_HEAD:
                    raise WireError(Fault.BAD_GATEWAY, "the head of the upstream's answer is too large")
            except WireError as error:
                exchange.bad_response(error.detail)
                return
            data = data[end:]
            if response.status >= 200 or response.status == 101:
                break
            self._interim += 1
            if self._interim > MOST_INTERIM_RESPONSES:
                exchange.bad_response("too many interim answers")
                return
            exchange.interim(response)
            if not data:
                return
        self._reading_head = False
        exchange.response_head(response, data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol: the upstream sends no more."""
        if self.tunnel is not None:
            return self.tunnel.upstream_eof()
        if self.exchange is not None:
            self.exchange.upstream_closed(None)
        else:
            self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        if self.tunnel is not None:
            self.tunnel.upstream_lost()
        if self.closed:
            return
        self.closed = True
        exchange = self.exchange
        if exchange is not None and exc is not None:
            # A write may fail while the answer lies unread in the socket: an early 413, say.
            for data in receive_rest(self._transport):
                if self.exchange is not exchange:
                    break
                if self._reading_head:
                    self._read_head(exchange, data)
                else:
                    exchange.response_data(data)
        if self.exchange is not None:
            self.exchange.upstream_closed(exc)
        self.pool.lost(self)

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol: the upstream takes the body slower than the client sends it."""
        self._congested = True
        if self.tunnel is not None:
            self.tunnel.pause_client()
        elif self.exchange is not None:
            self.exchange.pause_client()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._congested = False
        if self.tunnel is not None:
            self.tunnel.resume_client()
        elif self.exchange is not None:
            self.exchange.resume_client()


UpstreamPool: TypeAlias = pool.Pool[UpstreamConnection]
UpstreamEndpoint: TypeAlias = pool.Endpoint[UpstreamConnection]
