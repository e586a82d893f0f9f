"""CPU time per request of the worker alone, in about ten seconds: for before and after a change.

`python -m bench.hotpath [--post] [--rounds N] [--seconds S] [--profile perf|python]` starts one worker
on an in-memory link, without supervisor and control process, in front of the usual upstreams, and
nginx as a yardstick in turns with it: on a busy machine the ratio holds where the microseconds do not.
`--profile` leaves nginx out: `perf` shows where C spends its time, `python` counts Python's calls.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import gc
import os
import pstats
import signal
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import uvloop

from bench import loads
from bench.lab import Lab, Running, Upstreams, open_lab
from bench.loads import Shape
from bench.processes import BenchError, require_two_cores
from bench.proxies import GATEWAY, PROXIES, Proxy, Site
from gateway.control.config.loading import load
from gateway.core.compile import compile_snapshot, initial_position
from gateway.latch import LatchPage
from gateway.link.memory import MemoryLink
from gateway.marks import UserMarks
from gateway.proxy.worker import Worker

PROFILE_VARIABLE = "BENCH_PROFILE"
TOP = 40
"""Lines of a profile that are shown."""


def _command(program: str, site: Site) -> list[str]:
    return [program, "-m", "bench.hotpath", "--serve", str(site.directory / "gateway.yaml"), str(site.listen)]


WORKER = Proxy("worker", "worker alone", None, GATEWAY.templates, _command)


async def serve(config_path: Path, port: int) -> None:
    """Run a worker until SIGTERM."""
    loaded = load(config_path, os.environ)
    position = initial_position(loaded.config)
    snapshot = compile_snapshot(loaded.config, position, digest=loaded.digest, version=1)
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    worker = Worker(
        MemoryLink(snapshot), LatchPage.create(), UserMarks.create(), slot=0, listeners=[listener]
    )
    await worker.start()
    gc.collect()
    gc.freeze()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
    await worker.wait_closed()


def serve_profiled(config_path: Path, port: int) -> None:
    """Run a worker, and write down where its time went when that was asked for."""
    target = os.environ.get(PROFILE_VARIABLE)
    if target is None:
        uvloop.run(serve(config_path, port))
        return
    with cProfile.Profile() as profile:
        uvloop.run(serve(config_path, port))
    profile.dump_stats(target)


def microseconds(running: Running, shape: Shape, seconds: int) -> float:
    """Measure CPU time per request over one burst."""
    before = running.cpu_seconds()
    burst = loads.wrk(running.port, shape, seconds)
    if burst.failures or not burst.requests:
        raise BenchError(f"{burst.failures} of {burst.requests} requests failed")
    return (running.cpu_seconds() - before) / burst.requests * 1e6


def compare(lab: Lab, upstreams: Upstreams, shape: Shape, rounds: int, seconds: int) -> None:
    """Measure worker and nginx in turns and print medians."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for proxy in (WORKER, PROXIES["nginx"]):
            with lab.run(proxy, upstreams) as running:
                loads.wrk(running.port, shape, 1)
                found.setdefault(proxy.name, []).append(microseconds(running, shape, seconds))
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        each = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:8} {medians[name]:6.1f} µs of CPU per {shape.method}   ({each})")
    print(f"ratio    {medians['worker'] / medians['nginx']:6.2f} × nginx")


def profile_calls(lab: Lab, upstreams: Upstreams, shape: Shape, seconds: int) -> None:
    """Count and time Python's calls; the profiler itself slows the worker several times over."""
    os.environ[PROFILE_VARIABLE] = str(lab.directory / "worker.prof")
    with lab.run(WORKER, upstreams) as running:
        loads.wrk(running.port, shape, seconds)
    pstats.Stats(os.environ[PROFILE_VARIABLE]).sort_stats("tottime").print_stats(TOP)


def profile_machine_code(lab: Lab, upstreams: Upstreams, shape: Shape, seconds: int) -> None:
    """Sample the worker with perf."""
    data = str(lab.directory / "perf.data")
    with lab.run(WORKER, upstreams) as running:
        loads.wrk(running.port, shape, 1)
        record = ["perf", "record", "-q", "-F", "1999", "-o", data, "-p", str(running.process.pid)]
        with subprocess.Popen(record) as recorder:
            loads.wrk(running.port, shape, seconds)
            with contextlib.suppress(ProcessLookupError):
                recorder.send_signal(signal.SIGINT)
    report = ["perf", "report", "--stdio", "-q", "--no-children", "-i", data, "--percent-limit", "0.5"]
    done = subprocess.run(report, capture_output=True, text=True, check=False)
    print("\n".join(done.stdout.splitlines()[:TOP]) or done.stderr)


def main() -> int:
    """Measure; exit code 0 unless something is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.hotpath", description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("CONFIG", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--post", action="store_true", help="POST of 1 KB in place of GET")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--profile", choices=("perf", "python"))
    options = parser.parse_args()
    if options.serve:
        serve_profiled(Path(options.serve[0]), int(options.serve[1]))
        return 0
    shape = loads.POST if options.post else loads.GET
    try:
        require_two_cores()
        with open_lab() as lab, lab.fixed_upstreams() as upstreams:
            match options.profile:
                case "perf":
                    profile_machine_code(lab, upstreams, shape, options.seconds)
                case "python":
                    profile_calls(lab, upstreams, shape, options.seconds)
                case _:
                    compare(lab, upstreams, shape, options.rounds, options.seconds)
    except BenchError as error:
        print(f"hotpath: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
