"""The unit for systemd: valid to systemd's own tool, hardened, and in agreement with the gateway."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.control.config.loading import load
from gateway.exits import Exit
from tests.observability import shipped
from tests.support.programs import need

pytestmark = pytest.mark.socket

UNIT = shipped.CONFIG / "systemd" / "gateway.service"
MOST_EXPOSED = 25
"""Tenths of a point of `systemd-analyze security`: under 3 is "OK", a service without any rule has 96."""


def service() -> configparser.SectionProxy:
    """The section that says how it runs; of a key that is repeated the last."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    return unit["Service"]


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`systemd-analyze`, which needs no running systemd for this."""
    command = [need("systemd-analyze"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_no_fault_with_it(tmp_path: Path) -> None:
    """`systemd-analyze verify`, with a program that is there in place of the one that need not be."""
    unit = tmp_path / "gateway.service"
    unit.write_text(UNIT.read_text().replace("/opt/gateway/bin/gateway", sys.executable))
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_may_do_little() -> None:
    """`systemd-analyze security`: the exposure stays under what its makers call OK."""
    done = analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSED}", str(UNIT))
    assert done.returncode == 0, done.stdout[-300:]


def test_it_agrees_with_the_gateway() -> None:
    """Signals, the code of an invalid config, and the time that draining takes."""
    unit, config = service(), load(shipped.CONFIG / "reference.yaml", {}).config
    assert unit["Type"] == "exec"
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (unit["Restart"], int(unit["RestartPreventExitStatus"])) == ("always", Exit.INVALID)
    assert unit["KillMode"] == "process"
    assert float(unit["TimeoutStopSec"]) > config.drain_delay + config.drain_timeout + 10.0
    assert unit["Environment"] == f"GATEWAY_STATE_DIR=/var/lib/{unit['StateDirectory']}"
