"""Load on chosen users, as processes of their own beside the gateway's core.

    python -m bench.faults.load rate PORT RPS SECONDS USER,...     mixed GET and POST, open loop
    python -m bench.faults.load streams PORT SECONDS USER,...      a server-sent stream each, read to its end

`rate` is the open loop of `bench.client`: latencies count from when a request was due. Both print one
line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.client import READ_BYTES, connect, request_bytes, send_at_rate
from bench.processes import ALLOWED_CORES, load_core

TARGET = "/v1/generate"
EVENTS_PER_SECOND = 5
BODY = b'{"prompt": "hello"}'
MARGIN_SECONDS = 30.0
"""How much longer than its schedule a load may take."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a whole 200: monotonic seconds, and why."""

    sent: float
    failed: float
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a load at a fixed rate saw; percentiles in milliseconds, of the answers that were 200."""

    sent: int
    latency: dict[str, float]
    failures: tuple[Failure, ...]


class Load:
    """A load that runs; `finish` ends its schedule."""

    def __init__(self, kind: str, port: int, *arguments: object) -> None:
        command = [sys.executable, "-m", "bench.faults.load", kind, str(port), *map(str, arguments)]
        pinned = ["taskset", "-c", str(load_core())] if len(ALLOWED_CORES) > 1 else []
        self._process = subprocess.Popen(
            [*pinned, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._output.readline()  # it has started

    def wait(self) -> dict[str, Any]:
        """What it saw, once its schedule is over."""
        try:
            output, _ = self._process.communicate()
            return dict(json.loads(output))
        finally:
            self.close()

    def finish(self) -> dict[str, Any]:
        """End the schedule; what it saw."""
        self._process.terminate()
        return self.wait()

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._output.close()


@contextlib.contextmanager
def at_rate(port: int, rps: float, seconds: float, users: Sequence[int]) -> Iterator[Load]:
    """Requests of these users in turn; `seen` gives what came of it."""
    load = Load("rate", port, rps, seconds, ",".join(map(str, users)))
    try:
        yield load
    finally:
        load.close()


@contextlib.contextmanager
def streaming(port: int, seconds: float, users: Sequence[int]) -> Iterator[Load]:
    """A stream of each of these users, held open."""
    load = Load("streams", port, seconds, ",".join(map(str, users)))
    try:
        yield load
    finally:
        load.close()


def seen(result: dict[str, Any]) -> Seen:
    """What a load at a fixed rate printed."""
    failures = tuple(Failure(sent / 1e9, failed / 1e9, reason) for sent, failed, reason in result["failures"])
    return Seen(result["sent"], result["latency"], failures)


def posted(target: str, user: int) -> bytes:
    """Serialise a POST of a user."""
    head = request_bytes(target, user).replace(b"GET", b"POST", 1).removesuffix(b"\r\n")
    return head + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def _rate(options: argparse.Namespace) -> dict[str, Any]:
    requests = [
        (request_bytes, posted)[number % 2](TARGET, user) for number, user in enumerate(options.users)
    ]
    return send_at_rate(options.port, requests, options.rps, options.seconds)


def _streams(options: argparse.Namespace) -> dict[str, Any]:
    """Hold the streams and read them; how many ended before their time, and how many bytes came."""
    poller = select.poll()
    sockets = {}
    for user in options.users:
        connection = connect(options.port)
        connection.sendall(request_bytes(f"{TARGET}/stream?rate={EVENTS_PER_SECOND}", user))
        sockets[connection.fileno()] = connection
        poller.register(connection, select.POLLIN)
    print("started", flush=True)
    end, received, cut = time.monotonic() + options.seconds, 0, 0
    while (left := end - time.monotonic()) > 0:
        for number, _ in poller.poll(left * 1000):
            try:
                data = sockets[number].recv(READ_BYTES)
            except OSError:
                data = b""
            received += len(data)
            if not data:
                cut += 1
                poller.unregister(number)
    for connection in sockets.values():
        connection.close()
    return {"bytes": received, "cut": cut}


def _parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="bench.faults.load")
    kinds = result.add_subparsers(required=True)

    def users(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    one = kinds.add_parser("rate")
    one.add_argument("port", type=int)
    one.add_argument("rps", type=float)
    one.set_defaults(measure=_rate)
    other = kinds.add_parser("streams")
    other.add_argument("port", type=int)
    other.set_defaults(measure=_streams)
    for kind in (one, other):
        kind.add_argument("seconds", type=float)
        kind.add_argument("users", type=users)
    return result


def main() -> None:
    """Measure, and print the result as JSON."""
    options = _parser().parse_args()
    gc.disable()
    print(json.dumps(options.measure(options)), flush=True)


if __name__ == "__main__":
    main()
