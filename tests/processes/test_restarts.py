"""The latch survives everything, and a start says what it found."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.latch import LatchKind
from gateway.processes.directory import Role
from tests.support.polling import eventually
from tests.support.processes import Gateway, Load

pytestmark = pytest.mark.process

TINY_DISK = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'


def can_mount() -> bool:
    try:
        probe = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
        return subprocess.run(probe, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def mounted(options: str, directory: Path) -> list[str]:
    """A command prefix that gives the gateway a file system of its own on its state directory."""
    return ["unshare", "--mount", "sh", "-c", TINY_DISK, "sh", options, str(directory)]


def kill_everything(gateway: Gateway) -> None:
    pids = [gateway.pid, *gateway.pids(Role.CONTROL), *gateway.pids(Role.WORKER)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert gateway.process is not None
    gateway.process.wait()


def arms(gateway: Gateway) -> set[str]:
    with Load(gateway, users=4) as load:
        load.more(40)
    assert load.failures == []
    return set(load.answers)


@pytest.fixture
def latched(running: Gateway) -> Gateway:
    """A gateway that was latched and killed with all its processes."""
    os.kill(running.pid, signal.SIGUSR1)
    eventually("the latch is on disk", lambda: (found := running.latch()) and found.engaged)
    kill_everything(running)
    return running


def test_a_killed_gateway_comes_back_latched(latched: Gateway):
    """kill -9 of everything while latched, then a restart: control, by the first request."""
    latched.start()
    assert arms(latched) == {"control"}
    found = latched.latch()
    assert found is not None
    assert (found.engaged, found.kind) == (True, LatchKind.EMERGENCY)


def test_a_config_that_says_nothing_of_emergencies_releases_nothing(latched: Gateway):
    """`emergency: false` in the config of the next start lifts no latch."""
    latched.extra["emergency"] = False
    (latched.directory / "gateway.yaml").unlink()
    latched.start()
    assert arms(latched) == {"control"}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\0" * 100, b'{"version": 1, "number": 1, "released": 2}', b'{"version": 9}']
)
def test_a_damaged_latch_file_counts_as_engaged(running: Gateway, damage: bytes):
    """Whatever a crashed disk left in the file: all to control, and said out loud."""
    assert running.stop() == 0
    (running.state / "latch").write_bytes(damage)
    running.start()
    assert arms(running) == {"control"}
    (line,) = running.events("latched at start")
    assert line["kind"] == "corrupt"


def test_an_unreadable_latch_file_counts_as_engaged(running: Gateway):
    """A latch file that cannot be read, here because it is a directory."""
    assert running.stop() == 0
    (running.state / "latch").unlink()
    (running.state / "latch").mkdir()
    running.start()
    assert arms(running) == {"control"}


def test_a_gateway_that_was_never_latched_starts_released(running: Gateway):
    """The counter-example: a plain restart changes nothing."""
    assert arms(running) == {"treatment"}
    assert running.stop() == 0
    running.start()
    assert arms(running) == {"treatment"}


def test_a_lost_state_directory_means_control_where_the_config_says_so(gateways: Callable[..., Gateway]):
    """`state.on_missing: control`: an empty directory is a loss of memory, not a fresh start."""
    gateway = gateways(extra={"state": {"directory": "./state", "on_missing": "control"}})
    gateway.start()
    assert arms(gateway) == {"control"}
    found = gateway.latch()
    assert found is not None
    assert found.kind is LatchKind.STATE


def test_the_environment_engages_at_load(gateways: Callable[..., Gateway]):
    """GATEWAY_EMERGENCY=1: latched before the first request, and after a restart without it."""
    gateway = gateways()
    gateway.start(env={**os.environ, "GATEWAY_EMERGENCY": "1"})
    assert arms(gateway) == {"control"}
    assert gateway.stop() == 0
    gateway.start()
    assert arms(gateway) == {"control"}


def test_a_state_directory_that_cannot_be_made_means_control(gateways: Callable[..., Gateway]):
    """A file stands where the directory should be: the gateway starts, latched and loud."""
    gateway = gateways(workers=1)
    gateway.state.write_text("not a directory")
    gateway.start(ready=False)
    eventually("it is ready", lambda: gateway.events("ready"))
    assert gateway.arm() == "control"
    assert gateway.events("latched")[0]["kind"] == "state"
    assert gateway.stop() == 0


@pytest.mark.skipif(not can_mount(), reason="no right to mount a file system here")
def test_a_read_only_state_directory_means_control(gateways: Callable[..., Gateway]):
    """Nothing could be remembered there, so nobody is sent to treatment."""
    gateway = gateways(workers=1)
    gateway.state.mkdir()
    gateway.start(ready=False, prefix=mounted("ro", gateway.state))
    eventually("it is ready", lambda: gateway.events("ready"))
    assert gateway.arm() == "control"
    assert gateway.stop() == 0


@pytest.mark.skipif(not can_mount(), reason="no right to mount a file system here")
def test_with_a_full_disk_the_latch_holds_in_memory_and_reaches_the_disk_later(
    gateways: Callable[..., Gateway],
):
    """64 KB of disk, filled under the running gateway: SIGUSR1 works, is loud, and heals by itself."""
    gateway = gateways(workers=1)
    gateway.state.mkdir()
    gateway.start(ready=False, prefix=mounted("size=64k", gateway.state))
    eventually("it is ready", lambda: gateway.events("ready"))
    inside = Path(f"/proc/{gateway.pid}/root{gateway.state}")
    old = (inside / "latch").read_bytes()
    filler = inside / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 65536)
    os.kill(gateway.pid, signal.SIGUSR1)
    eventually("control serves", lambda: gateway.arm() == "control")
    eventually("it says so", lambda: gateway.events("latch not durable"))
    assert (inside / "latch").read_bytes() == old
    filler.unlink()
    eventually("the disk has it", lambda: (inside / "latch").read_bytes() != old)
    assert gateway.stop() == 0


def refused(second: Gateway) -> dict[str, Any]:
    """Start a gateway that is in the way of another; what it says of that, when it has ended with 1.

    Within two seconds, says the contract: of the processor's, for others may be using the machine. What
    ends this early has no child yet, and waits for nothing.
    """
    before = os.times()
    second.start(ready=False)
    assert second.process is not None
    assert second.process.wait(10.0) == 1
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 2.0
    return second.events("not started")[0]


def test_a_second_gateway_on_the_directory_is_refused(running: Gateway, gateways: Callable[..., Gateway]):
    """Same directory, other ports: exit 1 within two seconds; the first one does not notice."""
    second = gateways()
    (second.directory / "gateway.yaml").unlink()
    second.log_path.rename(second.directory / "log-of-the-first")
    with Load(running) as load:
        reason = refused(second)["reason"]
        load.more(50)
    assert load.failures == []
    assert str(running.pid) in reason


def test_a_second_gateway_on_the_port_is_refused(running: Gateway, gateways: Callable[..., Gateway]):
    """Other directory, same port: exit 1 within two seconds, and not one connection for it."""
    second = gateways("two", port=running.port)
    with Load(running) as load:
        reason = refused(second)["reason"]
        load.more(50)
    assert load.failures == []
    assert f"127.0.0.1:{running.port}" in reason


def test_a_stale_pid_file_stops_nobody(running: Gateway):
    """What a killed gateway left behind does not keep the next one from starting."""
    kill_everything(running)
    assert (running.state / "gateway.pid").read_text() == f"{running.pid}\n"
    running.start()
    assert (running.state / "gateway.pid").read_text() == f"{running.pid}\n"


def test_a_removed_state_directory_stops_no_request(running: Gateway):
    """Somebody deletes the directory under the running gateway: it serves on, and the latch works."""
    shutil.rmtree(running.state)
    assert running.arm() == "treatment"
    os.kill(running.pid, signal.SIGUSR1)
    eventually("control serves", lambda: running.arm() == "control")


def test_an_invalid_config_is_told_and_ends_with_2(gateways: Callable[..., Gateway]):
    """A wrong config never starts: its problems on stderr, exit 2."""
    gateway = gateways(extra={"lisen": {}})
    gateway.start(ready=False)
    assert gateway.process is not None
    assert gateway.process.wait(10) == 2
    assert "lisen" in gateway.log()


def test_workers_that_never_become_ready_end_the_gateway_with_5(
    gateways: Callable[..., Gateway], tmp_path: Path
):
    """Workers that die at once, again and again: exit 5 with a message, not a loop for ever."""
    saboteur = 'import os, sys\nif "_worker" in sys.orig_argv: os._exit(1)\n'
    (tmp_path / "sitecustomize.py").write_text(saboteur)
    gateway = gateways()
    gateway.start(ready=False, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert gateway.process is not None
    assert gateway.process.wait(20) == 5
    assert gateway.events("no worker ever became ready")


def test_a_full_pipe_for_the_log_stalls_nobody(gateways: Callable[..., Gateway]):
    """Nobody reads stderr: requests, restarts and the latch go on all the same."""
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    assert os.write(writing, b"x" * size) == size
    gateway = gateways()
    gateway.start(stdout=writing, stderr=writing)
    victim = gateway.pids(Role.WORKER)[0]
    with Load(gateway) as load:
        load.more(50)
        os.kill(victim, signal.SIGKILL)
        eventually("a new worker", lambda: victim not in gateway.pids(Role.WORKER))
        os.kill(gateway.pid, signal.SIGUSR1)
        eventually("control serves", lambda: load.answers["control"] > 20)
    assert gateway.stop() == 0
    os.close(reading)
    os.close(writing)
