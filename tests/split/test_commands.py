"""`gateway explain` and `gateway diff` as a person or a script meets them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.cli import main
from gateway.core.explain import Question, explain
from gateway.core.split import Table
from tests.support.snapshots import make_experiment, make_snapshot

CONFIG = """\
version: 1
overrides: {users: {treatment: [qa-1]}}
upstreams:
  traditional: {endpoints: [http://127.0.0.1:9001]}
  dspy: {endpoints: [http://127.0.0.1:9002]}
routes:
  - name: generate
    match: {path_prefix: /v1/generate, methods: [POST], headers: {X-Step-Type: generate}}
    control: traditional
    treatment: dspy
    experiment: exp
  - {name: rest, match: {path_prefix: /v1}, control: traditional, treatment: dspy}
deployment:
  initial_phase: canary
  phases:
    canary: {user_percentage: 1}
    full_production: {user_percentage: 100}
  experiments:
    exp:
      groups:
        control: {weight: 50}
        treatment: {weight: 50}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A valid file."""
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_explain_on_a_file_says_who_serves_and_why(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first two lines are the answer; figures follow."""
    code, out, _ = run(capsys, "explain", "user-1", "--path", "/v1/x", "--config", config)
    assert code == 0
    assert out.splitlines()[:2] == [
        "user-1 is served by CONTROL (upstream traditional).",
        "The user is not enrolled in this phase.",
    ]
    assert "position 90.7319 % is not under 1 %: not enrolled" in out


def test_explain_marks_the_range_that_holds_the_user(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the experiment's ranges the user's own is pointed at; --phase looks ahead."""
    request = ("--method", "POST", "--path", "/v1/generate", "--header", "X-Step-Type: generate")
    code, out, _ = run(
        capsys, "explain", "user-1", *request, "--phase", "full_production", "--config", config
    )
    assert code == 0
    [marked] = [line.split() for line in out.splitlines() if "◀" in line]
    group = marked[-3]
    assert f"The user is in group {group} of experiment exp." in out


def test_explain_names_a_listed_user(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An override is the reason whatever the positions say."""
    _, out, _ = run(capsys, "explain", "qa-1", "--path", "/v1", "--config", config)
    assert out.startswith(
        "qa-1 is served by TREATMENT (upstream dspy).\nThe user is on the list of overrides"
    )


def test_explain_without_a_route(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That no route matches is an answer, not a failure."""
    code, out, _ = run(capsys, "explain", "u", "--path", "/elsewhere", "--config", config)
    assert code == 0
    assert out.startswith("No route matches GET /elsewhere")


@pytest.mark.parametrize("command", [("explain", "u", "--config"), ("diff", "gateway.yaml")])
def test_an_invalid_file_is_exit_2(
    command: tuple[str, ...], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every problem is a line on stderr, as `check` prints them, and nothing is on stdout."""
    broken = config.with_name("broken.yaml")
    broken.write_text(CONFIG.replace("methods:", "method:"))
    arguments = [config if word == "gateway.yaml" else word for word in command]
    code, out, err = run(capsys, *arguments, broken)
    assert (code, out) == (2, "")
    assert f"{broken}:8:" in err


@pytest.mark.parametrize("command", [("explain", "u", "--config"), ("diff", "gateway.yaml")])
def test_an_unknown_phase_is_exit_2(
    command: tuple[str, ...], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The phases that there are stand in the message."""
    arguments = [config if word == "gateway.yaml" else word for word in command]
    code, _, err = run(capsys, *arguments, config, "--phase", "nope")
    assert code == 2
    assert "full_production" in err


@contextmanager
def admin_api(document: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """An admin API that answers everything with `document`; its address and the targets it was asked for."""
    targets: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            targets.append(self.path)
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's output is the command's."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", targets
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.socket
def test_explain_asks_the_running_gateway(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The request travels whole, and the answer is printed as one of a file would be."""
    snapshot = make_snapshot(100, experiment=make_experiment({"control": 1, "treatment": 1}), version=12)
    question = Question("u&ü", "/v1", "POST", {"x-a": "b: c"})
    document = asdict(explain(Table(snapshot), question, latched=True, available=(True, True)))
    with admin_api(document) as (address, targets):
        request = ("u&ü", "--path", "/v1", "--method", "POST", "--header", "X-A: b: c")
        code, out, _ = run(capsys, "explain", *request, "--admin", address, "-o", output)
    assert code == 0
    [target] = map(urlsplit, targets)
    assert target.path == "/api/v1/explain"
    assert parse_qs(target.query) == {
        "user": ["u&ü"],
        "path": ["/v1"],
        "method": ["POST"],
        "header": ["x-a: b: c"],
    }
    if output == "json":
        assert json.loads(out) == json.loads(json.dumps(document))
    else:
        assert out.splitlines()[1] == "The latch is engaged: everything goes to control."
        assert "snapshot    12" in out


@pytest.mark.socket
def test_explain_without_a_gateway_is_exit_4(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody answers: that is another failure than an invalid file."""
    code, _, err = run(capsys, "explain", "u", "--admin", "unix:/nowhere/admin.sock")
    assert code == 4
    assert "no gateway answers" in err


def test_diff_says_how_many_change_and_why(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares by route first, then who moves where, then the causes."""
    new = config.with_name("new.yaml")
    new.write_text(CONFIG.replace("user_percentage: 1}", "user_percentage: 10}").replace("qa-1", "qa-2"))
    code, out, _ = run(capsys, "diff", config, new)
    assert code == 0
    generate, rest = out.split("\n\n")[1:]
    assert generate.startswith(
        "route generate (POST /v1/generate x-step-type:generate): "
        "4.5 % of the users change arm, 0 % change group\n"
    )
    assert "control, not enrolled → treatment, group treatment" in generate
    assert "because enrolled: 1 % → 10 %" in generate
    assert rest.startswith("route rest (GET /v1): 9 % of the users change arm")
    assert "listed user qa-2: control → treatment" in rest


def test_diff_for_machines(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares are numbers from 0 to 1; a phase that leaves nobody to move leaves none."""
    new = config.with_name("new.yaml")
    new.write_text(CONFIG.replace("user_percentage: 1}", "user_percentage: 10}"))
    code, out, _ = run(capsys, "diff", config, new, "-o", "json")
    document = json.loads(out)
    assert code == 0
    assert document["phase"] == {"old": "canary", "new": "canary"}
    assert [route["arm_share"] for route in document["routes"]] == pytest.approx([0.045, 0.09])
    _, out, _ = run(capsys, "diff", config, new, "-o", "json", "--phase", "full_production")
    assert [route["moves"] for route in json.loads(out)["routes"]] == [[], []]


def test_diff_tells_a_new_route(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing served such requests before there is no share to compute."""
    new = config.with_name("new.yaml")
    route = "  - {name: v2, match: {path_prefix: /v2}, control: traditional, treatment: dspy}\n"
    new.write_text(CONFIG.replace("deployment:\n", f"{route}deployment:\n"))
    _, out, _ = run(capsys, "diff", config, new)
    assert "route v2 is new: nothing served GET /v2" in out
    _, out, _ = run(capsys, "diff", new, config)
    assert "route v2 goes: nothing serves GET /v2" in out
