"""Processes of a run: started on a core of their own, measured from /proc, ended by process id.

It knows nothing of proxies. CPU time is what the kernel charges to a program's whole tree, user and
system, in clock ticks (10 ms); memory is resident (shared pages count in every process that maps
them) and proportional (shared pages are split among those that map them).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
FIRST_PORT, LAST_PORT = 20000, 32000
"""Below the range from which the kernel takes ports for outgoing connections."""
LOG_TAIL_CHARACTERS = 800


class BenchError(Exception):
    """Something that a run needs is not there or does not do its part; the message says what."""


class StartError(BenchError):
    """A program did not start; the message has the end of its log."""


def proxy_core() -> int:
    """Give the core that the measured proxy has to itself."""
    return sorted(ALLOWED_CORES)[0]


def load_core() -> int:
    """Give the core of the load and the upstreams."""
    return sorted(ALLOWED_CORES)[1]


ALLOWED_CORES = os.sched_getaffinity(0)


def require_two_cores() -> None:
    """Refuse a machine on which proxy and load would share a core, and move this process out of the way."""
    if len(ALLOWED_CORES) < 2:
        raise BenchError("the benchmark needs two cores: one for the proxy, one for load and upstreams")
    os.sched_setaffinity(0, {load_core()})


def free_port() -> int:
    """Find a port on loopback that nobody listens on."""
    for _ in range(200):
        port = random.randint(FIRST_PORT, LAST_PORT)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BenchError("no free port on loopback")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc shows it; `started` tells it from a later one with the same id."""

    pid: int
    parent: int
    started: int
    state: str
    ticks: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a tree of processes, in bytes."""

    resident: int
    proportional: int


def read_process(pid: int) -> Process | None:
    """Read one process; None when it is gone. The ticks include those of children it waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # proc(5), from the third field on
    return Process(pid, int(fields[1]), int(fields[19]), fields[0], sum(int(each) for each in fields[11:15]))


def core_busy_seconds(core: int) -> float:
    """Give how long a core has done anything at all since boot, from /proc/stat."""
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{core}":
            user, nice, system, _, _, interrupts, soft_interrupts = (int(word) for word in words[1:8])
            return (user + nice + system + interrupts + soft_interrupts) / TICKS_PER_SECOND
    raise BenchError(f"/proc/stat has no core {core}")


def tree(root: int) -> list[Process]:
    """Give the processes of a tree, the root first."""
    everyone = [read_process(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    children: dict[int, list[Process]] = {}
    found: list[Process] = []
    for process in everyone:
        if process is not None:
            children.setdefault(process.parent, []).append(process)
            if process.pid == root:
                found.append(process)
    for process in found:
        found += children.get(process.pid, [])
    return found


def read_memory(pid: int) -> Memory:
    """Read one process's memory; nothing when it is gone."""
    values = {"Rss:": 0, "Pss:": 0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            words = line.split()
            if words[0] in values:
                values[words[0]] = int(words[1]) * 1024
    return Memory(values["Rss:"], values["Pss:"])


class Program:
    """A running program and its children. Leaving the context ends all of them."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        core: int,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        piped: bool = False,
    ) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        pipe = subprocess.PIPE if piped else None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                text=True,
                env={**os.environ, **(environment or {})},
                cwd=Path(__file__).parent.parent,
            )

    @property
    def pid(self) -> int:
        """The id of the root process."""
        return self._process.pid

    def running(self) -> bool:
        """Whether the root process lives."""
        return self._process.poll() is None

    def tree(self) -> list[Process]:
        """Give the live processes of the program, the root first."""
        return tree(self.pid)

    def cpu_seconds(self) -> float:
        """Give the user and system time of the whole tree since its start."""
        return sum(process.ticks for process in self.tree()) / TICKS_PER_SECOND

    def memory(self) -> Memory:
        """Give the memory of the whole tree now."""
        parts = [read_memory(process.pid) for process in self.tree()]
        return Memory(sum(part.resident for part in parts), sum(part.proportional for part in parts))

    def log_tail(self) -> str:
        """Give the end of what it wrote, for an error message."""
        return self._log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:].strip()

    def read_line(self) -> str:
        """Read a line of a piped program's output."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"{self.name} ended early: {self.log_tail()}")
        return str(line)

    def finish_input(self) -> None:
        """Close a piped program's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def terminate(self) -> None:
        """Ask the root process to end."""
        self._process.terminate()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the root process."""
        self._process.send_signal(number)

    def stop(self, patience: float = 5.0) -> None:
        """End the program: politely, then for good, with whatever children are left."""
        family = self.tree()
        if self.running():
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        for member in family:
            now = read_process(member.pid)
            if now is not None and now.started == member.started and now.state != "Z":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def wait_until_gone(process: Process, seconds: float) -> int:
    """Wait until a process has let go of its sockets; gives the monotonic time in nanoseconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = read_process(process.pid)
        if now is None or now.started != process.started or now.state == "Z":
            return time.monotonic_ns()
        time.sleep(0.0005)
    raise BenchError(f"process {process.pid} did not end within {seconds} s")
