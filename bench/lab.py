"""The laboratory of a run: a folder, upstreams on the load's core, and one proxy at a time on its own.

It starts and stops things and knows where they listen. It does not know what is measured.
"""

from __future__ import annotations

import contextlib
import http.client
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import install
from bench.processes import BenchError, Program, StartError, free_port, load_core, proxy_core
from bench.proxies import Proxy, Site, render

READY_SECONDS = 20.0
BLOB_BYTES = 1_000_000
"""The size of the bodies that the figures call 1 MB."""


@dataclass(frozen=True, slots=True)
class Upstreams:
    """A pair of running upstreams, by their ports."""

    control: int
    treatment: int


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that answers; with `program` None the upstream itself, for what direct costs."""

    program: Program | None
    site: Site

    @property
    def port(self) -> int:
        """Where the load goes."""
        return self.site.listen

    @property
    def process(self) -> Program:
        """The proxy's program, for figures that are about it."""
        assert self.program is not None
        return self.program

    def cpu_seconds(self) -> float:
        """Give the CPU time of the proxy since its start; nothing for direct."""
        return self.program.cpu_seconds() if self.program is not None else 0.0


def status_of(port: int, path: str = "/") -> int | None:
    """Ask once; None when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path, headers={"X-User-Id": "user-0"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_ready(program: Program, port: int) -> None:
    """Wait until a port answers 200."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and program.running():
        if status_of(port) == 200:
            return
        time.sleep(0.05)
    ended = "does not answer" if program.running() else "ended"
    raise StartError(f"{program.name} {ended}: {program.log_tail()}")


class Lab:
    """Makes sites, upstreams and proxies in one temporary folder, `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._count = 0

    def _site(self, control: int, treatment: int, workers: int) -> Site:
        self._count += 1
        directory = self.directory / str(self._count)
        directory.mkdir()
        ports = (free_port(), free_port(), free_port())
        return Site(directory, ports[0], control, treatment, ports[1], ports[2], workers)

    @contextlib.contextmanager
    def fixed_upstreams(self) -> Iterator[Upstreams]:
        """Start the pair that answers a fixed JSON, gives a 1 MB file and takes uploads (nginx)."""
        nginx = install.find("nginx")
        if nginx is None:
            raise BenchError("nginx is needed for the upstreams: apt-get install nginx-light")
        site = self._site(free_port(), free_port(), 1)
        (site.directory / "blob.bin").write_bytes(bytes(BLOB_BYTES))
        site.directory.chmod(0o755)
        for template in ("upstreams.conf", "uploads.conf"):
            (site.directory / template).write_text(render(template, site))
        config = str(site.directory / "upstreams.conf")
        command = [nginx, "-p", str(site.directory), "-e", "upstreams.err", "-c", config]
        with Program("upstreams", command, core=load_core(), directory=site.directory) as program:
            wait_ready(program, site.control)
            yield Upstreams(site.control, site.treatment)

    @contextlib.contextmanager
    def stamping_upstreams(self) -> Iterator[Upstreams]:
        """Start the pair that streams stamped events and says when requests arrived (`bench.upstream`)."""
        site = self._site(free_port(), free_port(), 1)
        command = [sys.executable, "-m", "bench.upstream", str(site.control), str(site.treatment)]
        with Program("upstreams", command, core=load_core(), directory=site.directory) as program:
            wait_ready(program, site.control)
            yield Upstreams(site.control, site.treatment)

    @contextlib.contextmanager
    def run(self, proxy: Proxy | None, upstreams: Upstreams, *, workers: int = 1) -> Iterator[Running]:
        """Start a proxy alone on its core and wait until it answers; None is the upstream itself."""
        site = self._site(upstreams.control, upstreams.treatment, workers)
        if proxy is None:
            yield Running(None, Site(site.directory, upstreams.control, 0, 0, 0, 0))
            return
        proxy.write(site)
        with Program(
            proxy.name,
            proxy.arguments(site),
            core=proxy_core(),
            directory=site.directory,
            environment=proxy.environment,
        ) as program:
            wait_ready(program, site.listen)
            yield Running(program, site)


@contextlib.contextmanager
def open_lab() -> Iterator[Lab]:
    """Make a laboratory in a temporary folder and clear it away."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        Path(directory).chmod(0o755)
        yield Lab(Path(directory))
