"""A worker: the data plane of one process, on its loop, its link and its latch page.

It holds what all connections share, swaps the plan when a snapshot comes, and sweeps: deadlines,
ejections and heartbeat are looked after a few times a second, so that no request needs a timer of its own.
It reports upwards as soon as a quarter of a tick is complete, and once a second besides.
"""

from __future__ import annotations

import asyncio
import math
import resource
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

from gateway import logs
from gateway.latch import LatchPage
from gateway.link.api import EndpointHealth, WorkerEnd
from gateway.marks import UserMarks
from gateway.model.snapshot import Snapshot, Upstream
from gateway.proxy.accesslog import AccessLog
from gateway.proxy.context import Context
from gateway.proxy.downstream import ClientConnection
from gateway.proxy.guard import Guard
from gateway.proxy.plan import Plan
from gateway.proxy.probes import ProbeConnection
from gateway.proxy.upstream import UpstreamConnection, UpstreamEndpoint, UpstreamPool
from gateway.wire.response import ResponseReader

SWEEP_SECONDS = 0.1
SLOW_SWEEP_EVERY = 10
"""Sweeps between two looks at the pools: once a second."""
REPORT_SECONDS = 1.2
"""Between two whole reports at most, where ticks are longer than that."""
BACKLOG = 4096
RESERVED_DESCRIPTORS = 64
"""For what is neither a client nor an upstream: listeners, link, latch page, probes, name servers."""


