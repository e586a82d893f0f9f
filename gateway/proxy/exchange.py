"""One request and its answer, from the assignment to the last byte.

The exchange stands between a client's connection and an upstream's. Both pass it what they parsed. It
knows what may be sent twice, when control may answer instead of treatment, and when an answer is
complete. It keeps the plan that it began with, even if another is published; only the latch is checked
again.

It is made once `deciding` has decided the request. `account` counts it, and `refusals` has the gateway's
own error answers.
"""

from __future__ import annotations

import enum
import math
from time import monotonic
from typing import Final

from gateway.model.observation import Outcome
from gateway.model.snapshot import FailoverCause
from gateway.proxy import refusals
from gateway.proxy.account import Account
from gateway.proxy.context import Context
from gateway.proxy.events import EventWatch, is_event_stream
from gateway.proxy.framing import ResponseBody
from gateway.proxy.plan import Assignment
from gateway.proxy.refusals import Refusal, bad_answer, bad_request, unreachable
from gateway.proxy.roles import Carried, Client
from gateway.proxy.tunnel import Tunnel
from gateway.proxy.upstream import UpstreamConnection, UpstreamEndpoint
from gateway.wire.faults import WireError
from gateway.wire.heads import interim_head, request_head, response_head, switching_head
from gateway.wire.request import Request
from gateway.wire.response import Response

MOST_UNSENT_BODY: Final = 65_536
"""Bytes of a request's body that are held while there is no connection to send them on."""


class Phase(enum.IntEnum):
    """How far an exchange is."""

    CONNECTING = 0
    WAITING = 1
    """Sent, at least in part; no answer yet."""
    ANSWERING = 2
    TUNNEL = 3
    OVER = 4


# Unpacked, for looking a member up in an enum costs 0.1 microseconds before Python 3.12.
_CONNECTING: Final = Phase.CONNECTING
_WAITING: Final = Phase.WAITING
_ANSWERING: Final = Phase.ANSWERING
_TUNNEL: Final = Phase.TUNNEL
_OVER: Final = Phase.OVER
_OK: Final = Outcome.OK
_CONNECT_ERROR: Final = Outcome.CONNECT_ERROR
_CLIENT_CLOSED: Final = Outcome.CLIENT_CLOSED
_UPSTREAM_ERROR: Final = Outcome.UPSTREAM_ERROR


