"""The command line as a whole; each command has its own tests."""

from __future__ import annotations

import subprocess
import sys

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
