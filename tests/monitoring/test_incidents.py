"""Incidents with real processes: a treatment that breaks, restarts, and breaks while nobody watches."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.processes.directory import Role
from tests.faults.operating import status
from tests.support.incidents import Fault, Incident, until
from tests.support.polling import eventually
from tests.support.processes import Gateway

pytestmark = pytest.mark.process
RATE = 100.0
PATIENCE = 60.0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Incident, Gateway]]:
    """A gateway with a fifth of its users on treatment, under load."""
    incident = Incident()
    with incident.running():
        deployment = {"initial_phase": "canary", "phases": {"canary": {"user_percentage": 20}}}
        directory: Path = tmp_path_factory.mktemp("incidents")
        gateway = Gateway(directory, incident.ports, extra={"deployment": deployment})
        gateway.start()
        try:
            with incident.users(gateway.port, RATE):
                yield incident, gateway
        finally:
            gateway.close()


@pytest.fixture(autouse=True)
def well(scene: tuple[Incident, Gateway]) -> None:
    """Both arms serve again, in canary, whatever the test before left."""
    incident, gateway = scene
    incident.begin(incident.dspy, Fault.NONE)
    if seen(gateway)["latch"]["engaged"]:
        assert gateway.run("release", *at(gateway)).returncode == 0
        assert gateway.run("advance", "--force", *at(gateway)).returncode == 0
    began = time.time()
    assert until(lambda: incident.dspy.since(began) > 40, PATIENCE)


def at(gateway: Gateway) -> tuple[str, str]:
    """Where the admin API is."""
    return "--admin", f"http://127.0.0.1:{gateway.admin_port}"


def seen(gateway: Gateway) -> dict[str, Any]:
    """The status, as soon as there is anybody to ask."""

    def ask() -> dict[str, Any] | None:
        with contextlib.suppress(OSError, ValueError):
            return status(gateway)
        return None

    return eventually("the status", ask, PATIENCE)


def latched(gateway: Gateway) -> bool:
    """Whether everything goes to control."""
    return bool(seen(gateway)["latch"]["engaged"])


def test_a_treatment_that_restarts_costs_nobody_an_answer(scene: tuple[Incident, Gateway]) -> None:
    """Control answers for it meanwhile, nothing is latched or held, and then it is back."""
    incident, gateway = scene
    incident.go_down(incident.dspy)
    time.sleep(0.5)  # what was under way on broken connections
    began = time.time()
    assert until(lambda: sum(one.failover for one in list(incident.requests)) > 60, PATIENCE)
    incident.come_up(incident.dspy)
    back = time.time()
    assert until(lambda: incident.dspy.since(back) > 20, PATIENCE)
    document = seen(gateway)
    assert (document["latch"]["engaged"], document["holds"], document["phase"]) == (False, [], "canary")
    assert incident.failed_since(began) == []


def test_a_treatment_that_fails_is_off_at_once(scene: tuple[Incident, Gateway]) -> None:
    """After the failures of a tick or two, and within a tenth of a second of the decision."""
    incident, gateway = scene
    began = incident.begin(incident.dspy, Fault.ERRORS)
    assert until(lambda: latched(gateway), PATIENCE)
    decided = datetime.fromisoformat(seen(gateway)["latch"]["since"]).timestamp()
    assert until(lambda: len([one for one in incident.requests if one.sent > decided + 0.5]) > 50, PATIENCE)
    assert incident.dspy.last <= decided + 0.2
    assert incident.dspy.since(began) == len(incident.failed_since(began))
    *_, rollback = (event for event in gateway.events("rollback") if event["operator"] == "gateway")
    assert "failed: over the limit and worse than control" in rollback["reason"]


def test_an_incident_is_decided_though_control_was_killed_in_it(scene: tuple[Incident, Gateway]) -> None:
    """From what was stored, and from what the workers still hold."""
    incident, gateway = scene
    (pid,) = gateway.pids(Role.CONTROL)
    began = incident.begin(incident.dspy, Fault.ERRORS)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: latched(gateway), PATIENCE)
    decided = datetime.fromisoformat(seen(gateway)["latch"]["since"]).timestamp()
    assert decided > began
    assert until(lambda: len([one for one in incident.requests if one.sent > decided + 0.5]) > 50, PATIENCE)
    assert incident.dspy.last <= decided + 0.2
