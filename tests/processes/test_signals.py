"""What each signal does to the whole gateway, at every moment of its life."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from gateway.processes.directory import Role
from tests.faults.places import processor_seconds
from tests.support.polling import eventually
from tests.support.processes import PATIENCE, Gateway, Load, slow_requests

pytestmark = pytest.mark.process

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def can_be_process_one() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def test_usr1_ends_treatment_within_100_ms_and_costs_no_request(running: Gateway):
    """One SIGUSR1 under load: the last request to treatment is sent at most 100 ms later."""
    with Load(running) as load:
        load.more(100)
        sent = time.monotonic()
        os.kill(running.pid, signal.SIGUSR1)
        eventually("control serves", lambda: load.answers["control"] > 50)
        before = load.answers["treatment"]
        load.more(100)
    assert load.last_treatment - sent < 0.1
    assert load.answers["treatment"] == before
    assert load.failures == []
    eventually("the latch is on disk", lambda: (found := running.latch()) and found.engaged)
    assert len(running.events("latch engaged")) == 1


def test_a_thousand_usr1_to_everybody_kill_nobody(running: Gateway):
    """1,000 SIGUSR1 to main process, control process and workers, mixed with SIGHUP: all still there."""
    pids = [running.pid, *running.pids(Role.CONTROL), *running.pids(Role.WORKER)]
    for number in range(1000):
        os.kill(pids[number % len(pids)], signal.SIGUSR1)
        if number % 50 == 0:
            os.kill(running.pid, signal.SIGHUP)
        time.sleep(0.0005)
    assert running.arm() == "control"
    eventually("the latch is on disk", lambda: (found := running.latch()) and found.engaged)
    assert [running.pid, *running.pids(Role.CONTROL), *running.pids(Role.WORKER)] == pids
    assert running.events("process ended") == []


def test_usr1_to_a_worker_engages_all_of_them(running: Gateway):
    """The page is shared: one worker's signal is everybody's."""
    os.kill(running.pids(Role.WORKER)[0], signal.SIGUSR1)
    eventually("control serves", lambda: running.arm() == "control")
    with Load(running) as load:
        load.more(50)
    assert set(load.answers) == {"control"}
    eventually("the latch is on disk", lambda: (found := running.latch()) and found.engaged)


@pytest.mark.parametrize("delay", [0.1, 0.2, 0.4, 0.8])
def test_usr1_while_starting_is_neither_fatal_nor_lost(gateways: Callable[..., Gateway], delay: float):
    """From 100 ms after exec on, a SIGUSR1 holds from the first request on."""
    gateway = gateways()
    gateway.start(ready=False)
    time.sleep(delay)  # the moment is what is tested
    eventually("it had a processor for a moment", lambda: processor_seconds(gateway.pid) > 0.05)
    os.kill(gateway.pid, signal.SIGUSR1)
    gateway.wait_ready()
    assert gateway.arm() == "control"
    eventually("the latch is on disk", lambda: (found := gateway.latch()) and found.engaged)


def test_children_survive_usr1_hup_and_int_from_their_first_moment(gateways: Callable[..., Gateway]):
    """A child gets the signals that would kill an unprepared process as soon as it exists."""
    gateway = gateways()
    gateway.start(ready=False)
    seen: set[int] = set()

    def pester() -> bool:
        children = f"/proc/{gateway.pid}/task/{gateway.pid}/children"
        with open(children) as listed:
            pids = set(map(int, listed.read().split()))
        for pid in pids - seen:
            for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
                os.kill(pid, number)
        seen.update(pids)
        return len(seen) >= 3

    eventually("three children", pester, interval=0.0005)
    gateway.wait_ready()
    assert gateway.arm() == "control"
    assert gateway.events("process ended") == []


def test_hup_ends_nobody_and_no_request_fails(running: Gateway):
    """200 SIGHUP in a second under load: a reload, or many, and nothing else."""
    with Load(running) as load:
        for _ in range(200):
            os.kill(running.pid, signal.SIGHUP)
            time.sleep(0.005)
        load.more(100)
    assert load.failures == []
    assert running.events("process ended") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ending_finishes_what_is_in_flight(running: Gateway, number: signal.Signals):
    """SIGTERM or SIGINT with a request in flight: it is answered, then exit 0 and an empty house."""
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(running.get("/slow").body))
    before = slow_requests()
    asking.start()
    eventually("it arrived", lambda: slow_requests() > before)
    os.kill(running.pid, number)
    assert running.process is not None
    assert running.process.wait(10) == 0
    asking.join()
    assert len(answers) == 1
    assert not (running.state / "gateway.pid").exists()
    with pytest.raises(ConnectionRefusedError):
        running.get()


def test_drain_delay_keeps_accepting_while_not_ready(gateways: Callable[..., Gateway]):
    """After SIGTERM the gateway serves on for the drain delay, so that others can stop sending."""
    gateway = gateways(extra={"drain_delay": "2s"})
    gateway.start()
    os.kill(gateway.pid, signal.SIGTERM)
    began = time.monotonic()
    while time.monotonic() - began < 0.8:
        assert gateway.get().status == 200
    assert gateway.process is not None
    assert gateway.process.wait(10) == 0
    assert time.monotonic() - began >= 2.0


def test_a_second_term_ends_everything_at_once(running: Gateway):
    """SIGTERM twice: exit code 143, requests in flight are cut."""
    thread = threading.Thread(target=expect_cut, args=(running,))
    before = slow_requests()
    thread.start()
    eventually("it arrived", lambda: slow_requests() > before)
    os.kill(running.pid, signal.SIGTERM)
    eventually("it is ending", lambda: running.events("ending"))
    os.kill(running.pid, signal.SIGTERM)
    assert running.process is not None
    assert running.process.wait(PATIENCE) == 128 + signal.SIGTERM
    thread.join()


def test_term_while_starting_ends_it(gateways: Callable[..., Gateway]):
    """SIGTERM before anything is served: exit 0, nothing left behind."""
    gateway = gateways()
    gateway.start(ready=False)
    eventually("the control process starts", lambda: gateway.events("process started"))
    assert gateway.stop() == 0


@pytest.mark.skipif(not can_be_process_one(), reason="no right to make a PID namespace here")
def test_as_process_one_it_drains_and_leaves_nobody(gateways: Callable[..., Gateway]):
    """As PID 1 of a container: orphans are buried; SIGTERM right behind SIGUSR1 ends it with 0, latched."""
    gateway = gateways(workers=1)
    gateway.start(ready=False, prefix=UNSHARE)
    eventually("it answers", lambda: answers(gateway.port))
    (main,) = children_of(gateway.pid)
    # A grandchild whose parent ends becomes the gateway's to bury. It lives until its input ends.
    script = "import os, sys; os.fork() and os._exit(0); sys.stdin.read()"
    enter = ["nsenter", "--target", str(main), "--pid", "--mount"]
    with subprocess.Popen([*enter, "python3", "-c", script], stdin=subprocess.PIPE) as parent:
        assert parent.wait(PATIENCE) == 0
        eventually("the orphan becomes its child", lambda: len(living_in(main)) == 4)
    eventually("it is buried", lambda: len(living_in(main)) == 3)
    os.kill(main, signal.SIGUSR1)
    os.kill(main, signal.SIGTERM)
    assert gateway.process is not None
    assert gateway.process.wait(10) == 0
    found = gateway.latch()
    assert found is not None
    assert found.engaged


def expect_cut(gateway: Gateway) -> None:
    with pytest.raises(OSError):
        gateway.get("/slower", timeout=PATIENCE)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return [int(child) for child in listed.read().split()]


def living_in(main: int) -> list[int]:
    """The processes of a PID namespace, by its first one. Unburied ones count."""
    return [main, *children_of(main)]
