"""`gateway emergency` finds a way, whatever is dead."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.latch import LatchKind
from gateway.processes.directory import Role
from tests.support.polling import eventually
from tests.support.processes import Gateway, free_port

pytestmark = pytest.mark.process


def emergency(gateway: Gateway, *arguments: str) -> str:
    done = gateway.run("emergency", "--state-dir", str(gateway.state), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def engaged(gateway: Gateway) -> bool:
    found = gateway.latch()
    return found is not None and found.engaged


def test_by_the_admin_api_it_names_the_operator(running: Gateway):
    """With everything alive the API does it, and the latch says who asked and why."""
    said = emergency(running, "--operator", "ada", "--reason", "smoke")
    assert "admin API" in said
    assert running.arm() == "control"
    found = running.latch()
    assert found is not None
    assert (found.operator, found.reason, found.kind) == ("ada", "smoke", LatchKind.EMERGENCY)


def test_with_the_control_process_stopped_it_signals_the_main_process(running: Gateway):
    """A control process that stands still costs the command a second and nothing else."""
    os.kill(running.pids(Role.CONTROL)[0], signal.SIGSTOP)
    began = time.monotonic()
    said = emergency(running)
    assert time.monotonic() - began < 6.0  # a second of waiting, and starting a command on a busy machine
    assert f"main process, pid {running.pid}" in said
    assert running.arm() == "control"
    assert engaged(running)


def test_with_the_main_process_stopped_too_it_signals_the_workers(running: Gateway):
    """Control process and supervisor both stand still: the workers flip the page that all share."""
    os.kill(running.pid, signal.SIGSTOP)
    os.kill(running.pids(Role.CONTROL)[0], signal.SIGSTOP)
    said = emergency(running)
    assert "workers" in said
    assert running.arm() == "control"
    assert engaged(running)
    os.kill(running.pid, signal.SIGCONT)


def test_with_everything_but_the_workers_dead_it_signals_the_workers(running: Gateway):
    """Supervisor killed, control gone with it: the orphans switch, and so will the next gateway."""
    assert running.process is not None
    running.process.kill()
    running.process.wait()
    workers = running.pids(Role.WORKER)
    said = emergency(running)
    assert all(str(pid) in said for pid in workers)
    assert running.arm() == "control"
    assert engaged(running)
    running.start()
    assert running.arm() == "control"


def test_with_nothing_running_it_latches_the_next_start(running: Gateway):
    """No process at all: the latch file says what the next start shall do."""
    assert running.stop() == 0
    said = emergency(running, "--reason", "before the start")
    assert "next start" in said
    running.start()
    assert running.arm() == "control"
    found = running.latch()
    assert found is not None
    assert found.reason == "before the start"


def test_a_config_that_is_refused_at_the_start_latches_orphans_and_the_next_start(running: Gateway):
    """The key is obeyed by what still serves, though no gateway starts with the file."""
    assert running.process is not None
    running.process.kill()
    running.process.wait()
    good = running.configuration()
    config = running.directory / "refused.json"
    config.write_text(json.dumps({**good, "emergency": True, "healht": {}}) + "\n")
    done = running.run("run", str(config))
    assert done.returncode == 2
    assert "healht: unknown key" in done.stderr
    assert "emergency: no gateway runs on" in done.stderr
    eventually("the orphans switched", lambda: running.arm() == "control")
    assert engaged(running)
    again = running.run("run", str(config))
    assert again.returncode == 2
    assert "emergency:" not in again.stderr  # tried again and again, it is done once


def test_where_there_is_no_gateway_it_says_so_with_4(gateways: Callable[..., Gateway], tmp_path: Path):
    """No API, no directory: nothing could be done, and exit code 4 says it."""
    gateway = gateways()
    admin = f"http://127.0.0.1:{free_port()}"
    done = gateway.run("emergency", "--admin", admin, "--state-dir", str(tmp_path / "none"))
    assert done.returncode == 4
    assert "--state-dir" in done.stdout


def test_machines_can_read_what_it_did(gateways: Callable[..., Gateway]):
    """-o json: one object."""
    gateway = gateways()
    gateway.state.mkdir()
    said = json.loads(emergency(gateway, "-o", "json"))
    assert said["engaged"] is True
    assert engaged(gateway)


def test_a_second_emergency_is_as_good_as_the_first(running: Gateway):
    """Idempotent: engaging what is engaged succeeds and changes nothing that serves."""
    for _ in range(2):
        os.kill(running.pid, signal.SIGUSR1)
        emergency(running)
    assert running.arm() == "control"
    eventually("the latch is on disk", lambda: engaged(running))
