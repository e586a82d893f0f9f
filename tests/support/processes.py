"""Real gateways for tests: started as an operator starts them, watched from outside.

Every wait has a deadline, and only processes that were started here are ever signalled.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from gateway.latch import DurableLatch, LatchState
from gateway.processes.directory import Role, StateDirectory
from tests.support.polling import eventually

PATIENCE = 30.0
ROOT = Path(__file__).parent.parent.parent


_PARTS = 8  # of the ports: one for each of the processes that run tests at the same time
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody uses, that was never given before, and that the kernel gives to nobody by itself.

    Linux draws ports from 32768 on: whatever runs at the same time cannot take it before it is used.
    Nor can tests of another process of this run: each draws from a part of its own.
    """
    chance = random.SystemRandom()
    part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PARTS
    while True:
        port = chance.randrange(10_000 + part, 32_768, _PARTS)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


def catches_term(pid: int) -> bool:
    """True once a process handles SIGTERM, which a worker does when it is about to serve."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


class _Pipeline(BaseHTTPRequestHandler):
    """A sample pipeline: answers with its name, slowly where the path is /slow, and more so at /slower."""

    protocol_version = "HTTP/1.1"
    pauses: ClassVar[dict[str, float]] = {"/slow": 1.0, "/slower": 10.0}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if self.path in self.pauses:
            self.asked.append(self.path)
            time.sleep(self.pauses[self.path])
        body = self.server.name.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(("127.0.0.1", 0), _Pipeline)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the gateway was killed under it: that is what the tests do


def slow_requests() -> int:
    """Requests for /slow and /slower that the sample pipelines of this process ever got."""
    return len(_Pipeline.asked)


@contextlib.contextmanager
def pipelines() -> Iterator[dict[str, int]]:
    """Two upstreams, `traditional` and `dspy`, by port."""
    servers = [_Server("traditional"), _Server("dspy")]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield {server.name: int(server.server_address[1]) for server in servers}
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def end_at_once(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM until it has ended with all its children; SIGKILL if it cannot be told."""
    give_up = time.monotonic() + 3.0
    while process.poll() is None and time.monotonic() < give_up:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    process.kill()
    process.wait()


@dataclass(frozen=True)
class Answer:
    """What one request came to."""

    status: int
    arm: str
    body: str


@dataclass
class Gateway:
    """A gateway in a directory of its own: its config, its addresses, and its main process if it runs."""

    directory: Path
    upstreams: dict[str, int]
    workers: int = 2
    extra: dict[str, Any] = field(default_factory=dict)
    upstream_host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    health_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    def configuration(self) -> dict[str, Any]:
        endpoint = f"http://{self.upstream_host}:{{}}".format
        return {
            "version": 1,
            "listen": {"address": f"127.0.0.1:{self.port}", "workers": self.workers},
            "admin": {"address": f"127.0.0.1:{self.admin_port}"},
            "health": {"address": f"127.0.0.1:{self.health_port}"},
            "state": {"directory": "./state"},
            "drain_timeout": "5s",
            "upstreams": {name: {"endpoints": [endpoint(port)]} for name, port in self.upstreams.items()},
            "routes": [
                {
                    "name": "default",
                    "match": {"path_prefix": "/"},
                    "control": "traditional",
                    "treatment": "dspy",
                }
            ],
            **self.extra,
        }

    def start(self, *arguments: str, ready: bool = True, **options: Any) -> subprocess.Popen[bytes]:
        """`gateway run`; waits until it answers unless `ready` is False. Log lines go to a file."""
        config = self.directory / "gateway.yaml"
        if not config.exists():
            config.write_text(json.dumps(self.configuration()))  # JSON is YAML
        with self.log_path.open("ab") as log:
            command = [sys.executable, "-m", "gateway", "run", str(config), *arguments]
            prefix = options.pop("prefix", [])
            process = subprocess.Popen(
                [*prefix, *command], **{"cwd": ROOT, "stdout": log, "stderr": log, **options}
            )
        self.process = process
        self._started.append(process)
        if ready:
            self.wait_ready()
        return process

    def wait_ready(self) -> None:
        """Wait until every worker is up and one of them answers: they share the listening socket."""
        assert self.process is not None
        eventually(f"the gateway answers; its log: {self.log()}", self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended: {self.log()}"
        workers = self.pids(Role.WORKER)
        if len(workers) < self.workers or not all(map(catches_term, workers)):
            return False
        try:
            return self.get().status == 200
        except OSError:
            return False

    def stop(self, patience: float = PATIENCE) -> int:
        """SIGTERM, then the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(patience)

    def close(self) -> None:
        """End every process of it, whatever the test left of them."""
        for process in self._started:
            end_at_once(process)
        # What a killed main process left behind; one that could still be told took them along.
        for role in (Role.CONTROL, Role.WORKER):
            for pid in self.pids(role):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def pids(self, role: Role) -> list[int]:
        """Live processes of a role, as the gateway wrote them down."""
        roster = StateDirectory(self.state).read_roster()
        return [process.pid for process in roster.processes if process.role is role]

    def latch(self) -> LatchState | None:
        """What the latch file says."""
        return DurableLatch(self.state).load()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def events(self, event: str) -> list[dict[str, Any]]:
        """The log's lines about an event."""
        # Who reads while a line is written may see its beginning: without its end it is none yet.
        whole, _, _ = self.log().rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def get(self, path: str = "/", user: str = "u1", timeout: float = 5.0) -> Answer:
        """One request on a connection of its own. Raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"X-User-Id": user})
            response = connection.getresponse()
            body = response.read().decode()
            return Answer(response.status, response.headers.get("X-Gateway-Arm", ""), body)
        except http.client.HTTPException as error:
            raise ConnectionError(repr(error)) from None
        finally:
            connection.close()

    def arm(self) -> str:
        """Which arm serves now."""
        return self.get().arm

    def run(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Another `gateway` command, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


class Load:
    """Users that ask all the time, each over a connection that is kept while it lasts."""

    def __init__(self, gateway: Gateway, users: int = 8, pause: float = 0.005) -> None:
        self._gateway = gateway
        self._pause = pause
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(f"user-{n}",)) for n in range(users)]
        self.answers: Counter[str] = Counter()
        self.failures: list[tuple[float, str]] = []
        self.refused = 0
        self.last_treatment = 0.0
        """Monotonic time at which the last request that treatment answered was sent."""

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    @property
    def count(self) -> int:
        return self.answers.total()

    def more(self, count: int) -> None:
        """Wait until `count` more requests were answered."""
        goal = self.count + count
        eventually(f"{count} more answers", lambda: self.count >= goal)

    def _ask(self, user: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=10)
        while not self._end.wait(self._pause):
            sent = time.monotonic()
            try:
                connection.request("GET", "/", headers={"X-User-Id": user})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                self.refused += isinstance(error, ConnectionRefusedError)
                self.failures.append((sent, repr(error)))
                connection.close()
                continue
            arm = response.headers.get("X-Gateway-Arm", "")
            if arm == "treatment":
                self.last_treatment = max(self.last_treatment, sent)
            if response.status != 200:
                self.failures.append((sent, f"status {response.status}"))
            self.answers[arm] += 1
        connection.close()
