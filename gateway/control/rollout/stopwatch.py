"""How long each step of a rollback took, and which steps failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Stopwatch:
    """Seconds since it was started at which each step was done, in the order in which they were.

    A step that failed has its time too, and its reason in `failed`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, behind: float = 0.0) -> None:
        """`behind` are the seconds for which what it measures has been going on."""
        self.seconds: dict[str, float] = {}
        self.failed: dict[str, str] = {}
        self._clock = clock
        self._began = clock() - behind

    @classmethod
    def since(cls, step: str, ago: float) -> Stopwatch:
        """One that began with a step that somebody else did, so many seconds ago."""
        stopwatch = cls(behind=ago)
        stopwatch.seconds[step] = 0.0
        return stopwatch

    def __repr__(self) -> str:
        return f"<Stopwatch {self.seconds} failed={self.failed}>"

    def note(self, step: str, failed: str = "") -> None:
        """A step is over now; "" is none. `failed` says why it did not succeed."""
        if step:
            self.seconds[step] = round(self._clock() - self._began, 6)
            if failed:
                self.failed[step] = failed

    def document(self) -> dict[str, Any]:
        """The times as the history shows them; `failed` only where something did."""
        failed = {"failed": dict(self.failed)} if self.failed else {}
        return {"seconds": dict(self.seconds), **failed}
