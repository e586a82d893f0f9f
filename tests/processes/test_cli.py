"""The command line as a whole; each command has its own tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__, cli
from tests.support.processes import ROOT

pytestmark = pytest.mark.socket


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def output_of(script: str) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_the_version_is_told():
    """--version: name and version, exit 0."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"gateway {__version__}\n")


def test_help_lists_the_commands_in_the_order_of_the_manual(capsys: pytest.CaptureFixture[str]):
    """Every command that is there, in the contract's order."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("    ") and line[4] != " "]
    assert [name for name in cli.COMMANDS if name in listed] == listed
    assert {"run", "emergency"} <= set(listed)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--workers", "0"], ["run", "--workers", "many"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    """No command, an unknown one, a wrong option."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: gateway" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "101", "1.5", "-1", "many"])
def test_a_number_of_workers_that_cannot_be(count: str, capsys: pytest.CaptureFixture[str]):
    """Refused with the bounds that the config has, instead of as many as there is room for."""
    with pytest.raises(SystemExit):
        cli.parser(["run"]).parse_args(["run", f"--workers={count}"])
    assert f"argument --workers: '{count}' is no whole number from 1 to 100\n" in capsys.readouterr().err


def test_an_output_that_is_full_is_told_in_a_line():
    """No traceback, and no success."""
    command = [sys.executable, "-m", "gateway", "schema"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (1, "gateway: cannot write: No space left on device\n")


def test_a_reader_that_leaves_ends_the_status_as_it_ends_every_command():
    """`gateway status --watch | head` and the like: 128 + SIGPIPE."""
    script = (
        "import signal, sys; from gateway import cli; from gateway.commands import client, status;"
        "status.render = lambda *_: 'x' * 100_000;"
        "client.AdminClient.get = lambda *_: {};"
        "sys.exit(cli.main(['status', '--watch']))"
    )
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as out:
        watch = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=out, stderr=subprocess.PIPE)
    os.read(reading, 10)
    os.close(reading)
    errors = watch.communicate(timeout=30)[1]
    assert (watch.returncode, errors) == (128 + signal.SIGPIPE, b"")


def test_the_supervisor_loads_nothing_heavy():
    """`gateway run` stays small: neither config model nor event loop nor web server in its process."""
    script = (
        "import sys; from gateway import __main__; import gateway.commands.run;"
        "print(*sorted({'pydantic', 'yaml', 'aiohttp', 'asyncio', 'uvloop', 'logging'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_a_worker_loads_nothing_of_the_control_plane():
    """A worker is small because it knows its own plane only."""
    script = (
        "import sys; import gateway.app.worker;"
        "print(*sorted({'pydantic', 'yaml', 'aiohttp', 'rich', 'gateway.control'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
