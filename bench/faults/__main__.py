"""`python -m bench.faults`: 10,000 streams, a memory limit, a treatment that flaps, and a soak.

    python -m bench.faults streams --count 5000
    python -m bench.faults memory --readers 1000 --limit 300M
    python -m bench.faults flapping --minutes 10
    python -m bench.faults soak --minutes 20

Prints one JSON object with the figures; exits 1 where one of them misses its limit. The load and the
upstream run in this process, so times include theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.faults.flapping import flapping
from bench.faults.gateways import Figures, gateway_before
from gateway.processes.directory import Role
from tests.faults.operating import deployment, status, write
from tests.faults.places import descriptors, processor_seconds, resident
from tests.support.processes import Load, eventually, pipelines
from tests.support.raw import Client, Exchange, Upstream
from tests.support.streams import StreamUpstream, held_streams

CGROUP = Path("/sys/fs/cgroup/memory")


def streams(options: argparse.Namespace) -> tuple[Figures, bool]:
    """Idle event streams: memory and processor time of each, then a reload and SIGUSR1 among them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(options.count, (hard - 500) // 2)
    upstream = StreamUpstream()
    endpoint = {
        "endpoints": [f"http://127.0.0.1:{upstream.port}"],
        "limits": {"connections": count + 100},
    }
    both = {"traditional": endpoint, "dspy": endpoint}
    ports = {"traditional": upstream.port, "dspy": upstream.port}
    extra: dict[str, Any] = {
        "upstreams": both,
        "deployment": deployment(100),
        "limits": {"connections": count + 100},
    }
    with gateway_before(ports, extra) as gateway:
        (worker,) = gateway.pids(Role.WORKER)
        before = resident(worker)
        with held_streams(gateway.port, count):
            each = (resident(worker) - before) / count
            began, used = time.monotonic(), processor_seconds(worker)
            time.sleep(10)
            idle = (processor_seconds(worker) - used) / (time.monotonic() - began)
            write(gateway, **{**extra, "deployment": deployment(99)})
            eventually("reloaded", lambda: status(gateway)["user_percentage"] == 99)
            with Load(gateway, users=4) as load:
                load.more(100)
                sent = time.monotonic()
                os.kill(gateway.pid, signal.SIGUSR1)
                eventually("control serves", lambda: load.answers["control"] > 50)
                load.more(50)
            open_still = len(upstream.open)
    upstream.close()
    figures: Figures = {
        "streams": count,
        "bytes_each": round(each),
        "idle_share_of_a_core": round(idle, 4),
        "last_treatment_seconds": round(max(0.0, load.last_treatment - sent), 4),
        "failed_requests": len(load.failures),
        "streams_open_after": open_still,
    }
    kept = open_still == count and not load.failures
    return figures, kept and each < 25_000 and idle < 0.1 and load.last_treatment - sent < 0.1


def memory(options: argparse.Namespace) -> tuple[Figures, bool]:
    """Slow readers of a fast upstream, the gateway in a memory cgroup: nobody may be killed."""

    def gigabyte(exchange: Exchange) -> None:
        exchange.body()
        if exchange.head.target != b"/big":
            exchange.answer(b"ok")
            return
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        piece = b"x" * 65536
        while True:
            exchange.send(piece)

    group = CGROUP / f"gateway-faults-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(options.limit)
    upstream = Upstream(gigabyte)
    try:
        with gateway_before({"traditional": upstream.port, "dspy": upstream.port}, {}) as gateway:
            workers = gateway.pids(Role.WORKER)
            pids = [gateway.pid, *gateway.pids(Role.CONTROL), *workers]
            for pid in pids:
                (group / "cgroup.procs").write_text(str(pid))
            before = resident(workers[0])
            with contextlib.ExitStack() as stack:
                for _ in range(options.readers):
                    client = stack.enter_context(Client(("127.0.0.1", gateway.port), receive_buffer=4096))
                    client.send(b"GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n")
                highest, answered = 0, 0
                for _ in range(20):
                    highest = max(highest, resident(workers[0]))
                    answered += gateway.get().status == 200
                    time.sleep(0.25)
                used = int((group / "memory.max_usage_in_bytes").read_text())
            alive = gateway.pids(Role.WORKER) == workers
    finally:
        upstream.close()
        with contextlib.suppress(OSError):
            group.rmdir()
    each = (highest - before) / options.readers
    figures: Figures = {
        "readers": options.readers,
        "bytes_each": round(each),
        "group_peak_bytes": used,
        "answered_meanwhile": answered,
        "killed": 0 if alive else 1,
    }
    return figures, alive and answered == 20 and each < 192 * 1024


def soak(options: argparse.Namespace) -> tuple[Figures, bool]:
    """Steady load and a random fault every few seconds; what fails must lie in a fault's window."""
    chance = random.Random(options.seed)
    faults: list[tuple[float, str]] = []
    with pipelines() as ports, gateway_before(ports, {"deployment": deployment(50)}, workers=2) as gateway:

        def kill(role: Role) -> Callable[[], None]:
            return lambda: os.kill(chance.choice(gateway.pids(role)), signal.SIGKILL)

        def reload() -> None:
            write(gateway, deployment=deployment(chance.randrange(101)))
            os.kill(gateway.pid, signal.SIGHUP)

        def bad_file() -> None:
            (gateway.directory / "gateway.yaml").write_text("version: [")

        repertoire: dict[str, Callable[[], object]] = {
            "kill a worker": kill(Role.WORKER),
            "kill control": kill(Role.CONTROL),
            "reload": reload,
            "bad file": bad_file,
            "emergency": lambda: os.kill(gateway.pid, signal.SIGUSR1),
        }
        with Load(gateway, users=8, pause=0.04) as load:
            load.more(500)
            supervisor = (resident(gateway.pid), descriptors(gateway.pid))
            give_up = time.monotonic() + options.minutes * 60
            while time.monotonic() < give_up:
                time.sleep(chance.uniform(2, 6))
                name = chance.choice(list(repertoire))
                faults.append((time.monotonic(), name))
                with contextlib.suppress(ProcessLookupError, IndexError):
                    repertoire[name]()
            load.more(500)
        grown = resident(gateway.pid) - supervisor[0]
        opened = descriptors(gateway.pid) - supervisor[1]
    deaths = [at for at, name in faults if name == "kill a worker"]
    unexplained = [failure for failure in load.failures if not any(-1 < failure[0] - at < 2 for at in deaths)]
    figures: Figures = {
        "requests": load.count,
        "faults": len(faults),
        "failed_with_a_killed_worker": len(load.failures) - len(unexplained),
        "failed_without_reason": len(unexplained),
        "refused": load.refused,
        "supervisor_grew_bytes": grown,
        "supervisor_descriptors_more": opened,
    }
    return figures, not unexplained and not load.refused and grown < 4_000_000 and opened < 6


def main() -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("streams", help="10,000 idle event streams (as far as descriptors reach)")
    one.add_argument("--count", type=int, default=10_000)
    one.set_defaults(execute=streams)
    one = commands.add_parser("memory", help="slow readers under a memory limit (cgroup v1, root)")
    one.add_argument("--readers", type=int, default=1000)
    one.add_argument("--limit", default="600M")
    one.set_defaults(execute=memory)
    one = commands.add_parser("flapping", help="a treatment that is up and down for a second each")
    one.add_argument("--minutes", type=float, default=10)
    one.set_defaults(execute=flapping)
    one = commands.add_parser("soak", help="steady load with a random fault every few seconds")
    one.add_argument("--minutes", type=float, default=20)
    one.add_argument("--seed", type=int, default=50)
    one.set_defaults(execute=soak)
    options = parser.parse_args()
    figures, good = options.execute(options)
    print(json.dumps({**figures, "good": good}, indent=2))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
