"""Which part of the suite a test is of, and the guard that keeps the unit part what it is.

A test is of the unit part unless a mark says otherwise: `socket`, `process` or `slow`. The guard looks
at what a unit test does, not at what it says: one that opens a socket or starts a program fails, and
is told which mark it wants. It knows nothing of what the parts are run for; see the Makefile.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

import pytest

OTHER_PARTS = ("socket", "process", "slow")
"""The marks of what is no unit test."""
DOORS = frozenset(("socket.bind", "socket.connect", "subprocess.Popen", "os.fork", "os.posix_spawn"))
"""Python's audit events (PEP 578) of leaving the process."""

_opened: list[str] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    # Threads may be another test's, on their way out.
    if event in DOORS and threading.current_thread() is threading.main_thread():
        _opened.append(event)


def watch() -> None:
    """Hear of every door that is opened from now on; an audit hook cannot be taken away again."""
    sys.addaudithook(_note)


@contextlib.contextmanager
def kept_to_its_part(item: pytest.Item) -> Iterator[None]:
    """Fail the test if it opened a door meanwhile and no mark says that it does."""
    _opened.clear()
    yield
    if _opened and not any(item.get_closest_marker(mark) for mark in OTHER_PARTS):
        what = ", ".join(dict.fromkeys(_opened))
        pytest.fail(f"no unit test ({what}): mark it `socket`, or `process` if gateways run", pytrace=False)
