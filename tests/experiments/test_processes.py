"""Experiments in a real gateway: real requests, commands, and a control process that is killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest

from gateway.exits import Exit
from gateway.processes.directory import Role
from tests.support.experiments import users
from tests.support.polling import eventually
from tests.support.processes import Gateway

pytestmark = pytest.mark.process

USERS = 120


class _Pipeline(BaseHTTPRequestHandler):
    """Answers, and reports an accuracy, which differs by user. Notes what it was told about each of them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        user = self.headers["X-User-Id"]
        with server.lock:
            server.told[user] = dict(self.headers)
        accuracy = server.accuracy + 0.4 * zlib.crc32(user.encode()) / 2**32
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
        self.accuracy = 0.1
        """That of the user who fares worst; others fare better by 0.4 at most."""
        super().__init__(("127.0.0.1", 0), _Pipeline)

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture
def told() -> dict[str, dict[str, str]]:
    """The headers of each user's newest request, as an upstream saw them."""
    return {}


@pytest.fixture
def servers(told: dict[str, dict[str, str]]) -> Iterator[dict[str, _Server]]:
    """Two upstreams that are equally good."""
    servers = {name: _Server(name, told) for name in ("traditional", "dspy")}
    threads = [Thread(target=server.serve_forever, args=(0.05,)) for server in servers.values()]
    for thread in threads:
        thread.start()
    try:
        yield servers
    finally:
        for server, thread in zip(servers.values(), threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def start(
    gateways: Callable[..., Gateway], servers: dict[str, _Server]
) -> Callable[[dict[str, Any]], Gateway]:
    """Starts a gateway that enrols everybody, with an experiment `exp`."""

    def started(experiment: dict[str, Any]) -> Gateway:
        deployment = {
            "initial_phase": "canary",
            "phases": {"canary": {"user_percentage": 100}},
            "experiments": {"exp": experiment},
        }
        ports = {name: int(server.server_address[1]) for name, server in servers.items()}
        gateway = gateways(upstreams=ports, extra={"deployment": deployment})
        configuration = gateway.configuration()
        configuration["routes"][0]["experiment"] = "exp"
        (gateway.directory / "gateway.yaml").write_text(json.dumps(configuration))
        gateway.start()
        return gateway

    return started


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
        return self._get("experiments/exp")

    def status(self) -> Any:
        """The status of the gateway; None while nobody answers."""
        return self._get("status")

    def group_of(self, user: str) -> str:
        """The group that a user is assigned to."""
        return str(self._get(f"experiments/exp/assignments/{user}")["group"])

    def _get(self, path: str) -> Any:
        url = f"{self._admin}/api/v1/{path}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
            return json.load(answer)
        return None

    def report(self, *outcomes: dict[str, Any]) -> Any:
        """Post outcomes; the receipt."""
        body = json.dumps(outcomes).encode()
        request = urllib.request.Request(f"{self._admin}/api/v1/outcomes", body, method="POST")
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


def visit(gateway: Gateway, users: Iterable[str]) -> None:
    """A request of each user, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
    for user in users:
        connection.request("GET", "/", headers={"X-User-Id": user})
        answer = connection.getresponse()
        assert answer.status == 200
        assert "X-Gateway-Metric" not in answer.headers
        answer.read()
    connection.close()


def test_from_the_first_request_to_the_winner(
    start: Callable[[dict[str, Any]], Gateway],
    servers: dict[str, _Server],
    told: dict[str, dict[str, str]],
) -> None:
    """Users stay in their groups, results survive a killed control process, and the winner takes all."""
    servers["dspy"].accuracy = 0.5
    gateway = start(
        {
            "seed": "story",
            "groups": {
                "control": {"weight": 1},
                "treatment": {"weight": 1, "configuration": {"model_name": "small", "temperature": 0.2}},
            },
            "success_metrics": ["accuracy"],
            "minimum_sample_size": 20,
        }
    )
    operator = Operator(gateway)
    visit(gateway, users(USERS))

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
    visit(gateway, users(USERS))  # not a request notices
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
    visit(gateway, users(USERS))
    assert {told[user]["X-Gateway-Group"] for user in groups} == {"treatment"}
    assert {told[user]["X-Gateway-Arm"] for user in groups} == {"treatment"}

    assert gateway.stop() == 0
    gateway.start()
    restarted = eventually("it answers", operator.show)
    assert (restarted["status"], restarted["winner"]) == ("concluded", "treatment")
    assert restarted["metrics"]["user_satisfaction"] == before["metrics"]["user_satisfaction"]
    visit(gateway, users(20))
    assert told["user-3"]["X-Gateway-Group"] == "treatment"


# --- three stories ------------------------------------------------------------------------------

HALVES = {
    "groups": {"control": {"weight": 1}, "treatment": {"weight": 1}},
    "seed": "halves",
    "success_metrics": ["accuracy"],
    "minimum_sample_size": 100,
}
ROUNDS, A_ROUND = 8, 40
"""Looks at an experiment, and new users between two of them: half more than the minimum in each group."""


def watched(gateway: Gateway, operator: Operator) -> list[dict[str, Any]]:
    """Users come round after round; what was seen at each look, and when all of them were counted."""
    seen = []
    for number in range(ROUNDS):
        visit(gateway, users(A_ROUND, f"round-{number}"))
        seen.append(operator.show())
    seen.append(eventually("all are counted", lambda: _whole(operator.show())))
    return seen


def _whole(document: Any) -> Any:
    return document if document and document["participants"] >= ROUNDS * A_ROUND else None


def test_a_true_lift_is_started_looked_at_shipped_and_concluded(
    start: Callable[[dict[str, Any]], Gateway],
    servers: dict[str, _Server],
    told: dict[str, dict[str, str]],
) -> None:
    """A draft counts nobody; started, it says `ship` once it may and not before; its winner serves all."""
    servers["dspy"].accuracy += 0.1
    gateway = start({**HALVES, "enabled": False})
    operator = Operator(gateway)
    visit(gateway, users(20))
    assert operator.type("start", "exp")["participants"] == 0
    seen = watched(gateway, operator)
    verdicts = [document["verdict"] for document in seen]
    assert (verdicts[0], verdicts[-1]) == ("continue", "ship")
    assert verdicts == sorted(verdicts, key=["continue", "ship"].index)  # no look takes it back
    assert seen[-1]["recommended"] == "treatment"
    (comparison,) = seen[-1]["metrics"]["accuracy"]["comparisons"]
    low, high = comparison["interval"]
    assert 0 < low < 0.1 < high
    done = operator.type("conclude", "exp", "--winner", seen[-1]["recommended"], "--reason", "better")
    assert (done["status"], done["acknowledged"]) == ("concluded", True)
    told.clear()
    visit(gateway, [*users(20), *users(A_ROUND, "round-0")])
    assert {headers["X-Gateway-Group"] for headers in told.values()} == {"treatment"}
    assert {headers["X-Gateway-Arm"] for headers in told.values()} == {"treatment"}


def test_equal_pipelines_are_not_falsely_won(start: Callable[[dict[str, Any]], Gateway]) -> None:
    """However often one looks: neither side is called better, and the split is as declared."""
    gateway = start(HALVES)
    seen = watched(gateway, Operator(gateway))
    assert {document["verdict"] for document in seen} == {"continue"}
    assert seen[-1]["recommended"] is None
    assert seen[-1]["sample_ratio"]["ok"]
    (comparison,) = seen[-1]["metrics"]["accuracy"]["comparisons"]
    low, high = comparison["interval"]
    assert low < 0 < high


def test_a_broken_split_is_invalid_and_holds_the_rollout(
    start: Callable[[dict[str, Any]], Gateway], servers: dict[str, _Server]
) -> None:
    """Most users of control never arrive: nothing is believed, however clear the difference looks."""
    servers["dspy"].accuracy = 0.5
    gateway = start({**HALVES, "minimum_sample_size": 20})
    operator = Operator(gateway)
    groups = {user: operator.group_of(user) for user in users(480)}
    lost = [user for user, group in groups.items() if group == "control"][30:]
    arriving = [user for user in groups if user not in lost]
    visit(gateway, arriving)
    shown = eventually(
        "all are counted",
        lambda: (found := operator.show()) and found["participants"] >= len(arriving) and found,
    )
    assert (shown["verdict"], shown["recommended"], shown["sample_ratio"]["ok"]) == ("invalid", None, False)
    assert operator.type("show", "exp", output="text").count("INVALID: the groups' sizes contradict") == 1
    held = eventually("the rollout is held", lambda: (operator.status() or {}).get("holds"))
    assert [hold["kind"] for hold in held] == ["sample_ratio"]
