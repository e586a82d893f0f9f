"""The control process goes behind the workers where they share a core."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.processes.directory import Role
from gateway.processes.priority import NICENESS, stand_back
from tests.support.polling import eventually
from tests.support.processes import Gateway


def niceness(pid: int) -> tuple[int, str]:
    """Of a process, and of its session as the kernel words it; "" where it does not share by session."""
    session = Path(f"/proc/{pid}/autogroup")
    words = session.read_text().partition(" ")[2].strip() if session.exists() else ""
    return os.getpriority(os.PRIO_PROCESS, pid), words


@pytest.mark.process
def test_the_control_process_goes_behind_the_workers(running: Gateway) -> None:
    """Its work of some milliseconds keeps no request waiting; workers and supervisor stay as they were."""
    (control,), (worker, *_) = running.pids(Role.CONTROL), running.pids(Role.WORKER)
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    eventually("the control process stands back", lambda: niceness(control)[0] == min(19, ours + NICENESS))
    assert niceness(control)[1] in ("", f"nice {NICENESS}")
    assert {niceness(worker)[0], niceness(running.pid)[0]} == {ours}
    assert niceness(worker)[1] in ("", "nice 0")


def test_a_kernel_that_refuses_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container may forbid either, and the gateway starts all the same."""

    def refuse(_: int) -> int:
        raise PermissionError("not permitted")

    monkeypatch.setattr(os, "nice", refuse)
    stand_back(session=tmp_path / "none" / "autogroup")
    assert list(tmp_path.iterdir()) == []


def test_each_way_is_tried_whatever_becomes_of_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Which of the two counts depends on the kernel and the cgroup, which nobody has to know."""
    asked: list[int] = []

    def refuse(increment: int) -> int:
        asked.append(increment)
        raise PermissionError("not permitted")

    monkeypatch.setattr(os, "nice", refuse)
    stand_back(session=tmp_path / "autogroup")
    assert (asked, (tmp_path / "autogroup").read_text()) == ([NICENESS], str(NICENESS))
