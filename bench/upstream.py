"""An upstream that says when: events stamped with the monotonic clock, and when requests arrived.

Usage: `upstream.py CONTROL TREATMENT` (ports on loopback, one process for both arms). It is built on
uvloop and httptools, as small as it can be, so that what is measured is the proxy in front.

    GET …/stream?rate=20&events=0   server-sent events, each with the time of its writing (0: without end)
    GET …/idle                      one event, then silence
    GET /_seen                      requests and the time of the last one per arm, in nanoseconds
    anything else                   a small JSON answer, after `?delay=` milliseconds

Times are `time.monotonic_ns()`: one clock for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import json
import sys
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import cast

import httptools
import uvloop

PULSE_SECONDS = 0.001
"""How often due events are looked for; each is stamped when it is written, so lateness does no harm."""
PADDING = "x" * 64
"""Brings an event to the size of a token's JSON."""
STREAM_HEAD = (  # X-Accel-Buffering: what a pipeline says to an nginx in front of it
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
)
HEALTH_PATH = b"/healthz"
SEEN_PATH = b"/_seen"


@dataclass(slots=True)
class Arm:
    """What one arm has seen: how many requests, and when the last one arrived."""

    name: str
    requests: int = 0
    last_ns: int = 0


@dataclass(slots=True)
class Stream:
    """An open stream of events: where it goes, its pace, and how many events are left (0: no end)."""

    transport: asyncio.Transport
    period: float
    left: int

    def send(self) -> bool:
        """Write one stamped event; false when it was the last one or nobody listens."""
        if self.transport.is_closing():
            return False
        event = f'data: {{"at": {time.monotonic_ns()}, "token": "{PADDING}"}}\n\n'.encode()
        last = self.left == 1
        self.transport.write(b"%x\r\n%b\r\n%b" % (len(event), event, b"0\r\n\r\n" if last else b""))
        self.left = max(self.left - 1, 0)
        return not last


@dataclass(slots=True)
class Pulse:
    """Sends the events of all streams when they are due, spread evenly over time."""

    loop: asyncio.AbstractEventLoop
    due: list[tuple[float, int, Stream]] = field(default_factory=list)
    order: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, stream: Stream) -> None:
        """Send the first event now; the others follow at the stream's pace, each stream at its own offset."""
        if stream.send():
            position = next(self.order)
            offset = stream.period * (position * 0.618 % 1.0)
            heapq.heappush(self.due, (self.loop.time() + stream.period + offset, position, stream))

    def beat(self) -> None:
        """Send what is due, and come again."""
        now = self.loop.time()
        while self.due and self.due[0][0] <= now:
            at, position, stream = heapq.heappop(self.due)
            if stream.send():
                heapq.heappush(self.due, (at + stream.period, position, stream))
        self.loop.call_later(PULSE_SECONDS, self.beat)


class Connection(asyncio.Protocol):
    """One connection of a client or proxy; answers a request when it is complete."""

    def __init__(self, arm: Arm, arms: tuple[Arm, ...], pulse: Pulse) -> None:
        self._arm = arm
        self._arms = arms
        self._pulse = pulse
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        """Parse; the parser calls back."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Start over for the next request of the connection."""
        self._url = b""

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self._url += url

    def on_headers_complete(self) -> None:
        """Count a request of the pipeline when its head is here, not when its body is."""
        if self._url not in (HEALTH_PATH, SEEN_PATH):
            self._arm.requests += 1
            self._arm.last_ns = time.monotonic_ns()

    def on_message_complete(self) -> None:
        """Answer."""
        target = urllib.parse.urlsplit(self._url.decode())
        query = dict(urllib.parse.parse_qsl(target.query))
        if target.path.endswith("/stream"):
            self._transport.write(STREAM_HEAD)
            rate = float(query.get("rate", "20"))
            self._pulse.add(Stream(self._transport, 1 / rate, int(query.get("events", "0"))))
        elif target.path.endswith("/idle"):
            self._transport.write(STREAM_HEAD)
            Stream(self._transport, 0.0, 0).send()
        elif self._url == SEEN_PATH:
            seen = {arm.name: {"requests": arm.requests, "last_ns": arm.last_ns} for arm in self._arms}
            self._answer(json.dumps(seen).encode())
        elif "delay" in query:
            self._pulse.loop.call_later(int(query["delay"]) / 1000, self._answer, b'{"text": "hello"}')
        else:
            self._answer(b'{"text": "hello"}')

    def _answer(self, body: bytes) -> None:
        if not self._transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
                body
            )
            self._transport.write(head + body)


async def serve(control: int, treatment: int) -> None:
    """Serve both arms for ever."""
    loop = asyncio.get_running_loop()
    pulse = Pulse(loop)
    pulse.beat()
    arms = (Arm("control"), Arm("treatment"))
    for arm, port in zip(arms, (control, treatment), strict=True):
        connection = functools.partial(Connection, arm, arms, pulse)
        await loop.create_server(connection, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


def main() -> None:
    """Run on uvloop until a signal."""
    control, treatment = (int(argument) for argument in sys.argv[1:])
    uvloop.run(serve(control, treatment))


if __name__ == "__main__":
    main()
