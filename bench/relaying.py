"""CPU time per request of the worker's own code: everything but the sockets and the kernel.

`python -m bench.relaying [--post] [--batches N]` hands the bytes of requests and answers to real
connections, exchanges and pools, over transports that swallow what is written. Nothing waits, so the
least of many short batches holds on a busy machine, where `bench.hotpath` can only compare. It runs
what is imported: the compiled modules where they are, the plain ones where not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.proxies import GATEWAY, Site
from gateway.control.config.loading import load
from gateway.core.compile import compile_snapshot, initial_position
from gateway.latch import LatchPage
from gateway.link.memory import MemoryLink
from gateway.marks import UserMarks
from gateway.model.snapshot import Snapshot
from gateway.proxy import exchange
from gateway.proxy.downstream import ClientConnection
from gateway.proxy.upstream import UpstreamConnection
from gateway.proxy.worker import Worker

USERS = 1000
"""Requests of a batch, each of another user, as in `bench.hotpath`."""
BATCHES = 100
BODY_BYTES = 1024
_CONTENT = b'{"id":"cmpl-1","object":"text_completion","choices":[{"text":"hello world this is control"}]}\n'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n"
    b"X-Arm: control\r\n\r\n%b" % (len(_CONTENT), _CONTENT)
)


class Sink(asyncio.Transport):
    """A transport to nowhere, which remembers what was written last."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """See asyncio.WriteTransport."""
        self.written = bytes(data)

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport."""

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport."""


def requests(body_bytes: int) -> list[bytes]:
    """One request of each user, as wrk sends them."""
    head, body = b"GET /v1/generate HTTP/1.1\r\n", b""
    if body_bytes:
        head = b"POST /v1/generate HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        head, body = head % body_bytes, b"x" * body_bytes
    return [
        b"%bHost: 127.0.0.1\r\nX-User-Id: user-%d\r\n\r\n%b" % (head, user, body) for user in range(USERS)
    ]


def usual_snapshot() -> Snapshot:
    """What the gateway serves by in every benchmark: everything on."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        site = Site(Path(directory), 1, 2, 3, 4, 5)
        GATEWAY.write(site)
        loaded = load(site.directory / "gateway.yaml", os.environ)
    return compile_snapshot(loaded.config, initial_position(loaded.config), digest=loaded.digest, version=1)


class Relay:
    """A worker with one client's connection, and an idle connection to each upstream."""

    def __init__(self) -> None:
        link = MemoryLink(usual_snapshot())
        worker = Worker(link, LatchPage.create(), UserMarks.create(), slot=0, listeners=[])
        self._worker: Any = worker
        self._context = self._worker._context
        self._client = ClientConnection(self._context)
        self._sink = Sink()
        self._client.connection_made(self._sink)
        self._upstreams: list[UpstreamConnection] = [
            self._idle_connection(pool) for pool in self._context.plan.pools.values()
        ]

    def _idle_connection(self, pool: Any) -> UpstreamConnection:
        (endpoint,) = pool.endpoints
        connection = cast(UpstreamConnection, self._worker._make_connection(pool, endpoint))
        connection.connection_made(Sink())
        pool._open += 1
        endpoint.idle.append(connection)
        return connection

    def batch(self, messages: Sequence[bytes]) -> float:
        """CPU seconds per request, each relayed and answered before the next."""
        buffer, answer, size = self._context.buffer, ANSWER, len(ANSWER)
        client, (one, other) = self._client, self._upstreams
        before = time.process_time()
        for message in messages:
            length = len(message)
            buffer[:length] = message
            client.buffer_updated(length)
            carrying = one if one.exchange is not None else other
            buffer[:size] = answer
            carrying.buffer_updated(size)
        spent = time.process_time() - before
        assert self._sink.written.startswith(b"HTTP/1.1 200 OK"), self._sink.written
        return spent / len(messages)

    def report(self) -> None:
        """What the worker's sweep does with the counts."""
        self._context.recorder.records.flush()
        self._worker._report()


async def measure(body_bytes: int, batches: int) -> list[float]:
    """Microseconds per request of each batch, in order of size."""
    relay = Relay()
    messages = requests(body_bytes)
    relay.batch(messages)
    gc.collect()
    gc.freeze()
    found = []
    for _ in range(batches):
        found.append(relay.batch(messages) * 1e6)
        relay.report()
    return sorted(found)


def main() -> int:
    """Measure and print; exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.relaying", description=__doc__)
    parser.add_argument("--post", action="store_true", help="POST of 1 KB in place of GET")
    parser.add_argument("--batches", type=int, default=BATCHES, help=f"of {USERS} requests each")
    options = parser.parse_args()
    found = uvloop.run(measure(BODY_BYTES if options.post else 0, options.batches))
    kind = "plain" if str(exchange.__file__).endswith(".py") else "compiled"
    print(f"{kind}: least {found[0]:.2f}, median {statistics.median(found):.2f} µs of CPU per request")
    return 0


if __name__ == "__main__":
    sys.exit(main())
