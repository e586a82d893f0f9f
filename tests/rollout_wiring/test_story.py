"""The rollout of a real gateway, from the first phase to the last, with all that can happen on the way.

Real processes and real traffic; the times of gates are shortened to seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.exits import Exit
from gateway.processes.directory import Role
from tests.support.polling import eventually
from tests.support.processes import Gateway, Load, pipelines

pytestmark = pytest.mark.process

PHASES = ["development", "staging", "canary", "limited_production", "full_production"]


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, int]]:
    """Two sample pipelines."""
    with pipelines() as ports:
        yield ports


@pytest.fixture
def make(tmp_path: Path, upstreams: dict[str, int]) -> Iterator[Callable[..., Gateway]]:
    """Makes a gateway with a deployment section."""
    made: list[Gateway] = []

    def gateway(**deployment: Any) -> Gateway:
        made.append(Gateway(tmp_path, upstreams, workers=1, extra={"deployment": deployment}))
        return made[-1]

    yield gateway
    for one in made:
        one.close()


class Operator:
    """Types commands."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def type(self, *arguments: str, code: Exit = Exit.DONE) -> Any:
        """A command with -o json; what it printed."""
        admin = f"http://127.0.0.1:{self._gateway.admin_port}"
        done = self._gateway.run(*arguments, "--admin", admin, "-o", "json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def status(self) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._gateway.admin_port}/api/v1/status") as answer:
            return json.load(answer)

    def answers(self) -> None:
        """Wait until the control process answers."""

        def look() -> bool:
            with contextlib.suppress(OSError):
                return bool(self.status)
            return False

        eventually("the control process answers", look, interval=0.05)

    def waits_for(self, gate: str, verdict: str, patience: float = 20.0) -> Any:
        """The gate, once it says so."""

        def look() -> Any:
            return next(
                (
                    found
                    for found in self.status["gates"]
                    if found["id"] == gate and found["verdict"] == verdict
                ),
                None,
            )

        return eventually(f"{gate} is {verdict}", look, patience, interval=0.2)


