"""Clients that measure: each runs as a process of its own on the load's core and prints one line of JSON.

    rate PORT RPS SECONDS [TARGET]       requests at a fixed rate, open loop
    stream PORT STREAMS SECONDS RATE     latency of each server-sent event
    first PORT COUNT                     time to the first byte of a stream, one after another
    idle PORT STREAMS                    streams held open until standard input ends

They use plain sockets and `select`, whose timeout is in microseconds: asyncio's timers are in
milliseconds, which is more than what is to be measured.

`rate` is an open loop: arrivals follow a schedule that does not wait for answers (exponential gaps
with a fixed seed, so every proxy gets the same bursts), and a latency counts from the moment when the
request was *due*. So a stall shows in every request that it delayed, not in one (the coordinated
omission of closed loops). A request without a free connection opens one.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import re
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SEED = 20260101
"""Fixes the schedule and the users of `rate`, so that all proxies get the same."""
USERS = 1000
CONNECTIONS = 256
"""The most connections of `rate`: `select` takes 1,024 descriptors."""
GRACE_SECONDS = 5.0
"""How long answers are awaited after the last request was sent."""
READ_BYTES = 65536
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STAMP = re.compile(rb'"at": (\d+)')


@dataclass(slots=True)
class Connection:
    """A client's connection: what was asked last, and what came back so far."""

    socket: socket.socket
    due_ns: int = 0
    sent_ns: int = 0
    busy: bool = False
    answer: bytearray = field(default_factory=bytearray)

    def complete(self) -> bool:
        """Whether the answer so far is a whole response."""
        end = self.answer.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = LENGTH.search(self.answer, 0, end)
        if length is None:
            return self.answer.endswith(b"0\r\n\r\n")
        return len(self.answer) - end - 4 >= int(length[1])


@dataclass(slots=True)
class Failure:
    """A request that got no whole 200: when it was sent, when that was known, and why."""

    sent_ns: int
    failed_ns: int
    reason: str


