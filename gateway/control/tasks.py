"""Background work that cannot die silently, and blocking calls that cannot stall the loop.

`TaskKeeper` runs named coroutines. If one fails or returns, it is logged, counted and started again. `Lane`
runs one blocking call at a time in a thread and limits the wait. Neither knows what the work is.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from gateway import logs

T = TypeVar("T")
V = TypeVar("V")

RESTART_DELAY = 0.5
"""Seconds until a failed task runs again: under a second, and no spin where it fails at once."""
FAILING_FOR = 30.0
"""Seconds after a failure for which a task still counts as failing: what it does may be out of date."""
KEEPS_FAILING_AFTER = 3
"""Failures, none longer than that after the one before, that make a task one that keeps failing."""


class TaskKeeper:
    """Keeps named background tasks running until `stop`."""

    def __init__(
        self, restart_delay: float = RESTART_DELAY, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.restarts: Counter[str] = Counter()
        """How often each task had to be started again; every task ever started has an entry."""
        self._restart_delay = restart_delay
        self._monotonic = monotonic
        self._failed_at: dict[str, float] = {}
        self._in_a_row: Counter[str] = Counter()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<TaskKeeper running={sorted(self._tasks)} restarts={self.restarts.total()}>"

    @property
    def failing(self) -> list[str]:
        """Names of the tasks that failed lately, in order."""
        since = self._monotonic() - FAILING_FOR
        return sorted(name for name, at in self._failed_at.items() if at > since)

    @property
    def keep_failing(self) -> list[str]:
        """Names of those that failed again and again until lately: somebody has to look at them."""
        return [name for name in self.failing if self._in_a_row[name] >= KEEPS_FAILING_AFTER]

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run` for ever under `name`; call it again when it ends for any reason but `stop`."""
        self.restarts[name] += 0
        self._tasks[name] = asyncio.create_task(self._keep(name, run), name=name)

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
                logs.error("background task ended", task=name, consequence="started again")
            except Exception:
                logs.error(
                    "background task failed",
                    task=name,
                    consequence="started again",
                    trace=traceback.format_exc(),
                )
            self._note_failure(name)
            await asyncio.sleep(self._restart_delay)

    def _note_failure(self, name: str) -> None:
        again = name in self.failing
        self.restarts[name] += 1
        self._in_a_row[name] = self._in_a_row[name] + 1 if again else 1
        self._failed_at[name] = self._monotonic()


class Lane:
    """One thread's worth of blocking calls.

    The threads are daemons: a call that hangs for ever on a dead file system neither stalls the loop
    nor keeps the process from ending. While one hangs, further calls fail at once instead of piling up.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._turn = asyncio.Lock()
        self._busy = False

    async def run(self, patience: float, call: Callable[[], T]) -> T:
        """The result of `call()`, or what it raises; TimeoutError after `patience` seconds."""
        async with self._turn:
            if self._busy:
                raise TimeoutError(f"an earlier {self._name} call is still stuck")
            loop = asyncio.get_running_loop()
            future: asyncio.Future[T] = loop.create_future()
            self._busy = True
            threading.Thread(
                target=self._work, args=(loop, future, call), name=self._name, daemon=True
            ).start()
            async with asyncio.timeout(patience):
                return await future

    def _work(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], call: Callable[[], T]
    ) -> None:
        deliver: Callable[[], None]
        try:
            deliver = partial(_unless_done, future, future.set_result, call())
        except BaseException as error:  # whatever it is belongs to the caller, not to the thread
            deliver = partial(_unless_done, future, future.set_exception, error)

        def finish() -> None:
            self._busy = False
            deliver()

        with contextlib.suppress(RuntimeError):  # the loop ended meanwhile: nobody waits
            loop.call_soon_threadsafe(finish)


def _unless_done(future: asyncio.Future[T], settle: Callable[[V], None], value: V) -> None:
    if not future.done():  # done already: the caller gave up
        settle(value)
