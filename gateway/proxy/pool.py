"""Connections to one upstream: which endpoint, which connection, how many, and who must wait.

The endpoint is the one with fewer requests in flight of two random ones. Passive ejection, active checks
and the circuit breaker only steer this choice; they judge nobody. It does not know requests: it passes
connections to whoever waits for one.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from gateway.model.observation import BreakerReport, EndpointReport
from gateway.model.snapshot import Upstream
from gateway.proxy.breaker import CLOSED, HALF_OPEN, Breaker
from gateway.proxy.resolver import Resolver
from gateway.proxy.sockets import is_shortage

PANIC_SHARE = 0.5
"""With fewer usable endpoints than this share, load goes to all: some of a crowd may still answer."""
MOST_EJECTION_FACTOR = 10
"""Each ejection of an endpoint that flaps lasts longer than the one before, up to this many times."""
FORGIVEN_AFTER = 10
"""An endpoint that stayed in for this many ejection times begins with the short ejection again."""
DEFAULT_OPENING = 10.0
"""Seconds by which openings of the breaker grow where no ejection time is configured."""
IDLE_SECONDS = 60.0
"""An idle connection is closed after this long, as nginx does by default."""


class Connection(asyncio.BaseProtocol):
    """What a pool needs to know of a connection."""

    endpoint: Endpoint[Any]
    idle_since: float
    """Monotonic seconds."""

    @property
    def alive(self) -> bool:
        """False once the connection is known to have ended."""
        raise NotImplementedError

    @property
    def outdated(self) -> bool:
        """True once its address is none of the endpoint's any more."""
        raise NotImplementedError

    def close(self) -> None:
        """End it now."""
        raise NotImplementedError

    def abandon(self) -> bool:
        """End it now and never tell the pool; False if it ended before, and so told."""
        raise NotImplementedError


C = TypeVar("C", bound=Connection)


class Waiter(Protocol[C]):
    """Who wants a connection."""

    cancelled: bool

    def connected(self, connection: C, reused: bool) -> bool:
        """Here is one. False: it goes elsewhere, and the pool has the connection back."""

    def connect_failed(self, endpoint: Endpoint[C], error: Exception) -> None:
        """The endpoint could not be reached; nothing was sent."""

    def queued(self) -> None:
        """None is free: it has to wait, and should limit how long."""

    def overloaded(self) -> None:
        """Too many are waiting already."""


class Knock(Generic[C]):
    """Waits for a connection on the breaker's behalf, to see whether it is accepted; nothing is sent."""

    __slots__ = ("_breaker", "cancelled", "under_way")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self.cancelled = False
        self.under_way = False

    def connected(self, connection: C, reused: bool) -> bool:
        """See `Waiter`."""
        self._end(answered=True)
        connection.close()
        return True

    def connect_failed(self, endpoint: Endpoint[C], error: Exception) -> None:
        """See `Waiter`."""
        self._end(answered=False)

    def queued(self) -> None:
        """See `Waiter`: nobody knocks where there is no connection to be had."""

    def overloaded(self) -> None:
        """See `Waiter`."""

    def _end(self, *, answered: bool) -> None:
        self.under_way = False
        self._breaker.knocked(answered, monotonic())


class Endpoint(Generic[C]):
    """One address of an upstream and what this worker knows of it."""

    __slots__ = (
        "checked_healthy",
        "ejected_until",
        "ejections",
        "failures",
        "idle",
        "inflight",
        "readmitted_at",
        "resolver",
        "watched",
    )

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self.idle: list[C] = []
        self.inflight = 0
        self.checked_healthy = True
        self.failures = 0
        self.watched = False
        """True while the pool wants to hear of answers: after a failure, and between open and closed."""
        self.ejections = 0
        self.ejected_until = 0.0
        self.readmitted_at = 0.0

    def __repr__(self) -> str:
        return f"<Endpoint {self.address} inflight={self.inflight} usable={self.usable}>"

    @property
    def address(self) -> str:
        """As the config writes it."""
        return self.resolver.address

    @property
    def usable(self) -> bool:
        """True unless the active check or the passive ejection says otherwise."""
        return self.checked_healthy and not self.ejected_until