def connect(port: int) -> socket.socket:
    """Open a connection without Nagle's delay."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request_bytes(target: str, user: int) -> bytes:
    """Serialise a GET of a user."""
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-User-Id: user-{user}\r\n\r\n".encode()


def percentiles(values: list[int]) -> dict[str, float]:
    """Describe latencies in nanoseconds as milliseconds; empty in, empty out."""
    if not values:
        return {}
    ordered = sorted(values)
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: ordered[round(share * last)] / 1e6 for name, share in shares.items()}


def schedule(rps: float, seconds: float) -> Iterator[int]:
    """Give the offsets in nanoseconds at which requests are due."""
    source = random.Random(SEED)
    at = 0.0
    while (at := at + source.expovariate(rps)) < seconds:
        yield int(at * 1e9)


class OpenLoop:
    """Sends requests when they are due, whatever has become of the ones before."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        """`requests` are sent in turn, over and over."""
        self._port = port
        self._requests = requests
        self._idle: list[Connection] = []
        self._open: dict[int, Connection] = {}
        self._waiting: deque[int] = deque()
        self.sent = 0
        self.stopped = False
        self.latencies: list[int] = []
        self.lateness: list[int] = []
        self.failures: list[Failure] = []

    def run(self, rps: float, seconds: float) -> None:
        """Work off the schedule, then wait for the last answers."""
        start = time.monotonic_ns()
        for offset in schedule(rps, seconds):
            while (left := start + offset - time.monotonic_ns()) > 0:
                self._receive(left / 1e9)
            if self.stopped:
                break
            self._waiting.append(start + offset)
            self._receive(0.0)  # first notice what was closed meanwhile, then send
        deadline = time.monotonic() + GRACE_SECONDS
        while (self._waiting or self._busy()) and (rest := deadline - time.monotonic()) > 0:
            self._receive(rest)
        for connection in self._busy():
            self._drop(connection, "no answer")

    def _busy(self) -> list[Connection]:
        return [connection for connection in self._open.values() if connection.busy]

    def _send_waiting(self) -> None:
        while self._waiting and (self._idle or len(self._open) < CONNECTIONS):
            due = self._waiting.popleft()
            now = time.monotonic_ns()
            self.sent += 1
            try:
                connection = self._idle.pop() if self._idle else self._connect()
            except OSError as error:
                self.failures.append(Failure(now, time.monotonic_ns(), f"connect: {error}"))
                continue
            connection.due_ns, connection.sent_ns, connection.busy = due, now, True
            connection.answer.clear()
            self.lateness.append(now - due)
            try:
                connection.socket.send(self._requests[self.sent % len(self._requests)])
            except OSError as error:
                self._drop(connection, f"send: {error}")

    def _connect(self) -> Connection:
        connection = Connection(connect(self._port))
        connection.socket.setblocking(False)
        self._open[connection.socket.fileno()] = connection
        return connection

    def _receive(self, timeout: float) -> None:
        readable, _, _ = select.select(list(self._open), (), (), timeout)
        for descriptor in readable:
            connection = self._open[descriptor]
            try:
                data = connection.socket.recv(READ_BYTES)
            except OSError as error:
                self._drop(connection, f"receive: {error}")
                continue
            if not data:
                self._drop(connection, "closed")
                continue
            connection.answer += data
            if connection.complete():
                self._finish(connection)
        self._send_waiting()

    def _finish(self, connection: Connection) -> None:
        now = time.monotonic_ns()
        status = bytes(connection.answer[9:12])
        connection.busy = False
        if status == b"200":
            self.latencies.append(now - connection.due_ns)
        else:
            self.failures.append(
                Failure(connection.sent_ns, now, f"status {status.decode(errors='replace')}")
            )
        if b"connection: close" in connection.answer.lower():
            self._drop(connection, "closed")
        else:
            self._idle.append(connection)

    def _drop(self, connection: Connection, reason: str) -> None:
        """Close a connection; it is a failure only when an answer was owed on it."""
        if connection.busy:
            self.failures.append(Failure(connection.sent_ns, time.monotonic_ns(), reason))
            connection.busy = False
        elif connection in self._idle:
            self._idle.remove(connection)
        del self._open[connection.socket.fileno()]
        connection.socket.close()


def send_at_rate(port: int, requests: Sequence[bytes], rps: float, seconds: float) -> dict[str, Any]:
    """Say "started", then measure at a fixed rate; SIGTERM ends the schedule early."""
    loop = OpenLoop(port, requests)

    def stop(*_: object) -> None:
        loop.stopped = True

    signal.signal(signal.SIGTERM, stop)
    print("started", flush=True)
    loop.run(rps, seconds)
    return {
        "sent": loop.sent,
        "latency": percentiles(loop.latencies),
        "lateness": percentiles(loop.lateness),
        "failures": [[each.sent_ns, each.failed_ns, each.reason] for each in loop.failures],
    }


def rate(options: argparse.Namespace) -> dict[str, Any]:
    """Measure at a fixed rate, a thousand users in turn."""
    requests = [request_bytes(options.target, user) for user in range(USERS)]
    return send_at_rate(options.port, requests, options.rps, options.seconds)


def stream(options: argparse.Namespace) -> dict[str, Any]:
    """Measure how long each event of many streams was under way."""
    poller = select.epoll()
    sockets: dict[int, socket.socket] = {}
    rests: dict[int, bytes] = {}
    for user in range(options.streams):
        connection = connect(options.port)
        connection.sendall(request_bytes(f"/v1/generate/stream?rate={options.rate}", user))
        sockets[connection.fileno()] = connection
        rests[connection.fileno()] = b""
        poller.register(connection.fileno(), select.EPOLLIN)
    settled = time.monotonic_ns() + int(0.5e9)
    end = settled + int(options.seconds * 1e9)
    latencies: list[int] = []
    failures = 0
    while (now := time.monotonic_ns()) < end and sockets:
        for descriptor, _ in poller.poll((end - now) / 1e9):
            data = sockets[descriptor].recv(READ_BYTES)
            now = time.monotonic_ns()
            if not data:
                failures += 1
                poller.unregister(descriptor)
                sockets.pop(descriptor).close()
                continue
            text = rests[descriptor] + data
            cut = text.rfind(b"\n\n") + 2
            rests[descriptor] = text[cut:] if cut > 1 else text
            if now >= settled and cut > 1:
                latencies += [now - int(stamp) for stamp in STAMP.findall(text, 0, cut)]
    for connection in sockets.values():
        connection.close()
    return {"events": len(latencies), "failures": failures, "latency": percentiles(latencies)}


def first(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the time from a request to the first event of the stream that answers it."""
    connection = connect(options.port)
    latencies: list[int] = []
    for user in range(options.count):
        data = b""
        sent = time.monotonic_ns()
        connection.sendall(request_bytes("/v1/generate/stream?events=1", user))
        while not data.endswith(b"0\r\n\r\n"):
            received = connection.recv(READ_BYTES)
            if not received:
                raise ConnectionError("the stream was cut")
            if b"data:" in received and b"data:" not in data:
                latencies.append(time.monotonic_ns() - sent)
            data += received
    connection.close()
    return {"latency": percentiles(latencies)}


def idle(options: argparse.Namespace) -> dict[str, Any]:
    """Hold streams open, each after its first event, until standard input ends."""
    connections = []
    for user in range(options.streams):
        connection = connect(options.port)
        connection.sendall(request_bytes("/v1/generate/idle", user))
        data = b""
        while b"data:" not in data:
            received = connection.recv(READ_BYTES)
            if not received or b" 200 " not in data + received:
                raise ConnectionError(f"stream {user}: {(data + received)[:80]!r}")
            data += received
        connections.append(connection)
    print("started", flush=True)
    sys.stdin.read()
    for connection in connections:
        connection.close()
    return {"streams": len(connections)}


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    result = argparse.ArgumentParser(prog="bench.client")
    kinds = result.add_subparsers(required=True)
    one = kinds.add_parser("rate")
    one.add_argument("port", type=int)
    one.add_argument("rps", type=float)
    one.add_argument("seconds", type=float)
    one.add_argument("target", nargs="?", default="/v1/generate")
    one.set_defaults(measure=rate)
    one = kinds.add_parser("stream")
    one.add_argument("port", type=int)
    one.add_argument("streams", type=int)
    one.add_argument("seconds", type=float)
    one.add_argument("rate", type=float)
    one.set_defaults(measure=stream)
    one = kinds.add_parser("first")
    one.add_argument("port", type=int)
    one.add_argument("count", type=int)
    one.set_defaults(measure=first)
    one = kinds.add_parser("idle")
    one.add_argument("port", type=int)
    one.add_argument("streams", type=int)
    one.set_defaults(measure=idle)
    return result


def main() -> None:
    """Measure, and print the result as JSON."""
    options = parser().parse_args()
    gc.disable()
    print(json.dumps(options.measure(options)), flush=True)


if __name__ == "__main__":
    main()
