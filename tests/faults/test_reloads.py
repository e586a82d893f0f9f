"""Faults 1, 5, 6, 9, 10 and 44 on running gateways: configs that are wrong, change often, or come back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from gateway.processes.directory import Role
from tests.faults.operating import deployment, metric, process_ids, settled, snapshots, status, write
from tests.faults.places import descriptors, resident
from tests.support.polling import eventually
from tests.support.processes import ROOT, Gateway, Load

pytestmark = pytest.mark.process

USERS = [f"user-{number}" for number in range(30)]


def arms(gateway: Gateway) -> list[str]:
    """The arm of each of some users."""
    return [gateway.get(user=user).arm for user in USERS]


@pytest.mark.parametrize("bad", ["listen: [", "version: 1\nroutes: {}\n", ""])
def test_a_bad_file_under_load_changes_nothing_and_is_told(running: Gateway, bad: str):
    """By change of the file and by SIGHUP: no request fails, the snapshot stays, and all is told."""
    before = eventually("every worker has reported", lambda: settled(running))
    with Load(running) as load:
        load.more(50)
        (running.directory / "gateway.yaml").write_text(bad)
        eventually("the gauge says so", lambda: not metric(running, "gateway_config_last_reload_successful"))
        os.kill(running.pid, signal.SIGHUP)
        load.more(100)
        told = status(running)
        assert "gateway.yaml:" in told["config"]["error"]
        assert snapshots(running) == before
        write(running)
        eventually("it is well again", lambda: metric(running, "gateway_config_last_reload_successful"))
        load.more(50)
    assert load.failures == []
    assert set(load.answers) == {"treatment"}


def test_configmap_swaps_under_load_are_each_followed_and_cost_nothing(gateways: Callable[..., Gateway]):
    """Ten swaps of `..data`, the old directory deleted at once: each in force within 2 s, no request lost."""
    gateway = gateways(extra={"deployment": deployment(100)})
    mount = gateway.directory / "mount"
    mount.mkdir()

    def swap(number: int, percentage: float) -> None:
        fresh = mount / f"..{number}"
        fresh.mkdir()
        write(gateway, fresh / "gateway.yaml", deployment=deployment(percentage), state=state)
        (mount / "..tmp").symlink_to(fresh.name)
        old = (mount / "..data").resolve()
        (mount / "..tmp").rename(mount / "..data")
        if old != (mount / "..data"):
            shutil.rmtree(old, ignore_errors=True)

    state = {"directory": str(gateway.state)}
    swap(0, 100)
    (gateway.directory / "gateway.yaml").symlink_to(mount / "gateway.yaml")
    (mount / "gateway.yaml").symlink_to("..data/gateway.yaml")
    gateway.start()
    with Load(gateway) as load:
        for number in range(1, 7):
            percentage = 0 if number % 2 else 100
            swap(number, percentage)
            eventually(
                f"swap {number} is in force",
                lambda p=percentage: status(gateway)["user_percentage"] == p,
                2.0,
            )
        load.more(50)
    assert load.failures == []
    assert metric(gateway, "gateway_config_reloads_total") == 6


def test_many_reloads_leave_no_trace(gateways: Callable[..., Gateway]):
    """200 SIGHUP and 40 contents of the file: the last one wins, nothing fails or is left behind."""
    gateway = gateways(extra={"deployment": deployment(100)})
    gateway.start()
    with Load(gateway) as load:
        load.more(100)
        pids = process_ids(gateway)
        open_before = [descriptors(pid) for pid in pids]
        size_before = [resident(pid) for pid in pids]
        for number in range(200):
            if number % 5 == 0:
                write(gateway, deployment=deployment(number / 2))
            os.kill(gateway.pid, signal.SIGHUP)
            time.sleep(0.005)
        write(gateway, deployment=deployment(37))
        os.kill(gateway.pid, signal.SIGHUP)
        eventually("the last one is in force", lambda: status(gateway)["user_percentage"] == 37)
        eventually("in all workers", lambda: settled(gateway))
        load.more(100)
        assert process_ids(gateway) == pids
        for before, pid in zip(open_before, pids, strict=True):
            # As many as before, but for kept connections to the upstream that had no users then.
            eventually("descriptors are closed", lambda b=before, p=pid: descriptors(p) <= b * 1.05 + 10)
        for before, pid in zip(size_before, pids, strict=True):
            assert resident(pid) < before * 1.05 + 4_000_000
    assert load.failures == []


def test_users_stay_in_their_arm_whatever_is_restarted(gateways: Callable[..., Gateway]):
    """Another number of workers, a reload, a killed worker, a restart: the same 30 users, the same arms."""
    gateway = gateways(workers=1, extra={"deployment": deployment(50)})
    gateway.start()
    expected = arms(gateway)
    assert set(expected) == {"control", "treatment"}
    write(gateway, access_log={"sample": 0})
    os.kill(gateway.pid, signal.SIGHUP)
    eventually("reloaded", lambda: metric(gateway, "gateway_config_reloads_total"))
    assert arms(gateway) == expected
    os.kill(gateway.pids(Role.WORKER)[0], signal.SIGKILL)
    assert arms(gateway) == expected
    assert gateway.stop() == 0
    gateway.workers = 3
    write(gateway)
    gateway.start()
    assert arms(gateway) == expected
    explained = gateway.run(
        "explain", USERS[0], "--config", str(gateway.directory / "gateway.yaml"), "-o", "json"
    )
    assert json.loads(explained.stdout)["arm"] == expected[0]


def test_nothing_but_release_unlatches(gateways: Callable[..., Gateway]):
    """Reload, another config, dead workers, dead control process, restart: none lifts the latch."""
    gateway = gateways(extra={"deployment": deployment(100)})
    gateway.start()
    os.kill(gateway.pid, signal.SIGUSR1)
    eventually("the latch is on disk", lambda: (found := gateway.latch()) and found.engaged)
    admin = ["--admin", f"http://127.0.0.1:{gateway.admin_port}"]

    def reload() -> None:
        before = status(gateway)["config"]["digest"]
        write(gateway, deployment=deployment(99), emergency=False)
        os.kill(gateway.pid, signal.SIGHUP)
        eventually("reloaded", lambda: status(gateway)["config"]["digest"] != before)

    def kill(role: Role) -> Callable[[], None]:
        def kill_all() -> None:
            gone = gateway.pids(role)
            for pid in gone:
                os.kill(pid, signal.SIGKILL)
            eventually(
                "others are there", lambda: gateway.pids(role) and not set(gone) & set(gateway.pids(role))
            )
            gateway.wait_ready()

        return kill_all

    def restart() -> None:
        for pid in process_ids(gateway):
            os.kill(pid, signal.SIGKILL)
        assert gateway.process is not None
        gateway.process.wait()
        gateway.start()

    def advance() -> None:
        assert gateway.run("advance", *admin).returncode != 0

    for path in (reload, kill(Role.WORKER), kill(Role.CONTROL), restart, restart, advance):
        path()
        with Load(gateway, users=2) as load:
            load.more(20)
        assert set(load.answers) == {"control"}, path
    released = gateway.run("release", *admin, "--reason", "fixed")
    assert released.returncode == 0, released.stderr
    eventually("treatment serves", lambda: gateway.arm() == "treatment")


def test_the_config_s_own_command_finds_what_the_reload_finds(running: Gateway):
    """`gateway check` on the file that the running gateway refuses names the same place."""
    path = running.directory / "gateway.yaml"
    path.write_text("version: 1\nlisten: {adress: 127.0.0.1:1}\n")
    eventually("it is refused", lambda: status(running)["config"]["error"])
    command = [sys.executable, "-m", "gateway", "check", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    place = f"{path}:2:"
    assert place in status(running)["config"]["error"]
    assert place in done.stdout + done.stderr
