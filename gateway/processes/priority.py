"""Who goes first where processors are short: users' requests, before everything that watches them.

It knows how a process asks the kernel for less. It knows neither what the process does nor how busy the
machine is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NICENESS = 5
"""A third of a worker's weight: a request that comes is mostly served at once, and a core that a worker fills
still has a quarter to give. With much less, the watch would count as stuck beside many others."""

_SESSION = Path("/proc/self/autogroup")


def stand_back(session: Path = _SESSION) -> None:
    """Have the calling thread, and those that it starts from now on, go behind the workers.

    Where the kernel shares by session (sched(7), autogroup), it is the session that has to ask: a process is
    only ranked within it. Neither needs a right; a kernel that refuses leaves everything as it was.
    """
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):
        session.write_text(str(NICENESS))
