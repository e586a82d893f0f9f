"""The loads: wrk for saturation, `bench.client` for everything that wants a clock of its own.

All of them run on the load's core, are bounded in time and count, and give typed results.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import install
from bench.processes import BenchError, Program, load_core

CONNECTIONS = 32
"""Keep-alive connections of wrk."""
SCRIPT = Path(__file__).parent / "wrk.lua"
MARGIN_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Shape:
    """What wrk sends. Few users where bodies are large: each user's request is kept in memory."""

    name: str
    method: str
    target: str
    body_bytes: int = 0
    users: int = 1000
    connections: int = CONNECTIONS


GET = Shape("get", "GET", "/v1/generate")
POST = Shape("post", "POST", "/v1/generate", body_bytes=1024)
DOWNLOAD = Shape("download", "GET", "/v1/generate/blob", connections=8)
UPLOAD = Shape("upload", "POST", "/v1/generate/upload", body_bytes=1_000_000, users=16, connections=8)


@dataclass(frozen=True, slots=True)
class Burst:
    """What wrk got done: whole answers, the time it took, and answers that were not 2xx or not whole."""

    requests: int
    seconds: float
    failures: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a whole 200: monotonic times in nanoseconds, and why."""

    sent_ns: int
    failed_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Steady:
    """What the open loop saw: requests sent, latency from the due time, and every failure."""

    sent: int
    latency: Latency
    lateness: Latency
    failures: tuple[Failure, ...]


def wrk(port: int, shape: Shape, seconds: int) -> Burst:
    """Ask as fast as answers come, over a fixed number of connections."""
    program = install.find("wrk")
    if program is None:
        raise BenchError("wrk is needed for the load: apt-get install wrk")
    command = [program, "-t1", f"-c{shape.connections}", f"-d{seconds}s", "-s", str(SCRIPT)]
    arguments = [shape.method, str(shape.body_bytes), str(shape.users)]
    output = _run([*command, f"http://127.0.0.1:{port}{shape.target}", "--", *arguments], seconds)
    result = json.loads(output.splitlines()[-1])
    return Burst(result["requests"], result["microseconds"] / 1e6, result["failures"])


def steady(port: int, rps: float, seconds: float) -> Steady:
    """Send at a fixed rate for a time."""
    output = _run(_client("rate", port, rps, seconds), seconds)
    return _steady(json.loads(output.splitlines()[-1]))


def event_latency(port: int, streams: int, seconds: float, rate: float) -> Latency:
    """Measure the events of many streams."""
    result = json.loads(_run(_client("stream", port, streams, seconds, rate), seconds))
    if result["failures"]:
        raise BenchError(f"{result['failures']} of {streams} streams were cut")
    return _latency(result["latency"])


def first_event(port: int, count: int) -> Latency:
    """Measure the time to the first event of streams opened one after another."""
    return _latency(json.loads(_run(_client("first", port, count), 10))["latency"])


class SteadyLoad:
    """A fixed rate in the background, while something is done to the proxy."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def finish(self) -> Steady:
        """End the schedule, wait for the last answers, and give what was seen."""
        self._program.terminate()
        return _steady(json.loads(self._program.read_line()))


@contextlib.contextmanager
def background(
    port: int, rps: float, seconds: float, directory: Path, target: str = "/v1/generate"
) -> Iterator[SteadyLoad]:
    """Start a fixed rate that goes on until `finish`, for `seconds` at the most."""
    command = _client("rate", port, rps, seconds, target)
    with Program("load", command, core=load_core(), directory=directory, piped=True) as program:
        program.read_line()
        yield SteadyLoad(program)


@contextlib.contextmanager
def held_streams(port: int, streams: int, directory: Path) -> Iterator[None]:
    """Hold streams open that have had one event and get no more."""
    command = _client("idle", port, streams)
    with Program("streams", command, core=load_core(), directory=directory, piped=True) as program:
        program.read_line()
        yield
        program.finish_input()
        program.read_line()


def _client(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "bench.client", *map(str, arguments)]


def _run(command: list[str], seconds: float) -> str:
    root = Path(__file__).parent.parent
    limit = seconds + MARGIN_SECONDS
    done = subprocess.run(
        ["taskset", "-c", str(load_core()), *command],
        capture_output=True,
        text=True,
        timeout=limit,
        cwd=root,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"{command[0]} failed: {done.stderr.strip()[-400:]}")
    return done.stdout


def _latency(values: dict[str, float]) -> Latency:
    return Latency(values.get("p50", float("nan")), values.get("p99", float("nan")))


def _steady(result: dict[str, Any]) -> Steady:
    failures = tuple(Failure(*failure) for failure in result["failures"])
    return Steady(result["sent"], _latency(result["latency"]), _latency(result["lateness"]), failures)