class Worker:
    """Serves clients on `listeners` and probes on `probes` until drained or aborted."""

    def __init__(
        self,
        link: WorkerEnd,
        latch: LatchPage,
        marks: UserMarks,
        *,
        slot: int,
        listeners: Sequence[socket.socket],
        probes: Sequence[socket.socket] = (),
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._latch = latch
        self._slot = slot
        self._listeners = listeners
        self._probes = probes
        self._servers: list[asyncio.Server] = []
        self._arrivals: list[asyncio.Task[object]] = []
        self._closed = asyncio.Event()
        self._deadline = math.inf
        self._sweeps = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._teller: asyncio.TimerHandle | None = None
        self._reported_at = 0.0
        self._response_reader = ResponseReader()
        self._access_log: AccessLog | None = None
        self._context = Context(self._loop, latch, marks)
        self._context.recorder.records.send = link.send_records
        self._guard = Guard(self._context, latch)
        self._resolved: dict[str, tuple[str, ...]] = {}
        self._context.plan = self._make_plan(link.current, {})

    def __repr__(self) -> str:
        return f"<Worker {self._slot} clients={len(self._context.clients)} {self._context.plan!r}>"

    # Life.

    async def start(self) -> None:
        """Listen. From here on requests are served."""
        self._link.listen(self._adopt, self._apply_health)
        self._adopt(self._link.current)
        self._apply_health(self._link.health)
        for listener in self._listeners:
            await self._listen(listener, lambda: ClientConnection(self._context))
        for listener in self._probes:
            await self._listen(listener, lambda: ProbeConnection(self._ready, self._loop))
        self._sweep()
        self._tell()

    def drain(self) -> None:
        """Stop accepting, finish what runs up to the snapshot's drain time-out, then end."""
        if self._context.draining:
            return
        self._context.draining = True
        self._deadline = monotonic() + self._context.plan.snapshot.drain_timeout
        for listener in self._listeners:
            self._accept_waiting(listener)
        for server in self._servers:
            server.close()
        for client in list(self._context.clients):
            client.drain()

    def abort(self) -> None:
        """End at once."""
        self._context.draining = True
        for server in self._servers:
            server.close()
        for client in list(self._context.clients):
            client.abort_now()
        self._end()

    async def wait_closed(self) -> None:
        """Return when the worker has ended."""
        await self._closed.wait()

    def _end(self) -> None:
        for timer in (self._sweeper, self._teller):
            if timer is not None:
                timer.cancel()
        self._context.recorder.records.flush()
        self._report()
        for pool in self._context.plan.pools.values():
            pool.close()
        if self._access_log is not None:
            self._access_log.flush()
        self._closed.set()

    def _accept_waiting(self, listener: socket.socket) -> None:
        """Let in who is in the kernel's queue: closing the socket would reset them."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            arrival = self._loop.connect_accepted_socket(lambda: ClientConnection(self._context), connection)
            self._arrivals.append(self._loop.create_task(arrival))

    async def _listen(self, listener: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> None:
        if listener.family == socket.AF_UNIX:
            server = await self._loop.create_unix_server(make, sock=listener, backlog=BACKLOG)
        else:
            server = await self._loop.create_server(make, sock=listener, backlog=BACKLOG)
        self._servers.append(server)

    # Snapshots and health.

    def _adopt(self, snapshot: Snapshot) -> None:
        """Serve the next requests by this snapshot; those that run keep the one that they began with."""
        if snapshot.version == self._context.plan.snapshot.version:
            return
        before = self._context.plan.pools
        # An upstream that changed gets a new pool: its names need not be asked for again.
        self._resolved = {
            address: known for pool in before.values() for address, known in pool.resolved.items() if known
        }
        self._context.plan = self._make_plan(snapshot, before)
        self._apply_health(self._link.health)
        for upstream, pool in before.items():
            if upstream not in self._context.plan.pools:
                pool.close()
        self._report()

    def _make_plan(self, snapshot: Snapshot, pools: dict[Upstream, UpstreamPool]) -> Plan:
        logs.set_level(snapshot.log_level)
        if snapshot.access_log_sample > 0:
            # Once there it is kept: its thread cannot be ended, and its count of lost lines must not fall.
            if self._access_log is None:
                self._access_log = AccessLog.to_stdout(snapshot.access_log_sample)
            self._access_log.sample = snapshot.access_log_sample
        self._context.access_log = self._access_log if snapshot.access_log_sample > 0 else None
        self._context.most_clients = _most_clients(snapshot)
        return Plan(snapshot, self._context.recorder, pools, self._make_pool)

    def _make_pool(self, upstream: Upstream) -> UpstreamPool:
        return UpstreamPool(upstream, self._make_connection, self._loop, self._resolved)

    def _make_connection(self, pool: UpstreamPool, endpoint: UpstreamEndpoint) -> UpstreamConnection:
        return UpstreamConnection(self._context.buffer, self._response_reader, pool, endpoint)

    def _apply_health(self, health: EndpointHealth) -> None:
        for upstream, pool in self._context.plan.pools.items():
            pool.apply_health(
                {address: health.get((upstream.name, address), True) for address in upstream.endpoints}
            )

    def _ready(self) -> tuple[bool, str]:
        if self._latch.draining or self._context.draining:
            return False, "draining"
        return True, "ready"

    # The sweep.

    def _sweep(self) -> None:
        # First of all the next one: an exception below may cost this sweep, never the heartbeat.
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        now = monotonic()
        self._latch.beat(self._slot + 1)
        self._context.tell_the_time()
        for client in [client for client in self._context.clients if client.deadline < now]:
            client.expire()
        self._guard.sweep(now)
        if self._sweeps % SLOW_SWEEP_EVERY == 0:
            for pool in self._context.plan.pools.values():
                pool.sweep(now)
        if now - self._reported_at >= REPORT_SECONDS:
            self._report()
        self._sweeps += 1
        if self._context.draining and (not self._context.clients or now > self._deadline):
            self.abort()

    def _tell(self) -> None:
        """Report as soon as there is news that control may be waiting for."""
        ticks = self._context.recorder.ticks
        has_news = ticks.news()
        self._teller = self._loop.call_later(ticks.next_news(), self._tell)
        if has_news:
            self._report(of_quarters=not ticks.ticks_due)

    def _report(self, *, of_quarters: bool = False) -> None:
        if not of_quarters:
            self._reported_at = monotonic()
        # With the report: on a core that both share, each packet has control take the worker's place.
        self._context.recorder.records.flush()
        endpoints = [report for pool in self._context.plan.pools.values() for report in pool.report()]
        self._context.recorder.lines_dropped = logs.dropped() + (
            0 if self._access_log is None else self._access_log.dropped
        )
        ticks, version = self._context.recorder.ticks, self._context.plan.snapshot.version
        if self._link.asked_anew():
            ticks.begin_anew()
        report = self._context.recorder.observe(
            version, endpoints, len(self._context.clients), of_quarters=of_quarters
        )
        breakers = tuple(pool.report_breaker() for pool in self._context.plan.treatment_pools)
        if self._link.record(replace(report, breakers=breakers)):
            ticks.sent()


def _most_clients(snapshot: Snapshot) -> int:
    """As many as configured, unless the process may not have the descriptors for them and their upstreams."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS
    upstreams = sum(upstream.limits.connections for upstream in snapshot.upstreams)
    configured = snapshot.limits.connections
    possible = max(1, descriptors - min(upstreams, descriptors // 2))
    if possible < configured:
        logs.warn("fewer connections than configured", configured=configured, possible=possible)
    return min(configured, possible)