def restart(gateway: Gateway, how: str) -> None:
    """End the gateway, or only its control process, and have it back."""
    if how == "control killed":
        (old,) = gateway.pids(Role.CONTROL)
        os.kill(old, signal.SIGKILL)
        eventually("another control process", lambda: gateway.pids(Role.CONTROL) not in ([], [old]))
        return
    assert gateway.process is not None
    if how == "killed":
        children = [pid for role in (Role.CONTROL, Role.WORKER) for pid in gateway.pids(role)]
        for pid in (gateway.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        gateway.process.wait()
    else:
        assert gateway.stop() == 0
    gateway.start()


@pytest.mark.slow
def test_from_development_to_full_production_with_everything_on_the_way(
    make: Callable[..., Gateway], tmp_path: Path
) -> None:
    """Gates that pass, fail, cannot say; an expired approval; restarts; an emergency; a release; and on."""
    flag = tmp_path / "smoke"
    smoke = f"import os, sys; sys.exit(not os.path.exists({str(flag)!r}))"
    gateway = make(
        initial_phase="development",
        phases={"canary": {"user_percentage": 50}, "limited_production": {"user_percentage": 60}},
        gates={
            "staging -> canary": [
                {"type": "automated_test", "command": [sys.executable, "-c", smoke], "timeout": "10s"}
            ],
            "canary -> limited_production": [
                {"type": "time_based", "minimum": "2s"},
                {"type": "manual_approval", "approvals": 1, "expires": "4s"},
            ],
            "limited_production -> full_production": [
                {
                    "type": "metrics_threshold",
                    "thresholds": {"error_rate": "< 0.01"},
                    "window": "1s",
                    "minimum_samples": 1_000_000,
                }
            ],
        },
        monitoring={"interval": "500ms"},
    )
    gateway.start()
    operator = Operator(gateway)
    with Load(gateway, users=4, pause=0.01) as load:
        # development: nothing stands before staging
        restart(gateway, "control killed")
        operator.answers()
        assert operator.type("advance")["phase"] == "staging"

        # staging: the smoke test fails, and says so; asked again once it is fixed, it passes
        operator.waits_for("staging.canary.automated_test", "fail")
        restart(gateway, "control killed")
        operator.answers()
        flag.touch()
        refused = operator.type("advance", code=Exit.GATE_NOT_PASSED)
        assert [(gate["verdict"], gate["reason"]) for gate in refused["gates"]] == [("fail", "exit code 1")]
        operator.waits_for("staging.canary.automated_test", "pass")
        assert operator.type("advance")["phase"] == "canary"

        # canary: an approval that expires before the time has come
        assert operator.type("approve", "manual_approval", "--operator", "ann")["phase"] == "canary"
        approval = "canary.limited_production.manual_approval"
        operator.waits_for("canary.limited_production.time_based", "pass")
        operator.waits_for(approval, "pending")
        operator.type("advance", code=Exit.GATE_NOT_PASSED)
        restart(gateway, "control killed")
        operator.waits_for("canary.limited_production.time_based", "pass")

        # an emergency in the middle: a signal to the main process
        load.more(50)
        os.kill(gateway.pid, signal.SIGUSR1)
        eventually("control serves", lambda: gateway.arm() == "control")
        status = operator.status
        assert (status["phase"], status["latch"]["kind"], status["user_percentage"]) == (
            "staging",
            "emergency",
            0,
        )
        operator.type("advance", code=Exit.GATE_NOT_PASSED)
        restart(gateway, "control killed")
        operator.answers()
        assert operator.status["latch"]["engaged"]
        load.more(50)

        # released under the ceiling of what failed, and on
        released = operator.type("release", "--operator", "ann", "--reason", "fixed")
        assert (released["phase"], released["ceiling"], released["user_percentage"]) == ("staging", 50, 50)
        operator.waits_for("staging.canary.automated_test", "pass")
        assert operator.type("advance")["ceiling"] is None
        operator.waits_for("canary.limited_production.time_based", "pass")
        operator.type("approve", approval, "--operator", "ann")
        assert operator.type("advance")["phase"] == "limited_production"

        # limited production: too little traffic to say anything, so that only force goes on
        metrics = "limited_production.full_production.metrics_threshold"
        found = operator.waits_for(metrics, "inconclusive")
        assert "no_data" in found["reason"]
        restart(gateway, "control killed")
        operator.waits_for(metrics, "inconclusive")
        operator.type("advance", code=Exit.GATE_NOT_PASSED)
        assert operator.type("advance", "--force", "--reason", "we know")["phase"] == "full_production"
        restart(gateway, "control killed")
        load.more(50)
        eventually(
            "everybody is treated", lambda: {gateway.get(user=f"u{n}").arm for n in range(9)} == {"treatment"}
        )
    failures = [failure for _, failure in load.failures]
    assert failures == []
    operator.answers()
    history = operator.type("history", "--limit", "500")
    moves = [event["to"] for event in history if event["from"] in PHASES and event["from"] != event["to"]]
    assert moves == ["staging", "canary", "staging", "canary", "limited_production", "full_production"]


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_a_restart_of_the_whole_gateway_resumes_phase_share_and_latch(
    make: Callable[..., Gateway], how: str
) -> None:
    """No request is decided by another phase than the one that was left, not even the first."""
    gateway = make(initial_phase="development", phases={"canary": {"user_percentage": 0}})
    gateway.start()
    operator = Operator(gateway)
    for phase in ("staging", "canary"):
        assert operator.type("advance")["phase"] == phase
    since = operator.status["phase_since"]
    restart(gateway, how)
    assert gateway.arm() == "control"
    status = operator.status
    assert (status["phase"], status["phase_since"]) == ("canary", since)
    assert operator.type("rollback", "--reason", "bad answers")["phase"] == "staging"
    restart(gateway, how)
    assert gateway.arm() == "control"
    status = operator.status
    assert (status["phase"], status["latch"]["reason"]) == ("staging", "bad answers")
    assert operator.type("release")["user_percentage"] == 0


def test_an_emergency_while_the_control_process_is_dead_is_worked_off_by_the_next(
    make: Callable[..., Gateway],
) -> None:
    """Control at once; the step back and the history once somebody is there to do it."""
    gateway = make(
        initial_phase="limited_production", phases={"limited_production": {"user_percentage": 100}}
    )
    gateway.start()
    assert gateway.arm() == "treatment"
    (control,) = gateway.pids(Role.CONTROL)
    os.kill(control, signal.SIGSTOP)
    os.kill(gateway.pid, signal.SIGUSR1)
    eventually("control serves", lambda: gateway.arm() == "control")
    os.kill(control, signal.SIGKILL)
    eventually("another control process", lambda: gateway.pids(Role.CONTROL) not in ([], [control]))
    operator = Operator(gateway)
    operator.answers()
    assert operator.status["phase"] == "canary"
    types = [event["type"] for event in operator.type("history")]
    assert types.count("emergency") == 1


def test_the_phase_sets_the_headers_and_the_level_of_the_log(make: Callable[..., Gateway]) -> None:
    """What each phase's config says reaches the workers with the advance."""
    gateway = make(
        initial_phase="development",
        phases={"development": {"monitoring_level": "debug"}, "staging": {"monitoring_level": "error"}},
    )
    gateway.start()
    operator = Operator(gateway)
    snapshot = operator.status["gateway"]["snapshot"]
    operator.type("advance")
    status = operator.status
    assert status["gateway"]["snapshot"] == snapshot + 1
    assert [worker["snapshot"] for worker in status["workers"]] == [snapshot + 1]
    # A rollback is said though the level is error.
    operator.type("rollback")
    eventually("the rollback is in the log", lambda: gateway.events("rollback"))
