"""An experiment in a real gateway: real requests, commands, and a control process that is killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest

from gateway.exits import Exit
from gateway.processes.directory import Role
from tests.support.processes import Gateway, eventually

pytestmark = pytest.mark.process

USERS = 120


class _Pipeline(BaseHTTPRequestHandler):
    """Answers, and reports an accuracy: better in treatment. Notes what it was told about each user."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        user = self.headers["X-User-Id"]
        with server.lock:
            server.told[user] = dict(self.headers)
        accuracy = (0.9 if server.name == "dspy" else 0.5) + int(user.strip("user-")) % 10 / 100
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("X-Gateway-Metric", f"accuracy={accuracy:.2f}")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, name: str, told: dict[str, dict[str, str]]) -> None:
        self.name, self.told, self.lock = name, told, Lock()
        super().__init__(("127.0.0.1", 0), _Pipeline)

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture
def told() -> dict[str, dict[str, str]]:
    """The headers of each user's newest request, as an upstream saw them."""
    return {}


@pytest.fixture
def pipelines(told: dict[str, dict[str, str]]) -> Iterator[dict[str, int]]:
    """Two upstreams, `traditional` and `dspy`, by port."""
    servers = [_Server("traditional", told), _Server("dspy", told)]
    threads = [Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield {server.name: int(server.server_address[1]) for server in servers}
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


class Operator:
    """Types `gateway experiment`, and posts outcomes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._admin = f"http://127.0.0.1:{gateway.admin_port}"

    def type(self, *arguments: str, code: Exit = Exit.DONE, output: str = "json") -> Any:
        """A command; its JSON, or its text."""
        done = self._gateway.run("experiment", *arguments, "--admin", self._admin, "-o", output)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if output == "json" else done.stdout

    def show(self) -> Any:
        """The document of the experiment; None while nobody answers."""
        url = f"{self._admin}/api/v1/experiments/exp"
        with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
            return json.load(answer)
        return None

    def report(self, *outcomes: dict[str, Any]) -> Any:
        """Post outcomes; the receipt."""
        body = json.dumps(outcomes).encode()
        request = urllib.request.Request(f"{self._admin}/api/v1/outcomes", body, method="POST")
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


def visit(gateway: Gateway, count: int) -> None:
    """A request of each user, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
    for number in range(count):
        connection.request("GET", "/", headers={"X-User-Id": f"user-{number}"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert "X-Gateway-Metric" not in answer.headers
        answer.read()
    connection.close()


def test_from_the_first_request_to_the_winner(
    gateways: Callable[..., Gateway],
    pipelines: dict[str, int],
    told: dict[str, dict[str, str]],
) -> None:
    """Users stay in their groups, results survive a killed control process, and the winner takes all."""
    experiment = {
        "seed": "story",
        "groups": {
            "control": {"weight": 1},
            "treatment": {"weight": 1, "configuration": {"model_name": "small", "temperature": 0.2}},
        },
        "success_metrics": ["accuracy"],
        "minimum_sample_size": 20,
    }
    deployment = {
        "initial_phase": "canary",
        "phases": {"canary": {"user_percentage": 100}},
        "experiments": {"exp": experiment},
    }
    gateway = gateways(upstreams=pipelines, extra={"deployment": deployment})
    configuration = gateway.configuration()
    configuration["routes"][0]["experiment"] = "exp"
    (gateway.directory / "gateway.yaml").write_text(json.dumps(configuration))
    gateway.start()
    operator = Operator(gateway)
    visit(gateway, USERS)

    groups = {user: headers.get("X-Gateway-Group") for user, headers in told.items() if user != "u1"}
    assert set(groups.values()) == {"control", "treatment"}
    treated = next(user for user, group in groups.items() if group == "treatment")
    assert told[treated]["X-Gateway-Config-Model-Name"] == "small"
    assert told[treated]["X-Gateway-Config-Temperature"] == "0.2"
    counted = eventually("all take part", lambda: (operator.show() or {}).get("participants", 0) > USERS)
    assert counted

    # What users say later, acknowledged before the control process is killed.
    ratings = [
        {"id": f"r-{user}", "user_id": user, "metric": "user_satisfaction", "value": 1, "experiment": "exp"}
        for user in groups
    ]
    assert operator.report(*ratings)["accepted"] == USERS
    before = operator.show()
    (control,) = gateway.pids(Role.CONTROL)
    os.kill(control, signal.SIGKILL)
    visit(gateway, USERS)  # not a request notices
    assert {user: told[user]["X-Gateway-Group"] for user in groups} == groups
    eventually("another control process", lambda: gateway.pids(Role.CONTROL) not in ([], [control]))
    after = eventually("it answers", operator.show)
    assert after["metrics"]["user_satisfaction"] == before["metrics"]["user_satisfaction"]
    assert operator.report(*ratings)["repeated"] == USERS

    shown = operator.show()
    assert (shown["verdict"], shown["recommended"]) == ("ship", "treatment")
    text = operator.type("show", "exp", output="text")
    assert text.splitlines()[0].startswith("exp is running")
    assert "SHIP: " in text
    operator.type("start", "exp", code=Exit.GATE_NOT_PASSED)
    operator.type("conclude", "exp", "--winner", "treatment")
    visit(gateway, USERS)
    assert {told[user]["X-Gateway-Group"] for user in groups} == {"treatment"}
    assert {told[user]["X-Gateway-Arm"] for user in groups} == {"treatment"}

    assert gateway.stop() == 0
    gateway.start()
    restarted = eventually("it answers", operator.show)
    assert (restarted["status"], restarted["winner"]) == ("concluded", "treatment")
    assert restarted["metrics"]["user_satisfaction"] == before["metrics"]["user_satisfaction"]
    visit(gateway, 20)
    assert told["user-3"]["X-Gateway-Group"] == "treatment"
