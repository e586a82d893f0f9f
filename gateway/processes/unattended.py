"""The emergency in a state directory that no supervisor holds.

Workers may have outlived their supervisor and serve on; they take SIGUSR1. The next gateway reads the latch
file. Neither a config nor a running control process is needed. It does not know who asks.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence

from gateway.latch import DurableLatch, LatchKind, LatchPage
from gateway.processes.directory import Role, StateDirectory


def engage_without_supervisor(
    directory: StateDirectory, reason: str, operator: str, tell: Callable[[str], None]
) -> bool:
    """Switch what still serves, and write down what the next start shall do; True if either was done.

    `tell` takes a line for each thing that was done or could not be.
    """
    orphans = signal_processes(worker_pids(directory), tell)
    if orphans:
        tell(f"engaged by SIGUSR1 to workers without a main process: {named(orphans)}")
    page = LatchPage.create()
    durable = DurableLatch(directory.path)
    if (found := durable.load()) is not None:
        page.restore(found)
    page.engage(LatchKind.EMERGENCY, reason, operator)
    try:
        durable.save(page)
    except OSError as error:
        tell(f"{durable.path} cannot be written: {error.strerror or error}")
        return bool(orphans)
    tell(f"no gateway runs on {directory.path}: the latch is set for its next start")
    return True


def worker_pids(directory: StateDirectory) -> list[int]:
    """The workers that were written down as running there."""
    return [process.pid for process in directory.read_roster().processes if process.role is Role.WORKER]


def signal_processes(pids: Iterable[int], tell: Callable[[str], None]) -> list[int]:
    """Send each SIGUSR1; returns those that got it, and tells of the others."""
    reached = []
    for pid in pids:
        try:
            os.kill(pid, signal.SIGUSR1)
            reached.append(pid)
        except OSError as error:
            tell(f"pid {pid}: {error.strerror}")
    return reached


def named(pids: Sequence[int]) -> str:
    """Processes by their numbers, for people."""
    return "pid " + ", ".join(map(str, pids))
