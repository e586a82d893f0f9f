"""Takes in what workers report, as it comes, and hands it to whoever judges by it.

It also notes workers that had to be replaced, and leaves the counters of dead ones to the next control
process. What the numbers amount to is said elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.control.handover import KEPT_LEDGER
from gateway.control.history import Event, EventType
from gateway.control.operations import Operations
from gateway.control.parts import Parts
from gateway.core.rollout import GATEWAY

TOGETHER = 0.005
"""Seconds that a report waits for those of the other workers, who share its clock: one look does for all."""
IDLE_INTERVAL = 1.0
"""Seconds after which ticks are looked at although nobody reported: their time may have run out."""
LEDGER_KEEP_INTERVAL = 10.0
"""Seconds between two handovers of the ledger: what a dying control process may lose of dead workers."""


class Observing:
    """The way of observations from the seam to the parts."""

    def __init__(self, parts: Parts, operations: Operations, now: Callable[[], float]) -> None:
        self._parts = parts
        self._operations = operations
        self._now = now
        self._worker_restarts = parts.keeper.standing.worker_restarts

    def __repr__(self) -> str:
        return f"<Observing {self._parts.ledger!r}>"

    async def run(self) -> None:
        """For ever: take in the workers' reports, note replaced workers, hand the ledger over."""
        kept_at = time.monotonic()
        while True:
            await self._take_in()
            self._note_worker_restarts()
            if (now := time.monotonic()) - kept_at >= LEDGER_KEEP_INTERVAL:
                kept_at = now
                self.keep_ledger()
            await self._parts.link.reported(IDLE_INTERVAL)
            await asyncio.sleep(TOGETHER)

    def take_in(self) -> None:
        """Take in everything that is there now, however much."""
        self._operations.observe()
        self._take_some()
        while self._parts.windows.behind:
            self._take_some()

    async def _take_in(self) -> None:
        """As `take_in`, but others get their turn in between."""
        self._operations.observe()
        self._take_some()
        while self._parts.windows.behind:
            await asyncio.sleep(0)
            self._take_some()

    def _take_some(self) -> None:
        parts = self._parts
        progress = parts.windows.take(parts.ledger.reports, parts.live_pids())
        parts.monitor.take(progress, more=parts.windows.behind)

    def keep_ledger(self) -> None:
        """Leave what workers counted to the next control process: of dead ones it is nowhere else."""
        self._parts.keeper.keep(KEPT_LEDGER, self._parts.ledger.encoded())

    def _note_worker_restarts(self) -> None:
        restarts = self._parts.keeper.standing.worker_restarts
        if restarts <= self._worker_restarts:
            return
        self.keep_ledger()
        evidence = {"restarts": restarts - self._worker_restarts, "in_all": restarts}
        digest = self._parts.reloader.applied.loaded.digest
        reason = "a worker ended unplanned and was replaced"
        self._parts.history.append(
            Event(self._now(), EventType.WORKER, GATEWAY, reason, digest, evidence=evidence)
        )
        self._worker_restarts = restarts
