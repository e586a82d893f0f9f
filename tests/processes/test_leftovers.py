"""What a control process was running when it was killed: ended by the next one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.processes.directory import Role
from tests.support.polling import eventually
from tests.support.processes import Gateway

pytestmark = pytest.mark.process

TEST = """\
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
with open(sys.argv[1], "a") as pids:
    print(os.getpid(), child.pid, file=pids, flush=True)
time.sleep(120)
"""


def started(pids: Path, times: int) -> list[list[int]]:
    """The processes of each run of the test, once it ran so often."""

    def look() -> list[list[int]] | None:
        lines = pids.read_text().splitlines() if pids.exists() else []
        return [[int(pid) for pid in line.split()] for line in lines] if len(lines) == times else None

    return eventually(f"the test ran {times} times", look)


def runs(pid: int) -> bool:
    """True while the process is there and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_gate_s_test_ends_with_the_control_process_that_ran_it(
    gateways: Callable[..., Gateway], tmp_path: Path
) -> None:
    """kill -9: the next control process ends the command and its child, and runs the test afresh."""
    pids = tmp_path / "pids"
    gate = {"type": "automated_test", "command": [sys.executable, "-c", TEST, str(pids)], "timeout": "5m"}
    deployment = {"initial_phase": "staging", "gates": {"staging -> canary": [gate]}}
    gateway = gateways(extra={"deployment": deployment}, workers=1)
    gateway.start()
    (first,) = started(pids, 1)
    (control,) = gateway.pids(Role.CONTROL)
    os.kill(control, signal.SIGKILL)
    second = started(pids, 2)[1]
    assert not any(map(runs, first))
    assert all(map(runs, second))
    assert gateway.stop() == 0
    eventually("nothing is left", lambda: not any(map(runs, second)))
