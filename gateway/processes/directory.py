"""The state directory as the supervisor uses it: its lock, its pid file, the list of processes.

The lock is a record lock, so the kernel can name its holder, and no pid file goes stale. Children do not
inherit it, so a new supervisor can take it while workers of a dead one still serve.

The latch file and the store have owners of their own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

PID_FILE = "gateway.pid"
_LOCK_FILE = "lock"
_PROCESSES_FILE = "workers"
_FLOCK = "hhqqi0q"  # struct flock of 64-bit Linux: type, whence, start, length, pid
_PRIVATE = 0o600


class DirectoryInUse(Exception):
    """Another gateway holds the state directory."""


class Role(StrEnum):
    """What a process of a gateway is for."""

    CONTROL = "control"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Process:
    """A process by an identity that is never used twice: pid and start in clock ticks since boot."""

    role: Role
    pid: int
    started: int

    @classmethod
    def of(cls, role: Role, pid: int) -> Process:
        """The live process `pid`."""
        return cls(role, pid, _start_ticks(pid) or 0)

    @property
    def alive(self) -> bool:
        """True while exactly this process runs."""
        return self.started != 0 and _start_ticks(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Roster:
    """Who runs in a state directory, and on which addresses."""

    addresses: tuple[str, ...]
    admin: str
    processes: tuple[Process, ...]


NOBODY = Roster((), "", ())


class StateDirectory:
    """A state directory, not yet locked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __repr__(self) -> str:
        return f"<StateDirectory {self.path} locked={self._lock is not None}>"

    def lock(self) -> None:
        """Make the directory and take it. Raises DirectoryInUse, or OSError if it cannot be used."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise DirectoryInUse(str(self.path)) from None
            raise
        self._lock = fd

    def holder(self) -> int | None:
        """Pid of the process that holds the lock; None if none does; 0 if it is out of our sight."""
        try:
            fd = os.open(self.path / _LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, question))
        finally:
            os.close(fd)
        return None if kind == fcntl.F_UNLCK else max(pid, 0)

    def write_pid(self) -> None:
        """Write the pid file. Raises OSError."""
        self._replace(PID_FILE, f"{os.getpid()}\n")

    def write_roster(self, roster: Roster) -> None:
        """Write down who runs, for a supervisor to come. Raises OSError."""
        document = {
            "boot": _boot_id(),
            "addresses": roster.addresses,
            "admin": roster.admin,
            "processes": [[process.role, process.pid, process.started] for process in roster.processes],
        }
        self._replace(_PROCESSES_FILE, json.dumps(document) + "\n")

    def read_roster(self) -> Roster:
        """Who of those written down still runs; NOBODY if there is nothing legible."""
        try:
            document = json.loads((self.path / _PROCESSES_FILE).read_bytes())
            if document["boot"] != _boot_id():
                return NOBODY
            listed = [
                Process(Role(role), int(pid), int(started)) for role, pid, started in document["processes"]
            ]
            alive = tuple(process for process in listed if process.alive)
            return Roster(tuple(map(str, document["addresses"])), str(document["admin"]), alive)
        except (OSError, ValueError, KeyError, TypeError):
            return NOBODY

    def leave(self, behind: Roster) -> None:
        """Let go of the directory; only processes that stay `behind` are still listed there."""
        if self._lock is None:
            return
        with contextlib.suppress(OSError):
            os.unlink(self.path / PID_FILE)
        with contextlib.suppress(OSError):
            if behind.processes:
                self.write_roster(behind)
            else:
                os.unlink(self.path / _PROCESSES_FILE)
        os.close(self._lock)
        self._lock = None

    def _replace(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            temporary.write_text(text)
            os.rename(temporary, self.path / name)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, None if there is no such process or it is a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = status[status.rindex(b")") + 2 :].split()  # the name may hold spaces and parentheses
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
