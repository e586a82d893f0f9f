"""Faults 9 and 12: restarts while latched, and workers whose main process is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from bench.faults import load
from bench.faults.findings import Findings
from bench.faults.gateways import gateway_before, two_pipelines
from gateway.processes.directory import Role
from tests.faults.operating import deployment, process_ids, write
from tests.support.polling import eventually
from tests.support.processes import Gateway, Load

RESTARTS = 20
"""Of each kind."""
ORPHANED_SECONDS = 60.0
REQUESTS_PER_SECOND = 200.0
USERS = range(1000)
CUTOVER_SECONDS = 0.1


def _nothing(gateway: Gateway) -> None:
    del gateway


def _corrupt(gateway: Gateway) -> None:
    (gateway.state / "latch").write_bytes(b"{")


def _empty(gateway: Gateway) -> None:
    (gateway.state / "latch").write_bytes(b"")


def _directory(gateway: Gateway) -> None:
    (gateway.state / "latch").unlink()
    (gateway.state / "latch").mkdir()


def _other_config(gateway: Gateway) -> None:
    write(gateway, deployment=deployment(50), emergency=False)


VARIANTS: dict[str, Callable[[Gateway], None]] = {
    "as it was": _nothing,
    "corrupt latch": _corrupt,
    "empty latch": _empty,
    "latch is no file": _directory,
    "50 %, no emergency": _other_config,
}


def restarts(scale: float) -> Findings:
    """kill -9 of everything while latched, something done to the state, a start under load."""
    findings = Findings()
    count = max(1, round(RESTARTS * scale))
    with two_pipelines() as (control, treatment):
        ports = {"traditional": control.port, "dspy": treatment.port}
        with gateway_before(ports, {"deployment": deployment(100)}) as gateway:
            os.kill(gateway.pid, signal.SIGUSR1)
            eventually("the latch is on disk", lambda: (found := gateway.latch()) and found.engaged)
            latch = gateway.state / "latch"
            engaged = latch.read_bytes()
            for name, change in VARIANTS.items():
                served = 0
                for _ in range(count):
                    _kill(gateway)
                    latch.rmdir() if latch.is_dir() else latch.unlink()
                    latch.write_bytes(engaged)
                    change(gateway)
                    before = treatment.requests()
                    with Load(gateway, users=4, pause=0.001) as asking:
                        gateway.start(ready=False)
                        asking.more(50)
                    served += treatment.requests() - before
                findings.exactly(f"sent to treatment, {count} x {name}", served, 0)
    return findings


def _kill(gateway: Gateway) -> None:
    for pid in process_ids(gateway):
        os.kill(pid, signal.SIGKILL)
    assert gateway.process is not None
    gateway.process.wait()


def orphans(scale: float) -> Findings:
    """kill -9 of control and main process; the workers serve on, can be cut over, and are replaced."""
    findings = Findings()
    with two_pipelines() as (control, treatment):
        ports = {"traditional": control.port, "dspy": treatment.port}
        extra = {"deployment": deployment(50), "drain_timeout": "60s"}
        with gateway_before(ports, extra, workers=2) as gateway:
            with load.at_rate(gateway.port, REQUESTS_PER_SECOND, 600, USERS) as running:
                (first,) = gateway.pids(Role.CONTROL)
                os.kill(first, signal.SIGKILL)
                eventually("another control process", lambda: gateway.pids(Role.CONTROL) not in ([], [first]))
                workers = gateway.pids(Role.WORKER)
                assert gateway.process is not None
                gateway.process.kill()
                gateway.process.wait()
                time.sleep(ORPHANED_SECONDS * scale)
                alive = gateway.pids(Role.WORKER) == workers
                of_treatment = treatment.requests()
                os.kill(workers[0], signal.SIGUSR1)
                time.sleep(CUTOVER_SECONDS)
                at_cutover = treatment.requests()
                time.sleep(1.0)
                later = treatment.requests() - at_cutover
                alone = load.seen(running.finish())
            gateway.start(ready=False)
            eventually("the orphans are gone", lambda: not set(workers) & set(gateway.pids(Role.WORKER)))
            gateway.wait_ready()
            arm = gateway.arm()
    findings.tell("requests", alone.sent)
    findings.exactly("failed requests", len(alone.failures), 0)
    findings.exactly("both orphans lived", str(alive), "True")
    findings.at_least("treatment's requests before the cutover", of_treatment, 1)
    findings.exactly("treatment's requests 100 ms after SIGUSR1 to one", later, 0)
    findings.exactly("the next gateway serves", arm, "control")
    return findings
