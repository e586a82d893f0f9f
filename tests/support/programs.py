"""Foreign programs that tests talk to: a browser, Prometheus, Alertmanager; and axe-core, for the browser.

`python -m tests.support.programs` brings in what is missing, as root and on Debian by itself; elsewhere
it says what to install. Where a program is absent all the same, the tests that need it are skipped, with
the reason. Nothing is started here, and no service is: what need not be installed is only unpacked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

HOME = Path(sys.prefix) / "programs"
"""What is unpacked goes here: into the environment that the tests run in."""
INSTALLED = {"chromium": "chromium"}
"""Program and the Debian package that brings it, with many libraries."""
UNPACKED = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}
"""The same for packages of self-contained programs: installing them would start services."""
AXE = HOME / "axe-core" / "axe.min.js"
AXE_PACKAGE = "axe-core@4"
PATIENCE = 600.0


def find(program: str) -> str | None:
    """The path of a program, None where it is not there."""
    return shutil.which(program, path=f"{HOME / 'usr/bin'}:/usr/bin:/usr/sbin:{os.environ.get('PATH', '')}")


def need(program: str) -> str:
    """The path of a program; skips the test where it is not there."""
    found = find(program)
    if found is None:
        package = (INSTALLED | UNPACKED).get(program, program)
        pytest.skip(f"{program} is not installed (Debian's package {package})")
    return found


def need_axe() -> str:
    """The source of axe-core, for a page to run; skips the test where it is not there."""
    if not AXE.exists():
        pytest.skip("axe-core was not brought in: `make test` does that where npm is installed")
    return AXE.read_text()


def bring() -> None:
    """Bring in what is missing; what cannot be had is said, and nothing fails."""
    missing = [program for program in (*INSTALLED, *UNPACKED) if find(program) is None]
    if missing:
        _bring_packages(missing)
    if not AXE.exists():
        _bring_axe()


def _bring_packages(programs: list[str]) -> None:
    packages = sorted({(INSTALLED | UNPACKED)[program] for program in programs})
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not installed: {', '.join(programs)}; on Debian: apt-get install {' '.join(packages)}")
        return
    _run(["apt-get", "update", "-qq"])
    wanted = [package for package in packages if package in INSTALLED.values()]
    if wanted:
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted])
    for package in set(packages) - set(wanted):
        with tempfile.TemporaryDirectory() as folder:
            # As root, apt fetches with fewer rights, which may not write where only root may.
            os.chmod(folder, 0o777)
            if _run(["apt-get", "download", "-qq", package], folder):
                for archive in Path(folder).glob("*.deb"):
                    _run(["dpkg-deb", "-x", str(archive), str(HOME)])


def _bring_axe() -> None:
    if shutil.which("npm") is None:
        print("not brought in: axe-core, for npm is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        if _run(["npm", "pack", "--silent", AXE_PACKAGE], folder):
            archive = next(Path(folder).glob("*.tgz"))
            with tarfile.open(archive) as packed:
                source = packed.extractfile("package/axe.min.js")
                assert source is not None
                AXE.parent.mkdir(parents=True, exist_ok=True)
                AXE.write_bytes(source.read())


def _run(command: list[str], folder: str | None = None) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, timeout=PATIENCE, stdout=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}")
        return False
    return done.returncode == 0


if __name__ == "__main__":
    bring()
