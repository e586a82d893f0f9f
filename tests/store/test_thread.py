"""The thread that owns a file: turns, bounds, and callers that come at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control.store.file import DatabaseFault
from gateway.control.store.thread import DiskThread


@pytest.fixture
def thread() -> Iterator[DiskThread]:
    """A thread that ends with the test."""
    made = DiskThread(Path("state.sqlite3"))
    yield made
    made.end(lambda: None)


async def test_many_at_once_take_turns(thread: DiskThread) -> None:
    """Whoever comes while others wait gets a turn and its own answer; two rounds, so that some wait twice."""
    for _ in range(2):
        answers = await asyncio.gather(*(thread.run(lambda n=n: n, 5.0) for n in range(50)))  # type: ignore[misc]
        assert answers == list(range(50))


async def test_what_fails_fails_for_its_caller_alone(thread: DiskThread) -> None:
    """An error is the caller's who asked for it."""
    answers = await asyncio.gather(
        thread.run(lambda: 1 // 0, 5.0), thread.run(lambda: 2, 5.0), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [ZeroDivisionError, int]


async def test_a_hang_fails_those_who_wait_and_ends(thread: DiskThread) -> None:
    """While one piece of work hangs everybody is told so; afterwards it goes on."""
    release = threading.Event()
    for _ in range(2):
        with pytest.raises(DatabaseFault, match="has not answered yet"):
            await thread.run(lambda: release.wait(5), 0.01)
    assert thread.is_stuck
    release.set()
    assert await thread.run(lambda: 3, 5.0) == 3
