"""Waiting for what other processes, threads and tasks do: where tests let time pass, and nowhere else.

Every wait ends as soon as what it waits for is there, and has a deadline. What depends on a clock is
tested with a clock of the test's own instead.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")

OF_PROCESSES = 30.0
"""Seconds that a process has to come to something, on a busy machine."""
OF_TASKS = 20.0
"""Seconds that a task of this process has, on a busy machine too."""
LATE = 4.0
"""Seconds by which what is due at a moment may be late there: a bound that tells late from never."""


def eventually(
    what: str, look: Callable[[], T | None], patience: float = OF_PROCESSES, interval: float = 0.01
) -> T:
    """The first truthy answer of `look`; an assertion error that says `what` if none comes in time."""
    give_up = time.monotonic() + patience
    while True:
        if answer := look():
            return answer
        assert time.monotonic() < give_up, f"not within {patience} s: {what}"
        time.sleep(interval)


def wait_until(condition: Callable[[], Any], patience: float = OF_TASKS, interval: float = 0.001) -> bool:
    """Poll until the condition holds; False if it did not within `patience` seconds."""
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(interval)
    return True


async def soon(
    look: Callable[[], T | Awaitable[T]], patience: float = OF_TASKS, interval: float = 0.005
) -> T:
    """The first truthy answer of `look`, which may be a coroutine function; TimeoutError if none comes."""
    async with asyncio.timeout(patience):
        while True:
            answer: Any = look()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return cast(T, answer)
            await asyncio.sleep(interval)


async def turns(count: int = 1) -> None:
    """Let every task of the loop that can run do so, so many times; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)