class Pool(Generic[C]):
    """All connections of this worker to one upstream."""

    def __init__(
        self,
        upstream: Upstream,
        connection_factory: Callable[[Pool[C], Endpoint[C]], C],
        loop: asyncio.AbstractEventLoop,
        resolved: Mapping[str, tuple[str, ...]],
    ) -> None:
        """`resolved` are addresses known so far, by endpoint: where its name server fails, they stand."""
        self.upstream = upstream
        self.available = True
        """False while the breaker lets nothing through: treatment then means control."""
        self.on_availability: Callable[[], None] = lambda: None
        detection = upstream.outlier_detection
        self.breaker = Breaker(DEFAULT_OPENING if detection is None else detection.ejection_time)
        self._knock: Knock[C] = Knock(self.breaker)
        self._loop = loop
        self._connection_factory = connection_factory
        self.endpoints: list[Endpoint[C]] = [
            Endpoint(Resolver(address, loop, resolved.get(address, ()))) for address in upstream.endpoints
        ]
        self._waiting: OrderedDict[Waiter[C], None] = OrderedDict()
        self._open = 0
        self._probing = False
        self._dials: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Pool {self.upstream.name} open={self._open} waiting={len(self._waiting)}>"

    def acquire(self, waiter: Waiter[C], *, fresh: bool = False, avoid: Endpoint[C] | None = None) -> None:
        """Give the waiter a connection: now, when one is ready, or not at all.

        `fresh` refuses an idle connection (after one turned out dead); `avoid` is an endpoint that
        just failed, passed over if there is another.
        """
        if self._probing:
            self.breaker.begin(monotonic())
            self._follow_breaker()
        endpoint = self._choose(avoid)
        while endpoint.idle and not fresh:
            connection = endpoint.idle.pop()
            if connection.alive:
                if not waiter.connected(connection, reused=True):
                    self.release(connection)
                return
            connection.close()
        if self._make_room():
            self._dial(endpoint, waiter)
        elif len(self._waiting) < self.upstream.limits.pending:
            self._waiting[waiter] = None
            waiter.queued()
        else:
            waiter.overloaded()

    def forget(self, waiter: Waiter[C]) -> bool:
        """The waiter wants no connection any more. True if it stood in the queue, and so gets none."""
        if waiter in self._waiting:
            del self._waiting[waiter]
            return True
        return False

    def release(self, connection: C) -> None:
        """Take back a connection that can carry another request."""
        if connection.outdated:
            connection.close()
            return
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if waiter.connected(connection, reused=True):
                return
        if self._closed:
            connection.close()
            return
        connection.endpoint.idle.append(connection)

    def lost(self, connection: C) -> None:
        """A connection of this pool is gone."""
        self._open -= 1
        if connection in connection.endpoint.idle:
            connection.endpoint.idle.remove(connection)
        self._serve_waiting()

    def succeeded(self, endpoint: Endpoint[C]) -> None:
        """An endpoint that is watched answered."""
        endpoint.failures = 0
        endpoint.watched = self._probing
        if self._probing:
            self.breaker.succeeded(monotonic())
            self._follow_breaker()

    def failed(self, endpoint: Endpoint[C], began: float) -> None:
        """Count a connect error, reset or time-out of what set out at `began` (monotonic seconds)."""
        if self._probing:
            self.breaker.failed(began, monotonic())
            self._follow_breaker()
        detection = self.upstream.outlier_detection
        if detection is None or began < endpoint.readmitted_at:
            return
        endpoint.failures += 1
        endpoint.watched = True
        if endpoint.failures >= detection.consecutive_failures and not endpoint.ejected_until:
            now = monotonic()
            if now - endpoint.readmitted_at > FORGIVEN_AFTER * detection.ejection_time:
                endpoint.ejections = 0
            endpoint.failures = 0
            endpoint.ejections = min(endpoint.ejections + 1, MOST_EJECTION_FACTOR)
            endpoint.ejected_until = now + detection.ejection_time * endpoint.ejections
            self._judge(now)

    def apply_health(self, healthy: Mapping[str, bool]) -> None:
        """Take over the active checks' verdict, by endpoint address."""
        for endpoint in self.endpoints:
            endpoint.checked_healthy = healthy[endpoint.address]
        self._judge(monotonic())

    def tend_breaker(self, now: float, emergency: bool) -> None:
        """Let the breaker know the time (monotonic seconds), and whether an emergency holds."""
        self.breaker.set_emergency(emergency, now)
        self.breaker.tick(now)
        self._follow_breaker()
        if self.breaker.wants_knock(now) and not self._knock.under_way and self._make_room():
            self._knock.under_way = True
            self._dial(self._choose(None), self._knock)

    def sweep(self, now: float) -> None:
        """Readmit ejected endpoints and close connections that idled too long. `now` is monotonic seconds."""
        outlived = now - IDLE_SECONDS
        for endpoint in self.endpoints:
            if endpoint.ejected_until and endpoint.ejected_until <= now:
                endpoint.ejected_until = 0.0
                endpoint.readmitted_at = now
                self._judge(now)
            for connection in [one for one in endpoint.idle if one.idle_since < outlived or one.outdated]:
                connection.close()

    def report(self) -> list[EndpointReport]:
        """Each endpoint as this worker sees it."""
        name = self.upstream.name
        return [EndpointReport(name, e.address, e.usable, e.inflight) for e in self.endpoints]

    def report_breaker(self) -> BreakerReport:
        """The circuit breaker as it stands."""
        breaker = self.breaker
        admits = breaker.state is CLOSED or not breaker.trips
        return BreakerReport(self.upstream.name, breaker.state, admits, breaker.cause, breaker.trips)

    @property
    def resolved(self) -> dict[str, tuple[str, ...]]:
        """The addresses that the endpoints' names meant last, by endpoint."""
        return {endpoint.address: endpoint.resolver.addresses for endpoint in self.endpoints}

    def close(self) -> None:
        """Drain: idle connections end now, busy ones when their request does."""
        self._closed = True
        for endpoint in self.endpoints:
            endpoint.resolver.close()
            while endpoint.idle:
                endpoint.idle.pop().close()

    def _choose(self, avoid: Endpoint[C] | None) -> Endpoint[C]:
        endpoints = self.endpoints
        if len(endpoints) == 1:
            return endpoints[0]
        usable = [endpoint for endpoint in endpoints if endpoint.usable]
        if len(usable) < PANIC_SHARE * len(endpoints):
            usable = endpoints
        if avoid is not None and len(usable) > 1:
            usable = [endpoint for endpoint in usable if endpoint is not avoid]
        if len(usable) == 1:
            return usable[0]
        first, second = random.sample(usable, 2)
        return first if first.inflight <= second.inflight else second

    def _judge(self, now: float) -> None:
        self.breaker.set_usable(any(endpoint.usable for endpoint in self.endpoints), now)
        self._follow_breaker()

    def _follow_breaker(self) -> None:
        breaker = self.breaker
        probing = breaker.state is HALF_OPEN
        if probing != self._probing:
            self._probing = probing
            for endpoint in self.endpoints:
                endpoint.watched = probing or endpoint.failures > 0
        if breaker.admits != self.available:
            self.available = breaker.admits
            self.on_availability()

    def _make_room(self) -> bool:
        """Make room for one more connection, at the cost of an idle one; False where none is idle."""
        return self._open < self.upstream.limits.connections or self._evict_idle()

    def _evict_idle(self) -> bool:
        for endpoint in self.endpoints:
            if endpoint.idle:
                endpoint.idle.pop(0).close()
                return True
        return False

    def _serve_waiting(self) -> None:
        while self._waiting and self._open < self.upstream.limits.connections:
            waiter, _ = self._waiting.popitem(last=False)
            self._dial(self._choose(None), waiter)

    def _dial(self, endpoint: Endpoint[C], waiter: Waiter[C]) -> None:
        self._open += 1
        task = self._loop.create_task(self._connect(endpoint, waiter))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _connect(self, endpoint: Endpoint[C], waiter: Waiter[C]) -> None:
        began = monotonic()
        made: list[C] = []

        def make() -> C:
            made.append(self._connection_factory(self, endpoint))
            return made[-1]

        try:
            async with asyncio.timeout(self.upstream.timeouts.connect):
                connection = await endpoint.resolver.connect(make)
        except (OSError, TimeoutError) as error:
            if self._abandon(made):
                self._open -= 1
            self._fail(endpoint, waiter, error, began)
            self._serve_waiting()
            return
        if not connection.alive:
            # Accepted, and ended before this task had its turn: nothing was sent on it.
            self._fail(endpoint, waiter, ConnectionResetError("closed as soon as it was open"), began)
        elif waiter.cancelled or not waiter.connected(connection, reused=False):
            self.release(connection)

    @staticmethod
    def _abandon(made: list[C]) -> bool:
        """End what a dial made, for its time may be up in the moment of success.

        False if a connection had ended by then, which the pool was told.
        """
        untold = True
        for connection in made:
            untold = connection.abandon() and untold
        return untold

    def _fail(self, endpoint: Endpoint[C], waiter: Waiter[C], error: Exception, began: float) -> None:
        if waiter is not self._knock and not is_shortage(error):
            self.failed(endpoint, began)
        if not waiter.cancelled:
            waiter.connect_failed(endpoint, error)
