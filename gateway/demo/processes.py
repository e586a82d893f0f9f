"""The demo's child processes: none can outlive the demo, and none is left behind.

A child gets SIGTERM when the demo dies, however it dies. Grandchildren whose parent died become children
of the demo (it is their subreaper), so that `end_orphans` finds them.

It does not know what the processes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import gateway

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_LAST_LINES = 12
_ORPHAN_PATIENCE = 3.0
_LIBC = ctypes.CDLL(None)


class Child:
    """A running `python -m MODULE`, its standard input, and the log that its output goes to.

    A file takes the output, not a pipe: a pipe that grandchildren hold open would hide the child's end.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} returncode={self._process.returncode}>"

    @classmethod
    async def start(
        cls, name: str, arguments: Sequence[str], log: Path, inherit: Sequence[int] = ()
    ) -> Child:
        """Start `python -m ARGUMENTS` of this very package, out of reach of the terminal's Ctrl-C."""
        package_root = str(Path(gateway.__file__).parents[1])
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=tuple(inherit),
                env={**os.environ, "PYTHONPATH": package_root},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def tell(self, line: bytes) -> None:
        """Write to the child's standard input without waiting; nothing happens if it has gone."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(line)

    async def ended(self) -> str:
        """Wait for its end and say how it ended."""
        code = await self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} (pid {self.pid}) {how}"

    def last_lines(self) -> list[str]:
        """The last lines that it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]

    async def stop(self, patience: float) -> None:
        """SIGTERM, and SIGKILL after `patience` seconds."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), patience)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def adopt_orphans() -> None:
    """From now on, descendants that lose their parent become children of this process."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans() -> None:
    """End every child that is left: SIGTERM, then SIGKILL. To be called when all known ones ended."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        orphans = _children_of(os.getpid(), _parents())
        for pid in orphans:
            os.kill(pid, sign)  # a child that was not waited for keeps its pid: it cannot be another's
        deadline = time.monotonic() + _ORPHAN_PATIENCE
        while orphans and time.monotonic() < deadline:
            orphans = [pid for pid in orphans if os.waitpid(pid, os.WNOHANG)[0] == 0]
            time.sleep(0.02)


def resident_bytes(root: int) -> int:
    """Resident memory of a process and all its descendants; what vanished meanwhile counts nothing."""
    parents = _parents()
    page = os.sysconf("SC_PAGE_SIZE")
    total, pids = 0, [root]
    while pids:
        pid = pids.pop()
        pids += _children_of(pid, parents)
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
    return total


def _children_of(parent: int, parents: Mapping[int, int]) -> list[int]:
    return [pid for pid, its_parent in parents.items() if its_parent == parent]


def _parents() -> dict[int, int]:
    """Every process on the machine with its parent. (`/proc/*/children` is not in every kernel.)"""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2]
                parents[int(entry.name)] = int(after_name.split()[1])
    return parents


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
