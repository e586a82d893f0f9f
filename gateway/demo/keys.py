"""Reads single keys from the terminal while they are wanted.

It only touches a terminal in whose foreground this process runs, and restores its settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def listening(on_key: Callable[[str], None]) -> Iterator[bool]:
    """Call back on the running loop with every key. Yields False where there is no keyboard."""
    if not _has_keyboard():
        yield False
        return
    terminal = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSANOW)
    loop.add_reader(terminal, lambda: _read(terminal, on_key))
    try:
        yield True
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSANOW, before)


def _has_keyboard() -> bool:
    try:
        terminal = sys.stdin.fileno()
        return os.isatty(terminal) and os.tcgetpgrp(terminal) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


def _read(terminal: int, on_key: Callable[[str], None]) -> None:
    try:
        pressed = os.read(terminal, 64)
    except OSError:
        pressed = b""
    if not pressed:  # the terminal has gone; its SIGHUP ends the demo
        asyncio.get_running_loop().remove_reader(terminal)
    for key in pressed.decode(errors="ignore"):
        on_key(key)
