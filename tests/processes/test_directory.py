"""The state directory: who holds it, and who runs in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.processes.directory import NOBODY, DirectoryInUse, Process, Role, Roster, StateDirectory
from tests.support.processes import ROOT

HOLD = """
import sys
from pathlib import Path
from gateway.processes.directory import StateDirectory
StateDirectory(Path(sys.argv[1])).lock()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of tmp_path/state."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "state")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


@pytest.mark.socket
def test_a_held_directory_is_refused_and_its_holder_named(tmp_path: Path, holder: subprocess.Popen[str]):
    """The kernel says who holds it; no file can be stale."""
    directory = StateDirectory(tmp_path / "state")
    assert directory.holder() == holder.pid
    with pytest.raises(DirectoryInUse):
        directory.lock()


@pytest.mark.socket
def test_the_lock_ends_with_its_holder(tmp_path: Path, holder: subprocess.Popen[str]):
    """After kill -9 the directory is free at once."""
    holder.kill()
    holder.wait()
    directory = StateDirectory(tmp_path / "state")
    assert directory.holder() is None
    directory.lock()
    directory.leave(NOBODY)


def test_a_directory_that_is_not_there_is_held_by_nobody(tmp_path: Path):
    """Asking makes nothing."""
    assert StateDirectory(tmp_path / "none").holder() is None
    assert StateDirectory(tmp_path / "none").read_roster() is NOBODY
    assert not (tmp_path / "none").exists()


@pytest.mark.socket
def test_the_roster_lists_who_still_runs(tmp_path: Path):
    """A process that ended since is not on it, nor one that only has the same pid."""
    directory = StateDirectory(tmp_path)
    us = Process.of(Role.WORKER, os.getpid())
    ended = subprocess.Popen(["true"])
    gone = Process.of(Role.WORKER, ended.pid)
    ended.wait()
    namesake = Process(Role.CONTROL, os.getpid(), us.started - 1)
    directory.write_roster(Roster(("127.0.0.1:1",), "127.0.0.1:2", (us, gone, namesake)))
    assert directory.read_roster() == Roster(("127.0.0.1:1",), "127.0.0.1:2", (us,))


@pytest.mark.socket
def test_a_zombie_is_not_alive():
    """It has a pid and serves nobody."""
    with subprocess.Popen(["true"]) as process:
        identity = Process.of(Role.WORKER, process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.alive


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"boot": 1}', '{"boot": "%s", "processes": [["thief", 1, 1]]}', "\0"]
)
def test_a_damaged_roster_lists_nobody(tmp_path: Path, text: str):
    """Nobody is signalled because of bytes that make no sense."""
    (tmp_path / "workers").write_text(text)
    assert StateDirectory(tmp_path).read_roster() is NOBODY


def test_a_roster_of_another_boot_lists_nobody(tmp_path: Path):
    """After a reboot the same pid and start may be somebody else's."""
    directory = StateDirectory(tmp_path)
    directory.write_roster(Roster((), "", (Process.of(Role.WORKER, os.getpid()),)))
    document = json.loads((tmp_path / "workers").read_text())
    (tmp_path / "workers").write_text(json.dumps(document | {"boot": "another"}))
    assert directory.read_roster() is NOBODY


def test_leaving_takes_pid_file_and_roster_away(tmp_path: Path):
    """What says that we are here goes when we go; what is to be remembered stays."""
    directory = StateDirectory(tmp_path)
    directory.lock()
    directory.write_pid()
    directory.write_roster(NOBODY)
    (tmp_path / "latch").write_text("stays")
    assert (tmp_path / "gateway.pid").read_text() == f"{os.getpid()}\n"
    directory.leave(NOBODY)
    assert {entry.name for entry in tmp_path.iterdir()} == {"latch", "lock"}


def test_leaving_lists_who_stays_behind(tmp_path: Path):
    """Workers that outlive us are the next supervisor's to find."""
    directory = StateDirectory(tmp_path)
    directory.lock()
    behind = Roster(("127.0.0.1:1",), "", (Process.of(Role.WORKER, os.getpid()),))
    directory.leave(behind)
    assert directory.read_roster() == behind
