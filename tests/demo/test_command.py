"""`gateway demo` as its user starts it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import cli
from gateway.exits import SIGNAL_BASE, Exit
from tests.support.polling import eventually
from tests.support.processes import ROOT

COMMAND = [sys.executable, "-m", "gateway", "demo"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--duration", "30"], "expected one like 30s"),
        (["--duration", "0s"], "no time at all"),
        (["--rps", "0"], "more than 0 and up to 500"),
        (["--rps", "nan"], "more than 0 and up to 500"),
        (["--rps", "many"], "expected one like 40"),
        (["--fault", "treatment.errors=0.3@20s", "--fault", "x.errors=1"], "expected control or treatment"),
    ],
)
def test_wrong_usage_exits_2_with_what_was_expected(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started, and the message names the option."""
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", *arguments])
    assert end.value.code == Exit.INVALID
    message = capsys.readouterr().err
    assert hint in message
    assert f"argument {arguments[0]}" in message


class Demo:
    """A running demo whose temporary files are in a directory of the test's."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(directory), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def children(self) -> dict[int, str]:
        """Every process that carries the temporary directory in its environment, with its command."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == self.process.pid:
                continue
            try:
                if f"TMPDIR={self.directory}\0".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        return found

    def child(self, command: str) -> int | None:
        """The process id of the child whose command line holds this, if there is one."""
        return next((pid for pid, line in self.children().items() if command in line), None)

    def wait_until_up(self) -> None:
        """Until it has printed where to look."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        assert "gateway" in line, line or self.process.stderr.read()

    def finish(self) -> tuple[str, str]:
        """What it printed until its end."""
        return self.process.communicate(timeout=60)

    def close(self) -> None:
        """End it, if it runs; its pipes must not outlive a test that failed."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=30)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def left_behind(self) -> list[object]:
        """Processes and files that should not be there any more."""
        return [*self.children().items(), *self.directory.iterdir()]


Start = Callable[..., Demo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts demos; ends at the test's end what is still running of them."""
    demos: list[Demo] = []

    def begin(*arguments: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    yield begin
    for demo in demos:
        demo.close()
        for pid in demo.children():  # none, unless the test failed
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def summary_of(output: str) -> dict[str, tuple[int, int]]:
    """The requests of each arm and how many of them failed, as the summary says."""
    told = re.findall(r"^  (control|treatment) +([\d,]+) requests .* ([\d,]+) failed", output, re.MULTILINE)
    return {
        arm: (int(requests.replace(",", "")), int(failed.replace(",", ""))) for arm, requests, failed in told
    }


@pytest.mark.process
def test_a_bounded_demo_ends_with_a_summary_and_leaves_nothing(start: Start) -> None:
    """Exit 0, both arms with requests and without failures, no escape codes, no process, no file."""
    demo = start("--duration", "4s", "--rps", "20")
    output, errors = demo.finish()
    assert errors == ""
    assert demo.process.returncode == Exit.DONE
    assert "\x1b" not in output
    summary = summary_of(output)
    assert {arm: (requests > 0, failed) for arm, (requests, failed) in summary.items()} == {
        "control": (True, 0),
        "treatment": (True, 0),
    }
    assert "every user stayed in one arm" in output
    assert demo.left_behind() == []


@pytest.mark.process
def test_a_fault_is_played_and_the_gateway_stops_treatment_by_itself(start: Start) -> None:
    """Both are told as they happen; treatment's requests fail, and none of control's does."""
    demo = start("--duration", "60s", "--rps", "40", "--fault", "treatment.errors=1@1s")
    assert demo.process.stdout is not None
    told = []
    for line in demo.process.stdout:
        told.append(line)
        if "latch engaged" in line:
            break
    demo.process.send_signal(signal.SIGINT)
    output, errors = demo.finish()
    assert (demo.process.returncode, errors) == (Exit.DONE, "")
    played = next(n for n, line in enumerate(told) if "fault played: treatment errors 100%" in line)
    assert "latch engaged (rollback)" in told[-1], told[played:]
    assert summary_of(output)["control"][1] == 0
    assert summary_of(output)["treatment"][1] > 0


@pytest.mark.process
def test_an_interrupted_demo_still_ends_well(start: Start) -> None:
    """Ctrl-C while it runs is the usual way out: summary, exit 0, nothing left."""
    demo = start("--rps", "20")
    demo.wait_until_up()
    demo.process.send_signal(signal.SIGINT)
    output, errors = demo.finish()
    assert (demo.process.returncode, errors) == (Exit.DONE, "")
    assert "next" in output
    assert demo.left_behind() == []


@pytest.mark.process
def test_an_interrupt_before_it_is_up_is_one(start: Start) -> None:
    """There is nothing to sum up: 130, and nothing left."""
    demo = start()
    eventually("the gateway's process", lambda: demo.child("gateway run"))
    demo.process.send_signal(signal.SIGINT)
    output, _ = demo.finish()
    assert (demo.process.returncode, output) == (SIGNAL_BASE + signal.SIGINT, "")
    assert demo.left_behind() == []


@pytest.mark.process
def test_a_killed_gateway_is_told_and_its_orphans_are_ended(start: Start) -> None:
    """Workers outlive a killed main process on purpose; the demo must not leave them."""
    demo = start("--rps", "20")
    demo.wait_until_up()
    gateway = demo.child("gateway run")
    assert gateway is not None
    os.kill(gateway, signal.SIGKILL)
    _, errors = demo.finish()
    assert demo.process.returncode == Exit.FAILED
    assert f"the gateway (pid {gateway}) was killed by SIGKILL" in errors
    assert '"event": "listening"' in errors
    assert demo.left_behind() == []


@pytest.mark.process
def test_killed_pipelines_are_told(start: Start) -> None:
    """The name of what died, and exit 1."""
    demo = start("--rps", "20")
    demo.wait_until_up()
    pipelines = demo.child("gateway.demo.pipelines")
    assert pipelines is not None
    os.kill(pipelines, signal.SIGKILL)
    _, errors = demo.finish()
    assert demo.process.returncode == Exit.FAILED
    assert f"the pipelines' process (pid {pipelines}) was killed by SIGKILL" in errors
    assert demo.left_behind() == []


@pytest.mark.process
def test_nothing_outlives_a_killed_demo(start: Start) -> None:
    """Even SIGKILL, which it cannot answer, takes the gateway and the pipelines with it."""
    demo = start("--rps", "20")
    demo.wait_until_up()
    demo.process.kill()
    demo.finish()
    eventually("all children ended", lambda: not demo.children())
