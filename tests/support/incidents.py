"""Incidents: two upstreams that can be made to fail, and users that notice, around a real gateway.

Both live on one event loop in a thread of their own. The load is an open loop: requests are sent when
they are due, whatever became of those before, so that a hanging treatment does not stop the users.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

LATENCY = (0.01, 0.03)
"""Seconds between which a healthy upstream answers."""
DICE = random.Random()
"""Of its own: the shared one belongs to whoever tests properties meanwhile."""
GIVE_UP = 30.0
"""Seconds after which a user leaves."""


class Fault(enum.Enum):
    """What an upstream does to every request."""

    NONE = "none"
    ERRORS = "500"
    HANG = "never answers"
    RESET = "breaks the connection off"
    TRUNCATE = "cuts its answers short"
    NOT_FOUND = "404"


@dataclass
class Arm:
    """One upstream: what it does now, and when the requests that came were sent, in Unix seconds.

    By the clock of their users: how late this process got round to them on a busy machine is no matter.
    """

    name: str
    fault: Fault = Fault.NONE
    arrivals: list[float] = field(default_factory=list)
    port: int = 0
    server: asyncio.Server | None = None
    connections: set[Connection] = field(default_factory=set)

    def since(self, at: float) -> int:
        """How many requests came of those that were sent from then on, a repetition being none."""
        return len({sent for sent in list(self.arrivals) if sent >= at})

    @property
    def last(self) -> float:
        """When the last of them was sent."""
        return max(list(self.arrivals))


class Connection(asyncio.Protocol):
    """A connection from the gateway: requests without a body, one at a time."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._arm.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._arm.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            if head.startswith(b"GET /healthz"):
                self._answer(200)
            else:
                self._arm.arrivals.append(_sent(head))
                self._serve()

    def reset(self) -> None:
        """End with RST."""
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _serve(self) -> None:
        match self._arm.fault:
            case Fault.NONE:
                delay = DICE.uniform(*LATENCY)
                asyncio.get_running_loop().call_later(delay, self._answer, 200)
            case Fault.ERRORS:
                self._answer(500)
            case Fault.NOT_FOUND:
                self._answer(404)
            case Fault.HANG:
                pass
            case Fault.RESET:
                self.reset()
            case Fault.TRUNCATE:
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                self._transport.close()

    def _answer(self, status: int) -> None:
        if not self._transport.is_closing():
            body = self._arm.name.encode()
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            self._transport.write(head + body)


def _sent(head: bytes) -> float:
    """When the user says that a request was sent; now, for one of nobody that counts the time."""
    stamp = head.lower().partition(b"\r\nx-sent: ")[2].split(b"\r\n")[0]
    return float(stamp) if stamp else time.time()


@dataclass(frozen=True)
class Request:
    """What a user got: `status` 0 for no whole answer. Times are Unix seconds."""

    user: str
    sent: float
    ended: float
    status: int
    arm: str
    failover: bool

    @property
    def failed(self) -> bool:
        """True if the user saw an error."""
        return self.status != 200