class Exchange(Carried):
    """See the module. Times are `time.monotonic` seconds."""

    # What most exchanges never need is a default of the class: setting it each time costs more.
    _avoid: UpstreamEndpoint | None = None
    _body: ResponseBody | None = None
    _connection: UpstreamConnection | None = None
    _others_took = 0.0
    """Seconds that the client took for its body, or the upstream for an interim answer."""
    _charged: Outcome = _OK
    """What the assigned group is charged with, however well control answers in its place."""
    _phase: Phase = _CONNECTING
    _request_complete = False
    _response: Response | None = None
    _retried = False
    _reused = False
    _unsent = b""
    _upstream_took = 0.0
    """Seconds from the request's end to the answer's head."""
    cancelled = False

    def __init__(
        self, context: Context, client: Client, request: Request, assignment: Assignment, started: float
    ) -> None:
        self._context = context
        self._plan = context.plan
        self._assignment = assignment
        self._started = self._sent_at = started
        self._latest = client.deadline = started + assignment.total_timeout
        self.client = client
        self.request = request
        self.request_id = request.request_id or context.new_request_id()
        self._account = Account(context, assignment, started)

    def __repr__(self) -> str:
        return f"<Exchange {self._phase.name} {self.request!r} {self._assignment!r}>"

    # From the client.

    def begin(self, user: bytes | None, content: bytes, complete: bool) -> None:
        """Set out, with as much of the body as is there. `user` is the id, None without one."""
        request, assignment = self.request, self._assignment
        if complete and not content and not request.length:
            self._request_complete = True
        else:
            self.request_data(content, complete)
        if assignment.series is not None and user is not None and not request.websocket:
            self._account.take_part(assignment, user)
        if assignment.failover_reason is not None:
            self._charged = _CONNECT_ERROR
            self._account.fail_over(assignment, assignment.failover_reason)
        assignment.pool.acquire(self)

    def request_data(self, content: bytes, complete: bool) -> None:
        """More of the request's body, framed for the upstream."""
        self._request_complete = complete
        if self._connection is not None:
            if content:
                self._connection.write(content)
            if self._phase is _WAITING:
                self._wait_for_answer()
        elif content:
            self._unsent += content
            if len(self._unsent) > MOST_UNSENT_BODY:
                self.client.pause_reading()

    def reject(self, error: WireError) -> None:
        """The rest of the request is not what its head promised."""
        self._refuse(bad_request(error))

    def cancel(self) -> None:
        """The client left: end the work that nobody waits for."""
        if self._phase is not _OVER:
            self._end(self._left_as, reusable=False)

    def expire(self) -> None:
        """The deadline has passed."""
        if self._phase is _CONNECTING:
            if self._left_the_queue():
                return
            self._refuse(refusals.QUEUED_TOO_LONG)
        elif self._phase is _WAITING and not self._request_complete and not self.client.paused:
            self._refuse(refusals.BODY_STALLED)
        elif self._phase is _WAITING:
            self._refuse(refusals.NO_ANSWER)
        elif self._phase is _ANSWERING and self.client.congested:
            # It takes nothing of what is there: no fault of the upstream's.
            self._end(self._left_as, reusable=False)
            self.client.abort()
        elif self._phase is _ANSWERING:
            self._truncate()

    def end_treatment(self) -> bool:
        """The time of what treatment still has is over after a rollback. True if this was such a request.

        One in a queue goes to control anyway.
        """
        if not self._assignment.treatment or self._connection is None:
            return False
        self._charged = _OK
        self._refuse(refusals.ROLLED_BACK)
        return True

    @property
    def tunnel(self) -> bool:
        """True once the connection was upgraded."""
        return self._phase is _TUNNEL

    def pause_upstream(self) -> None:
        """The client takes the answer slower than it comes."""
        if self._connection is not None:
            self._connection.pause_reading()

    def resume_upstream(self) -> None:
        """The client takes more."""
        if self._connection is not None:
            self._connection.resume_reading()
            self._expect_progress()

    # From the pool.

    def connected(self, connection: UpstreamConnection, reused: bool) -> bool:
        """See pool.Waiter. The latch is looked at again: it may have engaged in the queue."""
        assignment = self._assignment
        if assignment.treatment and self._context.latched:
            self._reassign(assignment.latched)
            assignment.latched.pool.acquire(self)
            return False
        self._connection = connection
        self._reused = reused
        self._phase = _WAITING
        request = self.request
        data = request_head(
            request,
            request.host or connection.endpoint.resolver.authority,
            self.client.forwarded_for,
            self.request_id,
            assignment.request_fields,
            request.expects_continue and not self._unsent,
        )
        if self._unsent:
            data += self._unsent
            self._unsent = b""
            self.client.resume_reading()
        connection.send(self, data)
        self._sent_at = now = monotonic()
        if self._request_complete:
            deadline = now + assignment.first_byte_timeout
            self.client.deadline = deadline if deadline < self._latest else self._latest
        else:
            self._wait_for_answer()
        return True

    def queued(self) -> None:
        """See pool.Waiter."""
        timeout = self._assignment.pool.upstream.timeouts.connect
        self.client.deadline = min(monotonic() + (timeout or math.inf), self._latest)

    def connect_failed(self, endpoint: UpstreamEndpoint, error: Exception) -> None:
        """See pool.Waiter: nothing was sent, so another endpoint, or control, may answer."""
        assignment = self._assignment
        if self._avoid is None and len(assignment.pool.endpoints) > 1:
            self._avoid = endpoint
            self._acquire_again(fresh=False)
            return
        refusal = unreachable(error)
        if self._plan.fails_over_connect and assignment.stand_in is not None:
            self._charged = refusal.outcome
            self._account.fail_over(assignment, FailoverCause.CONNECT_ERROR.value)
            self._reassign(assignment.stand_in)
            self._avoid = None
            self._acquire_again(fresh=False)
            return
        self._refuse(refusal)

    def overloaded(self) -> None:
        """See pool.Waiter."""
        self._refuse(refusals.OVERLOADED)

    # From the upstream.

    def pause_client(self) -> None:
        """The upstream takes the request's body slower than it comes."""
        self.client.pause_reading()

    def resume_client(self) -> None:
        """The upstream takes more of it."""
        self.client.resume_reading()

    def interim(self, response: Response) -> None:
        """A 1xx: passed on, but for HTTP/1.0 clients, who know none (RFC 9110 section 15.2)."""
        if not self.request.http10:
            self.client.write(interim_head(response))
        self._wait_for_answer()

    def response_head(self, response: Response, data: bytes) -> None:
        """The final head, and what came with it."""
        now = monotonic()
        self._upstream_took = now - self._sent_at
        if response.status == 101:
            self._account.switch(now)
            self._upgrade(response, data)
            return
        request = self.request
        body = ResponseBody(response, request)
        if self._assignment.decision.route.stream_errors and is_event_stream(response.lines):
            body.watch = EventWatch()
        try:
            content = body.feed(data)
        except WireError as error:
            self.bad_response(error.detail)
            return
        self._response = response
        self._body = body
        self._phase = _ANSWERING
        self._account.answer(response, now)
        if not self._request_complete or self._context.draining:
            # Whether the rest of the request will ever come is not known: no next one on this line.
            self.client.keep_alive = False
        if body.closes:
            self.client.keep_alive = False
        overhead = self._sent_at - self._started - self._others_took + monotonic() - now
        self._context.recorder.add_overhead(overhead)
        head = response_head(
            response,
            body.fields,
            self._context.date_field,
            not self.client.keep_alive,
            self._own_fields(overhead),
        )
        self.client.write(head + content)
        self._go_on(body)

    def response_data(self, data: bytes) -> None:
        """More of the answer's body, as it came."""
        body = self._body
        assert body is not None
        try:
            content = body.feed(data)
        except WireError:
            self._truncate()
            return
        if content:
            self.client.write(content)
        self._go_on(body)

    def bad_response(self, detail: str) -> None:
        """The upstream's bytes are no HTTP, and none of them has been passed on: 502."""
        self._refuse(bad_answer(detail))

    def upstream_closed(self, error: Exception | None) -> None:
        """The upstream ended its connection, cleanly if `error` is None."""
        if self._phase is _WAITING:
            if self._reused and not self._retried and self.request.replayable:
                # It had gone idle and died as we wrote: nothing was processed that may not be again.
                self._retried = True
                self._acquire_again(fresh=True)
                return
            self._refuse(refusals.CLOSED_UNANSWERED)
        elif self._phase is _ANSWERING:
            assert self._body is not None
            if self._body.ends_with_connection and error is None:
                self.client.write(self._body.end())
                self._finish(reusable=False)
            else:
                self._truncate()

    # How it goes on.

    def _reassign(self, assignment: Assignment) -> None:
        self._account.reassign(assignment)
        self._assignment = assignment
        self._latest = self.client.deadline = self._started + assignment.total_timeout

    def _acquire_again(self, *, fresh: bool) -> None:
        """Another try, after the first went wrong before anything could have been accepted."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.finish(False, monotonic())
        self._phase = _CONNECTING
        assignment = self._assignment
        if assignment.treatment and self._context.latched:
            assignment = assignment.latched
            self._reassign(assignment)
        assignment.pool.acquire(self, fresh=fresh, avoid=self._avoid)

    def _left_the_queue(self) -> bool:
        """The wait for treatment is over and the latch engaged meanwhile: control's turn."""
        assignment = self._assignment
        if not assignment.treatment or not self._context.latched or not assignment.pool.forget(self):
            return False
        self._reassign(assignment.latched)
        assignment.latched.pool.acquire(self)
        return True

    def _wait_for_answer(self) -> None:
        assignment = self._assignment
        now = monotonic()
        self._others_took += now - self._sent_at
        self._sent_at = now
        timeout = assignment.first_byte_timeout if self._request_complete else assignment.idle_timeout
        self.client.deadline = min(now + timeout, self._latest)

    def _expect_progress(self) -> None:
        self.client.deadline = min(monotonic() + self._assignment.idle_timeout, self._latest)

    def _go_on(self, body: ResponseBody) -> None:
        """After each piece of the answer."""
        if body.complete:
            self._finish(reusable=not body.overrun)
        else:
            self._expect_progress()

    def _finish(self, *, reusable: bool) -> None:
        response, body, assignment = self._response, self._body, self._assignment
        assert response is not None
        assert body is not None
        connection = self._connection
        assert connection is not None
        outcome = self._charged
        blamed = False
        if outcome is _OK and body.failed:
            outcome = _UPSTREAM_ERROR
        elif outcome is _OK and response.status >= 500:
            outcome = _UPSTREAM_ERROR
            detection = assignment.pool.upstream.outlier_detection
            blamed = detection is not None and detection.on_5xx
        if blamed:
            self._blame_endpoint()
        elif connection.endpoint.watched:
            assignment.pool.succeeded(connection.endpoint)
        reusable = reusable and response.keep_alive and self._request_complete
        now = self._end(outcome, reusable=reusable)
        self.client.exchange_finished(self._request_complete, now)

    def _truncate(self) -> None:
        """The answer stopped half-way: the client must see that it did."""
        self._blame_endpoint()
        self._end(Outcome.TRUNCATED, reusable=False)
        self.client.abort()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with an error of our own, if no other answer has begun."""
        if refusal.blames_endpoint:
            self._blame_endpoint()
        if self._phase is _ANSWERING:
            self._end(refusal.outcome, reusable=False)
            self.client.abort()
            return
        outcome = refusal.outcome if self._charged is _OK else self._charged
        self._end(outcome, reusable=False, status=refusal.fault.status)
        self.client.refuse(
            refusal.fault,
            refusal.detail,
            self.request_id,
            self._assignment.response_fields,
            body=self.request.method != b"HEAD",
            complete=self._request_complete,
        )

    @property
    def _left_as(self) -> Outcome:
        """The outcome now that the client is gone: who has read of a failure may well leave."""
        return _UPSTREAM_ERROR if self._body is not None and self._body.failed else _CLIENT_CLOSED

    def _end(self, outcome: Outcome, *, reusable: bool, status: int = 0) -> float:
        """Count the exchange and let go of the upstream. Happens exactly once; returns the time.

        `status` is what the client was told where that is not the upstream's answer.
        """
        now = monotonic()
        self._phase = _OVER
        self.cancelled = True
        self._account.end(self.request, self.request_id, status, outcome, now)
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.finish(reusable, now)
        else:
            self._assignment.pool.forget(self)
        return now

    def _upgrade(self, response: Response, data: bytes) -> None:
        connection = self._connection
        assert connection is not None
        if not self.request.websocket or (response.upgrade or b"").lower() != b"websocket":
            self.bad_response("the upstream switched protocols unasked")
            return
        self._phase = _TUNNEL
        self.client.deadline = math.inf
        treatment = self._assignment.treatment
        tunnel = Tunnel(self.client.transport, connection.transport, self._tunnel_ended, treatment=treatment)
        connection.tunnel = tunnel
        connection.exchange = None
        tunnel.bytes_down = len(data)
        self.client.write(switching_head(response, self._own_fields(0.0)) + data)
        self.client.start_tunnel(tunnel)

    def _tunnel_ended(self, tunnel: Tunnel) -> None:
        self._account.relayed = (tunnel.bytes_up, tunnel.bytes_down)
        self._end(_OK, reusable=False, status=101)
        self.client.close()

    def _own_fields(self, overhead: float) -> bytes:
        """The gateway's own header lines of an answer. `overhead` in seconds."""
        theirs = None if self._response is None else self._response.request_id
        return self._plan.own_fields(
            self._assignment, self.request_id, theirs, self._account.failover, overhead, self._upstream_took
        )

    def _blame_endpoint(self) -> None:
        if self._connection is not None:
            self._connection.pool.failed(self._connection.endpoint, self._started)
