"""Starts a child process, `python -m gateway ROLE FD`, which inherits its link and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import gateway
from gateway.processes.directory import Role
from gateway.processes.signals import HELD_BACK

_DEFAULT_ACTIONS = (signal.SIGTERM, signal.SIGCHLD, *HELD_BACK)


def child_command(role: Role) -> str:
    """The hidden command by which a child knows its role."""
    return f"_{role}"


def spawn(role: Role, end: socket.socket) -> int:
    """Start a child of its own session that holds `end` of its link; returns its pid.

    Raises OSError if the system refuses. The caller closes its copy of `end`.
    """
    arguments = [sys.executable, *_interpreter_options(), "-m", "gateway", child_command(role)]
    end.set_inheritable(True)
    try:
        return os.posix_spawn(
            sys.executable,
            [*arguments, str(end.fileno())],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True,
            setsigmask=HELD_BACK,
            setsigdef=_DEFAULT_ACTIONS,
        )
    finally:
        end.set_inheritable(False)


def _interpreter_options() -> list[str]:
    """Keep the working directory off the child's path, unless that is where we came from ourselves."""
    package_root = str(Path(gateway.__file__).parent.parent)
    return [] if sys.path[0] == package_root else ["-P"]