class Incident:
    """Upstreams and users; `traditional` and `dspy` are the arms, `requests` what users got so far.

    `repeated` is how often a client asked again.
    """

    def __init__(self) -> None:
        self.traditional = Arm("traditional")
        self.dspy = Arm("dspy")
        self.requests: list[Request] = []
        self.repeated = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._users: asyncio.Future[None] | None = None
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open: set[asyncio.Task[None]] = set()
        self._waiting: set[float] = set()

    @property
    def ports(self) -> dict[str, int]:
        """The upstreams by name."""
        return {arm.name: arm.port for arm in (self.traditional, self.dspy)}

    @contextlib.contextmanager
    def running(self) -> Iterator[Incident]:
        """Both upstreams listen; everything ends with the `with`."""
        self._thread.start()
        try:
            self.come_up(self.traditional)
            self.come_up(self.dspy)
            yield self
        finally:
            self._do(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def come_up(self, arm: Arm) -> None:
        """Listen, on the port that it had."""

        async def listen() -> None:
            arm.server = await self._loop.create_server(
                lambda: Connection(arm), "127.0.0.1", arm.port, reuse_address=True, backlog=1024
            )
            arm.port = arm.server.sockets[0].getsockname()[1]

        self._do(listen())

    def go_down(self, arm: Arm) -> None:
        """As a process that is killed: no listener, every connection broken off."""

        async def close() -> None:
            assert arm.server is not None
            arm.server.close()
            for connection in list(arm.connections):
                connection.reset()
            await asyncio.sleep(0)

        self._do(close())

    def begin(self, arm: Arm, fault: Fault) -> float:
        """From now on; when that was."""
        arm.fault = fault
        return time.time()

    @contextlib.contextmanager
    def users(self, port: int, rate: float, pool: int = 100_000) -> Iterator[None]:
        """Users, each drawn from `pool` of them, send `rate` requests a second to the gateway."""
        task = asyncio.run_coroutine_threadsafe(self._ask_on(port, rate, pool), self._loop)
        try:
            yield
        finally:
            task.cancel()

    def failed_since(self, at: float) -> list[Request]:
        """What users saw fail of what they sent from then on."""
        return [request for request in list(self.requests) if request.failed and request.sent >= at]

    def waiting_since(self, at: float) -> bool:
        """True while somebody waits for the answer to what was sent before then."""
        return any(sent <= at for sent in list(self._waiting))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _ask_on(self, port: int, rate: float, pool: int) -> None:
        chance = random.Random(1)
        due = time.monotonic()
        while True:
            due += chance.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = self._loop.create_task(self._ask(port, f"user-{chance.randrange(pool)}"))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _ask(self, port: int, user: str) -> None:
        sent, head = time.time(), b""
        status = 0
        self._waiting.add(sent)
        try:
            async with asyncio.timeout(GIVE_UP):
                fields = f"Host: x\r\nX-User-Id: {user}\r\nX-Sent: {sent!r}"
                head, reader, writer = await self._head(port, f"GET / HTTP/1.1\r\n{fields}\r\n\r\n".encode())
                try:
                    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                    await reader.readexactly(length)
                    status = int(head.split()[1])
                    self._idle.append((reader, writer))
                except BaseException:
                    writer.close()
                    raise
        except (OSError, TimeoutError, EOFError, ValueError):
            pass  # status 0
        arm = "treatment" if b"x-gateway-arm: treatment" in head else "control"
        failover = b"x-gateway-failover" in head
        self.requests.append(Request(user, sent, time.time(), status, arm, failover))
        self._waiting.discard(sent)

    async def _head(
        self, port: int, request: bytes
    ) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        """The head of the answer, in lower case, and the connection that it came by.

        Asked again where a connection that had rested ends without a byte, as clients do (RFC 9112, 9.3.1):
        the gateway had closed it, and this process had not got round to see that.
        """
        rested = self._reusable()
        reader, writer = rested or await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            return (await reader.readuntil(b"\r\n\r\n")).lower(), reader, writer
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            writer.close()
            if rested is None or (isinstance(error, asyncio.IncompleteReadError) and error.partial):
                raise
        except BaseException:
            writer.close()
            raise
        self.repeated += 1
        return await self._head(port, request)

    def _reusable(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection that is open still, if there is one: the gateway closes those that rest for long."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def _end(self) -> None:
        open_ones = list(self._open)
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        for _, writer in self._idle:
            writer.transport.abort()
        for arm in (self.traditional, self.dspy):
            if arm.server is not None:
                arm.server.close()
            for connection in list(arm.connections):
                connection.reset()
        await asyncio.sleep(0.05)


def until(condition: Callable[[], bool], patience: float, interval: float = 0.02) -> bool:
    """Wait until the condition holds, at most so long; whether it does."""
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(interval)
    return True
