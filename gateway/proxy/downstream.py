"""A client's connection: request heads and bodies in, answers out, one exchange at a time.

Pipelined requests wait here, so answers leave in order (RFC 9112 section 9.3.2). It limits how long a
client may be silent. A request that a route serves is up to its exchange.
"""

from __future__ import annotations

import asyncio
import enum
import math
import re
from time import monotonic
from typing import Final, cast

from gateway.model.observation import Outcome
from gateway.model.snapshot import ClientLimits, HalfClose
from gateway.proxy.context import Context
from gateway.proxy.deciding import decide
from gateway.proxy.exchange import Exchange
from gateway.proxy.framing import RequestBody
from gateway.proxy.problem import problem
from gateway.proxy.roles import Client
from gateway.proxy.sockets import abort
from gateway.proxy.tunnel import Tunnel
from gateway.wire.faults import Fault, WireError
from gateway.wire.request import Request, check_partial_head

_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
MOST_PIPELINED: Final = 65_536
"""Bytes behind a request that are kept while it is served; above that the client is not read."""
WRITE_HIGH_WATER: Final = 65_536
LINGER_SECONDS = 5.0
"""How long a client that is still sending may take to notice an early answer (RFC 9112 section 9.6)."""
LAST_REQUEST_SECONDS = 1.0
"""How long a drain waits for one more request on an idle connection, to say in its answer that it ends.

One that were closed at once would cost a busy client the request that is on its way just then; HAProxy
has `idle-close-on-response` for it.
"""
MOST_PATIENCE_SECONDS = 60.0
"""How long a client may take nothing of the end of its last answer, as nginx's send_timeout."""
MOST_LINGERED = 64 * 1024 * 1024


class Reading(enum.IntEnum):
    """What the next bytes of the client are."""

    HEAD = 0
    BODY = 1
    AHEAD = 2
    """The request is whole and being served: what comes is pipelined."""
    DISCARD = 3
    """The last answer of this connection was sent: what comes is thrown away."""
    TUNNEL = 4


# Unpacked, for looking a member up in an enum costs 0.1 microseconds before Python 3.12.
_HEAD: Final = Reading.HEAD
_BODY: Final = Reading.BODY
_AHEAD: Final = Reading.AHEAD
_DISCARD: Final = Reading.DISCARD
_TUNNEL: Final = Reading.TUNNEL


