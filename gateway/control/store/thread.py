"""The one thread that owns a file, and a limit on how long anybody waits for it.

A SQLite connection belongs to one thread, and a dead disk blocks whoever uses it. Here that is this
thread and never the loop. While one call hangs, further calls fail at once instead of queueing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from gateway.control.store.api import FaultKind
from gateway.control.store.file import DatabaseFault

T = TypeVar("T")


class DiskThread:
    """Runs work on the file at `path`, a piece at a time."""

    def __init__(self, path: Path) -> None:
        self.executor = ThreadPoolExecutor(1, thread_name_prefix=path.stem)
        self._path = path
        self._newest: asyncio.Future[Any] | None = None

    def __repr__(self) -> str:
        return f"<DiskThread {self._path} stuck={self.is_stuck}>"

    @property
    def is_stuck(self) -> bool:
        """True while work runs; once its callers have given up, that is a disk that hangs."""
        return self._newest is not None and not self._newest.done()

    async def run(self, work: Callable[[], T], patience: float) -> T:
        """The result of `work()`, or what it raises.

        Waits `patience` seconds for what runs there, and as long for the work itself; raises
        DatabaseFault where that is not enough. The work may then still come to be done.
        """
        slow = DatabaseFault(FaultKind.SLOW, f"{self._path}: the disk has not answered yet")
        before = self._newest  # kept here: others ask for the thread while this one waits
        if before is not None and not before.done():
            await asyncio.wait([before], timeout=patience)
            if not before.done():
                raise slow
        future = asyncio.get_running_loop().run_in_executor(self.executor, work)
        self._newest = future
        await asyncio.wait([future], timeout=patience)
        if not future.done():
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise slow
        return future.result()

    def end(self, last: Callable[[], None]) -> None:
        """Do a last thing and end; waits for it unless something hangs."""
        self.executor.submit(last)
        self.executor.shutdown(wait=not self.is_stuck)
