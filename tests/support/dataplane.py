"""A real data plane in a thread of its own: the worker, a uvloop, real sockets, the in-memory link.

Tests talk to it from outside with `tests.support.raw`; `settle` is the one window inside: it waits
until the worker's loop has dealt with everything that had arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import uvloop

from gateway.latch import LatchKind, LatchPage
from gateway.link.memory import MemoryLink
from gateway.marks import UserMarks
from gateway.model.snapshot import Snapshot
from gateway.proxy.worker import Worker
from tests.support.raw import PATIENCE, Client, Exchange, Script, Upstream, echo
from tests.support.serving import serving

T = TypeVar("T")


class DataPlane:
    """One running worker. `faults` collects what reached the loop's exception handler: always empty."""

    def __init__(self, first: Snapshot) -> None:
        self.link = MemoryLink(first)
        self.latch = LatchPage.create()
        self.faults: list[str] = []
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listener.setblocking(False)
        self.address: tuple[str, int] = listener.getsockname()
        self._listener = listener
        self._loop = uvloop.new_event_loop()
        self._loop.set_exception_handler(self._note_fault)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="worker")
        self._thread.start()
        assert self._ready.wait(PATIENCE), "the worker did not start"
        assert not self.faults, self.faults

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self.faults.append(f"the worker died: {error!r}")
            self._ready.set()
            raise
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self.worker = Worker(self.link, self.latch, UserMarks.create(), slot=0, listeners=[self._listener])
        await self.worker.start()
        self._ready.set()
        await self.worker.wait_closed()

    def _note_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Run a function on the worker's loop and return what it returned."""
        done = threading.Event()
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append((True, function(*args)))
            except BaseException as error:
                outcome.append((False, error))
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(PATIENCE), "the worker's loop does not turn"
        worked, value = outcome[0]
        if not worked:
            raise value
        return value  # type: ignore[no-any-return]

    def settle(self) -> None:
        """Return once the loop has read whatever had arrived: two whole turns later."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._loop.call_soon, done.set)
        assert done.wait(PATIENCE), "the worker's loop does not turn"

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """The loop is busy for the time of a `with`: what comes meanwhile is seen in one turn."""
        busy, over = threading.Event(), threading.Event()

        def block() -> None:
            busy.set()
            over.wait(PATIENCE)

        self._loop.call_soon_threadsafe(block)
        assert busy.wait(PATIENCE), "the worker's loop does not turn"
        try:
            yield
        finally:
            time.sleep(0.02)  # the kernel may still be handing over what was sent last
            over.set()

    def unsent(self) -> int:
        """Bytes of answers that clients have not taken from the worker yet."""
        return self.call(self._unsent)

    def _unsent(self) -> int:
        clients: Any = self.worker._context.clients
        return sum(client.transport.get_write_buffer_size() for client in clients)

    def publish(self, newer: Snapshot) -> None:
        """Publish another snapshot."""
        self.call(self.link.publish, newer)

    def connect(self, **options: Any) -> Client:
        """A new client connection."""
        return Client(self.address, **options)

    def close(self) -> None:
        """Stop the worker and wait for its thread."""
        # A test may have ended the worker itself: its loop can close at any moment from then on.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.worker.abort)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the worker does not stop"
        self._listener.close()


class Rig:
    """A data plane between raw clients and two raw upstreams."""

    _numbers = itertools.count(1)

    def __init__(
        self, *, percentage: int = 0, latched: bool = False, script: Script = echo, **snapshot_options: Any
    ) -> None:
        self.control = Upstream(script, name="control")
        self.treatment = Upstream(script, name="treatment")
        self.snapshot = serving([self.control.url], [self.treatment.url], percentage, **snapshot_options)
        self.plane = DataPlane(self.snapshot)
        if latched:
            self.plane.latch.engage(LatchKind.EMERGENCY, "test", "test")
        self.arm = "treatment" if percentage == 100 and not latched else "control"
        self.upstream = self.treatment if self.arm == "treatment" else self.control
        self.other = self.control if self.arm == "treatment" else self.treatment

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.plane.close()
        finally:
            self.control.close()
            self.treatment.close()
        assert self.objections() == []

    def connect(self, **options: Any) -> Client:
        """A new client connection."""
        return self.plane.connect(**options)

    def connect_apart(self) -> Client:
        """A new client connection from an address of its own: see `requests_of`."""
        number = next(self._numbers) + 256
        return self.connect(source=(f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 0))

    def requests_of(self, client: Client, since: int) -> list[Exchange]:
        """What a client that is apart began at the upstream, from its request number `since` on.

        Others' requests do not count, also when the upstream's threads come to them late.
        """
        address = client.source.encode()
        return [
            exchange
            for exchange in self.upstream.begun[since:]
            if exchange.head.values(b"x-forwarded-for")[-1].split(b", ")[-1] == address
        ]

    def objections(self) -> list[str]:
        """Everything that the oracles have against what happened so far."""
        return [*self.control.violations, *self.treatment.violations, *self.plane.faults]

    def check_alive(self) -> None:
        """The liveness oracle: a plain request on a new connection is answered, and nobody objects."""
        path = b"/alive/%d" % next(self._numbers)
        before = self.upstream.script
        self.upstream.script = echo
        try:
            with self.connect() as client:
                client.send(b"GET " + path + b" HTTP/1.1\r\nHost: alive.example\r\n\r\n")
                response = client.response()
        finally:
            self.upstream.script = before
        assert response.status == 200, response
        assert path in response.body, response
        assert self.objections() == []
