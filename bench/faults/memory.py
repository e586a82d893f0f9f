"""Fault 34: slow readers of a fast upstream, the gateway in a memory cgroup. Needs root and cgroup v1."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from bench.faults.findings import Findings
from bench.faults.gateways import gateway_before
from gateway.processes.directory import Role
from tests.faults.places import resident
from tests.support.raw import Client, Exchange, Upstream

CGROUP = Path("/sys/fs/cgroup/memory")
READERS = 1000
LIMIT = "600M"
MOST_BYTES = 192 * 1024


def memory(scale: float) -> Findings:
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

    readers = round(READERS * scale)
    group = CGROUP / f"gateway-faults-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(LIMIT)
    upstream = Upstream(gigabyte)
    try:
        with gateway_before({"traditional": upstream.port, "dspy": upstream.port}, {}) as gateway:
            workers = gateway.pids(Role.WORKER)
            pids = [gateway.pid, *gateway.pids(Role.CONTROL), *workers]
            for pid in pids:
                (group / "cgroup.procs").write_text(str(pid))
            before = resident(workers[0])
            with contextlib.ExitStack() as stack:
                for _ in range(readers):
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
    findings = Findings()
    findings.tell("readers", readers)
    findings.at_most("bytes each", (highest - before) / readers, MOST_BYTES)
    findings.tell("peak of the group, bytes", used)
    findings.exactly("answered meanwhile, of 20", answered, 20)
    findings.exactly("all workers alive", str(alive), "True")
    return findings
