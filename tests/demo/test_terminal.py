"""The demo on a real terminal: what it draws, and the keys it listens to."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT

PATIENCE = 20.0
ALTERNATE_SCREEN_ON, ALTERNATE_SCREEN_OFF = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """A pseudo-terminal of 80 by 24 with a demo in its foreground."""

    def __init__(self, directory: Path) -> None:
        self.written = ""
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.modes = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            # setsid makes the terminal the controlling one, as in a shell's window
            ["setsid", "--ctty", "--wait", sys.executable, "-m", "gateway", "demo", "--rps", "40"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(directory), "TERM": "xterm-256color"},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
        )

    def press(self, key: str) -> None:
        """Type a key."""
        os.write(self._master, key.encode())

    def wait_for(self, text: str) -> None:
        """Until this was drawn; what came before it is forgotten."""
        give_up = time.monotonic() + PATIENCE
        while text not in self.plain:
            assert time.monotonic() < give_up, f"{text!r} was not drawn; last: {self.plain[-2000:]}"
            self.read()
        self.written = self.written[self.written.rindex(text.split()[0]) :]

    def read(self, patience: float = 0.1) -> bool:
        """Take what was written; False if there was nothing."""
        if not select.select([self._master], [], [], patience)[0]:
            return False
        self.written += os.read(self._master, 65536).decode(errors="replace")
        return True

    @property
    def plain(self) -> str:
        """What was drawn, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.written)

    def end(self) -> int:
        """Wait for the end; the exit code."""
        give_up = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < give_up:
            self.read()
        while self.read(0.0):
            pass
        return self.process.wait(0.1)

    def modes_now(self) -> list[object]:
        """The terminal's modes as they are."""
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        """Hang up; a demo that still runs ends by that."""
        os.close(self._master)
        os.close(self._slave)
        self.process.wait(PATIENCE)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal with a demo that has begun."""
    opened = Terminal(tmp_path)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.process
def test_keys_engage_release_break_and_quit(terminal: Terminal) -> None:
    """Each key does what the last line says, and the terminal is given back as it was."""
    terminal.wait_for(ALTERNATE_SCREEN_ON)
    terminal.wait_for("HEALTHY")
    terminal.press("e")
    terminal.wait_for("LATCH ENGAGED")
    terminal.press("r")
    terminal.wait_for("latch released")
    terminal.press("f")
    terminal.wait_for("playing: treatment errors 30%")
    terminal.press("h")
    terminal.wait_for("pipelines healed")
    terminal.press("q")
    assert terminal.end() == 0
    assert ALTERNATE_SCREEN_OFF in terminal.written
    assert "requests by" in terminal.plain
    assert terminal.modes_now() == terminal.modes
