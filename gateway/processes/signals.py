"""Signals as a queue: handlers note them and wake the supervisor, which acts later.

SIGUSR1 is the exception: it acts in the handler, because the latch must not wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable
from types import FrameType

_QUEUED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
HELD_BACK = frozenset({signal.SIGUSR1, signal.SIGHUP, signal.SIGINT})
"""Blocked in every process from its start until it can handle them: the default action kills."""


class SignalQueue:
    """Installs the supervisor's handlers; `fileno` becomes readable when there is something."""

    def __init__(self, emergency: Callable[[], None]) -> None:
        self._noted: deque[signal.Signals] = deque()
        self._emergency = emergency
        self._wake, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in _QUEUED:
            signal.signal(number, self._note)
        signal.signal(signal.SIGUSR1, self._engage)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK | set(_QUEUED))

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._wake

    def take(self) -> list[signal.Signals]:
        """What came since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake, 4096):
                pass
        taken = []
        while self._noted:
            taken.append(self._noted.popleft())
        return taken

    def _note(self, number: int, _: FrameType | None) -> None:
        if number != signal.SIGCHLD:  # waking up is all that it is for
            self._noted.append(signal.Signals(number))

    def _engage(self, _: int, __: FrameType | None) -> None:
        self._emergency()
