"""Any one process may die or stand still under load, and traffic goes on."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.processes.children import STUCK_AFTER
from gateway.processes.directory import Process, Role
from tests.support.polling import eventually
from tests.support.processes import Gateway, Load

pytestmark = pytest.mark.process


def replaced(gateway: Gateway, role: Role, gone: int, count: int = 1) -> Callable[[], bool]:
    def look() -> bool:
        pids = gateway.pids(role)
        return gone not in pids and len(pids) == count

    return look


def test_a_killed_worker_costs_what_was_in_flight_on_it_and_is_replaced_within_a_second(running: Gateway):
    """kill -9 of one of two workers: nobody is refused, only requests in flight there may fail."""
    users = 8
    with Load(running, users) as load:
        load.more(100)
        victim = running.pids(Role.WORKER)[0]
        os.kill(victim, signal.SIGKILL)
        eventually("a new worker", replaced(running, Role.WORKER, victim, 2))
        load.more(200)
    assert load.refused == 0
    assert len(load.failures) <= users
    (line,) = running.events("process ended")
    assert (line["child"], line["status"]) == (victim, "killed by SIGKILL")
    assert line["restart_in"] < 1.0


def test_a_new_worker_begins_latched_where_the_gateway_is(running: Gateway):
    """A worker that is started while latched never sends anybody to treatment."""
    os.kill(running.pid, signal.SIGUSR1)
    eventually("latched", lambda: running.arm() == "control", patience=STUCK_AFTER - 0.5)
    for victim in running.pids(Role.WORKER):
        os.kill(victim, signal.SIGKILL)
        eventually("a new worker", replaced(running, Role.WORKER, victim, 2))
    with Load(running) as load:
        load.more(100)
    assert set(load.answers) == {"control"}


def test_a_killed_control_process_costs_no_request_and_is_replaced(running: Gateway):
    """kill -9 of the control process: no failed request, and another one takes over."""
    with Load(running) as load:
        load.more(100)
        victim = running.pids(Role.CONTROL)[0]
        os.kill(victim, signal.SIGKILL)
        eventually("a new control process", replaced(running, Role.CONTROL, victim))
        load.more(200)
    assert load.failures == []


def test_the_emergency_works_while_the_control_process_stands_still(running: Gateway):
    """SIGUSR1 needs the supervisor and the page, nothing else."""
    os.kill(running.pids(Role.CONTROL)[0], signal.SIGSTOP)
    os.kill(running.pid, signal.SIGUSR1)
    eventually("latched", lambda: running.arm() == "control", patience=STUCK_AFTER - 0.5)


def test_a_stopped_control_process_is_killed_before_another_starts(running: Gateway):
    """SIGSTOP of the control process: within five seconds there is another, and never two."""
    (victim,) = running.pids(Role.CONTROL)
    identity = Process.of(Role.CONTROL, victim)
    os.kill(victim, signal.SIGSTOP)
    stopped = time.monotonic()
    with Load(running) as load:
        eventually("a new control process", replaced(running, Role.CONTROL, victim))
        assert time.monotonic() - stopped < 5.0
        assert not identity.alive
    assert load.failures == []


def test_a_stopped_worker_gets_a_successor_and_is_killed(running: Gateway):
    """SIGSTOP of a worker under load: replaced within five seconds; only what was on it is lost."""
    users = 8
    victim = running.pids(Role.WORKER)[0]
    identity = Process.of(Role.WORKER, victim)
    with Load(running, users) as load:
        load.more(50)
        os.kill(victim, signal.SIGSTOP)
        stopped = time.monotonic()
        eventually("a new worker", replaced(running, Role.WORKER, victim, 2))
        assert time.monotonic() - stopped < 5.0
        assert not identity.alive
        load.more(100)
    assert load.refused == 0
    assert len(load.failures) <= users


def test_control_and_worker_may_be_dead_together(running: Gateway):
    """The supervisor keeps the snapshot: a new worker needs no control process."""
    control, *workers = running.pids(Role.CONTROL) + running.pids(Role.WORKER)
    os.kill(control, signal.SIGSTOP)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    eventually("new workers", lambda: not set(workers) & set(running.pids(Role.WORKER)))
    running.wait_ready()
    os.kill(control, signal.SIGKILL)
    eventually("a new control process", replaced(running, Role.CONTROL, control))


def test_workers_outlive_the_supervisor_and_a_new_one_takes_over(gateways: Callable[..., Gateway]):
    """kill -9 of the main process: control ends, workers serve on, a new gateway replaces them."""
    running = gateways(extra={"drain_timeout": "60s"})  # ending sooner is draining, not being killed
    running.start()
    orphans = [Process.of(Role.WORKER, pid) for pid in running.pids(Role.WORKER)]
    control = Process.of(Role.CONTROL, running.pids(Role.CONTROL)[0])
    assert running.process is not None
    with Load(running) as load:
        load.more(50)
        running.process.kill()
        running.process.wait()
        eventually("the control process ends", lambda: not control.alive)
        load.more(100)
        assert all(orphan.alive for orphan in orphans)
        running.start(ready=False)
        eventually("the orphans are drained", lambda: not any(orphan.alive for orphan in orphans))
        load.more(100)
    # An orphan that ends closes its kept connections: a request may cross that, none is refused.
    assert load.refused == 0
    assert len(load.failures) <= 8
    assert running.events("draining orphans")


def test_a_refused_start_forgets_no_orphan(running: Gateway):
    """Somebody took the admin port meanwhile: the start is refused, the next one finds the orphans."""
    workers = running.pids(Role.WORKER)
    control = Process.of(Role.CONTROL, running.pids(Role.CONTROL)[0])
    assert running.process is not None
    running.process.kill()
    running.process.wait()
    eventually("the control process ends", lambda: not control.alive)
    with socket.create_server(("127.0.0.1", running.admin_port)):
        running.start(ready=False)
        assert running.process.wait(10) == 1
    assert running.pids(Role.WORKER) == workers
    assert running.arm() == "treatment"
    running.start(ready=False)
    eventually("the orphans are gone", lambda: not set(workers) & set(running.pids(Role.WORKER)))
    running.wait_ready()


def test_no_zombie_is_left_behind(running: Gateway):
    """What ended has been buried, also after several deaths."""
    for _ in range(3):
        victim = running.pids(Role.WORKER)[0]
        os.kill(victim, signal.SIGKILL)
        eventually("a new worker", replaced(running, Role.WORKER, victim, 2))
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    states = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in children]
    assert "Z" not in states
    assert len(states) == 3


def test_a_machine_that_stood_still_costs_no_process(running: Gateway):
    """Everything is stopped for longer than a stuck process may be, and the main process wakes up first."""
    children = [*running.pids(Role.CONTROL), *running.pids(Role.WORKER)]
    for pid in (running.pid, *children):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STUCK_AFTER + 1.0)  # the machine stands still: that is what is tested
    os.kill(running.pid, signal.SIGCONT)
    time.sleep(1.2)  # two looks of the main process at children that could not beat
    for pid in children:
        os.kill(pid, signal.SIGCONT)
    with Load(running) as load:
        load.more(100)
    assert sorted(children) == sorted([*running.pids(Role.CONTROL), *running.pids(Role.WORKER)])
    assert running.events("process stuck") == []