class ClientConnection(Client, asyncio.BufferedProtocol):
    """One client's connection."""

    __slots__ = (
        "_body",
        "_buffer",
        "_context",
        "_discarded",
        "_exchange",
        "_inbox",
        "_limits",
        "_reading",
        "_sent_all",
        "_transport",
        "_tunnel",
        "closed",
    )

    def __init__(self, context: Context) -> None:
        self._context = context
        self._buffer = context.buffer
        self._limits: ClientLimits = context.plan.snapshot.limits
        self._reading: Reading = _HEAD
        self._inbox = bytearray()
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._body: RequestBody | None = None
        self._discarded = 0
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.closed = False
        self.congested = False
        self.paused = False
        self.keep_alive = True
        self._sent_all = False
        self.deadline = math.inf
        self.forwarded_for = b""

    def __repr__(self) -> str:
        return f"<ClientConnection {self._reading.name} {self._exchange!r}>"

    # The exchange's side.

    @property
    def transport(self) -> asyncio.Transport:
        """For a tunnel, which takes the connection over."""
        return self._transport

    def write(self, data: bytes) -> None:
        """Send bytes of an answer."""
        if not self.closed:
            self._transport.write(data)

    def abort(self) -> None:
        """End the connection so that the client sees an answer cut short."""
        self._exchange = None
        if not self.closed:
            abort(self._transport)
            self._gone()

    def refuse(
        self, fault: Fault, detail: str, request_id: bytes, fields: bytes, *, body: bool, complete: bool
    ) -> None:
        """Answer with an error of the gateway's own and end the exchange."""
        if not complete or self._context.draining:
            self.keep_alive = False
        snapshot = self._context.plan.snapshot
        if snapshot.response_headers.request_id:
            fields += b"X-Request-Id: %b\r\n" % request_id
        self.write(problem(fault, detail, request_id, close=not self.keep_alive, fields=fields, body=body))
        self.exchange_finished(complete, monotonic())

    def exchange_finished(self, request_complete: bool, now: float) -> None:
        """The answer was sent whole: on to the next request, or to the end. `now` is monotonic."""
        self._exchange = None
        if self.closed:
            return
        if not self.keep_alive or (self._sent_all and not self._inbox):
            # Closing over unread bytes would reset the connection, and the reset may eat the answer.
            self._say_goodbye(request_complete and not self._inbox)
            return
        self._reading = _HEAD
        self.deadline = now + self._limits.keepalive_timeout
        if self._context.draining:
            self.drain()  # the answer began before that, and did not say that it is the last
        if self.congested:
            self.pause_reading()  # no next request before the client has taken this answer
        elif self._inbox:
            # Not from here: a thousand pipelined requests would be a thousand frames of stack.
            self._context.loop.call_soon(self._next_pipelined)
        elif self.paused:
            self.resume_reading()  # an upstream that answered early may not have taken the whole body

    def pause_reading(self) -> None:
        """Let the client wait: its body comes faster than the upstream takes it."""
        if not self.paused and not self.closed:
            self.paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let it go on."""
        if self.paused and not self.closed:
            self.paused = False
            self._transport.resume_reading()

    def start_tunnel(self, tunnel: Tunnel) -> None:
        """From now on bytes go to the tunnel, those that came early first."""
        self._tunnel = tunnel
        self._exchange = None
        self._reading = _TUNNEL
        if self._inbox:
            early = bytes(self._inbox)
            self._inbox.clear()
            tunnel.from_client(early)
        self.resume_reading()

    # The worker's side.

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = math.inf
        if self._exchange is not None:
            self._exchange.expire()
        elif self._transport.is_closing() or (self.congested and self._reading is _HEAD):
            self.abort()  # it takes nothing of the rest of its answer
        elif self._reading is _HEAD and self._inbox:
            self._refuse_head(WireError(Fault.REQUEST_TIMEOUT, "the request's head did not come in time"))
        else:
            self.close()

    def end_treatment(self) -> bool:
        """See context.Swept."""
        if self._tunnel is not None:
            if not self._tunnel.treatment:
                return False
            self._tunnel.client_lost()
            self.abort()
            return True
        return self._exchange is not None and self._exchange.end_treatment()

    def drain(self) -> None:
        """Finish what runs, then end: an idle connection may bring one request more."""
        if self._exchange is None and self._reading is _HEAD and not self._inbox:
            self.deadline = min(self.deadline, monotonic() + LAST_REQUEST_SECONDS)

    def abort_now(self) -> None:
        """The worker ends: so does everything."""
        cut = self._exchange is not None or self._transport.get_write_buffer_size() > 0
        if self._tunnel is not None:
            self._tunnel.client_lost()
        self._leave()
        if cut:
            self.abort()
        elif not self.closed:
            self._transport.abort()
            self._gone()

    def close(self) -> None:
        """End the connection after what was written has left; the sweep sees to it that this ends."""
        if not self.closed:
            self._reading = _DISCARD
            self.deadline = monotonic() + MOST_PATIENCE_SECONDS
            self._transport.close()

    # The loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.forwarded_for = str(peer[0]).encode()
        self.deadline = monotonic() + self._limits.header_timeout
        if self._context.draining:
            self.drain()
        if not self._context.admit(self):
            self._refuse_head(WireError(Fault.UNAVAILABLE, "too many connections"))
            if self._context.crowded:
                self.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol: all connections of a worker read into one buffer."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        data = bytes(self._buffer[:nbytes])
        reading = self._reading
        if reading is _HEAD:
            if self._inbox:
                self._more_head(data)
            else:
                self._read_head(data)
        elif reading is _BODY:
            self._read_body(data)
        elif reading is _AHEAD:
            self._inbox += data
            if len(self._inbox) > MOST_PIPELINED:
                self.pause_reading()
        elif reading is _TUNNEL:
            if self._tunnel is not None:
                self._tunnel.from_client(data)
        else:
            self._discarded += nbytes
            if self._discarded > MOST_LINGERED:
                self.close()

    def eof_received(self) -> bool:
        """See asyncio.Protocol: a FIN after a whole request is a client that left, unless told else."""
        if self._tunnel is not None:
            return self._tunnel.client_eof()
        if self._exchange is not None:
            if self._reading is _AHEAD and self._limits.half_close is HalfClose.ANSWER:
                self._sent_all = True
                return True
            self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        if self._tunnel is not None:
            self._tunnel.client_lost()
        self._leave()
        self._gone()

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol: the client takes the answer slower than it comes."""
        self.congested = True
        if self._tunnel is not None:
            self._tunnel.pause_upstream()
        elif self._exchange is not None:
            self._exchange.pause_upstream()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self.congested = False
        if self._tunnel is not None:
            self._tunnel.resume_upstream()
        elif self._exchange is not None:
            self._exchange.resume_upstream()
        elif self._reading is _HEAD:
            self.resume_reading()
            self._next_pipelined()

    # Reading.

    def _read_head(self, data: bytes) -> None:
        if data.startswith(b"\r\n"):
            # RFC 9112 section 2.2: empty lines before a request are ignored.
            data = data[_EMPTY_LINES.match(data).end() :]  # type: ignore[union-attr]  # it matches anything
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self._keep_partial_head(data)
        elif end > self._limits.header_bytes:
            self._refuse_head(self._head_too_large(data))
        else:
            self._begin(data[:end], data[end:])

    def _more_head(self, data: bytes) -> None:
        """Further bytes of a head that comes in pieces; the work stays linear in their number."""
        inbox = self._inbox
        previous = bytes(inbox[-1:])
        at = max(0, len(inbox) - 3)
        inbox += data
        if inbox.find(b"\r\n\r\n", at) >= 0 or inbox.startswith(b"\r\n"):
            whole = bytes(inbox)
            inbox.clear()
            self._read_head(whole)
        else:
            self._check_partial_head(data, previous)

    def _keep_partial_head(self, data: bytes) -> None:
        """The first bytes of a head, from which on its time runs; none where only empty lines came."""
        if self._sent_all:
            self.close()
            return
        if data:
            self.deadline = min(self.deadline, monotonic() + self._limits.header_timeout)
        self._inbox += data
        self._check_partial_head(data, b"")

    def _check_partial_head(self, data: bytes, previous: bytes) -> None:
        try:
            check_partial_head(data, previous)
            if len(self._inbox) > self._limits.header_bytes:
                raise self._head_too_large(bytes(self._inbox))
        except WireError as error:
            self._refuse_head(error)

    def _head_too_large(self, data: bytes) -> WireError:
        if data.find(b"\r\n", 0, self._limits.header_bytes) < 0:
            return WireError(Fault.URI_TOO_LONG, "the request line is too long")
        return WireError(Fault.FIELDS_TOO_LARGE, "the request's head is too large")

    def _begin(self, head: bytes, rest: bytes) -> None:
        context = self._context
        self._limits = limits = context.plan.snapshot.limits
        started = monotonic()
        try:
            request = context.plan.reader.read(head)
            self.keep_alive = request.keep_alive and not context.draining
            if request.length == 0:
                self._reading = _AHEAD
                self._inbox += rest
                content, complete = b"", True
            else:
                self._reading = _BODY
                self._body = body = RequestBody(request.length, limits.body_bytes)
                content, complete = self._feed_body(body, rest)
        except WireError as error:
            self._refuse_head(error, body=not head.startswith(b"HEAD "))
            return
        plan = context.plan
        user = plan.user_of(request)
        assignment = decide(plan, request, user, context.latched)
        if assignment is None:
            self._refuse_unrouted(request, started, complete)
            return
        self._exchange = exchange = Exchange(context, self, request, assignment, started)
        exchange.begin(user, content, complete)

    def _read_body(self, data: bytes) -> None:
        exchange, body = self._exchange, self._body
        assert exchange is not None
        assert body is not None
        try:
            content, complete = self._feed_body(body, data)
        except WireError as error:
            self.keep_alive = False
            self._reading = _DISCARD
            exchange.reject(error)
            return
        exchange.request_data(content, complete)

    def _feed_body(self, body: RequestBody, data: bytes) -> tuple[bytes, bool]:
        """(bytes for the upstream, is the request whole now); what is behind the body goes to the inbox."""
        content, rest = body.feed(data)
        if body.complete:
            self._body = None
            self._reading = _AHEAD
            self._inbox += rest
        return content, body.complete

    def _next_pipelined(self) -> None:
        if self._reading is _HEAD and self._inbox and not self.closed:
            data = bytes(self._inbox)
            self._inbox.clear()
            self.resume_reading()
            self._read_head(data)

    # Ending.

    def _refuse_head(self, error: WireError, *, body: bool = True) -> None:
        """The bytes are no request that we serve: answer, and read no more requests from here."""
        self.keep_alive = False
        self._inbox.clear()
        request_id = self._context.new_request_id()
        self._count_refused(None, request_id, error.fault, 0.0)
        self.refuse(error.fault, error.detail, request_id, b"", body=body, complete=False)

    def _refuse_unrouted(self, request: Request, started: float, complete: bool) -> None:
        fault, detail = Fault.NO_ROUTE, "no route matches this request"
        request_id = request.request_id or self._context.new_request_id()
        self._count_refused(request, request_id, fault, monotonic() - started)
        self.refuse(fault, detail, request_id, b"", body=request.method != b"HEAD", complete=complete)

    def _count_refused(
        self, request: Request | None, request_id: bytes, fault: Fault, seconds: float
    ) -> None:
        """Count and log what gets no exchange, which does both for itself."""
        context, status = self._context, fault.status
        context.plan.no_route.add(status, Outcome.REJECTED, seconds, -1.0)
        if context.access_log is not None:
            context.access_log.write(request, request_id, None, status, Outcome.REJECTED, seconds, -1.0)

    def _say_goodbye(self, request_complete: bool) -> None:
        """Close; but a client in the middle of sending gets time to read the answer first."""
        if request_complete:
            self.close()
            return
        self._reading = _DISCARD
        self.deadline = monotonic() + LINGER_SECONDS
        self.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _leave(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()

    def _gone(self) -> None:
        if not self.closed:
            self.closed = True
            self._context.dismiss(self)
