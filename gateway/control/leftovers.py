"""Ends commands that an earlier control process started and could not end itself.

When a control process is killed, its tests and hooks keep running as sessions without a parent. They are
recognised by a mark in their environment, which children inherit, so no list of them has to be written
down. This module reads Linux's /proc.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from gateway import logs

MARK = "GATEWAY_RUNS_THIS"
"""Name of the variable; its value is the state directory of the gateway that runs the process."""


def mark_children(state_directory: Path) -> None:
    """Mark whatever this process starts from now on."""
    os.environ[MARK] = _value(state_directory)


def end_leftovers(state_directory: Path) -> int:
    """Kill every marked process of this state directory; how many there were.

    Call it while no other control process of the directory runs, and before anything is started.
    """
    wanted = f"{MARK}={_value(state_directory)}".encode()
    ended = 0
    for pid in _processes():
        with contextlib.suppress(OSError):  # gone, or somebody else's
            descriptor = os.pidfd_open(pid)
            try:
                # Read after the descriptor was opened: the number cannot come to mean another process.
                if wanted in _environment(pid):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    ended += 1
            finally:
                os.close(descriptor)
    if ended:
        logs.warn("ended what a dead control process was running", processes=ended)
    return ended


def _value(state_directory: Path) -> str:
    return str(state_directory.resolve())


def _processes() -> Iterator[int]:
    """Every process but this one. The environment in /proc is the one that a process began with."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid())


def _environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
