"""Faults 1, 2, 4, 5 and 6: config files that are wrong, odd, swapped, or announced by a storm of SIGHUP."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.faults import load
from bench.faults.findings import Findings
from bench.faults.gateways import gateway_before, two_pipelines
from gateway.processes.directory import Role
from gateway.proxy.pool import IDLE_SECONDS
from tests.config.test_wrong_values import CASES
from tests.faults.operating import deployment, metric, process_ids, settled, status, write
from tests.faults.places import descriptors, resident
from tests.support.configs import complete, marked
from tests.support.polling import eventually
from tests.support.processes import Gateway

REQUESTS_PER_SECOND = 500.0
LONGEST_RUN = 1200.0
USERS = range(1000)
TOLD_SECONDS = 2.0
"""Until a file is followed or refused, it must not take longer."""
SWAPS = 100
SIGNALS = 200
STALL_MILLISECONDS = 50.0
GROWN_BYTES = 50_000_000
BACK_SHARE = 1.05
"""Of memory after a storm, to that before it."""
MORE_DESCRIPTORS = 4
"""What the main process is given to keep by its children in their first seconds. Connections to the upstreams
that have no users any more are closed after `IDLE_SECONDS`."""


def wrong(scale: float) -> Findings:
    """Files with an invalid meaning, one after another, under load: nothing changes and each is told."""
    findings = Findings()
    times: list[float] = []
    cases = CASES[:: max(1, round(1 / scale))]
    with _serving(50) as gateway:
        before = eventually("all workers serve", lambda: settled(gateway))
        digest = status(gateway)["config"]["digest"]
        placed, unchanged = 0, True
        with load.at_rate(gateway.port, REQUESTS_PER_SECOND, LONGEST_RUN, USERS) as running:
            for snippet, _, _ in cases:
                times.append(_told(gateway, marked(complete(snippet))[0].encode()))
                told = status(gateway)["config"]
                placed += "gateway.yaml:" in (told["error"] or "")
                unchanged = unchanged and settled(gateway) == before and told["digest"] == digest
            seen = load.seen(running.finish())
    findings.tell("wrong files", len(cases))
    findings.exactly("told with file and line", placed, len(cases))
    findings.exactly("snapshot and config unchanged", str(unchanged), "True")
    findings.at_most("told after (s, the longest)", max(times), TOLD_SECONDS)
    findings.tell("requests", seen.sent)
    findings.exactly("failed requests", len(seen.failures), 0)
    return findings


def odd(scale: float) -> Findings:
    """What can lie at the path of a config and is none; the control process neither stalls nor swells."""
    del scale
    findings = Findings()
    times: dict[str, float] = {}
    with _serving(50) as gateway:
        (control,) = gateway.pids(Role.CONTROL)
        path, before = gateway.directory / "gateway.yaml", _highest(control)
        with _Watch(gateway) as watch:
            for name, place in ODD.items():
                times[name] = _counted(gateway, functools.partial(_replace, path, place))
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
                write(gateway, deployment=deployment(50))
                eventually("it is well again", lambda: status(gateway)["config"]["error"] is None)
        grown = _highest(control) - before
    findings.tell("kinds", ", ".join(times))
    findings.at_most("refused after (s, the longest)", max(times.values()), TOLD_SECONDS)
    findings.at_most("control process grew at most (bytes)", grown, GROWN_BYTES)
    findings.at_most("slowest answer of the admin API (ms)", watch.slowest * 1000, STALL_MILLISECONDS)
    return findings


def _bomb(path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    path.write_text("\n".join(lines) + "\n")


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)


# "missing" leaves nothing there.
ODD: dict[str, Callable[[Path], object]] = {
    "empty": Path.touch,
    "missing": Path.exists,
    "a directory": Path.mkdir,
    "100 MB": _huge,
    "an alias bomb": _bomb,
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a FIFO": os.mkfifo,
}


def swaps(scale: float) -> Findings:
    """A ConfigMap whose `..data` link moves: each change is followed once, the same bytes never."""
    findings = Findings()
    times: list[float] = []
    count = max(2, round(SWAPS * scale))
    with _serving(100) as gateway:
        mount = _Mount(gateway)
        mount.swap(100)
        (mount.path / "gateway.yaml").symlink_to("..data/gateway.yaml")
        (gateway.directory / "gateway.yaml").unlink()
        (gateway.directory / "gateway.yaml").symlink_to(mount.path / "gateway.yaml")
        eventually("the mount is followed", lambda: status(gateway)["config"]["error"] is None)
        time.sleep(TOLD_SECONDS)
        before = _count(gateway)
        with load.at_rate(gateway.port, REQUESTS_PER_SECOND, LONGEST_RUN, USERS) as running:
            for number in range(1, count + 1):
                mount.swap(number / 10)
                times.append(_until(gateway, number / 10))
            counted = _count(gateway) - before
            mount.swap(count / 10)  # other files, the same bytes
            time.sleep(TOLD_SECONDS)
            again = _count(gateway) - before - counted
            mount.swap(61)
            mount.swap(62)
            last = _until(gateway, 62)
            seen = load.seen(running.finish())
    findings.exactly("swaps followed", len(times), count)
    findings.at_most("followed after (s, the longest)", max(times), TOLD_SECONDS)
    findings.exactly("reloads", counted, count)
    findings.exactly("reloads of the same bytes", again, 0)
    findings.at_most("two swaps at once: the last after (s)", last, TOLD_SECONDS)
    findings.tell("requests", seen.sent)
    findings.exactly("failed requests", len(seen.failures), 0)
    return findings


def storm(scale: float) -> Findings:
    """200 SIGHUP in a second, with 40 contents of the file among them, under load."""
    findings = Findings()
    with _serving(100) as gateway:
        pids = process_ids(gateway)
        opened = [descriptors(pid) for pid in pids]
        with load.at_rate(gateway.port, REQUESTS_PER_SECOND, LONGEST_RUN, USERS) as running:
            time.sleep(3)
            sizes, counted = [resident(pid) for pid in pids], _count(gateway)
            for number in range(round(SIGNALS * scale)):
                if number % 5 == 0:
                    write(gateway, deployment=deployment(number % 100))
                os.kill(gateway.pid, signal.SIGHUP)
                time.sleep(0.005)
            write(gateway, deployment=deployment(37))
            os.kill(gateway.pid, signal.SIGHUP)
            last = _until(gateway, 37)
            eventually("in all workers", lambda: settled(gateway))
            reloads = _count(gateway) - counted
            seen = load.seen(running.finish())
        ended = time.monotonic()
        eventually("descriptors are back", lambda: _are_back(pids, opened), patience=90, interval=0.2)
        back = time.monotonic() - ended
        shares = [resident(pid) / size for pid, size in zip(pids, sizes, strict=True)]
        alive = process_ids(gateway) == pids
    findings.tell("reloads of them", reloads)
    findings.at_most("the last content is in force after (s)", last, TOLD_SECONDS)
    findings.at_most("descriptors are back after (s)", back, IDLE_SECONDS + 5)
    findings.at_most("memory after it, of that before (most)", max(shares), BACK_SHARE)
    findings.exactly("every process lives", str(alive), "True")
    findings.tell("requests", seen.sent)
    findings.exactly("failed requests", len(seen.failures), 0)
    return findings


def _are_back(pids: list[int], before: list[int]) -> bool:
    """Whether processes have no more descriptors than before, but for those that are allowed."""
    return all(descriptors(pid) <= count + MORE_DESCRIPTORS for pid, count in zip(pids, before, strict=True))


class _Mount:
    """A directory as the kubelet mounts a ConfigMap."""

    def __init__(self, gateway: Gateway) -> None:
        self.path = gateway.directory / "mount"
        self.path.mkdir()
        self._gateway = gateway
        self._count = 0

    def swap(self, percentage: float) -> None:
        """A new directory, a new link renamed over `..data`, and the old directory gone at once."""
        self._count += 1
        fresh = self.path / f"..{self._count}"
        fresh.mkdir()
        state = {"directory": str(self._gateway.state)}
        write(self._gateway, fresh / "gateway.yaml", deployment=deployment(percentage), state=state)
        link, temporary = self.path / "..data", self.path / "..tmp"
        old = link.resolve() if link.exists() else None
        temporary.symlink_to(fresh.name)
        temporary.rename(link)
        if old is not None:
            shutil.rmtree(old)


class _Watch:
    """Asks the admin API all the time; `slowest` is its longest answer, in seconds."""

    def __init__(self, gateway: Gateway) -> None:
        self.slowest = 0.0
        self._url = f"http://127.0.0.1:{gateway.admin_port}/livez"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.005):
            began = time.monotonic()
            urllib.request.urlopen(self._url, timeout=10).close()
            self.slowest = max(self.slowest, time.monotonic() - began)


@contextlib.contextmanager
def _serving(percentage: float) -> Iterator[Gateway]:
    """A gateway between two pipelines, this share on treatment."""
    with two_pipelines() as (control, treatment):
        ports = {"traditional": control.port, "dspy": treatment.port}
        with gateway_before(ports, {"deployment": deployment(percentage)}) as gateway:
            yield gateway


def _count(gateway: Gateway) -> int:
    """Reloads so far, good and bad."""
    return round(metric(gateway, "gateway_config_reloads_total"))


def _told(gateway: Gateway, content: bytes) -> float:
    """Put a wrong file in place; seconds until it is counted as one."""
    fresh = gateway.directory / "gateway.new"
    fresh.write_bytes(content)
    return _counted(gateway, lambda: fresh.rename(gateway.directory / "gateway.yaml"))


def _counted(gateway: Gateway, change: Callable[[], object]) -> float:
    """Make a change to the file; seconds until a reload is counted."""
    before = _count(gateway)
    change()
    began = time.monotonic()
    eventually("it is counted", lambda: _count(gateway) > before, interval=0.03)
    return time.monotonic() - began


def _replace(path: Path, place: Callable[[Path], object]) -> None:
    path.unlink()
    place(path)


def _until(gateway: Gateway, percentage: float) -> float:
    """Seconds until the status tells this percentage."""
    began = time.monotonic()
    eventually("it is followed", lambda: status(gateway)["user_percentage"] == percentage, interval=0.03)
    return time.monotonic() - began


def _highest(pid: int) -> int:
    """The most resident memory that a process ever had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
