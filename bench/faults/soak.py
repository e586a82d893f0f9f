"""Fault 50: steady load and a random fault every few seconds; what fails must lie in a fault's window."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable

from bench.faults.findings import Findings
from bench.faults.gateways import gateway_before
from gateway.processes.directory import Role
from tests.faults.operating import deployment, write
from tests.faults.places import descriptors, resident
from tests.support.processes import Load, pipelines

MINUTES = 20.0
SEED = 50


def soak(scale: float) -> Findings:
    """Steady load and a random fault every few seconds; what fails must lie in a fault's window."""
    chance = random.Random(SEED)
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
            give_up = time.monotonic() + MINUTES * scale * 60
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
    findings = Findings()
    findings.tell("requests", load.count)
    findings.tell("faults", len(faults))
    findings.tell("failed with a killed worker", len(load.failures) - len(unexplained))
    findings.exactly("failed without a reason", len(unexplained), 0)
    findings.exactly("refused", load.refused, 0)
    findings.at_most("supervisor grew (bytes)", grown, 4_000_000)
    findings.at_most("supervisor's descriptors more", opened, 5)
    return findings
