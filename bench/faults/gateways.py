"""A gateway for the time of a fault, the pipelines behind it, and which of its users are in which arm."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.processes import ALLOWED_CORES, free_port, load_core, proxy_core
from tests.support.polling import eventually
from tests.support.processes import Gateway

SEARCHED_USERS = 4000
"""Among so many users those of an arm are looked for."""


@contextlib.contextmanager
def gateway_before(
    ports: dict[str, int], extra: dict[str, Any], workers: int = 1, **options: Any
) -> Iterator[Gateway]:
    """A gateway on a core and in a directory of its own; `options` are of its start."""
    with tempfile.TemporaryDirectory() as directory:
        gateway = Gateway(Path(directory), ports, workers=workers, extra=extra)
        gateway.start(**{"prefix": on_core(proxy_core()), **options})
        try:
            yield gateway
        finally:
            gateway.close()


def on_core(core: int) -> list[str]:
    """A command prefix that keeps a program on a core; nothing where there is only one."""
    return ["taskset", "-c", str(core)] if len(ALLOWED_CORES) > 1 else []


class Pipeline:
    """A fast upstream in a process of its own, that can stand still, end and come back on its port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Listen; on the same port each time."""
        command = [sys.executable, "-m", "bench.upstream", str(self.port), str(free_port())]
        self._process = subprocess.Popen([*on_core(load_core()), *command])
        eventually("the upstream listens", self._listens)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            self.requests()
            return True
        return False

    def requests(self) -> int:
        """How many requests have come since the start. Raises OSError where nobody listens."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_seen", timeout=2) as answer:
            return int(json.load(answer)["control"]["requests"])

    def stand_still(self) -> None:
        """The kernel goes on accepting, nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stand_still`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it: from now on connections are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def two_pipelines() -> Iterator[tuple[Pipeline, Pipeline]]:
    """Control and treatment."""
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(contextlib.closing(Pipeline())) for _ in range(2))  # type: ignore[misc]


def users_of(gateway: Gateway, arm: str, count: int) -> list[int]:
    """The first users of an arm; both arms must be well."""
    found: list[int] = []
    for number in range(SEARCHED_USERS):
        if gateway.get(user=f"user-{number}").arm == arm:
            found.append(number)
            if len(found) == count:
                return found
    raise AssertionError(f"only {len(found)} of {SEARCHED_USERS} users are in {arm}")
