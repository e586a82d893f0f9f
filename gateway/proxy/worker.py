"""A worker: the data plane of one process, on its loop, its link and its latch page.

It holds what all connections share, swaps the plan when a snapshot comes, and sweeps: deadlines,
ejections, heartbeat and the report upwards are looked after a few times a second, so that no request
needs a timer of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from email.utils import formatdate
from time import monotonic

from gateway import logs
from gateway.latch import LatchPage
from gateway.link.api import EndpointHealth, WorkerEnd
from gateway.model.snapshot import Snapshot, Upstream
from gateway.proxy.accesslog import AccessLog
from gateway.proxy.downstream import ClientConnection
from gateway.proxy.plan import Plan
from gateway.proxy.pool import Endpoint, Pool
from gateway.proxy.probes import ProbeConnection
from gateway.proxy.recorder import Recorder
from gateway.proxy.upstream import UpstreamConnection
from gateway.wire.response import ResponseReader

SWEEP_SECONDS = 0.1
SLOW_SWEEP_EVERY = 10
"""Sweeps between two reports and looks at the pools: once a second."""
READ_BUFFER = 65_536
BACKLOG = 4096


class Worker:
    """Serves clients on `listeners` and probes on `probes` until drained or aborted.

    The attributes that are not methods are for the connections of this worker: `plan`, `buffer`,
    `latch_words`, `recorder`, `response_reader`, `date_field`, `access_log`, `draining`, `loop`.
    """

    def __init__(
        self,
        link: WorkerEnd,
        latch: LatchPage,
        *,
        slot: int,
        listeners: Sequence[socket.socket],
        probes: Sequence[socket.socket] = (),
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._link = link
        self._latch = latch
        self._slot = slot
        self._listeners = listeners
        self._probes = probes
        self._servers: list[asyncio.Server] = []
        self._clients: set[ClientConnection] = set()
        self._closed = asyncio.Event()
        self._deadline = float("inf")
        self._sweeps = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._request_prefix = os.urandom(8).hex().encode()
        self._request_count = 0
        self.latch_words = latch.words
        self.buffer = memoryview(bytearray(READ_BUFFER))
        self.recorder = Recorder()
        self.response_reader = ResponseReader()
        self.access_log: AccessLog | None = None
        self.draining = False
        self.date_field = b""
        self.plan = self._make_plan(link.current, {})

    def __repr__(self) -> str:
        return f"<Worker {self._slot} clients={len(self._clients)} {self.plan!r}>"

    # Life.

    async def start(self) -> None:
        """Listen. From here on requests are served."""
        self._link.listen(self._adopt, self._apply_health)
        self._adopt(self._link.current)
        self._apply_health(self._link.health)
        for listener in self._listeners:
            await self._listen(listener, lambda: ClientConnection(self))
        for listener in self._probes:
            await self._listen(listener, lambda: ProbeConnection(self._ready, self.loop))
        self._sweep()

    def drain(self) -> None:
        """Stop accepting, finish what runs up to the snapshot's drain time-out, then end."""
        if self.draining:
            return
        self.draining = True
        self._deadline = monotonic() + self.plan.snapshot.drain_timeout
        for server in self._servers:
            server.close()
        for client in list(self._clients):
            client.drain()

    def abort(self) -> None:
        """End at once."""
        self.draining = True
        for server in self._servers:
            server.close()
        for client in list(self._clients):
            client.abort_now()
        self._end()

    async def wait_closed(self) -> None:
        """Return when the worker has ended."""
        await self._closed.wait()

    def _end(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._report()
        for pool in self.plan.pools.values():
            pool.close()
        self._closed.set()

    async def _listen(self, listener: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> None:
        if listener.family == socket.AF_UNIX:
            server = await self.loop.create_unix_server(make, sock=listener, backlog=BACKLOG)
        else:
            server = await self.loop.create_server(make, sock=listener, backlog=BACKLOG)
        self._servers.append(server)

    # For the connections.

    def admit(self, client: ClientConnection) -> bool:
        """Count a new connection; False if there are too many."""
        self._clients.add(client)
        return len(self._clients) <= self.plan.snapshot.limits.connections

    def dismiss(self, client: ClientConnection) -> None:
        """A client's connection is gone."""
        self._clients.discard(client)

    def new_request_id(self) -> bytes:
        """32 hexadecimal digits, unique to this worker and, by its random half, among all."""
        self._request_count += 1
        return b"%b%016x" % (self._request_prefix, self._request_count)

    # Snapshots and health.

    def _adopt(self, snapshot: Snapshot) -> None:
        """Serve the next requests by this snapshot; those that run keep the one that they began with."""
        if snapshot.version == self.plan.snapshot.version:
            return
        before = self.plan.pools
        self.plan = self._make_plan(snapshot, before)
        self._apply_health(self._link.health)
        for upstream, pool in before.items():
            if upstream not in self.plan.pools:
                pool.close()
        self._report()

    def _make_plan(self, snapshot: Snapshot, pools: dict[Upstream, Pool]) -> Plan:
        logs.set_level(snapshot.log_level)
        if snapshot.access_log_sample == 0:
            self.access_log = None
        elif self.access_log is None:
            self.access_log = AccessLog.to_stdout(snapshot.access_log_sample)
        else:
            self.access_log.sample = snapshot.access_log_sample
        return Plan(snapshot, self.recorder, pools, self._make_pool)

    def _make_pool(self, upstream: Upstream) -> Pool:
        return Pool(upstream, self._make_connection, self.loop)

    def _make_connection(self, pool: Pool, endpoint: Endpoint) -> UpstreamConnection:
        return UpstreamConnection(self, pool, endpoint)

    def _apply_health(self, health: EndpointHealth) -> None:
        for upstream, pool in self.plan.pools.items():
            pool.apply_health(
                {address: health.get((upstream.name, address), True) for address in upstream.endpoints}
            )

    def _ready(self) -> tuple[bool, str]:
        if self._latch.draining or self.draining:
            return False, "draining"
        return True, "ready"

    # The sweep.

    def _sweep(self) -> None:
        now = monotonic()
        self._latch.beat(self._slot + 1)
        self.date_field = b"Date: " + formatdate(usegmt=True).encode()
        for client in [client for client in self._clients if client.deadline < now]:
            client.expire()
        if self._sweeps % SLOW_SWEEP_EVERY == 0:
            for pool in self.plan.pools.values():
                pool.sweep(now)
            self._report()
        self._sweeps += 1
        if self.draining and (not self._clients or now > self._deadline):
            self.abort()
            return
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def _report(self) -> None:
        endpoints = [report for pool in self.plan.pools.values() for report in pool.report()]
        self.recorder.dropped = logs.dropped() + (self.access_log.dropped if self.access_log else 0)
        version = self.plan.snapshot.version
        self._link.record(self.recorder.observe(version, endpoints, len(self._clients)))
