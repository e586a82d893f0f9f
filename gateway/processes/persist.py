"""Writes the latch to disk, without delaying whoever flipped it.

A full or slow disk blocks one thread here and nothing else. The flip has already happened; this makes
it survive a restart, and retries until it does.
"""

from __future__ import annotations

import queue
import threading

from gateway.latch import DurableLatch, LatchPage


class LatchSaver:
    """Saves the latch page when poked, one save at a time, in a thread."""

    def __init__(self, page: LatchPage, durable: DurableLatch) -> None:
        self._page = page
        self._durable = durable
        # SimpleQueue is reentrant: a signal handler may poke.
        self._pokes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._saved: tuple[int, int] | None = None
        self.fault = ""
        """Why the last save failed, "" if it did not."""

    def __repr__(self) -> str:
        return f"<LatchSaver saved={self._saved} fault={self.fault!r}>"

    @property
    def current(self) -> bool:
        """True while the disk holds what the page says, as far as this process wrote it."""
        return self._saved == (self._page.number, self._page.released)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="latch-saver", daemon=True).start()

    def poke(self) -> None:
        """Have the page saved soon. Never waits; safe in a signal handler."""
        self._pokes.put(None)

    def save(self) -> bool:
        """Save now, in the calling thread; False if the disk refused (`fault` says why)."""
        state = (self._page.number, self._page.released)
        try:
            self._durable.save(self._page)
        except OSError as error:
            self.fault = f"{self._durable.path}: {error.strerror or error}"
            return False
        self._saved, self.fault = state, ""
        return True

    def _run(self) -> None:
        while True:
            self._pokes.get()
            while not self._pokes.empty():
                self._pokes.get()
            self.save()
